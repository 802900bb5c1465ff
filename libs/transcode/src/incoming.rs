//! A client's stream in a request body, as the method's messages: the items of a JSON array, one JSON text a line, or the bytes of
//! a `google.api.HttpBody`. Each message is made as soon as it has arrived.
//!
//! What path and query say is in the first message; a later one has what its own piece of the body says, and may say nothing else
//! of what the path binds.

use crate::cutter::Cutter;
use crate::cutter::Kind;
use crate::cutter::Uncut;
use crate::error::TranscodeError;
use crate::error::Violation;
use crate::request;
use crate::request::RequestParts;
use crate::required;
use crate::route::Body;
use crate::table::Match;
use bytes::Bytes;

/// Bytes of an HttpBody in one message. Servers of gRPC take 4 MiB if nobody tells them otherwise.
const RAW_BYTES_MAX: usize = 1 << 20;
const JSON: &str = "application/json";

/// Makes the messages of a client's stream out of a body that arrives in chunks.
#[derive(Debug)]
pub struct Incoming {
    found: Match,
    query: Option<String>,
    /// What each piece of the body is.
    content_type: Option<String>,
    /// What path and query say, encoded.
    beginning: Bytes,
    cutter: Cutter,
    message_bytes_max: usize,
    /// How many messages were made.
    made: usize,
}

impl Match {
    /// Takes a client's stream by its media type: an array (`application/json`, `+json`), lines (`application/x-ndjson`,
    /// `application/jsonl`), or anything at all if the method takes HttpBody. No message's piece of the body may have more than
    /// `message_bytes_max` bytes; of an HttpBody, pieces of up to 1 MiB are made.
    ///
    /// # Errors
    /// The media type is none of these, or path and query are wrong.
    pub fn incoming(
        self,
        query: Option<&str>,
        content_type: Option<&str>,
        message_bytes_max: usize,
    ) -> Result<Incoming, TranscodeError> {
        let is_raw = self.route.takes_raw;
        let kind = self.kind(content_type)?;
        let content_type = if is_raw { content_type } else { Some(JSON) };
        let beginning = self.beginning(RequestParts { query, content_type, body: &[] })?;
        let piece_bytes_max =
            if is_raw { message_bytes_max.min(RAW_BYTES_MAX) } else { message_bytes_max };
        Ok(Incoming {
            found: self,
            query: query.map(str::to_owned),
            content_type: content_type.map(str::to_owned),
            beginning,
            cutter: Cutter::new(kind, piece_bytes_max),
            message_bytes_max,
            made: 0,
        })
    }

    fn kind(&self, content_type: Option<&str>) -> Result<Kind, TranscodeError> {
        let is_lines = |essence: &str| {
            matches!(essence, "application/x-ndjson" | "application/jsonl" | "application/ndjson")
        };
        // A method without a body, whatever its type: what there is all the same is refused as it arrives.
        if self.route.takes_raw || self.route.body == Body::None {
            return Ok(Kind::Raw);
        }
        if request::is_media_type(content_type, is_lines) {
            return Ok(Kind::Lines);
        }
        if request::is_json(content_type) {
            return Ok(Kind::Array);
        }
        Err(TranscodeError::MediaType("application/json or application/x-ndjson, in UTF-8"))
    }
}

impl Incoming {
    /// Takes a chunk of the body. [`Incoming::next`] was asked until it had no more of those before.
    pub fn push(&mut self, chunk: Bytes) {
        self.cutter.push(chunk);
    }

    /// The next message whose piece of the body has arrived whole, encoded; none until more arrives.
    ///
    /// # Errors
    /// The body is no stream, or the message is none of the method's; either says which message it is about, counted from 0.
    /// Nothing that follows is of use.
    #[expect(
        clippy::should_implement_trait,
        reason = "it ends and may go on, which no iterator does"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, TranscodeError> {
        let piece = self.cutter.next().map_err(|uncut| self.refused(uncut))?;
        piece.map(|piece| self.message(&piece)).transpose()
    }

    /// The last message, once nothing more arrives and [`Incoming::next`] has no more.
    ///
    /// # Errors
    /// The body ends within an array, or as for [`Incoming::next`].
    pub fn finish(&mut self) -> Result<Option<Bytes>, TranscodeError> {
        let piece = self.cutter.finish().map_err(|uncut| self.refused(uncut))?;
        let is_never_empty = self.found.route.takes_raw || self.found.route.body == Body::None;
        match piece {
            // An empty file is one all the same, and has a name and a type.
            None if self.made == 0 && is_never_empty => self.message(&Bytes::new()).map(Some),
            piece => piece.map(|piece| self.message(&piece)).transpose(),
        }
    }

    /// How many messages were made so far.
    #[must_use]
    pub fn made(&self) -> usize {
        self.made
    }

    fn message(&mut self, piece: &[u8]) -> Result<Bytes, TranscodeError> {
        let content_type = self.content_type.as_deref();
        let message = if self.made == 0 {
            let query = self.query.as_deref();
            self.found.request(RequestParts { query, content_type, body: piece })
        } else {
            let content_type = content_type.filter(|_| !self.found.route.takes_raw);
            let parts = RequestParts { query: None, content_type, body: piece };
            self.found.further(parts, &self.beginning)
        };
        let message = message.map_err(|error| self.about_this(error))?;
        self.made += 1;
        Ok(message)
    }

    fn refused(&self, uncut: Uncut) -> TranscodeError {
        match uncut {
            Uncut::Malformed(why) => self.about_this(TranscodeError::Malformed(why.to_owned())),
            Uncut::TooLong => {
                TranscodeError::TooLong { index: self.made, bytes_max: self.message_bytes_max }
            }
        }
    }

    /// The error of a message, with the message's index.
    fn about_this(&self, error: TranscodeError) -> TranscodeError {
        let index = self.made;
        if self.found.route.body == Body::None {
            // There is one message, of path and query.
            return error;
        }
        match error {
            TranscodeError::Invalid(violations) => {
                let named = violations.into_iter().map(|Violation { field, description }| {
                    // Of the message itself, such as one that is no object.
                    let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
                    Violation { field: format!("[{index}]{dot}{field}"), description }
                });
                TranscodeError::Invalid(named.collect())
            }
            TranscodeError::Malformed(why) => {
                TranscodeError::Malformed(format!("message {index}, counted from 0: {why}"))
            }
            error @ (TranscodeError::MediaType(_) | TranscodeError::TooLong { .. }) => error,
        }
    }
}

impl Match {
    /// What path and query say, without a body.
    fn beginning(&self, parts: RequestParts<'_>) -> Result<Bytes, TranscodeError> {
        let mut out = Vec::with_capacity(64);
        self.put(parts, &mut out)?;
        Ok(out.into())
    }

    /// A message behind the first, which has what its piece of the body says alone.
    fn further(&self, parts: RequestParts<'_>, beginning: &[u8]) -> Result<Bytes, TranscodeError> {
        let mut out = Vec::with_capacity(parts.body.len() + 64);
        self.put_further(parts, &mut out)?;
        if self.route.options.requires_required {
            // What the first message said of the whole stream is not asked for again.
            required::check(&self.route, &[beginning, &out].concat())?;
        }
        Ok(out.into())
    }
}
