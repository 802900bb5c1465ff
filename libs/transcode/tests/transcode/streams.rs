//! Streams of a client: cut out of a body at whatever bytes it arrives in.

use crate::LIBRARY;
use crate::find;
use crate::show;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use transcode::RequestParts;
use transcode::TranscodeError;

const APPEND: &str = "/v1/shelves/a/books:append";

/// The messages of a body that arrives in these pieces.
fn messages(content_type: &str, pieces: &[&[u8]]) -> Result<Vec<Value>, TranscodeError> {
    let found = find(&LIBRARY, "POST", APPEND).expect("a route");
    assert!(found.route.method.is_client_streaming());
    let mut incoming = found.incoming(Some(content_type), 64)?;
    let mut bodies = Vec::new();
    for piece in pieces {
        incoming.push(piece);
        while let Some(body) = incoming.next()? {
            bodies.push(body);
        }
    }
    bodies.extend(incoming.finish()?);
    let read = |body: &bytes::Bytes| {
        let content_type = Some("application/json");
        let wire = found.request(RequestParts { query: None, content_type, body })?;
        Ok(show(&found, &wire)["book"].clone())
    };
    bodies.iter().map(read).collect()
}

const ARRAY: &str =
    r#" [ {"displayTitle": "a,]}\"\\", "tags": ["[{"]} , {"labels": {"k": "v"}},{} ] "#;
const LINES: &str = "{\"displayTitle\": \"a,]}\\\"\\\\\", \"tags\": [\"[{\"]}\n\r\n \n{\"labels\": {\"k\": \"v\"}}\r\n{}";

fn expected() -> Vec<Value> {
    vec![
        json!({"displayTitle": "a,]}\"\\", "tags": ["[{"]}),
        json!({"labels": {"k": "v"}}),
        json!({}),
    ]
}

#[test]
fn a_clients_stream_is_an_array_or_lines() {
    assert_eq!(messages("application/json", &[ARRAY.as_bytes()]), Ok(expected()));
    assert_eq!(messages("application/x-ndjson", &[LINES.as_bytes()]), Ok(expected()));
    assert_eq!(messages("application/jsonl; charset=utf-8", &[LINES.as_bytes()]), Ok(expected()));
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json", "[]"),
        ("application/json", " [ ]\n"),
        ("application/x-ndjson", ""),
        ("application/x-ndjson", "\n\n"),
    ] {
        assert_eq!(messages(content_type, &[body.as_bytes()]), Ok(vec![]), "{content_type} {body}");
    }
}

#[test]
fn what_is_no_stream_is_refused() {
    for body in [
        "{}", "[", "[{}", "[{},", "[{},]", "[,{}]", "[{}]x", "[{}][]", "[{} {}]", "[1}", "[\"", "x",
    ] {
        assert!(messages("application/json", &[body.as_bytes()]).is_err(), "{body}");
    }
    assert!(messages("application/x-ndjson", &[b"{}\n{\n"]).is_err());
    for content_type in ["text/plain", "application/octet-stream", ""] {
        let refused = messages(content_type, &[b"[]"]);
        assert!(matches!(refused, Err(TranscodeError::MediaType(_))), "{content_type}");
    }
}

#[test]
fn r23_a_message_of_a_stream_is_bounded_while_it_arrives() {
    for (content_type, start) in [("application/json", "[\""), ("application/x-ndjson", "\"")] {
        let long = format!("{start}{}", "x".repeat(100));
        let refused = messages(content_type, &[long.as_bytes()]);
        assert!(matches!(refused, Err(TranscodeError::Invalid(_))), "{content_type}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_may_be_cut_anywhere(cuts in proptest::collection::vec(0..200_usize, 0..6), is_array: bool) {
        let (content_type, body) =
            if is_array { ("application/json", ARRAY) } else { ("application/x-ndjson", LINES) };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body.as_bytes()[cut[0]..cut[1]]).collect();
        prop_assert_eq!(messages(content_type, &pieces), Ok(expected()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in "[\\[\\]{},\"\\\\ \\n0a]{0,40}", is_array: bool) {
        let content_type = if is_array { "application/json" } else { "application/x-ndjson" };
        drop(messages(content_type, &[bytes.as_bytes()]));
    }
}
