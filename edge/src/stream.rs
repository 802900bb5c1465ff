//! A stream of messages as it goes to a client. An error after the first message is the last thing said, in the same form: a
//! stream that fails never looks like one that ended.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use rpc::Deadline;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::Streaming;
use transcode::ErrorForm;
use transcode::Framing;
use transcode::Match;

use crate::body::Body;
use crate::body::BoxError;
use crate::fault;
use crate::gateway;

/// How often a silent stream of events says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What an event's id is taken from.
#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resumable {
    resume_token: String,
}

struct State {
    found: Match,
    framing: Framing,
    /// How an error is told.
    form: ErrorForm,
    /// Until the end: a call that is over is let go of, whether its client reads its last word or not.
    messages: Option<Streaming<Bytes>>,
    ends: Ends,
    /// What was read before the answer began: nothing yet, or the first message, or the end.
    first: Option<Option<Bytes>>,
    phase: Phase,
    heartbeat: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    First,
    Further,
    Over,
}

/// How a stream is said to its client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) framing: Framing,
    /// How an error is.
    pub(crate) form: ErrorForm,
}

/// What ends a stream before its service does.
pub(crate) struct Ends {
    pub(crate) deadline: Deadline,
    /// This process stops.
    pub(crate) leaving: CancellationToken,
    /// The client's own stream is refused, if it sends one.
    pub(crate) refused: Option<BoxFuture<'static, Status>>,
}

/// The body of a stream whose first message may have been read.
pub(crate) fn body(
    found: Match,
    told: Told,
    first: Option<Option<Bytes>>,
    messages: Streaming<Bytes>,
    ends: Ends,
) -> Body {
    let Told { framing, form } = told;
    let (messages, phase, heartbeat) = (Some(messages), Phase::Opening, HEARTBEAT);
    let state = State { found, framing, form, messages, ends, first, phase, heartbeat };
    let pieces = stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((piece.map(Frame::data), state))
    });
    Body::stream(StreamBody::new(pieces))
}

impl State {
    /// The next piece; an error breaks the body off, where its form has no place for one.
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        match self.phase {
            Phase::Over => return None,
            Phase::Opening => {
                self.phase = Phase::First;
                let opening = self.framing.opening();
                if !opening.is_empty() {
                    return Some(Ok(Bytes::from_static(opening)));
                }
            }
            Phase::First | Phase::Further => {}
        }
        let is_first = self.phase == Phase::First;
        let message = match self.message().await {
            Next::Message(message) => message,
            Next::Silence => {
                return self.framing.heartbeat().map(|beat| Ok(Bytes::from_static(beat)));
            }
            Next::End => {
                self.end();
                let closing = self.framing.closing();
                return (!closing.is_empty()).then(|| Ok(Bytes::from_static(closing)));
            }
            Next::Failure(status) => return Some(self.fail(&status, is_first).await),
        };
        self.phase = Phase::Further;
        match self.found.response(&message) {
            Ok(reply) => {
                let token = match self.framing {
                    Framing::Events => serde_json::from_slice(&reply.body).unwrap_or_default(),
                    Framing::Lines | Framing::Array | Framing::Raw => Resumable::default(),
                };
                Some(Ok(self.framing.message(&reply.body, is_first, Some(&token.resume_token))))
            }
            Err(error) => {
                let status = Status::from(rpc::Error::internal(&error));
                Some(self.fail(&status, is_first).await)
            }
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.messages = None;
    }

    async fn fail(&mut self, status: &Status, is_first: bool) -> Result<Bytes, BoxError> {
        self.end();
        if self.framing == Framing::Raw {
            // What came before is still to be written, and a connection that breaks off writes nothing more.
            tokio::task::yield_now().await;
        }
        let word = fault::last_word(status, self.form, self.found.route.schema());
        self.framing.error(&word, is_first).ok_or_else(|| "the answer broke off".into())
    }

    async fn message(&mut self) -> Next {
        if let Some(first) = self.first.take() {
            return first.map_or(Next::End, Next::Message);
        }
        let Some(messages) = &mut self.messages else { return Next::End };
        let deadline = self.ends.deadline.0;
        let wait = match self.framing {
            Framing::Events => deadline.min(std::time::Instant::now() + self.heartbeat),
            Framing::Lines | Framing::Array | Framing::Raw => deadline,
        };
        let refused = async {
            match &mut self.ends.refused {
                Some(refused) => refused.await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::time::timeout_at(wait.into(), messages.message());
        let message = tokio::select! {
            biased;
            status = refused => return Next::Failure(status),
            message = self.ends.leaving.run_until_cancelled(message) => message,
        };
        match message {
            Some(Ok(Ok(Some(message)))) => Next::Message(message),
            Some(Ok(Ok(None))) => Next::End,
            Some(Ok(Err(status))) => Next::Failure(status),
            Some(Err(_)) if wait < deadline => Next::Silence,
            Some(Err(_)) => Next::Failure(rpc::Error::deadline_exceeded().into()),
            None => Next::Failure(gateway::leaving()),
        }
    }
}

enum Next {
    Message(Bytes),
    Silence,
    End,
    Failure(Status),
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Instant;

    use crate::contract::Contract;
    use crate::upstream::BytesCodec;

    const _: () = assert!(HEARTBEAT.as_secs() == 15, "R59");

    /// A stream whose service says nothing.
    fn silent(framing: Framing, left: Duration) -> State {
        let found = Contract::built_in().rest(&http::Method::GET, "/v1/workspaces/w/clicks:watch");
        let (found, _) = found.expect("there is a stream");
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>());
        let messages = Streaming::new_response(BytesCodec, body, http::StatusCode::OK, None, None);
        State {
            found,
            framing,
            form: ErrorForm::Problem,
            messages: Some(messages),
            ends: Ends {
                deadline: Deadline(Instant::now() + left),
                leaving: CancellationToken::new(),
                refused: None,
            },
            first: None,
            phase: Phase::First,
            heartbeat: Duration::from_millis(1),
        }
    }

    #[tokio::test]
    async fn r59_a_silent_stream_of_events_beats_between_its_events() {
        let mut state = silent(Framing::Events, Duration::from_secs(60));
        for _ in 0..2 {
            let beat = state.next().await.expect("it goes on").expect("and is whole");
            assert_eq!(&beat[..], b":\n\n", "a comment, which no event is cut by");
        }
        state.first = Some(Some(Bytes::new()));
        let event = state.next().await.expect("it goes on").expect("and is whole");
        assert_eq!(&event[..], b"data: {}\n\n");
        state.ends.deadline = Deadline(Instant::now());
        let last = state.next().await.expect("a last word").expect("in the stream");
        assert!(last.starts_with(b"event: error\ndata: {"), "{last:?}");
        assert!(state.next().await.is_none());
    }

    #[tokio::test]
    async fn r29_raw_bytes_that_fail_are_broken_off() {
        let mut state = silent(Framing::Raw, Duration::ZERO);
        assert!(state.next().await.expect("not a clean end").is_err());
        assert!(state.next().await.is_none());
    }
}
