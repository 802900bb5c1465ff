//! One call on its HTTP/2 stream, from its handler's first step to the last frame of its response.
//!
//! Dropped before its end, it resets the stream.

use super::body::ServerBody;
use crate::http2::send;
use bytes::Bytes;
use h2::Reason;
use h2::SendStream;
use h2::server::SendResponse;
use http_body::Body as _;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::task::Poll;

/// What is sent of a response without asking how much its peer takes: most responses are no longer, and as many of them as a
/// peer has streams are what may have to wait in memory.
const UNASKED_BYTES_MAX: usize = 16 << 10;

/// Answers with what `handling` comes to, unless the peer takes the call back before.
pub(super) async fn answer(
    handling: impl Future<Output = http::Response<ServerBody>>,
    mut respond: SendResponse<Bytes>,
) {
    let response = {
        let mut handling = pin!(handling);
        poll_fn(|context| match handling.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(context).map(|_| None),
        })
        .await
    };
    let Some(response) = response else { return };
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    match respond.send_response(http::Response::from_parts(head, ()), ends) {
        Ok(_) if ends => {}
        Ok(stream) => send_body(body, stream).await,
        Err(error) => {
            tracing::debug!(%error, "a response can't be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

async fn send_body(mut body: ServerBody, mut stream: SendStream<Bytes>) {
    let mut unasked = UNASKED_BYTES_MAX;
    loop {
        let frame = poll_fn(|context| match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            // Unless the peer wants no more of it.
            Poll::Pending => stream.poll_reset(context).map(|_| None),
        });
        let Some(frame) = frame.await else { return };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                tracing::debug!(%status, "a response broke");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return;
            }
            None => {
                // An error means that the stream is closed already; so below.
                stream.send_data(Bytes::new(), true).ok();
                return;
            }
        };
        match frame.into_data() {
            Ok(data) if data.len() <= unasked => {
                unasked -= data.len();
                if stream.send_data(data, false).is_err() {
                    return;
                }
            }
            Ok(data) => {
                unasked = 0;
                let sent = {
                    let mut sending = pin!(send(&mut stream, data, || {}));
                    poll_fn(|context| match sending.as_mut().poll(context) {
                        Poll::Ready(sent) => Poll::Ready(Some(sent)),
                        Poll::Pending => body.poll_unread(context).map(|()| None),
                    })
                    .await
                };
                match sent {
                    Some(Ok(())) => {}
                    Some(Err(_)) => return,
                    // A status would arrive behind half a message.
                    None => return stream.send_reset(Reason::CANCEL),
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    stream.send_trailers(trailers).ok();
                    return;
                }
            }
        }
    }
}
