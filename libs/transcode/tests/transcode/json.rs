//! ProtoJSON, strictly.

use crate::LIBRARY;
use crate::ask;
use crate::find;
use crate::message;
use crate::refused;
use serde_json::json;
use transcode::TranscodeError;

fn echo(body: &str) -> serde_json::Value {
    message("POST", "/v1/echo", body)
}

#[test]
fn r17_r19_r20_and_r21_values_are_read_in_every_form_that_protojson_has() {
    for (body, expected) in [
        (r#"{"int64Value": "-7"}"#, json!({"int64Value": "-7"})),
        (r#"{"int64_value": 1e2}"#, json!({"int64Value": "100"})),
        (r#"{"int32Value": 1.0}"#, json!({"int32Value": 1})),
        (r#"{"int32Value": -0}"#, json!({})),
        (
            r#"{"uint64Value": 18446744073709551615}"#,
            json!({"uint64Value": "18446744073709551615"}),
        ),
        (r#"{"doubleValue": "NaN"}"#, json!({"doubleValue": "NaN"})),
        (r#"{"doubleValue": "-Infinity"}"#, json!({"doubleValue": "-Infinity"})),
        (r#"{"genre": 1}"#, json!({"genre": "GENRE_POETRY"})),
        (r#"{"genre": 99}"#, json!({"genre": 99})),
        (r#"{"bytesValue": "-_8"}"#, json!({"bytesValue": "+/8="})),
        (
            r#"{"timestamp": "2026-01-01T00:00:00+01:00"}"#,
            json!({"timestamp": "2025-12-31T23:00:00Z"}),
        ),
        (r#"{"duration": "1.5s"}"#, json!({"duration": "1.500s"})),
        (r#"{"mask": "a,bC.dE"}"#, json!({"mask": "a,bC.dE"})),
        (r#"{"wrapped": ""}"#, json!({"wrapped": ""})),
        (r#"{"maybe": 0}"#, json!({"maybe": 0})),
        (r#"{"maybe": null, "list": null, "left": null, "right": 1}"#, json!({"right": "1"})),
        (r#"{"value": null}"#, json!({"value": null})),
        (r#"{"value": [1, {"a": null}]}"#, json!({"value": [1.0, {"a": null}]})),
        (r#"{"struct": {"a": {"b": [true]}}}"#, json!({"struct": {"a": {"b": [true]}}})),
        (r#"{"byNumber": {"-1": {"born": 3}}}"#, json!({"byNumber": {"-1": {"born": 3}}})),
        (
            r#"{"any": {"@type": "type.googleapis.com/test.Author", "born": 3}}"#,
            json!({"any": {"@type": "type.googleapis.com/test.Author", "born": 3}}),
        ),
    ] {
        assert_eq!(echo(body), expected, "{body}");
    }
}

#[test]
fn r18_what_is_wrong_is_named_where_it_is() {
    for (body, field) in [
        (r#"{"nope": 1}"#, "nope"),
        (r#"{"nested": {"nope": 1}}"#, "nested.nope"),
        (r#"{"list": [{}, {"list": [{"nope": 1}]}]}"#, "list[1].list[0].nope"),
        (r#"{"byNumber": {"5": {"born": "x"}}}"#, "by_number[5].born"),
        (r#"{"byNumber": {"x": {}}}"#, "by_number[x]"),
        (r#"{"byNumber": {"1": {}, "1": {}}}"#, "by_number[1]"),
        (r#"{"byName": {"a": 1, "\u0061": 2}}"#, "by_name[a]"),
        (r#"{"int64Value": 1, "int64_value": 2}"#, "int64_value"),
        (r#"{"left": "x", "right": 1}"#, "right"),
        (r#"{"int32Value": 1.5}"#, "int32_value"),
        (r#"{"int32Value": 2147483648}"#, "int32_value"),
        (r#"{"uint32Value": -1}"#, "uint32_value"),
        (r#"{"int32Value": true}"#, "int32_value"),
        (r#"{"int32Value": "+1"}"#, "int32_value"),
        (r#"{"doubleValue": "inf"}"#, "double_value"),
        (r#"{"boolValue": "true"}"#, "bool_value"),
        (r#"{"boolValue": 1}"#, "bool_value"),
        (r#"{"stringValue": 1}"#, "string_value"),
        (r#"{"bytesValue": "!"}"#, "bytes_value"),
        (r#"{"genre": "NOPE"}"#, "genre"),
        (r#"{"numbers": [1, "2", "x"]}"#, "numbers[2]"),
        (r#"{"numbers": [null]}"#, "numbers[0]"),
        (r#"{"numbers": 1}"#, "numbers"),
        (r#"{"list": [null]}"#, "list[0]"),
        (r#"{"byName": [1]}"#, "by_name"),
        (r#"{"nested": []}"#, "nested"),
        (r#"{"timestamp": "10000-01-01T00:00:00Z"}"#, "timestamp"),
        (r#"{"timestamp": "2026-01-01"}"#, "timestamp"),
        (r#"{"duration": "315576000001s"}"#, "duration"),
        (r#"{"mask": "snake_case"}"#, "mask"),
        (r#"{"any": {"@type": "type.googleapis.com/test.Unknown"}}"#, "any"),
        (r#"{"boolValue": true, "boolValue": true}"#, "bool_value"),
        (r#"{"boolValue": null, "boolValue": true}"#, "bool_value"),
        (r#"{"struct": {"a": 1, "a": 2}}"#, "struct[a]"),
        (r#"{"numbers": [1,]}"#, "(malformed)"),
        (r#"{} {}"#, "(malformed)"),
        ("[]", ""),
        ("null", ""),
    ] {
        assert_eq!(refused("POST", "/v1/echo", body), [field], "{body}");
    }
}

#[test]
fn a_refusal_says_what_would_be_taken() {
    let search = "/v1/shelves/a/books:search";
    for (method, uri, body, told) in [
        (
            "POST",
            "/v1/echo",
            r#"{"genre": "NOPE"}"#,
            "must be one of GENRE_POETRY, GENRE_PROSE, is `NOPE`",
        ),
        ("POST", "/v1/echo", r#"{"stringValue": 1}"#, "must be text, is `1`"),
        ("POST", "/v1/echo", r#"{"list": [{"nope": 1}]}"#, "is no field; there are doubleValue, "),
        ("GET", &format!("{search}?nope=1"), "", "is no parameter; the method takes tags, "),
        ("POST", "/v1/echo?nope=1", "{}", "is no parameter; the method takes none"),
    ] {
        let Err(TranscodeError::Invalid(violations)) = ask(method, uri, body) else {
            panic!("{method} {uri} {body} was not refused as invalid");
        };
        let description = &violations[0].description;
        assert!(description.starts_with(told), "{description}");
    }
}

#[test]
fn several_faults_are_told_at_once_up_to_a_limit() {
    assert_eq!(refused("POST", "/v1/echo", r#"{"a": 1, "b": 2}"#), ["a", "b"]);
    let many: Vec<String> = (0..100).map(|number| format!(r#""k{number}": 1"#)).collect();
    assert_eq!(refused("POST", "/v1/echo", &format!("{{{}}}", many.join(","))).len(), 20);
}

#[test]
fn r23_nesting_is_bounded() {
    let nested = |depth: usize| r#"{"nested":"#.repeat(depth) + "{}" + &"}".repeat(depth);
    assert!(echo(&nested(99)).is_object());
    assert_eq!(refused("POST", "/v1/echo", &nested(100)), ["(malformed)"]);
    let lists = format!(r#"{{"value": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
    assert_eq!(refused("POST", "/v1/echo", &lists), ["(malformed)"]);
}

#[test]
fn an_answer_that_the_descriptors_do_not_describe_is_an_error() {
    let found = find(&LIBRARY, "POST", "/v1/echo").expect("a route");
    assert!(found.response(b"\xff\xff\xff").is_err());
}
