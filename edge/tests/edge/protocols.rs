//! gRPC, gRPC-Web and Connect before a service that says what a test tells it to say, byte by byte. The oracle of gRPC-Web is
//! tonic-web's server.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use edge::Body;
use edge::protocols::Backend;
use edge::protocols::Codings;
use edge::protocols::Method;
use edge::protocols::Methods;
use futures_util::stream;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::StreamBody;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::CreateLinkResponse;
use proto::links::v1::Link;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tower::Layer as _;
use tower::ServiceExt as _;

use super::clients::Answer;
use super::clients::frame;
use super::clients::request;

const CREATE: &str = "/linkmesh.links.v1.LinksService/CreateLink";
const GET: &str = "/linkmesh.links.v1.LinksService/GetLink";
const WATCH: &str = "/linkmesh.analytics.v1.AnalyticsService/WatchClicks";
const BIDI: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const MESSAGE_BYTES_MAX: usize = 4_000;

static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let reflection = DescriptorPool::decode(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET);
    let reflection = reflection.expect("the crate encoded it");
    let services = proto::DESCRIPTORS.services().chain(reflection.services());
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
});

/// What the service says, and what it heard.
#[derive(Debug, Clone, Default)]
struct Service {
    codings: Codings,
    headers: Vec<(&'static str, &'static str)>,
    chunks: Vec<Bytes>,
    /// None: the answer breaks off.
    trailers: Option<Vec<(&'static str, &'static str)>>,
    /// Whether it answers at all.
    is_silent: bool,
    heard: Arc<Mutex<Option<(HeaderMap, Bytes)>>>,
    leaving: CancellationToken,
}

impl Service {
    /// Answers with frames, cut at `cuts`, and success.
    fn saying(frames: &[Bytes]) -> Self {
        let trailers = Some(vec![("grpc-status", "0"), ("x-trailer", "t")]);
        Self { chunks: frames.to_vec(), trailers, ..Self::default() }
    }

    fn failing(trailers: &[(&'static str, &'static str)]) -> Self {
        Self { trailers: Some(trailers.to_vec()), ..Self::default() }
    }

    fn heard(&self) -> Option<(HeaderMap, Bytes)> {
        self.heard.lock().expect("no test panics with it").clone()
    }

    fn answer(&self) -> Response<tonic::body::Body> {
        let trailers = self.trailers.as_ref().map(|trailers| Frame::trailers(map(trailers)));
        let frames = self.chunks.iter().cloned().map(Frame::data).chain(trailers);
        let frames: Vec<_> = frames.map(Ok::<_, Infallible>).collect();
        let body = tonic::body::Body::new(StreamBody::new(stream::iter(frames)));
        let mut response = Response::new(body);
        *response.headers_mut() = map(&self.headers);
        response.headers_mut().insert("content-type", "application/grpc".parse().expect("text"));
        response
    }
}

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, value.parse().expect("a value"));
    }
    map
}

impl Backend for Service {
    fn method(&self, path: &str) -> Option<&'static Method> {
        METHODS.find(path)
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn codings(&self) -> Codings {
        self.codings
    }

    fn timeout_max(&self, _: &Method) -> Option<Duration> {
        Some(Duration::from_secs(20))
    }

    async fn admit(&self, _: &Method, _: &http::request::Parts) -> Result<HeaderMap, Status> {
        Ok(HeaderMap::new())
    }

    async fn call(
        &self,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<tonic::body::Body>, Status> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        *self.heard.lock().expect("no test panics with it") = Some((head.headers, body));
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        Ok(self.answer())
    }

    fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }
}

async fn read<B>(response: Response<B>) -> Answer
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body");
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        trailers: body.trailers().cloned().unwrap_or_default(),
        body: body.to_bytes(),
    }
}

async fn send(service: &Service, request: Request<Full<Bytes>>) -> Answer {
    read::<Body>(edge::protocols::respond(service, request).await).await
}

fn call(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut call = request("POST", path, headers, body);
    *call.version_mut() = http::Version::HTTP_2;
    call
}

fn typed(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    call(path, &[("content-type", content_type)], body)
}

fn link() -> Option<Link> {
    Some(Link { slug: "sale".to_owned(), ..Link::default() })
}

fn asked() -> CreateLinkRequest {
    CreateLinkRequest { link: link(), ..CreateLinkRequest::default() }
}

fn said() -> Bytes {
    frame(&CreateLinkResponse { link: link() })
}

/// Frames of gRPC-Web or Connect: flags and what they hold.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        frames.push((head[0], rest[..length].to_vec()));
        body = &rest[length..];
    }
    assert!(body.is_empty(), "frames fill the body");
    frames
}

/// Text of gRPC-Web, in which every piece is padded for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|group| STANDARD.decode(group).expect("base64")).collect()
}

/// Trailers of gRPC-Web, in order of name.
fn lines(trailers: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(trailers).expect("text");
    let lines = text.lines().map(|line| line.split_once(':').expect("a colon"));
    let mut lines: Vec<_> =
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    lines.sort();
    lines
}

