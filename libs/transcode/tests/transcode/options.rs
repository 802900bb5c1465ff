//! What each route may be told: how strict it reads, and how it writes.

use crate::THIRD_PARTY;
use crate::compile;
use crate::find;
use crate::message;
use crate::refused;
use crate::show;
use prost_reflect::DynamicMessage;
use serde_json::json;
use transcode::Options;
use transcode::ReadOptions;
use transcode::RequestParts;
use transcode::RouteTable;
use transcode::TranscodeError;
use transcode::WriteOptions;

/// The test API with options of its own.
fn table(options: Options) -> RouteTable {
    assert!(std::path::Path::new(THIRD_PARTY).is_dir());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let pool = compile(folder, &["test/library.proto"]);
    RouteTable::from_pool(&pool).expect("well-formed").with_options(|_| options)
}

fn ask(
    table: &RouteTable,
    method: &str,
    uri: &str,
    body: &str,
) -> Result<serde_json::Value, TranscodeError> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let found = find(table, method, path).expect("a route");
    let content_type = Some("application/json");
    let wire =
        found.request(RequestParts { query: Some(query), content_type, body: body.as_bytes() })?;
    Ok(show(&found, &wire))
}

#[test]
fn r18_a_lenient_route_passes_over_what_it_does_not_know() {
    let read = ReadOptions { ignores_unknown: true, ..ReadOptions::default() };
    let table = table(Options { read, ..Options::default() });
    let body = r#"{"nope": [{"a": {}}], "left": "x", "genre": "NOPE", "nested": {"nope": 1, "boolValue": true}}"#;
    assert_eq!(
        ask(&table, "POST", "/v1/echo", body),
        Ok(json!({"left": "x", "nested": {"boolValue": true}}))
    );
    assert_eq!(
        ask(&table, "GET", "/v1/shelves/a/books:search?nope=1&page_size=2", ""),
        Ok(json!({"parent": "shelves/a", "pageSize": 2}))
    );
    for body in [r#"{"nope": }"#, r#"{"left": "x", "left": "y"}"#, r#"{"boolValue": 1}"#] {
        assert!(ask(&table, "POST", "/v1/echo", body).is_err(), "{body} is wrong in what is known");
    }
}

#[test]
fn r60_page_size_and_token_pass_as_they_are_and_are_never_made_up() {
    let uri = "/v1/shelves/a/orders";
    let body = r#"{"address": "x"}"#;
    let ask = |query: &str| {
        let message = message("POST", &format!("{uri}{query}"), body);
        (message["pageSize"].clone(), message["pageToken"].clone())
    };
    assert_eq!(ask(""), (json!(null), json!(null)));
    assert_eq!(ask("?pageSize=7&pageToken=-_A%3D~."), (json!(7), json!("-_A=~.")));
    assert_eq!(ask("?page_size=2147483647"), (json!(i32::MAX), json!(null)));
}

#[test]
fn r60_what_only_a_server_sets_is_left_out_once_it_is_checked() {
    let read = ReadOptions { ignores_output_only: true, ..ReadOptions::default() };
    let table = table(Options { read, ..Options::default() });
    let uri = "/v1/shelves/a/orders";
    let sent = ask(&table, "POST", uri, r#"{"address": "x", "state": "PAID"}"#);
    assert_eq!(sent, Ok(json!({"parent": "shelves/a", "order": {"address": "x"}})));
    assert!(ask(&table, "POST", uri, r#"{"address": "x", "state": 1}"#).is_err());
}

#[test]
fn r60_what_is_required_and_missing_is_told_by_name() {
    let table = table(Options { requires_required: true, ..Options::default() });
    let uri = "/v1/shelves/a/orders";
    let missing = |method: &str, uri: &str, body: &str| match ask(&table, method, uri, body) {
        Ok(_) => Vec::new(),
        Err(TranscodeError::Invalid(violations)) => {
            assert!(violations.iter().all(|violation| violation.description == "is required"));
            violations.into_iter().map(|violation| violation.field).collect()
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(missing("POST", uri, ""), ["order"]);
    assert_eq!(missing("POST", uri, "{}"), ["order.address"]);
    let body = r#"{"lines": [{"title": "a"}, {"count": 1}]}"#;
    assert_eq!(missing("POST", uri, body), ["order.address", "order.lines[1].title"]);
    assert_eq!(missing("POST", uri, r#"{"address": ""}"#), ["order.address"], "empty is not given");
    assert_eq!(missing("POST", uri, r#"{"address": "x", "lines": [{"title": "a"}]}"#), [""; 0]);
    assert_eq!(
        missing("PATCH", "/v1/orders/o", r#"{"lines": []}"#),
        [""; 0],
        "a PATCH sends a part"
    );
}

#[test]
fn r12_a_path_excludes_the_other_members_of_its_oneof() {
    assert_eq!(message("POST", "/v1/pick/here", ""), json!({"city": "here"}));
    assert_eq!(refused("POST", "/v1/pick/here", r#"{"born": 1}"#), ["city"]);
}

#[test]
fn a_route_writes_as_it_is_told() {
    let write = |write: WriteOptions, body: serde_json::Value| {
        let table = table(Options { write, ..Options::default() });
        let found = find(&table, "POST", "/v1/echo").expect("a route");
        let message =
            DynamicMessage::deserialize(found.route.method.output(), body).expect("a message");
        let reply =
            found.response(&prost::Message::encode_to_vec(&message)).expect("it has a JSON form");
        String::from_utf8(reply.body.into()).expect("UTF-8")
    };
    let plain = WriteOptions::default();
    let message =
        json!({"boolValue": true, "genre": 1, "byNumber": {"2": {"born": 1}, "-1": {}, "10": {}}});
    assert_eq!(
        write(plain, message.clone()),
        r#"{"boolValue":true,"genre":"GENRE_POETRY","byNumber":{"-1":{},"2":{"born":1},"10":{}}}"#,
        "maps are sorted by their keys"
    );
    let proto = WriteOptions { uses_proto_names: true, uses_enum_numbers: true, ..plain };
    assert_eq!(
        write(proto, message),
        r#"{"bool_value":true,"genre":1,"by_number":{"-1":{},"2":{"born":1},"10":{}}}"#
    );
    let pretty = WriteOptions { is_pretty: true, ..plain };
    assert_eq!(
        write(pretty, json!({"numbers": [1, 2], "nested": {}, "byName": {"a": 1}})),
        "{\n  \"nested\": {},\n  \"numbers\": [\n    \"1\",\n    \"2\"\n  ],\n  \"byName\": {\n    \"a\": \"1\"\n  }\n}"
    );
    let with_defaults = WriteOptions { emits_defaults: true, ..plain };
    let all: serde_json::Value =
        serde_json::from_str(&write(with_defaults, json!({}))).expect("JSON");
    assert_eq!(all["int64Value"], "0");
    assert_eq!(all["genre"], "GENRE_UNSPECIFIED");
    assert_eq!((&all["list"], &all["byName"]), (&json!([]), &json!({})));
    assert_eq!(all.get("maybe"), None, "what has presence is there only if it was set");
    assert_eq!(all.get("nested"), None);
}
