//! A service's answer on its way to a client: frames as they come, and an end in the client's protocol. An answer that breaks off
//! never looks like one that ended.

use std::future::Future as _;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body::SizeHint;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Code;
use tonic::Status;

use crate::body::BoxError;
use crate::fault::Fault;
use crate::gateway;
use crate::protocols::call::Protocol;
use crate::protocols::connect;
use crate::protocols::frame;
use crate::protocols::frame::Frames;
use crate::protocols::outcome::Outcome;
use crate::protocols::remake::Remake;
use crate::protocols::text;

/// What ends an answer before its service does.
#[derive(Default)]
pub(crate) struct Ends {
    /// The deadline.
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    /// This process stops. Not for answers of one message, which are waited for.
    pub(crate) leaving: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The client's stream was refused.
    pub(crate) refused: Option<oneshot::Receiver<Fault>>,
    /// What the client is told of that.
    pub(crate) refusal: Option<fn(Status) -> Status>,
}

impl Ends {
    /// Why a call failed: for the client's own fault, if there is one, and whatever the service made of that otherwise.
    pub(crate) fn why(&mut self, status: Status) -> Status {
        let refused = self.refused.as_mut().and_then(|refused| refused.try_recv().ok());
        refused.map_or(status, |fault| *fault.status)
    }

    /// Why the answer ends now, if it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Some(refused) = &mut self.refused
            && let Poll::Ready(fault) = pin!(refused).poll(cx)
        {
            self.refused = None;
            if let Ok(fault) = fault {
                return Poll::Ready(*fault.status);
            }
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Error::deadline_exceeded().into());
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(gateway::leaving());
        }
        Poll::Pending
    }
}

/// The body of an answer.
pub(crate) struct Outbound {
    upstream: tonic::body::Body,
    protocol: Protocol,
    messages: Messages,
    ends: Ends,
    outcome: Outcome,
    is_over: bool,
}

pub(crate) enum Messages {
    Pass,
    Text(text::Encoder),
    Remake(Frames, Remake),
}

impl Outbound {
    pub(crate) fn new(
        upstream: tonic::body::Body,
        protocol: Protocol,
        remake: Option<Remake>,
        ends: Ends,
        outcome: Outcome,
    ) -> Self {
        let messages = match (remake, protocol) {
            (Some(remake), _) => Messages::Remake(Frames::default(), remake),
            (None, Protocol::WebText) => Messages::Text(text::Encoder::default()),
            (None, _) => Messages::Pass,
        };
        Self { upstream, protocol, messages, ends, outcome, is_over: false }
    }

    /// What can be sent on of what was read before.
    fn remade(&mut self) -> Result<Option<Bytes>, Status> {
        let Messages::Remake(frames, remake) = &mut self.messages else { return Ok(None) };
        let frame = frames.next(|_, length| {
            let is_too_long = length as usize > remake.bytes_max;
            let why = "a message of the answer is longer than it may be";
            if is_too_long { Err(too_long(why)) } else { Ok(()) }
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = remake.frame(frame).map_err(|fault| *fault.status)?;
        Ok(Some(if self.protocol == Protocol::WebText {
            text::Encoder::default().encode(&frame)
        } else {
            frame
        }))
    }

    /// Takes a chunk; what passes is given back.
    fn take(&mut self, chunk: Bytes) -> Option<Bytes> {
        match &mut self.messages {
            Messages::Pass => Some(chunk),
            Messages::Text(encoder) => Some(encoder.encode(&chunk)).filter(|text| !text.is_empty()),
            Messages::Remake(frames, _) => {
                frames.push(chunk);
                None
            }
        }
    }

    /// Says how it went, as the last thing.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Frame<Bytes> {
        let said = trailers.as_ref().and_then(Status::from_header_map);
        match (said, trailers) {
            (Some(status), Some(trailers)) => self.end(&status, trailers),
            (None, _) | (_, None) => self.fail(&broken_off()),
        }
    }

    fn fail(&mut self, status: &Status) -> Frame<Bytes> {
        let told = self.ends.refusal.map(|refusal| refusal(status.clone()));
        let status = told.as_ref().unwrap_or(status);
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).expect("what is escaped makes a header");
        self.end(status, trailers)
    }

    fn end(&mut self, status: &Status, trailers: HeaderMap) -> Frame<Bytes> {
        self.is_over = true;
        // What is still to come is not waited for: the call ends with its body.
        self.upstream = tonic::body::Body::empty();
        self.outcome.tell(status.code());
        match self.protocol {
            Protocol::Grpc | Protocol::ConnectUnary => Frame::trailers(trailers),
            Protocol::Web => Frame::data(trailer_frame(&trailers)),
            Protocol::WebText => {
                let frame = trailer_frame(&trailers);
                Frame::data(text::Encoder::default().encode(&frame))
            }
            Protocol::ConnectStream => Frame::data(connect::end_of_stream(status, &trailers)),
        }
    }
}

/// What an answer without any status is.
pub(crate) fn broken_off() -> Status {
    Error::new(Code::Unknown, ErrorReason::PeerNotGrpc, "the answer broke off").into()
}

/// What an answer is that is longer than it may be: a retry is not advised.
pub(crate) fn too_long(why: &str) -> Status {
    Error::new(Code::ResourceExhausted, ErrorReason::BodyTooLarge, why).into()
}

/// The trailers of gRPC-Web: `name: value` in lines, without an empty one at their end.
fn trailer_frame(trailers: &HeaderMap) -> Bytes {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    frame::encode(frame::TRAILERS, &lines)
}

impl http_body::Body for Outbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = this.ends.poll(cx) {
            return Poll::Ready(Some(Ok(this.fail(&status))));
        }
        loop {
            match this.remade() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Ok(this.fail(&status)))),
            }
            let frame = match Pin::new(&mut this.upstream).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(status))) => {
                    let status = this.ends.why(status);
                    return Poll::Ready(Some(Ok(this.fail(&status))));
                }
                Poll::Ready(None) => return Poll::Ready(Some(Ok(this.finish(None)))),
            };
            match frame.into_data() {
                Ok(chunk) => {
                    if let Some(chunk) = this.take(chunk) {
                        return Poll::Ready(Some(Ok(Frame::data(chunk))));
                    }
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    return Poll::Ready(Some(Ok(this.finish(trailers))));
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// R31.
    #[test]
    fn trailers_of_grpc_web_are_lines_without_an_empty_one_at_their_end() {
        let mut trailers = HeaderMap::new();
        trailers.append("Grpc-Status", "0".parse().expect("a value"));
        trailers.append("x-a", "1".parse().expect("a value"));
        trailers.append("x-a", "2".parse().expect("a value"));
        let frame = trailer_frame(&trailers);
        assert_eq!(&frame[..5], [0x80, 0, 0, 0, 32]);
        assert_eq!(&frame[5..], b"grpc-status: 0\r\nx-a: 1\r\nx-a: 2\r\n");
    }
}
