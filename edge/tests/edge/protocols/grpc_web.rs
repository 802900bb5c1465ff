//! gRPC-Web, beside tonic-web: R30 to R34.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// R31, R33, R36: messages and trailers are tonic-web's, however the service's frames are cut.
    #[test]
    fn grpc_web_says_what_tonic_web_says(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
        cut in 1_usize..30,
        is_text in any::<bool>(),
    ) {
        let whole: Vec<u8> = messages.iter().flat_map(|message| {
            let length = u32::try_from(message.len()).expect("small").to_be_bytes();
            [&[0][..], &length, message].concat()
        }).collect();
        let chunks: Vec<_> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
        let service = Service::saying(&chunks);
        let content_type =
            if is_text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
        let (ours, theirs) = block_on(async {
            let ours = send(&service, typed(CREATE, content_type, if is_text {
                Bytes::from(STANDARD.encode(frame(&asked())))
            } else {
                frame(&asked())
            })).await;
            (ours, oracle(&service, content_type).await)
        });
        let open = |answer: &Answer| {
            let mut frames = frames(&if is_text { decoded(&answer.body) } else { answer.body.to_vec() });
            let (flags, trailers) = frames.pop().expect("trailers");
            (frames, flags, lines(&trailers))
        };
        prop_assert_eq!(open(&ours), open(&theirs));
        prop_assert_eq!(ours.header("content-type"), theirs.header("content-type"));
        prop_assert_eq!(&service.heard().expect("called").1[..], &frame(&asked())[..]);
    }
}

/// R30: the answer's type follows `accept`, else the request.
#[tokio::test]
async fn grpc_web_answers_in_the_form_that_is_accepted() {
    let service = Service::saying(&[said()]);
    for (sent, accepted, answered) in [
        ("application/grpc-web", None, "application/grpc-web+proto"),
        ("application/grpc-web+proto", Some("*/*"), "application/grpc-web+proto"),
        (
            "application/grpc-web",
            Some("application/grpc-web-text"),
            "application/grpc-web-text+proto",
        ),
        ("application/grpc-web-text", None, "application/grpc-web-text+proto"),
        ("application/grpc-web-text", Some("application/grpc-web"), "application/grpc-web+proto"),
        ("application/grpc-web+json", None, "application/grpc-web+json"),
    ] {
        let body = match sent {
            "application/grpc-web+json" => json_frame(br#"{"link":{"slug":"sale"}}"#),
            "application/grpc-web-text" => STANDARD.encode(frame(&asked())).into(),
            _ => frame(&asked()),
        };
        let mut headers = vec![("content-type", sent)];
        headers.extend(accepted.map(|accepted| ("accept", accepted)));
        let answer = send(&service, call(CREATE, &headers, body)).await;
        assert_eq!(answer.header("content-type"), Some(answered), "{sent} {accepted:?}");
        let body =
            if answered.contains("text") { decoded(&answer.body) } else { answer.body.to_vec() };
        let frames = frames(&body);
        let message = if sent.ends_with("json") {
            assert_eq!(frames[0].1, br#"{"link":{"slug":"sale"}}"#);
            continue;
        } else {
            <CreateLinkResponse as prost::Message>::decode(&frames[0].1[..]).expect("a message")
        };
        assert_eq!(message.link, link());
    }
}

/// R31: lower case, `name: value`, no empty line, HTTP 200, and nothing after it.
#[tokio::test]
async fn trailers_of_grpc_web_are_the_last_frame() {
    let service = Service::saying(&[said()]);
    let answer = send(&service, typed(CREATE, "application/grpc-web", frame(&asked()))).await;
    let frames = frames(&answer.body);
    assert_eq!((answer.status, frames.len()), (200, 2));
    assert_eq!(frames[1], (0x80, b"grpc-status: 0\r\nx-trailer: t\r\n".to_vec()));
    assert!(answer.trailers.is_empty());
}

/// R32: a status in the headers, and no body at all.
#[tokio::test]
async fn an_answer_of_trailers_only_has_no_body_in_grpc_web() {
    let service = Service { headers: vec![("grpc-status", "5")], ..Service::failing(&[]) };
    for content_type in ["application/grpc-web", "application/grpc-web-text"] {
        let body = if content_type.ends_with("text") {
            STANDARD.encode(frame(&asked())).into()
        } else {
            frame(&asked())
        };
        let answer = send(&service, typed(CREATE, content_type, body)).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("5")));
        assert!(answer.body.is_empty(), "{answer:?}");
    }
    // The edge's own refusals too.
    let answer = send(&service, typed(CREATE, "application/grpc-web", "")).await;
    assert_eq!((answer.header("grpc-status"), answer.body.len()), (Some("12"), 0));
}

/// R33: pieces of base64, padded one by one.
#[tokio::test]
async fn text_is_read_in_pieces_that_are_padded_one_by_one() {
    let service = Service::saying(&[said()]);
    let whole = frame(&asked());
    for at in 0..=whole.len() {
        let text = STANDARD.encode(&whole[..at]) + &STANDARD.encode(&whole[at..]);
        let answer = send(&service, typed(CREATE, "application/grpc-web-text", text)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(service.heard().expect("called").1, whole, "cut at {at}");
    }
}

/// R34.
#[tokio::test]
async fn a_length_that_no_longer_holds_is_dropped() {
    let service = Service { headers: vec![("content-length", "23")], ..Service::saying(&[said()]) };
    for content_type in ["application/grpc-web", "application/grpc"] {
        let answer = send(&service, typed(CREATE, content_type, frame(&asked()))).await;
        assert_eq!(answer.header("content-length"), None, "{content_type}");
    }
    let json = typed(CREATE, "application/json", "{}");
    let answer = send(&service, json).await;
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
}
