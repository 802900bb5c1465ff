//! What holds for every route of the real API, and for every message.

use crate::LIBRARY;
use crate::THIRD_PARTY;
use crate::compile;
use crate::find;
use crate::message;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use std::path::Path;
use std::sync::LazyLock;
use transcode::Match;
use transcode::RequestParts;
use transcode::RouteTable;
use transcode::TranscodeError;

static REAL: LazyLock<RouteTable> =
    LazyLock::new(|| RouteTable::from_pool(&real_pool()).expect("the real API is well-formed"));

fn real_pool() -> DescriptorPool {
    let root = Path::new(THIRD_PARTY).parent().expect("third_party is in proto");
    let mut files = Vec::new();
    collect(root, &root.join("linkmesh"), &mut files);
    files.push("google/rpc/error_details.proto".to_owned());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    compile(root.to_str().expect("UTF-8"), &files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of protos") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let relative = path.strip_prefix(root).expect("below the root");
            files.push(relative.to_str().expect("UTF-8").to_owned());
        }
    }
}

/// Every route of both APIs with a path that fits it and the names that it binds.
fn routes() -> impl Iterator<Item = (&'static RouteTable, String, String, Vec<String>)> {
    [&*LIBRARY, &*REAL].into_iter().flat_map(|table| {
        table.routes.iter().map(move |route| {
            let method = route.http_method.as_ref().map_or("PUT", http::Method::as_str).to_owned();
            let (path, names) = example(&route.template);
            (table, method, path, names)
        })
    })
}

