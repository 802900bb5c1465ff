//! Around every gRPC call that a service answers: a span that continues the caller's trace, and the request metrics.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;

use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use rpc::trace::Carried;
use tonic::Code;
use tower::Service;
use tracing::Instrument as _;

use crate::metrics::HttpMetrics;

/// The paths of all methods that exist. A path that a client made up becomes no label.
static ROUTES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let described = proto::DESCRIPTORS.services().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().map(move |method| format!("/{}/{}", service.full_name(), method.name()))
    });
    let standard = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    described.chain(standard.map(str::to_owned)).collect()
});

fn route(path: &str) -> &'static str {
    ROUTES.get(path).map_or("other", String::as_str)
}

/// Makes [`Calls`].
#[derive(Debug, Clone)]
pub(crate) struct CallsLayer {
    pub(crate) service: &'static str,
    pub(crate) metrics: HttpMetrics,
}

impl<S> tower::Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, layer: self.clone() }
    }
}

/// Watches the calls that go through it.
#[derive(Debug, Clone)]
pub(crate) struct Calls<S> {
    inner: S,
    layer: CallsLayer,
}

impl<S, B, R> Service<http::Request<B>> for Calls<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<WatchedBody<R>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let route = route(request.uri().path());
        let span = tracing::info_span!("call", service = self.layer.service, method = route);
        rpc::trace::adopt(&span, request.headers());
        let carried = Carried::of(request.headers());
        let mut watch =
            Watch { metrics: self.layer.metrics.clone(), route, begun: Instant::now(), code: None };
        let answer = self.inner.call(request);
        let kept = carried.clone();
        let watched = async move {
            let response = answer.await?;
            watch.read_code(response.headers());
            Ok(response.map(|body| WatchedBody { body, watch, carried: kept }))
        };
        Box::pin(carried.scope(watched.instrument(span)))
    }
}

/// What is known of a call; counted when dropped, which is when its answer's end was sent or its caller left.
#[derive(Debug)]
struct Watch {
    metrics: HttpMetrics,
    route: &'static str,
    begun: Instant,
    code: Option<Code>,
}

impl Watch {
    /// Reads the code from headers (of an answer without messages) or trailers.
    fn read_code(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (status, name) = names(self.code.unwrap_or(Code::Cancelled));
        self.metrics.observe("POST", self.route, status, name, self.begun.elapsed());
    }
}

/// A code's name, and the HTTP status that it stands for (as `google.rpc.Code` says).
fn names(code: Code) -> (u16, &'static str) {
    match code {
        Code::Ok => (200, "OK"),
        Code::Cancelled => (499, "CANCELLED"),
        Code::Unknown => (500, "UNKNOWN"),
        Code::InvalidArgument => (400, "INVALID_ARGUMENT"),
        Code::DeadlineExceeded => (504, "DEADLINE_EXCEEDED"),
        Code::NotFound => (404, "NOT_FOUND"),
        Code::AlreadyExists => (409, "ALREADY_EXISTS"),
        Code::PermissionDenied => (403, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (429, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (400, "FAILED_PRECONDITION"),
        Code::Aborted => (409, "ABORTED"),
        Code::OutOfRange => (400, "OUT_OF_RANGE"),
        Code::Unimplemented => (501, "UNIMPLEMENTED"),
        Code::Internal => (500, "INTERNAL"),
        Code::Unavailable => (503, "UNAVAILABLE"),
        Code::DataLoss => (500, "DATA_LOSS"),
        Code::Unauthenticated => (401, "UNAUTHENTICATED"),
    }
}

/// An answer's body, read along with for its trailers.
#[derive(Debug)]
pub(crate) struct WatchedBody<R> {
    body: R,
    watch: Watch,
    /// For the calls that are made while the answer is produced.
    carried: Carried,
}

impl<R: Body + Unpin> Body for WatchedBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let Self { body, carried, .. } = &mut *self;
        let frame = ready!(carried.sync_scope(|| Pin::new(body).poll_frame(context)));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.watch.read_code(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_method_becomes_no_label() {
        assert_eq!(
            route("/linkmesh.mesh.v1.MeshService/ListEndpoints"),
            "/linkmesh.mesh.v1.MeshService/ListEndpoints"
        );
        assert_eq!(route("/linkmesh.mesh.v1.MeshService/Nonsense"), "other");
        assert_eq!(route("/"), "other");
    }
}
