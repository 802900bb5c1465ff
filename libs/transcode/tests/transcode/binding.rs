//! What path, query and body set, and what they are refused for.

use crate::LIBRARY;
use crate::find;
use crate::message;
use crate::refused;
use serde_json::json;
use transcode::Options;
use transcode::RequestParts;
use transcode::RouteTable;
use transcode::TranscodeError;

const SEARCH: &str = "/v1/shelves/a/books:search";

#[test]
fn r14_query_values_are_read_as_protojson() {
    let query = "tags=x&tags=y%20z&genre=GENRE_POETRY&author.fullName=A+B&author.born=-12\
        &since=2026-01-02T03:04:05.5%2B02:00&within=1.5s&readMask=displayTitle,author.fullName\
        &exact=true&page_size=10&token=-_8&code=9007199254740993&rare=false&score=1e2&genres=2\
        &genres=GENRE_POETRY";
    assert_eq!(
        message("GET", &format!("{SEARCH}?{query}"), ""),
        json!({
            "parent": "shelves/a", "tags": ["x", "y z"], "genre": "GENRE_POETRY",
            "author": {"fullName": "A B", "born": -12}, "since": "2026-01-02T01:04:05.500Z",
            "within": "1.500s", "readMask": "displayTitle,author.fullName", "exact": true,
            "pageSize": 10, "token": "+/8=", "code": "9007199254740993", "rare": false,
            "score": 100.0, "genres": ["GENRE_PROSE", "GENRE_POETRY"],
        })
    );
    assert_eq!(message("GET", &format!("{SEARCH}?"), ""), json!({"parent": "shelves/a"}));
    assert_eq!(
        message("GET", &format!("{SEARCH}?genre=77"), "")["genre"],
        77,
        "an enum may have a value that this side does not know yet"
    );
}

#[test]
fn r13_a_query_that_has_no_place_in_the_message_is_refused() {
    for (query, field) in [
        ("unknown=1", "unknown"),
        ("author=x", "author"),
        ("author.nothing=x", "author.nothing"),
        ("tags.x=y", "tags.x"),
        ("authors.born=1", "authors.born"),
        ("labels=x", "labels"),
        ("since.seconds=1", "since.seconds"),
        ("exact=1", "exact"),
        ("exact=TRUE", "exact"),
        ("exact", "exact"),
        ("pageSize=1&page_size=1", "page_size"),
        ("exact=true&exact=true", "exact"),
        ("pageSize=1.5", "page_size"),
        ("pageSize=+5", "page_size"),
        ("pageSize=9999999999", "page_size"),
        ("pageSize=", "page_size"),
        ("city=x&code=1", "code"),
        ("genre=POETRY", "genre"),
        ("since=yesterday", "since"),
        ("within=5", "within"),
        ("readMask=display_title", "read_mask"),
        ("token=%21", "token"),
        ("score=inf", "score"),
        ("city=%FF", "query"),
        ("city=%2", "query"),
        ("=x", ""),
    ] {
        assert_eq!(refused("GET", &format!("{SEARCH}?{query}"), ""), [field], "{query}");
    }
}

#[test]
fn a_query_has_a_bounded_number_of_parameters() {
    let query = vec!["tags=x"; 1_001].join("&");
    assert_eq!(refused("GET", &format!("{SEARCH}?{query}"), ""), ["query"]);
}

#[test]
fn r4_plus_is_a_space_only_where_it_is_configured() {
    let found = find(&LIBRARY, "GET", SEARCH).expect("a route");
    let parts = RequestParts { query: Some("city=a+b"), ..RequestParts::default() };
    let spaced = found.request(parts).expect("a good query");
    assert!(spaced.ends_with(b"a b"));
    assert!(!Options::default().plus_is_space, "it is not, unless asked for");
}