/// What tonic-web makes of the same answer.
async fn oracle(service: &Service, content_type: &str) -> Answer {
    let inner = service.clone();
    let inner = tower::service_fn(move |_: Request<tonic::body::Body>| {
        let answer = inner.answer();
        async move { Ok::<_, Infallible>(answer) }
    });
    let headers = [("content-type", content_type), ("accept", content_type)];
    let request = request("POST", CREATE, &headers, frame(&asked()));
    read(tonic_web::GrpcWebLayer::new().layer(inner).oneshot(request).await.expect("never")).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

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

fn json_frame(json: &[u8]) -> Bytes {
    let length = u32::try_from(json.len()).expect("small").to_be_bytes();
    [&[0], &length[..], json].concat().into()
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

/// The fault list, 2: what breaks off never ends cleanly, in any protocol.
#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_in_every_protocol() {
    let service = Service { chunks: vec![said()], ..Service::default() };
    let answer = send(&service, typed(CREATE, "application/grpc", frame(&asked()))).await;
    assert_eq!(answer.trailers["grpc-status"], "2");
    let answer = send(&service, typed(CREATE, "application/grpc-web", frame(&asked()))).await;
    assert!(lines(&frames(&answer.body)[1].1).contains(&("grpc-status".into(), "2".into())));
    let answer = send(&service, typed(CREATE, "application/json", "{}")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (500, Some("unknown")));
    let answer = send(&service, typed(WATCH, "application/connect+proto", json_frame(b""))).await;
    let end: serde_json::Value = serde_json::from_slice(&frames(&answer.body)[1].1).expect("JSON");
    assert_eq!(end["error"]["code"], "unknown");
}

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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut compressed = Vec::new();
    let mut gzip = flate2::read::GzEncoder::new(bytes, flate2::Compression::default());
    gzip.read_to_end(&mut compressed).expect("memory to memory");
    compressed
}

fn compressed_frame(bytes: &[u8]) -> Bytes {
    let mut frame = json_frame(&gzip(bytes)).to_vec();
    frame[0] = 1;
    frame.into()
}

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

/// A client's stream, cut at every byte: what is wrong in it is said to the client, and the service hears of no more.
#[tokio::test]
async fn a_clients_stream_passes_as_it_is_and_is_refused_by_its_own_fault() {
    let message = json_frame(b"abc");
    let whole: Bytes = [message.clone(), message.clone()].concat().into();
    for at in 0..=whole.len() {
        let service = Service::saying(&[]);
        let pieces = [whole.slice(..at), whole.slice(at..)];
        let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let request = typed(BIDI, "application/grpc", "");
        let request = request.map(|_| StreamBody::new(stream::iter(pieces)));
        let answer = read(edge::protocols::respond(&service, request).await).await;
        assert_eq!(answer.trailers["grpc-status"], "0");
        assert_eq!(service.heard().expect("called").1, whole, "cut at {at}");
    }
    let too_large = json_frame(&vec![0; MESSAGE_BYTES_MAX + 1]);
    for (body, code) in [
        ([message.clone(), too_large].concat(), "8"),
        (message[..6].to_vec(), "3"),
        (vec![9, 0, 0, 0, 0], "3"),
        (compressed_frame(b"x").to_vec(), "13"),
    ] {
        let service = Service::saying(&[]);
        let answer = send(&service, typed(BIDI, "application/grpc", body)).await;
        assert_eq!(answer.header("grpc-status"), Some(code), "{answer:?}");
        assert!(service.heard().is_none());
    }
}

/// R42: a deadline that is over, or is about to be.
#[tokio::test]
async fn a_deadline_ends_the_call_in_every_protocol() {
    let service = Service { is_silent: true, ..Service::default() };
    for timeout in ["0m", "1m", "30m"] {
        let headers = [("content-type", "application/grpc"), ("grpc-timeout", timeout)];
        let answer = send(&service, call(CREATE, &headers, frame(&asked()))).await;
        assert_eq!(answer.header("grpc-status"), Some("4"), "{timeout}");
    }
    for timeout in ["0", "20"] {
        let headers = [("content-type", "application/json"), ("connect-timeout-ms", timeout)];
        let answer = send(&service, call(CREATE, &headers, "{}")).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (504, Some("deadline_exceeded"))
        );
    }
    let headers = [("content-type", "application/grpc"), ("grpc-timeout", "soon")];
    let answer = send(&service, call(CREATE, &headers, frame(&asked()))).await;
    assert_eq!(answer.header("grpc-status"), Some("3"));
    // What is left is sent on, and a limit even if the client has none.
    let service = Service::saying(&[said()]);
    send(&service, typed(CREATE, "application/grpc", frame(&asked()))).await;
    let (metadata, _) = service.heard().expect("called");
    assert!(metadata.contains_key("grpc-timeout"), "no header is not for ever: {metadata:?}");
}

/// JSON in gRPC's own frames.
#[tokio::test]
async fn grpc_speaks_json_too() {
    let service = Service::saying(&[said()]);
    let json = br#"{"link":{"slug":"sale"}}"#;
    let answer = send(&service, typed(CREATE, "application/grpc+json", json_frame(json))).await;
    assert_eq!(answer.header("content-type"), Some("application/grpc+json"));
    assert_eq!(answer.body, json_frame(json));
    assert_eq!(service.heard().expect("called").1, frame(&asked()));
    let wrong = json_frame(br#"{"nothing":1}"#);
    let answer = send(&service, typed(CREATE, "application/grpc+json", wrong)).await;
    assert_eq!(answer.header("grpc-status"), Some("3"));
}
