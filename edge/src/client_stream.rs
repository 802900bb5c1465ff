//! A client's stream in the body of a REST request, on its way to a service: each message as soon as it has arrived, and no sooner
//! than the service takes it.
//!
//! What must stay true: no service takes a stream for whole that is not. One that is refused, or breaks off, does not end here: its
//! call is dropped by who waits for the answer, and that resets it.

use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use futures_util::Stream;
use http::request::Parts;
use tokio::sync::oneshot;
use transcode::Incoming;
use transcode::Match;

use crate::fault::Fault;
use crate::idempotency;
use crate::rest;
use crate::upstream;

/// What makes a body a stream of messages.
pub(crate) struct Terms {
    pub(crate) found: Match,
    /// The number of the method's field for it, if it has one.
    pub(crate) request_id: Option<u32>,
    /// What the first message gets beside path and query: a request id, and a condition.
    pub(crate) head: Arc<Parts>,
    /// Bytes of the whole body.
    pub(crate) bytes_max: u64,
}

/// The messages. After a refusal nothing more comes of it, not even its end.
pub(crate) struct ClientStream<B> {
    /// Until its end.
    body: Option<B>,
    incoming: Incoming,
    terms: Terms,
    bytes_left: u64,
    /// Until something is left.
    leave: Option<oneshot::Sender<Left<B>>>,
}

/// What a stream leaves when nothing more is sent of it.
struct Left<B> {
    /// Why it was refused, if it was.
    fault: Option<Fault>,
    /// What the client may still be sending.
    body: Option<B>,
}

/// A request's body as the answer sees it: before it is sent on, or what becomes of that.
pub(crate) struct Sent<B> {
    unread: Option<B>,
    left: Option<oneshot::Receiver<Left<B>>>,
}

impl<B> Sent<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { unread: Some(body), left: None }
    }

    /// Whether nothing of it was asked for.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.is_some() && self.left.is_none()
    }

    /// The messages, to be sent on.
    pub(crate) fn send(&mut self, incoming: Incoming, terms: Terms) -> ClientStream<B> {
        let (leave, left) = oneshot::channel();
        self.left = Some(left);
        let (body, bytes_left) = (self.unread.take(), terms.bytes_max);
        ClientStream { body, incoming, terms, bytes_left, leave: Some(leave) }
    }

    /// Waits until the stream is refused; for ever, if it is not.
    pub(crate) async fn refused(&mut self) -> Fault {
        if let Some(left) = &mut self.left
            && let Ok(left) = left.await
        {
            self.left = None;
            self.unread = left.body;
            if let Some(fault) = left.fault {
                return fault;
            }
        }
        future::pending().await
    }

    /// The rest of it, for who answers with a stream too.
    pub(crate) fn take(&mut self) -> Self {
        Self { unread: self.unread.take(), left: self.left.take() }
    }
}

impl<B: http_body::Body<Data = Bytes>> Sent<B> {
    /// Reads what the client is still sending, for a while: over HTTP/1.1 it may read no answer before. The call is over.
    pub(crate) async fn linger(mut self) {
        if let Some(left) = self.left.take()
            // Whoever had it lets go of it as the call is dropped.
            && let Ok(Ok(left)) = tokio::time::timeout(upstream::LINGER_MAX, left).await
        {
            self.unread = left.body;
        }
        if let Some(body) = self.unread {
            upstream::linger(body).await;
        }
    }
}

impl<B> ClientStream<B> {
    fn leave(&mut self, fault: Option<Fault>) {
        if let Some(leave) = self.leave.take() {
            // Nobody waits for it once the answer has ended.
            drop(leave.send(Left { fault, body: self.body.take() }));
        }
    }

    fn take(&mut self, chunk: Bytes) -> Result<(), Fault> {
        let Some(left) = self.bytes_left.checked_sub(chunk.len() as u64) else {
            let bytes_max = usize::try_from(self.terms.bytes_max).unwrap_or(usize::MAX);
            return Err(Fault::body_too_large(bytes_max));
        };
        self.bytes_left = left;
        self.incoming.push(chunk);
        Ok(())
    }

