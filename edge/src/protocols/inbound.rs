//! A client's messages on their way to a service. Protobuf in frames passes as it is, in a coding that services read; its frames
//! are looked at and neither copied nor decoded.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body::SizeHint;
use rpc::Deadline;
use rpc::request_id;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::body::BoxError;
use crate::fault::Fault;
use crate::idempotency;
use crate::protocols::call::Call;
use crate::protocols::call::Protocol;
use crate::protocols::frame;
use crate::protocols::frame::Frames;
use crate::protocols::frame::HEAD_BYTES;
use crate::protocols::frame::Rules;
use crate::protocols::frame::Scan;
use crate::protocols::method::Method;
use crate::protocols::remake::Remake;
use crate::protocols::remake::Translation;
use crate::protocols::text;
use crate::upstream;

/// What is read of a request whose method takes one message.
#[derive(Debug)]
pub(crate) struct One {
    pub(crate) frame: frame::Frame,
    /// The bytes of frame and head as the client sent them, if it did.
    pub(crate) framed: Option<Bytes>,
}

impl One {
    /// The frame that a service gets for it, under the request id that the request's headers name.
    pub(crate) fn into_frame(
        self,
        method: &Method,
        remake: Option<&Remake>,
        headers: &HeaderMap,
    ) -> Result<Bytes, Fault> {
        if let Some(remake) = remake {
            let is_proto = matches!(remake.translation, Translation::None);
            let (message, _) = remake.message(self.frame)?;
            if is_proto {
                check_message(method, &message)?;
            }
            let message = idempotency::identified(method, headers, message)?;
            return Ok(frame::encode(0, &message));
        }
        if self.frame.flags == 0 {
            check_message(method, &self.frame.message)?;
            if headers.contains_key(request_id::HEADER) {
                let message = idempotency::identified(method, headers, self.frame.message)?;
                return Ok(frame::encode(0, &message));
            }
        }
        let encode = || frame::encode(self.frame.flags, &self.frame.message);
        Ok(self.framed.unwrap_or_else(encode))
    }
}

/// A service would blame itself: its library answers INTERNAL, and the mesh would take it for broken.
fn check_message(method: &Method, message: &[u8]) -> Result<(), Fault> {
    if method.takes(message) {
        return Ok(());
    }
    Err(rpc::Error::malformed("the body is not a message of the method's type").into())
}

/// Reads the one message that a request's body holds.
pub(crate) async fn read_one<B>(
    call: Call<'_>,
    body: B,
    rules: Rules,
    deadline: Deadline,
) -> Result<One, Fault>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let head = if call.protocol == Protocol::ConnectUnary { 0 } else { HEAD_BYTES };
    let bytes_max = match call.protocol {
        Protocol::WebText => (rules.bytes_max + head).div_ceil(3) * 4,
        Protocol::Grpc | Protocol::Web | Protocol::ConnectUnary | Protocol::ConnectStream => {
            rules.bytes_max + head
        }
    };
    let body = match upstream::read_body(body, bytes_max, deadline).await {
        Err(fault) if fault.is_body_too_large() => {
            return Err(Fault::body_too_large(rules.bytes_max));
        }
        read => read?,
    };
    if call.protocol == Protocol::ConnectUnary {
        let flags = u8::from(rules.may_be_compressed && !body.is_empty());
        return Ok(One { frame: frame::Frame { flags, message: body }, framed: None });
    }
    let body = if call.protocol == Protocol::WebText {
        let mut decoder = text::Decoder::default();
        let bytes = decoder.decode(&body)?;
        decoder.finish()?;
        bytes
    } else {
        body
    };
    Ok(One { frame: frame::single(&body, rules)?, framed: Some(body) })
}

