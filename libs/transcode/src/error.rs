//! What is wrong with a request or a message, and where.

/// How many violations one request is told about.
pub(crate) const VIOLATIONS_MAX: usize = 20;

/// How much of a client's text an error repeats, in characters.
const FOUND_CHARACTERS_MAX: usize = 200;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, by proto names: `link.tags[3]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Why a request makes no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// Fields are unknown, doubled, missing, bound elsewhere or not of their type; at least one, at most 20.
    #[error("{}", describe(.0))]
    Invalid(Vec<Violation>),
    /// The body is no JSON.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// The body is of a media type that is not read: HTTP 415.
    #[error("the body must be {0}")]
    MediaType(&'static str),
    /// A message of a client's stream is longer than it may be: HTTP 413.
    #[error(
        "message {index} of the body, counted from 0, has more than {bytes_max} bytes, the limit"
    )]
    TooLong {
        /// Which one, counted from 0.
        index: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why an answer makes no JSON: the service sent what its descriptors do not describe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} can't be written as JSON: {why}")]
pub struct JsonError {
    /// The message's full name.
    pub message: String,
    /// What is wrong with it.
    pub why: String,
}

fn describe(violations: &[Violation]) -> String {
    let texts = violations
        .iter()
        .map(|violation| format!("`{}` {}", violation.field, violation.description));
    texts.collect::<Vec<_>>().join("; ")
}

impl TranscodeError {
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }
}

/// So much of a client's text as an error repeats.
pub(crate) fn short(text: &str) -> &str {
    text.char_indices().nth(FOUND_CHARACTERS_MAX).map_or(text, |(end, _)| &text[..end])
}
