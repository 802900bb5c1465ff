//! How the messages of a stream stand in a body, and how an error is its last word: a stream that fails never looks like one
//! that ended.

use crate::accept;
use bytes::BufMut as _;
use bytes::Bytes;
use bytes::BytesMut;

/// How messages stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One JSON text a line (`application/x-ndjson`): also for who has no wish.
    Lines,
    /// Server-sent events, for browsers.
    Events,
    /// One JSON array, for who asks for `application/json`.
    Array,
    /// The bytes of `google.api.HttpBody`, one behind the other. It has no place for an error: the body must be broken off, by
    /// closing without the last chunk or resetting the stream.
    Raw,
}

impl Framing {
    /// The one of JSON's that a client likes most.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let wanted = accept::essences(accept);
        let known = wanted.iter().find_map(|(essence, _)| match essence.as_str() {
            "text/event-stream" => Some(Self::Events),
            "application/x-ndjson" | "application/jsonl" => Some(Self::Lines),
            "application/json" => Some(Self::Array),
            _ => None,
        });
        known.unwrap_or(Self::Lines)
    }

    /// What `Content-Type` says. That of raw bytes is said by the first message.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Array => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }

    /// What stands before the first message.
    #[must_use]
    pub fn opening(self) -> &'static [u8] {
        if self == Self::Array { b"[" } else { b"" }
    }

    /// What stands behind the last one, unless it was an error.
    #[must_use]
    pub fn closing(self) -> &'static [u8] {
        if self == Self::Array { b"]" } else { b"" }
    }

    /// What shows that a silent stream lives: only events have such a thing.
    #[must_use]
    pub fn heartbeat(self) -> Option<&'static [u8]> {
        (self == Self::Events).then_some(b":\n\n")
    }

    /// A message. `id` is what an event is resumed from (`Last-Event-ID`); one with a line break or a null would be none.
    #[must_use]
    pub fn message(self, body: &Bytes, is_first: bool, id: Option<&str>) -> Bytes {
        let mut framed = BytesMut::with_capacity(body.len() + 64);
        match self {
            Self::Raw => return body.clone(),
            Self::Array if is_first => return body.clone(),
            Self::Array => {
                framed.put_u8(b',');
                framed.put_slice(body);
            }
            Self::Lines => {
                put_line(&mut framed, body);
                framed.put_u8(b'\n');
            }
            Self::Events => {
                let id = id.filter(|id| !id.is_empty() && !id.contains(['\r', '\n', '\0']));
                if let Some(id) = id {
                    framed.put_slice(b"id: ");
                    framed.put_slice(id.as_bytes());
                    framed.put_u8(b'\n');
                }
                put_data(&mut framed, body);
            }
        }
        framed.freeze()
    }

    /// The error that ends a stream, with what closes the body; none where no error can be said.
    #[must_use]
    pub fn error(self, error: &[u8], is_first: bool) -> Option<Bytes> {
        let mut framed = BytesMut::with_capacity(error.len() + 32);
        match self {
            Self::Raw => return None,
            Self::Lines => {
                framed.put_slice(b"{\"error\":");
                put_line(&mut framed, error);
                framed.put_slice(b"}\n");
            }
            Self::Events => {
                framed.put_slice(b"event: error\n");
                put_data(&mut framed, error);
            }
            Self::Array => {
                framed.put_slice(if is_first { b"" } else { b"," });
                framed.put_slice(b"{\"error\":");
                framed.put_slice(error);
                framed.put_slice(b"}]");
            }
        }
        Some(framed.freeze())
    }
}

/// JSON on one line: between its tokens a line break means nothing, and within strings there is none.
fn put_line(framed: &mut BytesMut, json: &[u8]) {
    for piece in json.split(|byte| *byte == b'\n') {
        framed.put_slice(piece);
    }
}

/// JSON as the data of an event, a line of it for each line.
fn put_data(framed: &mut BytesMut, json: &[u8]) {
    for line in json.split(|byte| *byte == b'\n') {
        framed.put_slice(b"data: ");
        framed.put_slice(line);
        framed.put_u8(b'\n');
    }
    framed.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_is_liked_most_is_taken() {
        for (accept, framing) in [
            (None, Framing::Lines),
            (Some("*/*"), Framing::Lines),
            (Some("text/html, Text/Event-Stream;q=0.9"), Framing::Events),
            (Some("application/json"), Framing::Array),
            (Some("application/x-ndjson, application/json"), Framing::Lines),
            (Some("text/event-stream;q=0.1, application/json;q=0.2"), Framing::Array),
            (Some("text/event-stream;q=0"), Framing::Lines),
        ] {
            assert_eq!(Framing::accepted(accept), framing, "{accept:?}");
        }
    }

    #[test]
    fn r29_every_form_says_an_error_as_its_last_word_but_raw_bytes_which_are_broken_off() {
        let error = br#"{"status":404}"#;
        for (framing, is_first, said) in [
            (Framing::Lines, true, "{\"error\":{\"status\":404}}\n"),
            (Framing::Events, false, "event: error\ndata: {\"status\":404}\n\n"),
            (Framing::Array, true, "{\"error\":{\"status\":404}}]"),
            (Framing::Array, false, ",{\"error\":{\"status\":404}}]"),
        ] {
            assert_eq!(framing.error(error, is_first).as_deref(), Some(said.as_bytes()));
        }
        assert_eq!(Framing::Raw.error(error, false), None);
    }

    #[test]
    fn a_whole_stream_is_what_its_media_type_says() {
        let messages = [Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{\n  \"a\": 2\n}")];
        let whole = |framing: Framing| {
            let mut all = framing.opening().to_vec();
            for (index, message) in messages.iter().enumerate() {
                all.extend(framing.message(message, index == 0, Some("x")));
            }
            all.extend(framing.closing());
            String::from_utf8(all).expect("text")
        };
        assert_eq!(whole(Framing::Array), "[{\"a\":1},{\n  \"a\": 2\n}]");
        assert_eq!(whole(Framing::Lines), "{\"a\":1}\n{  \"a\": 2}\n");
        let events = "id: x\ndata: {\"a\":1}\n\nid: x\ndata: {\ndata:   \"a\": 2\ndata: }\n\n";
        assert_eq!(whole(Framing::Events), events);
        assert_eq!(whole(Framing::Raw), "{\"a\":1}{\n  \"a\": 2\n}");
        for id in ["", "a\nb", "a\rb", "a\0b"] {
            let event = Framing::Events.message(&messages[0], true, Some(id));
            assert!(event.starts_with(b"data: "), "{id:?} is no id");
        }
    }
}
