//! A service of another team: the edge was not built with its protos.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::Collected;
use http_body_util::Full;
use http_body_util::StreamBody;
use rpc::Principal;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::NamedService;

use super::clients::Answer;
use super::clients::frame;
use super::clients::messages;
use super::clients::request;

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
const SOURCE: &str = r#"
syntax = "proto3";

package acme.widgets.v1;

import "google/api/annotations.proto";
import "linkmesh/common/v1/options.proto";
import "linkmesh/mesh/v1/options.proto";

// Widgets.
service WidgetsService {
  option (linkmesh.mesh.v1.served_by) = "widgets";

  // Reads a widget.
  rpc GetWidget(GetWidgetRequest) returns (Widget) {
    option (google.api.http) = {get: "/v1/{name=widgets/*}"};
    option (linkmesh.common.v1.requires).permission = SCOPE_LINKS_READ;
    option idempotency_level = NO_SIDE_EFFECTS;
  }

  // Makes a widget.
  rpc CreateWidget(GetWidgetRequest) returns (Widget) {
    option (google.api.http) = {
      post: "/v1/widgets"
      body: "*"
    };
    option (linkmesh.common.v1.requires).permission = SCOPE_LINKS_WRITE;
  }

  // Tells what becomes of a widget.
  rpc WatchWidget(GetWidgetRequest) returns (stream Widget) {
    option (google.api.http) = {get: "/v1/{name=widgets/*}:watch"};
    option (linkmesh.common.v1.requires).permission = SCOPE_LINKS_READ;
  }
}

message GetWidgetRequest {
  // Its name.
  string name = 1;
}

message Widget {
  // Its name.
  string name = 1;
  // How it looks.
  string {field} = 2;
}
"#;

pub(super) const GET: &str = "/acme.widgets.v1.WidgetsService/GetWidget";
pub(super) const CREATE: &str = "/acme.widgets.v1.WidgetsService/CreateWidget";
pub(super) const WATCH: &str = "/acme.widgets.v1.WidgetsService/WatchWidget";
/// What asks for a widget, as JSON.
pub(super) const ASKED: &str = r#"{"name":"widgets/w"}"#;
/// How every widget looks.
pub(super) const LOOK: &str = "green";
const NAME: &str = "widgets/w";

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetWidgetRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Widget {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) look: String,
}

/// What the edge was built with, and widgets, whose look is called so.
pub(super) fn descriptors(field: &str) -> Vec<u8> {
    descriptors_of(&SOURCE.replace("{field}", field))
}

/// The same, with another text in place of one that is there.
pub(super) fn descriptors_with(old: &str, new: &str) -> Vec<u8> {
    assert!(SOURCE.contains(old), "{old}");
    descriptors_of(&SOURCE.replace("{field}", "color").replace(old, new))
}

fn descriptors_of(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("widgets.proto"), source).expect("written");
    let include = [folder.path(), Path::new(PROTO), &Path::new(PROTO).join("third_party")];
    let mut compiler = protox::Compiler::new(include).expect("the folders exist");
    compiler.include_source_info(true).open_file("widgets.proto").expect("it compiles");
    // Sets one behind the other are one set.
    [proto::DESCRIPTOR_SET, &compiler.encode_file_descriptor_set()].concat()
}

/// The service: it answers with a widget that has the name which was asked for.
#[derive(Clone)]
pub(super) struct Widgets {
    pub(super) calls: Arc<AtomicUsize>,
    /// So many calls fail first, as those do of an instance that leaves.
    pub(super) failures: Arc<AtomicUsize>,
    /// Whom the last call was made for.
    pub(super) principal: Arc<Mutex<Option<Principal>>>,
    /// How many widgets each watch has told of.
    pub(super) told: watch::Sender<usize>,
}

impl Widgets {
    pub(super) fn new() -> Self {
        let (calls, failures, principal) = Default::default();
        Self { calls, failures, principal, told: watch::Sender::new(0) }
    }

