//! Errors as RFC 9457 problem JSON, made from a gRPC status, and the HTTP status of each gRPC code.

use crate::request::Violation;
use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// An error as an HTTP client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status of the response; `status` in the body says the same.
    pub status: StatusCode,
    /// The gRPC code's name, such as `NOT_FOUND`.
    pub code: &'static str,
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
}

impl Problem {
    /// The media type of [`Problem::to_json`].
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Reads a gRPC status. `details` is an encoded `google.rpc.Status` or empty; what it holds and is not ErrorInfo,
    /// BadRequest or RetryInfo is dropped, DebugInfo above all.
    #[must_use]
    pub fn from_status(grpc_code: i32, message: &str, details: &[u8]) -> Self {
        let (code, status) = of_code(grpc_code);
        let mut problem = Self {
            status,
            code,
            detail: message.to_owned(),
            reason: String::new(),
            domain: String::new(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
        };
        let details = wire::Status::decode(details).unwrap_or_default().details;
        for any in &details {
            problem.read(any);
        }
        problem
    }

    fn read(&mut self, any: &wire::Any) {
        match any.type_url.rsplit('/').next().unwrap_or_default() {
            "google.rpc.ErrorInfo" => {
                let info = wire::ErrorInfo::decode(&*any.value).unwrap_or_default();
                self.reason = info.reason;
                self.domain = info.domain;
                self.metadata = info.metadata.into_iter().collect();
            }
            "google.rpc.BadRequest" => {
                let request = wire::BadRequest::decode(&*any.value).unwrap_or_default();
                self.violations = request
                    .field_violations
                    .into_iter()
                    .map(|violation| Violation {
                        field: violation.field,
                        description: violation.description,
                    })
                    .collect();
            }
            "google.rpc.RetryInfo" => {
                let info = wire::RetryInfo::decode(&*any.value).unwrap_or_default();
                self.retry_after = info.retry_delay.map(|delay| {
                    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
                    Duration::new(seconds, u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999))
                });
            }
            _ => {}
        }
    }

    /// The body. `type_base` is what the stable reason is appended to, to make the problem's type: an absolute URI
    /// that ends with `/`.
    #[must_use]
    pub fn to_json(&self, type_base: &str) -> Bytes {
        let kind = if self.reason.is_empty() {
            "about:blank".to_owned()
        } else {
            format!("{type_base}{}", self.reason)
        };
        let mut body = json!({
            "type": kind,
            "title": self.status.canonical_reason().unwrap_or(self.code),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "reason": self.reason,
            "domain": self.domain,
        });
        if !self.metadata.is_empty() {
            let entries = self.metadata.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str())));
            body["metadata"] = Value::Object(entries.collect());
        }
        if !self.violations.is_empty() {
            let violations = self.violations.iter().map(
                |violation| json!({"field": violation.field, "description": violation.description}),
            );
            body["violations"] = violations.collect();
        }
        if let Some(wait) = self.retry_after {
            body["retryAfterSeconds"] = wait.as_secs_f64().into();
        }
        body.to_string().into()
    }
}

/// The HTTP status of a gRPC code (0 to 16); 500 for any other.
#[must_use]
pub fn http_status(grpc_code: i32) -> StatusCode {
    of_code(grpc_code).1
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

/// The few messages of `google.rpc` that a problem is read from: this crate has no generated code.
mod wire {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(int32, tag = "1")]
        pub(super) code: i32,
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ErrorInfo {
        #[prost(string, tag = "1")]
        pub(super) reason: String,
        #[prost(string, tag = "2")]
        pub(super) domain: String,
        #[prost(btree_map = "string, string", tag = "3")]
        pub(super) metadata: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BadRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) field_violations: Vec<FieldViolation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct FieldViolation {
        #[prost(string, tag = "1")]
        pub(super) field: String,
        #[prost(string, tag = "2")]
        pub(super) description: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        pub(super) retry_delay: Option<Duration>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Duration {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status() {
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (code, status) in (0..).zip(expected) {
            assert_eq!(http_status(code).as_u16(), status, "code {code}");
        }
        assert_eq!(http_status(17).as_u16(), 500);
        assert_eq!(http_status(-1).as_u16(), 500);
    }

    #[test]
    fn details_become_members_and_debug_info_is_dropped() {
        let any = |name: &str, value: Vec<u8>| wire::Any {
            type_url: format!("type.googleapis.com/google.rpc.{name}"),
            value,
        };
        let info = wire::ErrorInfo {
            reason: "OVERLOADED".to_owned(),
            domain: "example".to_owned(),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
        };
        let violation =
            wire::FieldViolation { field: "x.y".to_owned(), description: "is bad".to_owned() };
        let delay = wire::Duration { seconds: 2, nanos: 500_000_000 };
        let status = wire::Status {
            code: 8,
            message: String::new(),
            details: vec![
                any("ErrorInfo", info.encode_to_vec()),
                any(
                    "BadRequest",
                    wire::BadRequest { field_violations: vec![violation] }.encode_to_vec(),
                ),
                any("RetryInfo", wire::RetryInfo { retry_delay: Some(delay) }.encode_to_vec()),
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
