//! A stream of messages as it goes to a client. An error after the first message is the last thing said, in the same form: a
//! stream that fails never looks like one that ended.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use rpc::Deadline;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::Streaming;
use transcode::Framing;
use transcode::Match;

use crate::body::Body;
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
    found: Match<'static>,
    framing: Framing,
    messages: Streaming<Bytes>,
    deadline: Deadline,
    leaving: CancellationToken,
    /// What was read before the answer began: nothing yet, or the first message, or the end.
    first: Option<Option<Bytes>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    First,
    Further,
    Over,
}

/// The body of a stream whose first message may have been read.
pub(crate) fn body(
    found: Match<'static>,
    framing: Framing,
    first: Option<Option<Bytes>>,
    messages: Streaming<Bytes>,
    deadline: Deadline,
    leaving: CancellationToken,
) -> Body {
    let state = State { found, framing, messages, deadline, leaving, first, phase: Phase::Opening };
    let pieces = stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), state))
    });
    Body::stream(StreamBody::new(pieces))
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Over => return None,
            Phase::Opening => {
                self.phase = Phase::First;
                let opening = self.framing.opening();
                if !opening.is_empty() {
                    return Some(Bytes::from_static(opening));
                }
            }
            Phase::First | Phase::Further => {}
        }
        let is_first = self.phase == Phase::First;
        let message = match self.message().await {
            Next::Message(message) => message,
            Next::Silence => return self.framing.heartbeat().map(Bytes::from_static),
            Next::End => {
                self.phase = Phase::Over;
                let closing = self.framing.closing();
                return (!closing.is_empty()).then(|| Bytes::from_static(closing));
            }
            Next::Failure(status) => {
                self.phase = Phase::Over;
                return self.framing.error(&fault::problem_json(&status), is_first);
            }
        };
        self.phase = Phase::Further;
        match self.found.response(&message) {
            Ok(reply) => {
                let token = match self.framing {
                    Framing::Events => serde_json::from_slice(&reply.body).unwrap_or_default(),
                    Framing::Lines | Framing::Array | Framing::Raw => Resumable::default(),
                };
                Some(self.framing.message(&reply.body, is_first, Some(&token.resume_token)))
            }
            Err(error) => {
                self.phase = Phase::Over;
                let status = Status::from(rpc::Error::internal(&error));
                self.framing.error(&fault::problem_json(&status), is_first)
            }
        }
    }

    async fn message(&mut self) -> Next {
        if let Some(first) = self.first.take() {
            return first.map_or(Next::End, Next::Message);
        }
        let wait = match self.framing {
            Framing::Events => self.deadline.0.min(std::time::Instant::now() + HEARTBEAT),
            Framing::Lines | Framing::Array | Framing::Raw => self.deadline.0,
        };
        let message = tokio::time::timeout_at(wait.into(), self.messages.message());
        match self.leaving.run_until_cancelled(message).await {
            Some(Ok(Ok(Some(message)))) => Next::Message(message),
            Some(Ok(Ok(None))) => Next::End,
            Some(Ok(Err(status))) => Next::Failure(status),
            Some(Err(_)) if wait < self.deadline.0 => Next::Silence,
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
