//! A client's stream in a request body: the items of a JSON array, or one JSON text a line. The body is cut as it arrives, at
//! whatever bytes; each piece is then read as the body of a request of its own.

use crate::error::TranscodeError;
use crate::request;
use crate::table::Match;
use bytes::Buf as _;
use bytes::Bytes;
use bytes::BytesMut;

/// Cuts the messages of a client's stream out of a body.
#[derive(Debug)]
pub struct Incoming {
    kind: Kind,
    message_bytes_max: usize,
    /// What was received and is in no message yet.
    rest: BytesMut,
    /// How much of it was looked at.
    seen: usize,
    state: State,
    is_in_string: bool,
    is_after_backslash: bool,
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Lines,
    /// Bytes of a `google.api.HttpBody`, a message for whatever arrives at once.
    Raw,
}

/// Where in an array the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    /// Behind `[` or `,`: an item is next; behind `[` the end may be.
    Opened,
    Separated,
    Item,
    After,
}

impl Match {
    /// Takes a client's stream by its media type: an array (`application/json`, `+json`), lines (`application/x-ndjson`,
    /// `application/jsonl`), or anything at all if the method takes HttpBody. No message may have more than `message_bytes_max`
    /// bytes.
    ///
    /// # Errors
    /// The media type is none of these.
    pub fn incoming(
        &self,
        content_type: Option<&str>,
        message_bytes_max: usize,
    ) -> Result<Incoming, TranscodeError> {
        let is_lines = |essence: &str| {
            matches!(essence, "application/x-ndjson" | "application/jsonl" | "application/ndjson")
        };
        let kind = if self.route.takes_raw {
            Kind::Raw
        } else if request::is_media_type(content_type, is_lines) {
            Kind::Lines
        } else if request::is_json(content_type) {
            Kind::Array
        } else {
            let taken = "application/json or application/x-ndjson, in UTF-8";
            return Err(TranscodeError::MediaType(taken));
        };
        Ok(Incoming {
            kind,
            message_bytes_max,
            rest: BytesMut::new(),
            seen: 0,
            state: State::Before,
            is_in_string: false,
            is_after_backslash: false,
            depth: 0,
        })
    }
}

impl Incoming {
    /// Takes what arrived; [`Incoming::next`] has the messages that are whole now.
    pub fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
    }

    /// The JSON of the next message that has arrived whole; none until more arrives.
    ///
    /// # Errors
    /// What arrived is no array, or a message is too long.
    #[expect(
        clippy::should_implement_trait,
        reason = "it ends and may go on, which no iterator does"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, TranscodeError> {
        let message = match self.kind {
            Kind::Raw if self.rest.is_empty() => None,
            Kind::Raw => Some(self.rest.split().freeze()),
            Kind::Lines => self.line(),
            Kind::Array => self.item()?,
        };
        let length = message.as_ref().map_or(self.rest.len(), Bytes::len);
        if self.kind != Kind::Raw && length > self.message_bytes_max {
            let description =
                format!("has a message of more than {} bytes", self.message_bytes_max);
            return Err(TranscodeError::field("body", description));
        }
        Ok(message)
    }

    /// The last message, once nothing more arrives and [`Incoming::next`] has no more.
    ///
    /// # Errors
    /// The body ends within an array.
    pub fn finish(mut self) -> Result<Option<Bytes>, TranscodeError> {
        match self.kind {
            Kind::Raw => Ok(None),
            Kind::Lines => Ok(trimmed(self.rest.split().freeze())),
            // No body at all is a stream without a message.
            Kind::Array if matches!(self.state, State::Before | State::After) => Ok(None),
            Kind::Array => Err(malformed("it ends too soon")),
        }
    }

    fn line(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = self.rest[self.seen..].iter().position(|byte| *byte == b'\n') else {
                self.seen = self.rest.len();
                return None;
            };
            let line = self.rest.split_to(self.seen + at + 1).freeze();
            self.seen = 0;
            if let Some(line) = trimmed(line) {
                return Some(line);
            }
        }
    }

    fn item(&mut self) -> Result<Option<Bytes>, TranscodeError> {
        while let Some(byte) = self.rest.get(self.seen).copied() {
            let is_space = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
            match self.state {
                State::Item => {
                    if let Some(item) = self.within_item(byte) {
                        return Ok(Some(item));
                    }
                    continue;
                }
                State::Before | State::Opened | State::Separated | State::After if is_space => {}
                State::Before if byte == b'[' => self.state = State::Opened,
                State::Before => return Err(malformed("an array is expected")),
                State::Opened if byte == b']' => self.state = State::After,
                State::Opened | State::Separated if matches!(byte, b',' | b']') => {
                    return Err(malformed("a value is expected"));
                }
                State::Opened | State::Separated => {
                    self.state = State::Item;
                    continue;
                }
                State::After => return Err(malformed("something follows the array")),
            }
            // What stands between items is of no more use.
            self.rest.advance(1);
        }
        Ok(None)
    }

    /// Looks at one byte of an item; the item, if it ends before this byte. Whether it is JSON is found out when it is read.
    fn within_item(&mut self, byte: u8) -> Option<Bytes> {
        self.seen += 1;
        if self.is_in_string {
            let ends = byte == b'"' && !self.is_after_backslash;
            self.is_after_backslash = byte == b'\\' && !self.is_after_backslash;
            self.is_in_string = !ends;
            return None;
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.depth -= 1,
            b',' | b']' if self.depth == 0 => {
                let item = self.rest.split_to(self.seen - 1).freeze();
                self.rest.advance(1);
                self.seen = 0;
                self.state = if byte == b',' { State::Separated } else { State::After };
                return Some(item);
            }
            _ => {}
        }
        None
    }
}

fn trimmed(line: Bytes) -> Option<Bytes> {
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let end = line.iter().rposition(|byte| !byte.is_ascii_whitespace())?;
    Some(line.slice(start..=end))
}

fn malformed(why: &str) -> TranscodeError {
    TranscodeError::Malformed(why.to_owned())
}