    fn ready(&self, message: Bytes) -> Result<Bytes, Fault> {
        if self.incoming.made() > 1 {
            return Ok(message);
        }
        let Terms { found, request_id, head, .. } = &self.terms;
        let (message, _) = rest::under_condition(found, head, message)?;
        Ok(idempotency::keyed(*request_id, &head.headers, message)?)
    }
}

impl<B> ClientStream<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            if let Some(message) = self.incoming.next()? {
                return Poll::Ready(self.ready(message).map(Some));
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers say nothing in REST.
                    if let Ok(chunk) = frame.into_data() {
                        self.take(chunk)?;
                    }
                }
                Some(Err(_)) => {
                    self.body = None;
                    return Poll::Ready(Err(Fault::body_broken()));
                }
                None => {
                    self.body = None;
                    if let Some(message) = self.incoming.finish()? {
                        return Poll::Ready(self.ready(message).map(Some));
                    }
                }
            }
        }
    }
}

impl<B> Stream for ClientStream<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.leave.is_none() {
            // It was refused, and nobody is to wake who waits for more: the call is dropped.
            return Poll::Pending;
        }
        match ready!(self.poll_message(cx)) {
            Ok(message) => Poll::Ready(message),
            Err(fault) => {
                self.leave(Some(fault));
                Poll::Pending
            }
        }
    }
}

impl<B> Drop for ClientStream<B> {
    fn drop(&mut self) {
        self.leave(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::LazyLock;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use futures_util::FutureExt as _;
    use futures_util::StreamExt as _;
    use futures_util::stream;
    use futures_util::stream::BoxStream;
    use http::Request;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prost_reflect::DescriptorPool;
    use prost_reflect::DynamicMessage;
    use transcode::Lookup;
    use transcode::RouteTable;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    const ID: &str = "5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11";

    static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
        let folders = ["edge/tests/protos", "libs/transcode/tests/protos", "proto"];
        let third_party = format!("{ROOT}/proto/third_party");
        let folders = folders.map(|folder| format!("{ROOT}/{folder}")).into_iter();
        let compiler = protox::Compiler::new(folders.chain([third_party]));
        let mut compiler = compiler.expect("the folders exist");
        compiler.include_imports(true).open_file("streams.proto").expect("it compiles");
        let pool = DescriptorPool::decode(&compiler.encode_file_descriptor_set()[..]);
        RouteTable::from_pool(&pool.expect("it was encoded")).expect("it can be served")
    });

    type Chunks = StreamBody<BoxStream<'static, Result<Frame<Bytes>, &'static str>>>;

    fn body(
        chunks: impl Iterator<Item = Result<&'static [u8], &'static str>> + Send + 'static,
    ) -> Chunks {
        let frames = chunks.map(|chunk| chunk.map(|chunk| Frame::data(Bytes::from_static(chunk))));
        StreamBody::new(stream::iter(frames).boxed())
    }

    /// A stream to `Collect`, with lines for messages.
    fn collect(body: Chunks, bytes_max: u64) -> (Sent<Chunks>, ClientStream<Chunks>) {
        let Lookup::Found(found) = ROUTES.find(&http::Method::POST, "/v1/rooms/r/pieces:collect")
        else {
            panic!("there is a route");
        };
        let request = Request::post("/").header("idempotency-key", ID).body(());
        let head = Arc::new(request.expect("a request").into_parts().0);
        let incoming = found.clone().incoming(None, Some("application/x-ndjson"), 100);
        let terms = Terms { found, request_id: Some(3), head, bytes_max };
        let mut sent = Sent::new(body);
        let stream = sent.send(incoming.expect("it is taken"), terms);
        (sent, stream)
    }

    fn json(message: &Bytes) -> serde_json::Value {
        let Lookup::Found(found) = ROUTES.find(&http::Method::POST, "/v1/rooms/r/pieces:collect")
        else {
            panic!("there is a route");
        };
        let message = DynamicMessage::decode(found.route.method.input(), message.clone());
        serde_json::to_value(message.expect("a piece")).expect("a message has a JSON form")
    }