    fn answer(&self, is_watch: bool, asked: &[u8]) -> Response<Body> {
        let asked: Vec<GetWidgetRequest> = messages(asked);
        let name = asked.into_iter().next().unwrap_or_default().name;
        let widget = frame(&Widget { name, look: LOOK.to_owned() });
        let end = Frame::trailers([("grpc-status", "0")].into_iter().map(header).collect());
        let frames = if is_watch {
            let start = (self.told.subscribe(), 0, widget);
            stream::unfold(start, |(mut told, sent, widget)| async move {
                told.wait_for(|told| *told > sent).await.ok()?;
                Some((Frame::data(widget.clone()), (told, sent + 1, widget)))
            })
            .boxed()
        } else {
            stream::iter([Frame::data(widget), end]).boxed()
        };
        typed(Body::new(StreamBody::new(frames.map(Ok::<_, Infallible>))))
    }
}

fn header((name, value): (&'static str, &'static str)) -> (http::HeaderName, HeaderValue) {
    (http::HeaderName::from_static(name), HeaderValue::from_static(value))
}

fn typed(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .extend(HeaderMap::from_iter([("content-type", "application/grpc")].map(header)));
    response
}

impl NamedService for Widgets {
    const NAME: &'static str = "acme.widgets.v1.WidgetsService";
}

impl tower::Service<Request<Body>> for Widgets {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        async move {
            this.calls.fetch_add(1, Ordering::SeqCst);
            let principal = request.extensions().get::<Principal>().cloned();
            *this.principal.lock().expect("no test panics with it") = principal;
            let fails = this
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if fails.is_ok() {
                let mut response = typed(Body::empty());
                response
                    .headers_mut()
                    .extend(HeaderMap::from_iter([("grpc-status", "14")].map(header)));
                return Ok(response);
            }
            let is_watch = request.uri().path() == WATCH;
            let asked = request.into_body().collect().await;
            let asked = asked.map(Collected::to_bytes).unwrap_or_default();
            Ok(this.answer(is_watch, &asked))
        }
        .boxed()
    }
}

/// How a client speaks that asks for the widget `widgets/w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Rest,
    Connect,
    Web,
    Grpc,
}

impl Speaks {
    pub(super) const ALL: [Self; 4] = [Self::Rest, Self::Connect, Self::Web, Self::Grpc];

    /// A call, by HTTP/2.
    pub(super) fn call(
        self,
        address: SocketAddr,
        bearer: Option<&str>,
        is_watch: bool,
    ) -> Request<Full<Bytes>> {
        let uri = |path: &str| format!("http://{address}{path}");
        let path = if is_watch { WATCH } else { GET };
        let message = frame(&GetWidgetRequest { name: NAME.to_owned() });
        let length = u32::try_from(ASKED.len()).expect("short").to_be_bytes();
        let json_frame = [&[0], &length[..], ASKED.as_bytes()].concat().into();
        let typed = |content_type, body: Bytes| {
            let headers = [("content-type", content_type), ("te", "trailers")];
            request("POST", &uri(path), &headers, body)
        };
        let mut call = match (self, is_watch) {
            (Self::Rest, false) => request("GET", &uri("/v1/widgets/w"), &[], ""),
            (Self::Rest, true) => request("GET", &uri("/v1/widgets/w:watch"), &[], ""),
            (Self::Connect, false) => typed("application/json", ASKED.into()),
            (Self::Connect, true) => typed("application/connect+json", json_frame),
            (Self::Web, _) => typed("application/grpc-web", message),
            (Self::Grpc, _) => typed("application/grpc", message),
        };
        if let Some(bearer) = bearer {
            let bearer = bearer.parse().expect("a header");
            call.headers_mut().insert("authorization", bearer);
        }
        call
    }

    /// Whether an answer is the widget, and as what JSON calls its look; protobuf does not say.
    pub(super) fn look(self, answer: &Answer) -> Option<&'static str> {
        assert_eq!(answer.status, 200, "{self:?}: {answer:?}");
        match self {
            Self::Rest | Self::Connect => {
                let widget = answer.json();
                assert_eq!(widget["name"], NAME, "{self:?}: {answer:?}");
                let called = ["color", "colour"].into_iter().find(|name| widget[name] == LOOK);
                assert!(called.is_some(), "{self:?}: {answer:?}");
                called
            }
            Self::Web | Self::Grpc => {
                let widget = Widget { name: NAME.to_owned(), look: LOOK.to_owned() };
                assert_eq!(messages::<Widget>(&answer.body), [widget], "{self:?}: {answer:?}");
                let status = answer.trailers.get("grpc-status").map(|code| code.as_bytes());
                assert!(self == Self::Web || status == Some(b"0"), "{answer:?}");
                None
            }
        }
    }
}