/// A client's stream, as a service takes it.
pub(crate) struct Inbound<B> {
    body: B,
    text: Option<text::Decoder>,
    rules: Rules,
    messages: Messages,
    /// Taken when the stream is refused: a service that hears of it too can't say why.
    refuse: Option<oneshot::Sender<Fault>>,
    /// Whether a client is read to its end, for a while, before it is refused: over HTTP/1.1 it may read no answer before.
    lingers: bool,
    lingering: Option<Lingering>,
    is_over: bool,
}

/// A stream that is refused and still read.
struct Lingering {
    fault: Fault,
    bytes: usize,
    timer: Pin<Box<Sleep>>,
}

enum Messages {
    Pass(Scan),
    Remake(Frames, Remake),
}

impl<B> Inbound<B> {
    pub(crate) fn new(
        call: Call<'_>,
        body: B,
        rules: Rules,
        remake: Option<Remake>,
        refuse: oneshot::Sender<Fault>,
        lingers: bool,
    ) -> Self {
        let messages = match remake {
            None => Messages::Pass(Scan::default()),
            Some(remake) => Messages::Remake(Frames::default(), remake),
        };
        let text = (call.protocol == Protocol::WebText).then(text::Decoder::default);
        Self {
            body,
            text,
            rules,
            messages,
            refuse: Some(refuse),
            lingers,
            lingering: None,
            is_over: false,
        }
    }

    fn linger(&mut self, fault: Fault) {
        let timer = Box::pin(tokio::time::sleep(upstream::LINGER_MAX));
        self.lingering = Some(Lingering { fault, bytes: 0, timer });
    }

    fn refused(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_over = true;
        if let Some(refuse) = self.refuse.take() {
            // Nobody waits any more if the answer has ended.
            drop(refuse.send(fault));
        }
        Poll::Ready(Some(Err("the client's stream was refused".into())))
    }

    /// What can be sent on of what was read before.
    fn remade(&mut self) -> Result<Option<Bytes>, Fault> {
        let Messages::Remake(frames, remake) = &mut self.messages else { return Ok(None) };
        let frame = frames.next_checked(self.rules)?;
        frame.map(|frame| remake.frame(frame)).transpose()
    }

    /// Takes a chunk; what passes as it is comes back.
    fn take(&mut self, chunk: Bytes) -> Result<Option<Bytes>, Fault> {
        let chunk = match &mut self.text {
            Some(text) => text.decode(&chunk)?,
            None => chunk,
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        match &mut self.messages {
            Messages::Pass(scan) => scan.check(&chunk, self.rules).map(|()| Some(chunk)),
            Messages::Remake(frames, _) => {
                frames.push(chunk);
                Ok(None)
            }
        }
    }

    fn finish(&self) -> Result<(), Fault> {
        if let Some(text) = &self.text {
            text.finish()?;
        }
        match &self.messages {
            Messages::Pass(scan) => scan.finish(),
            Messages::Remake(frames, _) => frames.finish(),
        }
    }
}

impl<B> http_body::Body for Inbound<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(lingering) = &mut this.lingering {
                let is_late = lingering.timer.as_mut().poll(cx).is_ready()
                    || lingering.bytes > upstream::LINGER_BYTES_MAX;
                if !is_late && let Some(Ok(frame)) = ready!(Pin::new(&mut this.body).poll_frame(cx))
                {
                    lingering.bytes += frame.data_ref().map_or(0, Bytes::len);
                    continue;
                }
                let lingering = this.lingering.take().expect("it is there");
                return this.refused(lingering.fault);
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            match this.remade() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(fault) if this.lingers => {
                    this.linger(fault);
                    continue;
                }
                Err(fault) => return this.refused(fault),
            }
            let taken = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => this.take(chunk),
                    // No protocol here gives a client trailers.
                    Err(_) => Ok(None),
                },
                Some(Err(_)) => Err(Fault::body_broken()),
                None => {
                    this.is_over = true;
                    this.finish().map(|()| None)
                }
            };
            match taken {
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Ok(None) => {}
                Err(fault) if this.lingers && !this.is_over => this.linger(fault),
                Err(fault) => return this.refused(fault),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
