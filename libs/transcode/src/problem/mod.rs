//! Errors as an HTTP client gets them, made from a gRPC status: RFC 9457 problem JSON, or one of Google's two forms.

mod google;
#[cfg(test)]
mod rpc;

pub use google::ErrorForm;

use crate::error::Violation;
use crate::to_json::text;
use crate::wire;
use crate::wire::Cursor;
use crate::wire::WireType;
use bytes::Bytes;
use http::StatusCode;
use std::time::Duration;

/// An error as an HTTP client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status of the response; `status` in the body says the same.
    pub status: StatusCode,
    /// The gRPC code's name, such as `NOT_FOUND`.
    pub code: &'static str,
    /// The gRPC code's number.
    pub grpc_code: i32,
    /// A sentence for people.
    pub detail: String,
    /// `ErrorInfo.reason`, stable; empty if the status had none.
    pub reason: String,
    /// `ErrorInfo.domain`.
    pub domain: String,
    /// `ErrorInfo.metadata`, by key.
    pub metadata: Vec<(String, String)>,
    /// `BadRequest.field_violations`.
    pub violations: Vec<Violation>,
    /// `RetryInfo.retry_delay`: for the `Retry-After` header too.
    pub retry_after: Option<Duration>,
    /// The details as they were, each type once, without DebugInfo: encoded `google.protobuf.Any`s.
    details: Vec<Vec<u8>>,
}

impl Problem {
    /// The media type of [`Problem::to_json`].
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Reads a gRPC status. `details` is an encoded `google.rpc.Status` or empty; DebugInfo is dropped, and so is what can't be
    /// read and a type that was there before.
    #[must_use]
    pub fn from_status(grpc_code: i32, message: &str, details: &[u8]) -> Self {
        let (code, status) = of_code(grpc_code);
        let mut problem = Self {
            status,
            code,
            grpc_code,
            detail: message.to_owned(),
            reason: String::new(),
            domain: String::new(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
            details: Vec::new(),
        };
        let mut types: Vec<&[u8]> = Vec::new();
        for any in fields(details, google::DETAILS) {
            let (kind, value) = (last(any, 1), last(any, 2));
            if kind.ends_with(b"/google.rpc.DebugInfo") || types.contains(&kind) {
                continue;
            }
            types.push(kind);
            problem.read(kind, value);
            problem.details.push(any.to_vec());
        }
        problem
    }

    fn read(&mut self, kind: &[u8], value: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if kind.ends_with(b"/google.rpc.ErrorInfo") {
            self.reason = text(last(value, 1));
            self.domain = text(last(value, 2));
            let entries = fields(value, 3);
            self.metadata =
                entries.iter().map(|entry| (text(last(entry, 1)), text(last(entry, 2)))).collect();
            self.metadata.sort();
        } else if kind.ends_with(b"/google.rpc.BadRequest") {
            let violations = fields(value, 1);
            let violation = |bytes: &&[u8]| Violation {
                field: text(last(bytes, 1)),
                description: text(last(bytes, 2)),
            };
            self.violations = violations.iter().map(violation).collect();
        } else if kind.ends_with(b"/google.rpc.RetryInfo") {
            self.retry_after = fields(value, 1).last().map(|delay| {
                let seconds = u64::try_from(number(delay, 1).cast_signed()).unwrap_or(0);
                let nanos = u32::try_from(number(delay, 2).cast_signed()).unwrap_or(0);
                Duration::new(seconds, nanos.min(999_999_999))
            });
        }
    }

    /// The body as problem JSON. `type_base` is what the stable reason is appended to, to make the problem's type: an absolute
    /// URI that ends with `/`.
    #[must_use]
    pub fn to_json(&self, type_base: &str) -> Bytes {
        let kind = if self.reason.is_empty() {
            "about:blank".to_owned()
        } else {
            format!("{type_base}{}", self.reason)
        };
        let mut out = Vec::with_capacity(256);
        let mut object = Object::open(&mut out);
        object.text("type", &kind);
        object.text("title", self.status.canonical_reason().unwrap_or(self.code));
        object.number("status", self.status.as_u16());
        object.text("detail", &self.detail);
        object.text("code", self.code);
        object.text("reason", &self.reason);
        object.text("domain", &self.domain);
        if !self.metadata.is_empty() {
            object.key("metadata");
            let mut metadata = Object::open(object.out);
            for (key, value) in &self.metadata {
                metadata.text(key, value);
            }
            metadata.close();
        }
        if !self.violations.is_empty() {
            object.key("violations");
            object.out.push(b'[');
            for (index, violation) in self.violations.iter().enumerate() {
                if index > 0 {
                    object.out.push(b',');
                }
                let mut entry = Object::open(object.out);
                entry.text("field", &violation.field);
                entry.text("description", &violation.description);
                entry.close();
            }
            object.out.push(b']');
        }
        if let Some(wait) = self.retry_after {
            object.key("retryAfterSeconds");
            let seconds = zmij::Buffer::new().format_finite(wait.as_secs_f64()).to_owned();
            object.out.extend_from_slice(seconds.as_bytes());
        }
        object.close();
        out.into()
    }
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_first: true }
    }

    fn key(&mut self, key: &str) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        text::put_string(self.out, key);
        self.out.push(b':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        text::put_string(self.out, value);
    }

    fn number(&mut self, key: &str, value: u16) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