#[test]
fn r11_a_body_fills_the_message_or_its_field_and_the_query_the_rest() {
    assert_eq!(
        message(
            "POST",
            "/v1/shelves/a/books?request_id=r",
            r#"{"displayTitle": "T", "tags": ["x"], "labels": {"k": "v"}, "available": false}"#
        ),
        json!({
            "parent": "shelves/a", "requestId": "r",
            "book": {"displayTitle": "T", "tags": ["x"], "labels": {"k": "v"}, "available": false},
        })
    );
    assert_eq!(
        message("PUT", "/v1/shelves/a/tags?exact=true", r#"["x", "y"]"#),
        json!({"parent": "shelves/a", "tags": ["x", "y"], "exact": true}),
        "a repeated field may be the whole body"
    );
    assert_eq!(message("POST", "/v1/echo", ""), json!({}), "an empty body is an empty message");
    assert_eq!(message("PUT", "/v1/echo/-5", r#"{"left": "x"}"#)["int64Value"], "-5");
}

#[test]
fn r11_a_query_or_body_in_the_wrong_place_is_refused() {
    for (method, uri, body, field) in [
        ("POST", "/v1/echo?left=x", "{}", "left"),
        ("POST", "/v1/shelves/a/books?book.displayTitle=x", "{}", "book.display_title"),
        ("GET", "/v1/books/b", "{}", "body"),
        ("GET", "/v1/books/b", " ", "body"),
        ("PUT", "/v1/shelves/a/tags", r#"{"x": 1}"#, "tags"),
        ("PUT", "/v1/shelves/a/tags", r#"["x", null]"#, "tags[1]"),
        ("PUT", "/v1/echo/x", "{}", "int64_value"),
        ("GET", "/v1/books/%FF", "", "name"),
    ] {
        assert_eq!(refused(method, uri, body), [field], "{method} {uri} {body}");
    }
}

#[test]
fn r12_what_the_path_binds_is_never_changed() {
    for (method, uri, body, field) in [
        ("GET", "/v1/books/b?name=evil", "", "name"),
        ("GET", "/v1/books/b?name=b", "", "name"),
        ("GET", "/v1/shelves/a/books/b:watch?name=evil", "", "name"),
        ("POST", "/v1/shelves/a/books?parent=evil", "{}", "parent"),
        ("PATCH", "/v1/shelves/a/books/b?book.name=evil", "{}", "book.name"),
        ("PATCH", "/v1/shelves/a/books/b", r#"{"name": "evil"}"#, "book.name"),
        ("PUT", "/v1/echo/5", r#"{"int64Value": "6"}"#, "int64_value"),
        ("PUT", "/v1/echo/5", r#"{"int64_value": 6}"#, "int64_value"),
    ] {
        assert_eq!(refused(method, uri, body), [field], "{method} {uri} {body}");
    }
    let same = message("PATCH", "/v1/shelves/a/books/b", r#"{"name": "shelves/a/books/b"}"#);
    assert_eq!(same, json!({"book": {"name": "shelves/a/books/b"}}), "the same value is no change");
}

#[test]
fn r15_a_patch_without_a_mask_changes_the_keys_that_it_sends() {
    let mask = |query: &str, body: &str| {
        let uri = format!("/v1/shelves/a/books/b{query}");
        message("PATCH", &uri, body)["updateMask"].clone()
    };
    for (body, expected) in [
        (r#"{"displayTitle": "x"}"#, json!("displayTitle")),
        (r#"{"display_title": "", "available": null}"#, json!("available,displayTitle")),
        (r#"{"author": {"born": 0}, "tags": []}"#, json!("author.born,tags")),
        (r#"{"author": {}}"#, json!("author")),
        (r#"{"author": null}"#, json!("author")),
        (r#"{"labels": {"a": "b"}}"#, json!("labels")),
        ("{}", json!(null)),
        ("", json!(null)),
    ] {
        assert_eq!(mask("", body), expected, "{body}");
    }
    let as_read = r#"{"name": "shelves/a/books/b", "etag": "e", "createTime": "2026-01-01T00:00:00Z",
        "tags": ["x"]}"#;
    assert_eq!(mask("", as_read), json!("tags"), "what callers can't change is not asked for");
    assert_eq!(mask("?updateMask=tags", r#"{"displayTitle": "x"}"#), json!("tags"));
}

#[test]
fn r16_only_json_is_read() {
    let found = find(&LIBRARY, "POST", "/v1/echo").expect("a route");
    let with = |content_type| {
        found.request(RequestParts { query: None, content_type, body: br#"{"left": "x"}"# })
    };
    assert!(with(Some("application/json; charset=utf-8")).is_ok());
    assert!(matches!(with(Some("text/plain")), Err(TranscodeError::MediaType(_))));
    assert!(matches!(with(None), Err(TranscodeError::MediaType(_))));
}

#[test]
fn a_response_body_is_written_alone() {
    use prost_reflect::DynamicMessage;
    let write = |table: &RouteTable, method: &str, path: &str, json: serde_json::Value| {
        let found = find(table, method, path).expect("a route");
        let output = found.route.method.output();
        let answer = DynamicMessage::deserialize(output, json).expect("an answer");
        let bytes = prost::Message::encode_to_vec(&answer);
        String::from_utf8(found.response(&bytes).expect("it has a JSON form").body.into())
            .expect("UTF-8")
    };
    let write = |method: &str, path: &str, json| write(&LIBRARY, method, path, json);
    let book = json!({"book": {"displayTitle": "T"}});
    assert_eq!(write("POST", "/v1/shelves/a/books", book), r#"{"displayTitle":"T"}"#);
    assert_eq!(write("POST", "/v1/shelves/a/books", json!({})), "{}");
    let tags = "/v1/shelves/a/tags";
    assert_eq!(write("PUT", tags, json!({"titles": ["x"], "total": "3"})), r#"["x"]"#);
    assert_eq!(write("PUT", tags, json!({})), "[]");
    assert_eq!(write("COUNT", "/v1/count/b", json!({"total": "3"})), r#""3""#);
    assert_eq!(write("COUNT", "/v1/count/b", json!({})), r#""0""#);
}
