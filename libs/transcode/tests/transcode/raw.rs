//! `google.api.HttpBody`: bytes of any type, in and out, that no JSON stands around.

use crate::LIBRARY;
use crate::find;
use crate::show;
use prost_reflect::DynamicMessage;
use serde_json::json;
use transcode::Framing;
use transcode::RequestParts;
use transcode::TranscodeError;

/// An answer as a service would encode it.
fn encoded(method: &str, path: &str, answer: serde_json::Value) -> (Vec<u8>, transcode::Match) {
    let found = find(&LIBRARY, method, path).expect("a route");
    let output = found.route.method.output();
    let answer = DynamicMessage::deserialize(output, answer).expect("an answer");
    (prost::Message::encode_to_vec(&answer), found)
}

#[test]
fn r16_a_raw_body_is_taken_with_any_type_or_none() {
    let ask = |content_type, body: &'static [u8]| {
        let found = find(&LIBRARY, "PUT", "/v1/raw").expect("a route");
        let parts = RequestParts { query: None, content_type, body };
        show(&found, &found.request(parts).expect("any bytes"))
    };
    assert_eq!(
        ask(Some("image/png"), b"\xff\x00"),
        json!({"contentType": "image/png", "data": "/wA="})
    );
    assert_eq!(
        ask(Some("application/json"), b"{no"),
        json!({"contentType": "application/json", "data": "e25v"})
    );
    assert_eq!(ask(None, b""), json!({}));
}

#[test]
fn r11_a_raw_body_fills_its_field_and_path_and_query_the_rest() {
    let found = find(&LIBRARY, "POST", "/v1/files/f:upload").expect("a route");
    let ask = |query| {
        let parts =
            RequestParts { query: Some(query), content_type: Some("text/csv"), body: b"a,b" };
        found.request(parts).map(|wire| show(&found, &wire))
    };
    assert_eq!(
        ask("note=x").expect("good"),
        json!({"name": "files/f", "note": "x", "file": {"contentType": "text/csv", "data": "YSxi"}})
    );
    for query in ["name=evil", "file.data=YQ==", "file.contentType=text/html"] {
        assert!(matches!(ask(query), Err(TranscodeError::Invalid(_))), "{query}");
    }
}

#[test]
fn a_raw_answer_is_its_data_with_its_type() {
    let answer = json!({"contentType": "image/png", "data": "/wA="});
    let (wire, found) = encoded("PUT", "/v1/raw", answer.clone());
    assert!(found.route.answers_raw());
    let reply = found.response(&wire).expect("a message");
    assert_eq!((&*reply.media_type, &reply.body[..]), ("image/png", &b"\xff\x00"[..]));
    let (wire, found) = encoded("GET", "/v1/files/f:download", json!({"file": answer}));
    let reply = found.response(&wire).expect("a message");
    assert_eq!((&*reply.media_type, &reply.body[..]), ("image/png", &b"\xff\x00"[..]));
    // In pieces, as messages may come on the wire.
    let (half, _) = encoded("GET", "/v1/files/f:download", json!({"file": {"data": "eA=="}}));
    let reply = found.response(&[wire, half].concat()).expect("a message");
    assert_eq!((&*reply.media_type, &reply.body[..]), ("image/png", &b"x"[..]));
    let reply = found.response(b"").expect("a message without anything");
    assert_eq!((&*reply.media_type, &reply.body[..]), ("application/octet-stream", &b""[..]));
    assert!(found.response(b"\x0a\x05x").is_err(), "cut off");
}

#[test]
fn r29_a_raw_stream_has_its_bytes_alone_and_no_place_for_an_error() {
    let (wire, found) = encoded("GET", "/v1/files/f:download", json!({"file": {"data": "eHk="}}));
    let reply = found.response(&wire).expect("a message");
    assert_eq!(&Framing::Raw.message(&reply.body, false, None)[..], b"xy");
    assert_eq!(Framing::Raw.error(b"{}", false), None);
}
