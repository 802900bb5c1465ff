//! Messages that are compressed, too large, or not as many as they should be: R41.

use super::*;

/// R41: the limit is on what a message decompresses to, and bombs end at it.
#[tokio::test]
async fn a_bomb_is_resource_exhausted_in_every_protocol() {
    let service = Service::saying(&[said()]);
    let bomb = vec![0; 1_000_000];
    let compressed = compressed_frame(&bomb);
    for (content_type, header) in [
        ("application/grpc", "grpc-encoding"),
        ("application/grpc-web", "grpc-encoding"),
        ("application/grpc-web-text", "grpc-encoding"),
        ("application/proto", "content-encoding"),
    ] {
        assert!(compressed.len() < MESSAGE_BYTES_MAX, "as it is sent it is small enough");
        let body = match content_type {
            "application/proto" => gzip(&bomb).into(),
            "application/grpc-web-text" => STANDARD.encode(&compressed).into(),
            _ => compressed.clone(),
        };
        let headers = [("content-type", content_type), (header, "gzip")];
        let answer = send(&service, call(CREATE, &headers, body)).await;
        let code = if content_type == "application/proto" {
            answer.json()["code"].as_str() == Some("resource_exhausted")
        } else {
            answer.header("grpc-status") == Some("8")
        };
        assert!(code, "{content_type} {answer:?}");
        assert!(service.heard().is_none());
    }
}

/// R41: none, or two.
#[tokio::test]
async fn a_method_that_takes_one_message_is_unimplemented_for_others() {
    let service = Service::saying(&[said()]);
    for (path, content_type) in [
        (CREATE, "application/grpc"),
        (CREATE, "application/grpc-web"),
        (WATCH, "application/connect+proto"),
    ] {
        for body in [Bytes::new(), [json_frame(b""), json_frame(b"")].concat().into()] {
            let answer = send(&service, typed(path, content_type, body)).await;
            if path == WATCH {
                let end: serde_json::Value =
                    serde_json::from_slice(&frames(&answer.body)[0].1).expect("JSON");
                assert_eq!(end["error"]["code"], "unimplemented");
            } else {
                assert_eq!(answer.header("grpc-status"), Some("12"), "{content_type}");
            }
        }
    }
    assert!(service.heard().is_none());
}

/// What a service reads in the client's coding is not touched; what it does not is decompressed for it.
#[tokio::test]
async fn compressed_messages_pass_untouched_where_both_sides_agree() {
    let message = prost::Message::encode_to_vec(&asked());
    let compressed = compressed_frame(&message);
    for (codings, heard, encoding) in
        [(Codings::ALL, compressed.clone(), Some("gzip")), (Codings::NONE, frame(&asked()), None)]
    {
        let service = Service { codings, ..Service::saying(&[said()]) };
        for (content_type, header, body) in [
            ("application/grpc", "grpc-encoding", compressed.clone()),
            ("application/grpc-web", "grpc-encoding", compressed.clone()),
            ("application/proto", "content-encoding", gzip(&message).into()),
        ] {
            let headers = [
                ("content-type", content_type),
                (header, "gzip"),
                ("grpc-accept-encoding", "gzip"),
            ];
            send(&service, call(CREATE, &headers, body)).await;
            let (metadata, body) = service.heard().expect("called");
            assert_eq!(body, heard, "{content_type}");
            let named = metadata.get("grpc-encoding").map(|value| value.to_str().expect("text"));
            assert_eq!(named, encoding);
        }
    }
}

/// The way back: frames in a coding that the client accepts are not touched.
#[tokio::test]
async fn compressed_answers_pass_where_they_are_accepted_and_are_decompressed_elsewhere() {
    let compressed = compressed_frame(&said()[5..]);
    let service = Service {
        codings: Codings::ALL,
        headers: vec![("grpc-encoding", "gzip")],
        ..Service::saying(std::slice::from_ref(&compressed))
    };
    for accepted in [Some("gzip"), None] {
        let mut headers = vec![("content-type", "application/grpc")];
        headers.extend(accepted.map(|accepted| ("grpc-accept-encoding", accepted)));
        let answer = send(&service, call(CREATE, &headers, frame(&asked()))).await;
        assert_eq!(answer.header("grpc-encoding"), accepted);
        let expected = if accepted.is_some() { compressed.clone() } else { said() };
        assert_eq!(answer.body, expected, "{accepted:?}");

        let mut headers = vec![("content-type", "application/proto")];
        headers.extend(accepted.map(|accepted| ("accept-encoding", accepted)));
        let body = prost::Message::encode_to_vec(&asked());
        let answer = send(&service, call(CREATE, &headers, body)).await;
        assert_eq!(answer.header("content-encoding"), accepted);
        assert_eq!(answer.body, expected.slice(5..));
    }
}
