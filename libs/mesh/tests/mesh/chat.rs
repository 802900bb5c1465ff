//! A service that no descriptor knows, with a stream in both directions: it sends back what it gets.

use crate::backend::CHAT;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use std::convert::Infallible;
use std::task::Context;
use std::task::Poll;
use tokio_stream::Stream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_prost::ProstCodec;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Chat;

impl NamedService for Chat {
    const NAME: &'static str = CHAT;
}

impl tonic::server::StreamingService<GetLinkRequest> for Chat {
    type Response = GetLinkRequest;
    type ResponseStream = Streaming<GetLinkRequest>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<GetLinkRequest>>) -> Self::Future {
        Box::pin(std::future::ready(Ok(Response::new(request.into_inner()))))
    }
}

impl<B> tower::Service<http::Request<B>> for Chat
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let codec: ProstCodec<GetLinkRequest, GetLinkRequest> = ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).streaming(Chat, request).await)
        })
    }
}

/// Calls it.
pub(crate) async fn chat(
    mesh: &Mesh,
    messages: impl Stream<Item = GetLinkRequest> + Send + 'static,
) -> Result<Streaming<GetLinkRequest>, Status> {
    let codec: ProstCodec<GetLinkRequest, GetLinkRequest> = ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static("/test.v1.Chat/Chat");
    let mut client = tonic::client::Grpc::new(mesh.clone());
    client.ready().await?;
    client.streaming(Request::new(messages), path, codec).await.map(Response::into_inner)
}