/// The values of a field that a length stands before; those until the bytes are no message.
fn fields(bytes: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut values = Vec::new();
    let mut cursor = Cursor::new(bytes);
    while let Ok((number, wire_type)) = cursor.tag() {
        if number == wanted && wire_type == WireType::Delimited {
            let Ok(value) = cursor.delimited() else { break };
            values.push(value);
        } else if cursor.skip(number, wire_type, 0).is_err() {
            break;
        }
    }
    values
}

fn last(bytes: &[u8], wanted: u32) -> &[u8] {
    fields(bytes, wanted).pop().unwrap_or_default()
}

/// The last value of a varint field.
fn number(bytes: &[u8], wanted: u32) -> u64 {
    let found = wire::last_of(bytes, &[wanted]).ok().flatten();
    let value = found.filter(|(wire_type, _)| *wire_type == WireType::Varint);
    value.and_then(|(_, value)| Cursor::new(value).varint().ok()).unwrap_or(0)
}

/// The HTTP status of a gRPC code (0 to 16); 500 for any other.
#[must_use]
pub fn http_status(grpc_code: i32) -> StatusCode {
    of_code(grpc_code).1
}

/// The name of a gRPC code; `UNKNOWN` for a number that is none.
pub(crate) fn code_name(grpc_code: i32) -> &'static str {
    of_code(grpc_code).0
}

fn of_code(grpc_code: i32) -> (&'static str, StatusCode) {
    match grpc_code {
        0 => ("OK", StatusCode::OK),
        1 => ("CANCELLED", StatusCode::from_u16(499).expect("a three-digit number")),
        3 => ("INVALID_ARGUMENT", StatusCode::BAD_REQUEST),
        4 => ("DEADLINE_EXCEEDED", StatusCode::GATEWAY_TIMEOUT),
        5 => ("NOT_FOUND", StatusCode::NOT_FOUND),
        6 => ("ALREADY_EXISTS", StatusCode::CONFLICT),
        7 => ("PERMISSION_DENIED", StatusCode::FORBIDDEN),
        8 => ("RESOURCE_EXHAUSTED", StatusCode::TOO_MANY_REQUESTS),
        9 => ("FAILED_PRECONDITION", StatusCode::BAD_REQUEST),
        10 => ("ABORTED", StatusCode::CONFLICT),
        11 => ("OUT_OF_RANGE", StatusCode::BAD_REQUEST),
        12 => ("UNIMPLEMENTED", StatusCode::NOT_IMPLEMENTED),
        13 => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR),
        14 => ("UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
        15 => ("DATA_LOSS", StatusCode::INTERNAL_SERVER_ERROR),
        16 => ("UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
        _ => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use serde_json::Value;
    use serde_json::json;

    #[test]
    fn r24_every_code_has_its_status() {
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (code, status) in (0..).zip(expected) {
            assert_eq!(http_status(code).as_u16(), status, "code {code}");
        }
        assert_eq!(http_status(17).as_u16(), 500);
        assert_eq!(http_status(-1).as_u16(), 500);
    }

    #[test]
    fn r28_details_become_members_of_the_problem_and_debug_info_is_dropped() {
        let any = |name: &str, value: Vec<u8>| rpc::Any {
            type_url: format!("type.googleapis.com/google.rpc.{name}"),
            value,
        };
        let info = rpc::ErrorInfo {
            reason: "OVERLOADED".to_owned(),
            domain: "example".to_owned(),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
        };
        let violation =
            rpc::FieldViolation { field: "x.y".to_owned(), description: "is bad".to_owned() };
        let delay = rpc::Duration { seconds: 2, nanos: 500_000_000 };
        let status = rpc::Status {
            code: 8,
            message: String::new(),
            details: vec![
                any("ErrorInfo", info.encode_to_vec()),
                any(
                    "BadRequest",
                    rpc::BadRequest { field_violations: vec![violation] }.encode_to_vec(),
                ),
                any("RetryInfo", rpc::RetryInfo { retry_delay: Some(delay) }.encode_to_vec()),
                any("DebugInfo", b"\x0a\x06secret".to_vec()),
            ],
        };
        let problem = Problem::from_status(8, "too much", &status.encode_to_vec());
        assert_eq!(problem.retry_after, Some(Duration::from_millis(2_500)));
        let body = problem.to_json("https://example.test/errors/");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            body,
            json!({
                "type": "https://example.test/errors/OVERLOADED", "title": "Too Many Requests",
                "status": 429, "detail": "too much", "code": "RESOURCE_EXHAUSTED",
                "reason": "OVERLOADED", "domain": "example", "metadata": {"a": "b"},
                "violations": [{"field": "x.y", "description": "is bad"}], "retryAfterSeconds": 2.5,
            })
        );
    }

    #[test]
    fn undecodable_details_leave_code_and_message() {
        let problem = Problem::from_status(5, "gone", b"\xff\xff\xff");
        assert_eq!((problem.status.as_u16(), problem.detail.as_str()), (404, "gone"));
        let body: Value = serde_json::from_slice(&problem.to_json("x")).expect("JSON");
        assert_eq!(body["type"], "about:blank");
    }
}
