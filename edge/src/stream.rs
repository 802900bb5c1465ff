//! A stream of messages as JSON lines, server-sent events, or one JSON array. An error after the first message is the last
//! thing said, in the same form: a stream that fails never looks like one that ended.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use rpc::Deadline;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::Streaming;
use transcode::Match;

use crate::body::Body;
use crate::fault;
use crate::gateway;

/// How often a silent stream of events says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How messages stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One JSON text a line: also for who has no wish.
    Lines,
    /// Server-sent events, for browsers.
    Events,
    /// One JSON array, for who asks for `application/json`.
    Array,
}

impl Framing {
    /// The first that the client accepts; it need not say any.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let types = accept.unwrap_or_default().split(',');
        let essences = types.map(|kind| kind.split(';').next().unwrap_or_default().trim());
        for essence in essences {
            match essence.to_ascii_lowercase().as_str() {
                "text/event-stream" => return Self::Events,
                "application/x-ndjson" | "application/jsonl" => return Self::Lines,
                "application/json" => return Self::Array,
                _ => {}
            }
        }
        Self::Lines
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Array => "application/json",
        }
    }

    fn opening(self) -> &'static [u8] {
        match self {
            Self::Lines | Self::Events => b"",
            Self::Array => b"[",
        }
    }

    fn closing(self) -> &'static [u8] {
        match self {
            Self::Lines | Self::Events => b"",
            Self::Array => b"]",
        }
    }

    fn message(self, json: &Bytes, is_first: bool) -> Bytes {
        match self {
            Self::Lines => [json, &b"\n"[..]].concat().into(),
            Self::Array if is_first => json.clone(),
            Self::Array => [&b","[..], json].concat().into(),
            Self::Events => {
                let token = serde_json::from_slice::<Resumable>(json).unwrap_or_default();
                let mut event = BytesMut::new();
                // A line break would end the field; a token of ours has none.
                if !token.resume_token.is_empty()
                    && !token.resume_token.contains(['\r', '\n', '\0'])
                {
                    event.extend_from_slice(b"id: ");
                    event.extend_from_slice(token.resume_token.as_bytes());
                    event.extend_from_slice(b"\n");
                }
                event.extend_from_slice(b"data: ");
                event.extend_from_slice(json);
                event.extend_from_slice(b"\n\n");
                event.freeze()
            }
        }
    }

    fn error(self, status: &Status, is_first: bool) -> Bytes {
        let problem = fault::problem_json(status);
        match self {
            Self::Lines => [b"{\"error\":", &*problem, b"}\n"].concat().into(),
            Self::Events => [b"event: error\ndata: ", &*problem, b"\n\n"].concat().into(),
            Self::Array => {
                let comma: &[u8] = if is_first { b"" } else { b"," };
                [comma, b"{\"error\":", &*problem, b"}]"].concat().into()
            }
        }
    }
}

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
            Next::Silence => return Some(Bytes::from_static(b":\n\n")),
            Next::End => {
                self.phase = Phase::Over;
                let closing = self.framing.closing();
                return (!closing.is_empty()).then(|| Bytes::from_static(closing));
            }
            Next::Failure(status) => {
                self.phase = Phase::Over;
                return Some(self.framing.error(&status, is_first));
            }
        };
        self.phase = Phase::Further;
        match self.found.response(&message) {
            Ok(json) => Some(self.framing.message(&json, is_first)),
            Err(error) => {
                self.phase = Phase::Over;
                let status = Status::from(rpc::Error::internal(&error));
                Some(self.framing.error(&status, is_first))
            }
        }
    }

    async fn message(&mut self) -> Next {
        if let Some(first) = self.first.take() {
            return first.map_or(Next::End, Next::Message);
        }
        let wait = match self.framing {
            Framing::Events => self.deadline.0.min(std::time::Instant::now() + HEARTBEAT),
            Framing::Lines | Framing::Array => self.deadline.0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_accepted_is_taken() {
        for (accept, framing) in [
            (None, Framing::Lines),
            (Some("*/*"), Framing::Lines),
            (Some("text/html, Text/Event-Stream;q=0.9"), Framing::Events),
            (Some("application/json"), Framing::Array),
            (Some("application/x-ndjson, application/json"), Framing::Lines),
        ] {
            assert_eq!(Framing::accepted(accept), framing, "{accept:?}");
        }
    }

    #[test]
    fn every_form_says_an_error_as_its_last_word() {
        let status = Status::from(rpc::Error::not_found("x"));
        for (framing, start, end) in [
            (Framing::Lines, "{\"error\":{", "}}\n"),
            (Framing::Events, "event: error\ndata: {", "}\n\n"),
            (Framing::Array, ",{\"error\":{", "}}]"),
        ] {
            let said = String::from_utf8(framing.error(&status, false).to_vec()).expect("text");
            assert!(said.starts_with(start) && said.ends_with(end), "{said}");
        }
    }

    #[test]
    fn an_event_has_the_id_to_resume_from() {
        let json = Bytes::from_static(b"{\"resumeToken\":\"abc\"}");
        let event = Framing::Events.message(&json, true);
        assert_eq!(&event[..], b"id: abc\ndata: {\"resumeToken\":\"abc\"}\n\n");
    }
}
