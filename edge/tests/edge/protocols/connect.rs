//! Connect: R37 to R40.

use super::*;

/// R37, R38: Connect's unary calls in both codecs.
#[tokio::test]
async fn connect_takes_a_message_as_the_body_and_gives_trailers_as_headers() {
    let service = Service { headers: vec![("x-header", "h")], ..Service::saying(&[said()]) };
    let proto = prost::Message::encode_to_vec(&asked());
    let json = br#"{"link":{"slug":"sale"}}"#;
    for (content_type, body) in [("application/proto", &proto[..]), ("application/json", json)] {
        let answer = send(&service, typed(CREATE, content_type, body.to_vec())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.header("x-header"), Some("h"));
        assert_eq!(answer.header("trailer-x-trailer"), Some("t"));
        assert_eq!(answer.header("grpc-status"), None);
        let expected = if content_type.ends_with("proto") { &said()[5..] } else { &json[..] };
        assert_eq!(&answer.body[..], expected);
        assert_eq!(service.heard().expect("called").1, frame(&asked()), "{content_type}");
    }
}

/// R37: an error is JSON under its own HTTP status, for protobuf too.
#[tokio::test]
async fn an_error_is_json_under_its_own_status_in_connect() {
    let status = Status::from(rpc::Error::not_found("it"));
    let details: &'static str = STANDARD.encode(status.details()).leak();
    let trailers = [
        ("grpc-status", "5"),
        ("grpc-message", "no%20%C3%A9"),
        ("grpc-status-details-bin", details),
        ("x-t", "1"),
    ];
    let service = Service::failing(&trailers);
    for content_type in ["application/proto", "application/json"] {
        let answer = send(&service, typed(CREATE, content_type, "")).await;
        if content_type.ends_with("json") {
            assert_eq!(answer.json()["code"], "invalid_argument", "nothing is no JSON");
            continue;
        }
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/json")));
        let error = answer.json();
        assert_eq!(
            (error["code"].as_str(), error["message"].as_str()),
            (Some("not_found"), Some("no é"))
        );
        assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
        assert_eq!(answer.header("trailer-x-t"), Some("1"));
    }
}

/// R38: frames of a stream, the last of which says how it went.
#[tokio::test]
async fn a_stream_of_connect_ends_with_a_frame_that_says_how_it_went() {
    let message = json_frame(b"");
    for (trailers, end) in [
        (vec![("grpc-status", "0"), ("x-t", "1")], r#"{"metadata":{"x-t":["1"]}}"#),
        (
            vec![("grpc-status", "8"), ("grpc-message", "slow")],
            r#"{"error":{"code":"resource_exhausted","message":"slow"}}"#,
        ),
    ] {
        let service = Service {
            chunks: vec![message.clone(), message.clone()],
            ..Service::failing(&trailers)
        };
        let answer =
            send(&service, typed(WATCH, "application/connect+proto", message.clone())).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/connect+proto"))
        );
        let frames = frames(&answer.body);
        assert_eq!(frames[..2], [(0, Vec::new()), (0, Vec::new())]);
        assert_eq!(frames[2], (2, end.as_bytes().to_vec()));
    }
}

/// R39: GET, for what has no side effects alone.
#[tokio::test]
async fn a_method_without_side_effects_can_be_called_by_get() {
    let service = Service::saying(&[json_frame(b"")]);
    let message =
        prost::Message::encode_to_vec(&proto::links::v1::GetLinkRequest { name: "a/b".to_owned() });
    let base64 = URL_SAFE_NO_PAD.encode(&message);
    for query in [
        format!("connect=v1&encoding=proto&base64=1&message={base64}"),
        format!("message={base64}&x=y&base64=1&encoding=proto"),
        "encoding=json&message=%7B%22name%22%3A%22a%2Fb%22%7D&connect=v1".to_owned(),
    ] {
        let answer = send(&service, request("GET", &format!("{GET}?{query}"), &[], "")).await;
        assert_eq!(answer.status, 200, "{query} {answer:?}");
        assert_eq!(&service.heard().expect("called").1[5..], &message[..]);
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    }
    for (method, path, status) in [
        ("GET", format!("{GET}?encoding=xml&message="), 415),
        ("GET", format!("{GET}?encoding=proto"), 400),
        ("GET", format!("{CREATE}?encoding=proto&message="), 405),
        ("DELETE", GET.to_owned(), 405),
    ] {
        let answer = send(&service, request(method, &path, &[], "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let answer = send(&service, request("DELETE", GET, &[], "")).await;
    assert_eq!(answer.header("allow"), Some("GET, POST"));
}

/// R39: codecs and paths that are not known.
#[tokio::test]
async fn what_is_not_known_has_its_http_status() {
    let service = Service::default();
    for (path, content_type, status) in [
        (CREATE, "application/xml", 415),
        (CREATE, "application/connect+proto", 415),
        (WATCH, "application/proto", 415),
        ("/a.B/C", "application/proto", 404),
        ("/a.B/C", "application/connect+json", 404),
        (CREATE, "application/grpc+thrift", 415),
    ] {
        let answer = send(&service, typed(path, content_type, "")).await;
        assert_eq!(answer.status, status, "{path} {content_type}");
    }
}

/// R40: timeouts, and compression that is not known.
#[tokio::test]
async fn connect_refuses_a_malformed_timeout_and_names_the_codings_it_knows() {
    let service = Service::saying(&[said()]);
    for timeout in ["12345678901", "-1", "1s"] {
        let headers = [("content-type", "application/proto"), ("connect-timeout-ms", timeout)];
        let answer = send(&service, call(CREATE, &headers, "")).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (400, Some("invalid_argument"))
        );
    }
    let headers = [("content-type", "application/proto"), ("content-encoding", "snappy")];
    let answer = send(&service, call(CREATE, &headers, "x")).await;
    assert_eq!(answer.json()["code"], "unimplemented");
    assert!(answer.json()["message"].as_str().is_some_and(|text| text.contains("zstd, gzip")));
    assert_eq!(answer.header("accept-encoding"), Some("zstd, gzip"));
    for content_type in ["application/grpc", "application/grpc-web"] {
        let headers = [("content-type", content_type), ("grpc-encoding", "snappy")];
        let answer = send(&service, call(CREATE, &headers, frame(&asked()))).await;
        assert_eq!(answer.header("grpc-status"), Some("12"));
        assert_eq!(answer.header("grpc-accept-encoding"), Some("zstd, gzip"));
    }
    // Nothing is never decompressed.
    let headers = [("content-type", "application/proto"), ("content-encoding", "gzip")];
    assert_eq!(send(&service, call(CREATE, &headers, "")).await.status, 200);
}
