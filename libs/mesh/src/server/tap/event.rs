//! What a tap shows of a call. All of it is fit to be read by an operator: what is secret was taken out before.

use http::HeaderMap;
use std::time::Duration;
use tonic::Code;

/// One thing that happened in one call.
#[derive(Debug, Clone, PartialEq)]
pub struct TapEvent {
    /// The call: counts the calls that this tap has shown, from 1.
    pub call: u64,
    /// How much the tap had left out so far, messages and whole calls, because it came faster than the tap may show it or
    /// than it was read.
    pub dropped: u64,
    /// What happened.
    pub what: Tapped,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Tapped {
    /// A call came in.
    Begin(TappedBegin),
    /// A message, whole.
    Message(TappedMessage),
    /// The call ended. Each `Begin` that is shown has its `End`, unless the reader is too slow for it.
    End(TappedEnd),
}

/// A call came in.
#[derive(Debug, Clone, PartialEq)]
pub struct TappedBegin {
    /// The service that calls.
    pub caller: String,
    /// The instance that is called.
    pub instance: String,
    /// `linkmesh.links.v1.LinksService/GetLink`; `other` if `proto/` does not have it.
    pub method: String,
    /// The path as it came.
    pub path: String,
    /// The request's metadata in the order it came, without what proves who someone is.
    pub metadata: Vec<(String, String)>,
    /// How long the caller still waits; none: for ever.
    pub time_left: Option<Duration>,
    /// The trace that the call belongs to, as 32 (B3: or 16) hexadecimal digits; none if its metadata names none.
    pub trace_id: Option<String>,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct TappedMessage {
    /// Where it goes.
    pub direction: Direction,
    /// Its place among those of its direction, from 1.
    pub number: u64,
    /// How long it is on the wire, without its prefix of 5 bytes.
    pub bytes: u64,
    /// What it says.
    pub content: Content,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Request,
    /// To the caller.
    Response,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// As JSON: fields marked `debug_redact` are `"[redacted]"`, bytes are shown by their length.
    Json(serde_json::Value),
    /// Why it can't be shown: it is too large, its method unknown, it can't be decoded.
    Omitted(String),
}

/// A call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TappedEnd {
    /// How.
    pub code: Code,
    /// What the status says in words.
    pub message: String,
    /// How long it took, from its request's head to its response's last byte.
    pub latency: Duration,
    /// How long its request's messages were on the wire, prefixes included.
    pub request_bytes: u64,
    /// How long its response's messages were on the wire, prefixes included.
    pub response_bytes: u64,
}

/// The trace that a call's metadata names: W3C's `traceparent`, else B3.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let w3c = text("traceparent").and_then(|value| value.split('-').nth(1));
    let b3 = || text("b3").and_then(|value| value.split('-').next());
    let id = w3c.or_else(b3).or_else(|| text("x-b3-traceid"))?;
    let well_formed = matches!(id.len(), 16 | 32) && id.bytes().all(|it| it.is_ascii_hexdigit());
    well_formed.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_in_either_form_and_nothing_else_is_taken_for_one() {
        let of = |name: &'static str, value: &'static str| {
            trace_id(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        let w3c = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(of("traceparent", w3c).as_deref(), Some(id));
        let b3 = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1";
        assert_eq!(of("b3", b3).as_deref(), Some(id));
        assert_eq!(of("x-b3-traceid", "8448eb211c80319c").as_deref(), Some("8448eb211c80319c"));
        assert_eq!(of("b3", "0"), None);
        assert_eq!(of("traceparent", "00-<script>-1-01"), None);
    }
}
