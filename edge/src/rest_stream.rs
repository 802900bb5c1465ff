//! REST whose client streams: the messages go on as they arrive, and what comes back is one answer, or a stream while the client
//! still sends.
//!
//! Over HTTP/2 and HTTP/1.1 alike both directions are open at once. A client of HTTP/1.1 that reads nothing before it has sent all
//! can be answered with no more than what the buffers on the way hold.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use transcode::Match;

use crate::access;
use crate::body::Body;
use crate::body::BoxError;
use crate::client_stream::Sent;
use crate::client_stream::Terms;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::protocols::Backend as _;
use crate::protocols::Method;
use crate::rest;
use crate::statuses;
use crate::stream::Ends;
use crate::upstream;
use crate::upstream::BytesCodec;

/// Answers a REST request to a method that takes a stream.
pub(crate) async fn answer<B>(
    gateway: &Gateway,
    found: Match,
    method: &Method,
    request: Request<B>,
) -> Result<Response<Body>, Fault>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let (head, mut sent) = (Arc::new(head), Sent::new(body));
    let answered = answer_or_fault(gateway, found, method, &head, &mut sent).await;
    // A client that waits for leave to send is told by the answer that it has none.
    let is_waiting = sent.is_unread() && head.headers.contains_key(header::EXPECT);
    if answered.is_err() && head.version < Version::HTTP_2 && !is_waiting {
        sent.linger().await;
    }
    answered
}

async fn answer_or_fault<B>(
    gateway: &Gateway,
    found: Match,
    method: &Method,
    head: &Arc<Parts>,
    sent: &mut Sent<B>,
) -> Result<Response<Body>, Fault>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let began = Instant::now();
    // First, so that nothing is refused for free.
    let metadata = gateway.admit(method, head).await?;
    let deadline = upstream::deadline(&head.headers, method, began)?;
    access::note(&head.extensions, &metadata);
    refuse_coding(&head.headers)?;
    let is_conditional = rest::is_conditional(head)?;
    let resumed = rest::resumed_query(&found, &head.headers, head.uri.query());
    let query = resumed.as_deref().or_else(|| head.uri.query());
    let content_type = rest::text(&head.headers, &header::CONTENT_TYPE);
    let incoming = found.clone().incoming(query, content_type, gateway.body_bytes_max)?;

    let bytes_max = gateway.stream_bytes_max;
    let request_id = method.request_id;
    let terms = Terms { found: found.clone(), request_id, head: Arc::clone(head), bytes_max };
    let call = rest::call(method, metadata, deadline, sent.send(incoming, terms));
    let mut client = rest::client(gateway);
    let path = method.path_and_query.clone();

    if method.server_streams {
        let started = async {
            let started = client.streaming(call, path, BytesCodec);
            let started = tokio::time::timeout_at(deadline.0.into(), started).await;
            Ok(started.map_err(|_| Fault::deadline_exceeded())??)
        };
        let streaming = unless_refused(sent, started).await?;
        let leaving = gateway.leaving.clone();
        let (metadata, mut messages, _) = streaming.into_parts();
        let first = rest::first_message(&found, &mut messages, deadline, &leaving);
        let first = unless_refused(sent, first).await?;
        let mut sent = sent.take();
        let refused = Some(Box::pin(async move { *sent.refused().await.status }) as _);
        let ends = Ends { deadline, leaving, refused };
        return rest::stream_answer(found, &head.headers, metadata, first, messages, ends);
    }
    let called = async {
        let called = client.client_streaming(call, path, BytesCodec);
        let answer = tokio::time::timeout_at(deadline.0.into(), called).await;
        let answer = answer.map_err(|_| Fault::deadline_exceeded())?;
        answer
            .map_err(|status| Fault::from(statuses::unread(status)).under_condition(is_conditional))
    };
    let (metadata, message, _) = unless_refused(sent, called).await?.into_parts();
    rest::single_answer(&found, method, head, &message, metadata.into_headers()).await
}

/// What a call comes to, unless its client's stream is refused before: then the call is dropped.
async fn unless_refused<B, T>(
    sent: &mut Sent<B>,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        fault = sent.refused() => Err(fault),
        outcome = call => outcome,
    }
}

/// Messages can't be found in what is compressed.
fn refuse_coding(headers: &HeaderMap) -> Result<(), Fault> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Fault::media_type("the body of a stream must have no content-encoding"))
        }
        Some(_) | None => Ok(()),
    }
}
