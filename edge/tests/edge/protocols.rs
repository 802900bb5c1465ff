//! gRPC, gRPC-Web and Connect before a service that says what a test tells it to say, byte by byte. The oracle of gRPC-Web is
//! tonic-web's server.

mod codings;
mod connect;
mod grpc_web;

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
    read::<Body>(edge::protocols::respond(service, &METHODS, request).await).await
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

fn json_frame(json: &[u8]) -> Bytes {
    let length = u32::try_from(json.len()).expect("small").to_be_bytes();
    [&[0], &length[..], json].concat().into()
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
        let answer = read(edge::protocols::respond(&service, &METHODS, request).await).await;
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
