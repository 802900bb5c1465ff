//! The suite's service behind the edge's protocols: anybody may call, and all metadata passes.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use edge::Body;
use edge::Handler;
use edge::protocols::Backend;
use edge::protocols::Codings;
use edge::protocols::Method;
use edge::protocols::Methods;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::header;
use http::request::Parts;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use tower::ServiceExt as _;

static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let set = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    let pool = DescriptorPool::decode(&set[..]).expect("the build encoded the set");
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
});

/// What the edge's protocols stand before.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    pub(crate) channel: Channel,
    pub(crate) message_bytes_max: usize,
    pub(crate) leaving: CancellationToken,
}

impl Handler for Suite {
    async fn answer(&self, _: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        edge::protocols::respond(self, &METHODS, request).await
    }
}

impl Backend for Suite {
    /// The suite compares details with those that its own service gave, and knows of no other.
    const REFUSAL: fn(Status) -> Status = |status| Status::new(status.code(), status.message());

    fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// As it ships: clients' codings end here.
    fn codings(&self) -> Codings {
        Codings::NONE
    }

    /// The suite wants no deadline where its client has none.
    fn timeout_max(&self, _: &Method) -> Option<Duration> {
        None
    }

    async fn admit(&self, _: &Method, head: &Parts) -> Result<HeaderMap, Status> {
        let headers = &head.headers;
        let mut metadata = headers.clone();
        for name in [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
            header::HOST,
            header::TRANSFER_ENCODING,
        ] {
            metadata.remove(name);
        }
        Ok(metadata)
    }

    async fn call(
        &self,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<tonic::body::Body>, Status> {
        let answered = self.channel.clone().oneshot(request).await;
        answered.map_err(|error| Status::from_error(error.into()))
    }

    fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }
}