/// A path that fits a template, and the variables' names: `*` becomes 7, which every type of variable takes.
fn example(template: &str) -> (String, Vec<String>) {
    let mut path = String::new();
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (variable, tail) = after.split_once('}').expect("a closed variable");
        let (name, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        path += before;
        path += pattern;
        names.push(name.to_owned());
        rest = tail;
    }
    path += rest;
    (path.replace("**", "7/7").replace('*', "7"), names)
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

fn request(found: &Match, query: &str, body: &str) -> Result<bytes::Bytes, TranscodeError> {
    let content_type = Some("application/json");
    found.request(RequestParts { query: Some(query), content_type, body: body.as_bytes() })
}

#[test]
fn r12_no_query_and_no_body_changes_what_a_path_binds_on_any_route() {
    let mut tried = 0;
    for (table, method, path, names) in routes() {
        let found = find(table, &method, &path).unwrap_or_else(|| panic!("{method} {path}"));
        let honest = request(&found, "", "").expect("the path alone is a request");
        for name in &names {
            for alias in [name.clone(), camel(name)] {
                for value in ["evil", "7", ""] {
                    let outcome = request(&found, &format!("{alias}={value}"), "");
                    assert!(outcome.is_err(), "{method} {path}?{alias}={value} was accepted");
                }
                // In the body's place: refused, or the path's value is kept.
                let leaf = alias.rsplit('.').next().expect("a name");
                for body in [format!(r#"{{"{alias}": "8"}}"#), format!(r#"{{"{leaf}": "8"}}"#)] {
                    if let Ok(bytes) = request(&found, "", &body) {
                        assert_eq!(value_of(&found, &bytes, name), value_of(&found, &honest, name));
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 40, "only {tried} bindings were found");
}

fn value_of(found: &Match, bytes: &[u8], name: &str) -> prost_reflect::Value {
    let mut value = prost_reflect::Value::Message(
        DynamicMessage::decode(found.route.method.input(), bytes).expect("a request"),
    );
    for part in name.split('.') {
        let message = value.as_message().expect("a path goes through messages");
        value = message.get_field_by_name(part).expect("a field").into_owned();
    }
    value
}

#[test]
fn an_unknown_parameter_is_refused_on_every_route() {
    for (table, method, path, _) in routes() {
        let found = find(table, &method, &path).expect("its own path");
        assert!(request(&found, "no_such_parameter=1", "").is_err(), "{method} {path}");
    }
}

#[test]
fn the_documented_paths_of_the_real_api_lead_to_its_methods() {
    for (method, path, name) in [
        ("POST", "/v1/workspaces/w/links", "/linkmesh.links.v1.LinksService/CreateLink"),
        (
            "POST",
            "/v1/workspaces/w/links:batchCreate",
            "/linkmesh.links.v1.LinksService/BatchCreateLinks",
        ),
        ("PATCH", "/v1/workspaces/w/links/l", "/linkmesh.links.v1.LinksService/UpdateLink"),
        (
            "GET",
            "/v1/workspaces/w/clicks:watch",
            "/linkmesh.analytics.v1.AnalyticsService/WatchClicks",
        ),
        (
            "POST",
            "/v1/workspaces/w/apiKeys/k:revoke",
            "/linkmesh.identity.v1.ApiKeysService/RevokeApiKey",
        ),
        ("GET", "/v1/workspaces/w", "/linkmesh.identity.v1.WorkspacesService/GetWorkspace"),
    ] {
        let found = find(&REAL, method, path).unwrap_or_else(|| panic!("{method} {path}"));
        assert_eq!(found.route.grpc_path, name);
    }
}

#[test]
fn r22_the_details_of_an_error_within_an_answer_are_written_too() {
    let path = "/v1/workspaces/w/links:batchCreate";
    let found = find(&REAL, "POST", path).expect("a route");
    let kind = "type.googleapis.com/google.rpc.ErrorInfo";
    let info = serde_json::json!({"@type": kind, "reason": "ALREADY_EXISTS", "domain": "linkmesh"});
    let error = serde_json::json!({"code": 6, "message": "taken", "details": [info]});
    let json = serde_json::json!({"results": [{"error": error}]});
    let answer = DynamicMessage::deserialize(found.route.method.output(), json.clone());
    let bytes = prost::Message::encode_to_vec(&answer.expect("an answer"));
    let written = found.response(&bytes).expect("its types are known").body;
    let written: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written, json);
}

/// JSON of `test.Everything` in canonical form, at most `depth` deep.
fn everything(depth: u32) -> BoxedStrategy<serde_json::Value> {
    let leaf = (
        any::<i32>(),
        any::<i64>(),
        any::<u64>(),
        any::<bool>(),
        "\\PC{0,8}",
        proptest::collection::vec(any::<i64>(), 0..3),
        proptest::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..3),
        proptest::option::of(any::<i32>()),
    )
        .prop_map(|(int32, int64, uint64, boolean, text, numbers, by_name, maybe)| {
            let mut object = serde_json::Map::new();
            let mut put = |key: &str, value: serde_json::Value| {
                object.insert(key.to_owned(), value);
            };
            if int32 != 0 {
                put("int32Value", int32.into());
            }
            if int64 != 0 {
                put("int64Value", int64.to_string().into());
            }
            if uint64 != 0 {
                put("uint64Value", uint64.to_string().into());
            }
            if boolean {
                put("boolValue", true.into());
            }
            if !text.is_empty() {
                put("stringValue", text.into());
            }
            if !numbers.is_empty() {
                put("numbers", numbers.iter().map(i64::to_string).collect());
            }
            if !by_name.is_empty() {
                let map = by_name.into_iter().map(|(key, value)| (key, value.to_string().into()));
                put("byName", serde_json::Value::Object(map.collect()));
            }
            if let Some(maybe) = maybe {
                put("maybe", maybe.into());
            }
            serde_json::Value::Object(object)
        });
    if depth == 0 {
        return leaf.boxed();
    }
    (leaf, everything(depth - 1), proptest::collection::vec(everything(depth - 1), 0..3))
        .prop_map(|(mut value, nested, list)| {
            value["nested"] = nested;
            if !list.is_empty() {
                value["list"] = list.into();
            }
            value
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_comes_back_as_it_went_in(value in everything(2)) {
        let text = value.to_string();
        prop_assert_eq!(&message("POST", "/v1/echo", &text), &value);
        let found = find(&LIBRARY, "POST", "/v1/echo").expect("a route");
        let bytes = request(&found, "", &text).expect("accepted above");
        let input = found.route.method.input();
        let by_reflection = DynamicMessage::deserialize(input.clone(), &value).expect("canonical");
        prop_assert_eq!(DynamicMessage::decode(input, &bytes[..]).expect("a message"), by_reflection);
        let answer: serde_json::Value =
            serde_json::from_slice(&found.response(&bytes).expect("a message").body).expect("JSON");
        prop_assert_eq!(answer, value);
    }

    #[test]
    fn any_segment_comes_back_decoded(name in "\\PC{1,12}") {
        let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
        let sent = message("GET", &format!("/v1/books/{encoded}"), "");
        prop_assert_eq!(sent["name"].as_str(), Some(name.as_str()));
        let sent = message("GET", &format!("/v1/shelves/a/books:search?city={encoded}"), "");
        prop_assert_eq!(sent["city"].as_str(), Some(name.as_str()));
    }

    #[test]
    fn no_input_makes_it_panic(path in "/[a-z0-9/:%*{}.+]{0,40}", query in "\\PC{0,30}", body in "\\PC{0,40}") {
        for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
            if let Some(found) = find(&LIBRARY, method, &path) {
                drop(request(&found, &query, &body));
            }
        }
        let found = find(&LIBRARY, "POST", "/v1/shelves/a/books").expect("a route");
        drop(request(&found, &query, &body));
        drop(found.response(body.as_bytes()));
    }
}
