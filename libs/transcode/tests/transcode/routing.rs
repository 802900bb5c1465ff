//! Which method a path leads to.

use crate::LIBRARY;
use crate::find;
use crate::message;
use serde_json::json;
use transcode::Idempotency;
use transcode::Lookup;

fn leads_to(method: &str, path: &str) -> Option<String> {
    find(&LIBRARY, method, path).map(|found| found.route.method.name().to_owned())
}

#[test]
fn r2_and_r8_each_form_of_binding_leads_to_its_method() {
    for (method, path, name) in [
        ("GET", "/v1/shelves/a/books/b", Some("GetBook")),
        ("GET", "/v1/books/b", Some("GetBook")),
        ("GET", "/v1/any", Some("GetBook")),
        ("GET", "/v1/any/a/b/c", Some("GetBook")),
        ("GET", "/v1/shelves/a/books:search", Some("Search")),
        ("GET", "/v1/shelves/a/books/b:watch", Some("Watch")),
        ("POST", "/v1/shelves/a/books", Some("CreateBook")),
        ("PATCH", "/v1/shelves/a/books/b", Some("UpdateBook")),
        ("POST", "/v1/echo", Some("Echo")),
        ("PUT", "/v1/echo/7", Some("Echo")),
        ("COUNT", "/v1/count/b", Some("Count")),
        ("GET", "/v1/anything/b", Some("Anything")),
        ("TRACE", "/v1/anything/b", Some("Anything")),
        ("DELETE", "/v1/trash/a/b:purge", Some("Purge")),
        ("DELETE", "/v1/trash:purge", Some("Purge")),
        ("GET", "/v1/files/covers/a/b/cover", Some("Cover")),
        ("GET", "/v1/files/covers/a/b/back", None),
        ("GET", "/v1/shelves/a/books/b/", None),
        ("GET", "/v1//shelves/a/books/b", None),
        ("GET", "/v2/shelves/a/books/b", None),
        ("GET", "v1/books/b", None),
        ("GET", "", None),
        ("GET", "/", None),
    ] {
        assert_eq!(leads_to(method, path).as_deref(), name, "{method} {path}");
    }
}

#[test]
fn a_method_without_an_annotation_is_not_public() {
    assert!(LIBRARY.routes.iter().all(|route| route.method.name() != "Hidden"));
}

#[test]
fn a_route_tells_its_grpc_path_and_what_it_promises() {
    let promises = |name: &str| {
        let route = LIBRARY.routes.iter().find(|route| route.method.name() == name);
        route.map(|route| (route.grpc_path.clone(), route.idempotency)).expect("a route")
    };
    assert_eq!(promises("Search"), ("/test.Library/Search".into(), Idempotency::NoSideEffects));
    assert_eq!(promises("Echo"), ("/test.Library/Echo".into(), Idempotency::Idempotent));
    assert_eq!(promises("CreateBook").1, Idempotency::Unknown);
}

#[test]
fn r9_a_known_path_with_another_method_names_those_it_has() {
    for (method, path, expected) in [
        ("DELETE", "/v1/shelves/a/books/b", Some("GET, HEAD, PATCH")),
        ("OPTIONS", "/v1/echo", Some("POST")),
        ("GET", "/v1/trash/a:purge", Some("DELETE")),
        ("GET", "/v1/nothing/here/at/all", None),
    ] {
        match LIBRARY.find(&method.parse().expect("a method"), path) {
            Lookup::MethodNotAllowed { allow } => assert_eq!(Some(allow.as_str()), expected),
            Lookup::NotFound => assert_eq!(None, expected, "{method} {path}"),
            Lookup::Found(found) => panic!("{method} {path} led to {}", found.route.grpc_path),
        }
    }
}

#[test]
fn r9_head_is_served_by_get_alone() {
    assert_eq!(leads_to("HEAD", "/v1/books/b").as_deref(), Some("GetBook"));
    assert_eq!(leads_to("HEAD", "/v1/echo"), None);
}

#[test]
fn r3_a_path_is_split_before_it_is_decoded() {
    for (path, name) in [
        ("/v1/books/a%2Fb", "a/b"),
        ("/v1/books/a+b%20c", "a+b c"),
        ("/v1/books/a%3Awatch", "a:watch"),
        ("/v1/books/%E2%82%AC", "€"),
        ("/v1/books/jason:other", "jason:other"),
        ("/v1/shelves/a%2Fb/books/c%2f%20d", "shelves/a%2Fb/books/c%2f d"),
        ("/v1/any/one", "one"),
        ("/v1/any/one%2Ftwo", "one%2Ftwo"),
        ("/v1/any", ""),
        ("/v1/any/..", ".."),
    ] {
        let expected = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
        assert_eq!(message("GET", path, ""), expected, "{path}");
    }
    assert_eq!(message("DELETE", "/v1/trash/x/y:purge", ""), json!({"name": "trash/x/y"}));
    assert_eq!(message("DELETE", "/v1/trash:purge", ""), json!({"name": "trash"}));
    assert_eq!(
        message("GET", "/v1/files/covers/a/b/cover", ""),
        json!({"name": "covers/a/b"}),
        "literals after `**` belong to the template"
    );
}