    #[tokio::test]
    async fn the_first_message_has_the_path_and_the_key_and_the_others_what_was_sent() {
        let chunks = [&b"{\"text\": "[..], b"\"a\"}\n{\"text\":\"b\"", b"}\n\n{}"];
        let (_, stream) = collect(body(chunks.into_iter().map(Ok)), 100);
        let messages: Vec<_> = stream.map(|message| json(&message)).collect().await;
        let first = serde_json::json!({"name": "rooms/r", "text": "a", "requestId": ID});
        assert_eq!(messages, [first, serde_json::json!({"text": "b"}), serde_json::json!({})]);
    }

    /// What a service does not take is not read either.
    #[tokio::test]
    async fn no_more_is_read_than_messages_are_asked_for() {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let chunks = std::iter::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(&b"{}\n{}\n"[..])
        });
        let (_sent, mut stream) = collect(body(chunks), 1_000);
        for asked in 1..=6 {
            assert!(stream.next().await.is_some());
            assert_eq!(read.load(Ordering::Relaxed), usize::div_ceil(asked, 2));
        }
    }

    /// Why a stream of these chunks is refused, after how many messages.
    async fn refused(
        chunks: Vec<Result<&'static [u8], &'static str>>,
        bytes_max: u64,
    ) -> (usize, Fault, bool) {
        let (mut sent, mut stream) = collect(body(chunks.into_iter()), bytes_max);
        let mut messages = 0;
        loop {
            match stream.next().now_or_never() {
                Some(Some(_)) => messages += 1,
                Some(None) => panic!("a stream that is not whole does not end"),
                None => break,
            }
        }
        assert!(stream.next().now_or_never().is_none(), "nor does it go on");
        let fault = sent.refused().now_or_never().expect("it is said");
        (messages, fault, sent.unread.is_some())
    }

    #[tokio::test]
    async fn a_stream_that_is_refused_never_ends() {
        let (messages, fault, is_left) = refused(vec![Ok(b"{}\n{}\n{"), Ok(b"\n{}")], 100).await;
        assert_eq!((messages, fault.status.code()), (2, tonic::Code::InvalidArgument));
        assert!(fault.status.message().contains("message 2"), "{:?}", fault.status);
        assert!(is_left, "the rest may be read before the answer");
        let (messages, fault, is_left) = refused(vec![Ok(b"{}\n{}\n"), Err("gone")], 100).await;
        assert_eq!((messages, is_left), (2, false));
        assert_eq!(fault.status.code(), tonic::Code::InvalidArgument);
        let (messages, fault, _) = refused(vec![Ok(b"{}\n{}\n"), Ok(b"{}\n")], 8).await;
        assert!(fault.is_body_too_large());
        assert_eq!(messages, 2);
        let line = &[b' '; 101];
        let (messages, fault, _) = refused(vec![Ok(b"{}\n"), Ok(line)], 1_000).await;
        assert!(fault.is_body_too_large());
        assert_eq!(messages, 1);
    }

    #[tokio::test]
    async fn what_nobody_sent_on_is_given_back_to_be_read() {
        let left = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&left);
        let chunks = std::iter::repeat_n(&b"{}\n"[..], 5).inspect(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let (mut sent, mut stream) = collect(body(chunks.map(Ok)), 100);
        assert!(stream.next().await.is_some());
        assert!(sent.refused().now_or_never().is_none());
        drop(stream);
        assert!(sent.refused().now_or_never().is_none(), "it is not the client's fault");
        sent.linger().await;
        assert_eq!(left.load(Ordering::Relaxed), 5);
        let (sent, stream) = collect(body(std::iter::once(Ok(&b"{}"[..]))), 100);
        assert_eq!(stream.count().await, 1);
        assert!(!sent.is_unread());
        sent.linger().await;
    }
}
