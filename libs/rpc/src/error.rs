//! The error of a call, and its one mapping to a gRPC status with `google.rpc` details.
//!
//! Every status that Linkmesh makes carries an ErrorInfo with a reason of `linkmesh.common.v1.ErrorReason`. Internal
//! text is logged here, once, and never sent.

use crate::ERROR_DOMAIN;
use proto::common::v1::ErrorReason;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tonic::Code;
use tonic::Status;
use tonic_types::ErrorDetails;
use tonic_types::FieldViolation;
use tonic_types::QuotaViolation;
use tonic_types::StatusExt as _;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, as `link.destination_uri`.
    pub field: String,
    /// What is wrong, with the limit: "must have at most 2,048 bytes, has 3,000".
    pub description: String,
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Whose: a kind of caller, such as `key`; never an address.
    pub subject: String,
    /// What the quota is: "100 requests in 60s".
    pub description: String,
}

/// Why a call failed, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason.
    pub reason: ErrorReason,
    /// A sentence for people.
    pub message: String,
    /// For `ErrorInfo.metadata`.
    pub metadata: Vec<(&'static str, String)>,
    /// For `BadRequest`.
    pub violations: Vec<Violation>,
    /// For `RetryInfo`: when trying again may help.
    pub retry_after: Option<Duration>,
    /// For `QuotaFailure`.
    pub quota: Option<Box<Quota>>,
}

impl Error {
    /// An error without details; the constructors below cover what services need.
    #[must_use]
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
            quota: None,
        }
    }

    /// A field is missing or out of its limits.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid_fields(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// Several fields are; at least one.
    #[must_use]
    pub fn invalid_fields(violations: Vec<Violation>) -> Self {
        let message = violations
            .iter()
            .map(|violation| format!("`{}` {}", violation.field, violation.description))
            .collect::<Vec<_>>()
            .join("; ");
        let mut error = Self::new(Code::InvalidArgument, ErrorReason::InvalidField, message);
        error.violations = violations;
        error
    }

    /// A page token was not made for these parameters.
    #[must_use]
    pub fn invalid_page_token() -> Self {
        let mut error = Self::invalid(
            "page_token",
            "must be a next_page_token of the same method with the same parameters",
        );
        error.reason = ErrorReason::InvalidPageToken;
        error
    }

    /// Bytes could not be decoded.
    #[must_use]
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, ErrorReason::Malformed, message)
    }

    /// No such resource in the caller's workspace.
    #[must_use]
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, ErrorReason::NotFound, format!("`{what}` does not exist"))
    }

    /// The name is taken.
    #[must_use]
    pub fn already_exists(field: &'static str, what: impl fmt::Display) -> Self {
        let mut error = Self::new(
            Code::AlreadyExists,
            ErrorReason::AlreadyExists,
            format!("`{what}` is taken"),
        );
        error.metadata.push(("field", field.to_owned()));
        error
    }

    /// The request id was used before with other parameters.
    #[must_use]
    pub fn request_id_reused() -> Self {
        Self::new(
            Code::AlreadyExists,
            ErrorReason::RequestIdReused,
            "`request_id` was used before with other parameters; use a new UUID",
        )
    }

    /// Someone else changed the resource first.
    #[must_use]
    pub fn etag_mismatch() -> Self {
        Self::new(
            Code::Aborted,
            ErrorReason::EtagMismatch,
            "`etag` is not the current one; read the resource again",
        )
    }

    /// The resource's state does not allow it.
    #[must_use]
    pub fn state_conflict(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, ErrorReason::StateConflict, message)
    }

    /// The caller did not prove who it is.
    #[must_use]
    pub fn unauthenticated(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
    }

    /// The key lacks a scope, named as the API spells it.
    #[must_use]
    pub fn scope_missing(scope: &str) -> Self {
        let mut error = Self::new(
            Code::PermissionDenied,
            ErrorReason::ScopeMissing,
            format!("the API key lacks the scope {scope}"),
        );
        error.metadata.push(("scope", scope.to_owned()));
        error
    }

    /// The caller's role in the workspace lacks a scope, named as the API spells it.
    #[must_use]
    pub fn role_insufficient(scope: &str) -> Self {
        let mut error = Self::new(
            Code::PermissionDenied,
            ErrorReason::RoleInsufficient,
            format!("your role in the workspace lacks the scope {scope}"),
        );
        error.metadata.push(("scope", scope.to_owned()));
        error
    }

    /// The calling service may not call this.
    #[must_use]
    pub fn peer_not_allowed(peer: &str) -> Self {
        Self::new(
            Code::PermissionDenied,
            ErrorReason::PeerNotAllowed,
            format!("`{peer}` may not call this method"),
        )
    }

    /// Too much at once; try again after `wait`.
    #[must_use]
    pub fn overloaded(message: impl Into<String>, wait: Duration) -> Self {
        let mut error = Self::new(Code::ResourceExhausted, ErrorReason::Overloaded, message);
        error.retry_after = Some(wait);
        error
    }

    /// This caller makes too many calls; it may make another after `wait`.
    #[must_use]
    pub fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        let mut error = Self::new(Code::ResourceExhausted, ErrorReason::RateLimited, message);
        error.retry_after = Some(wait);
        error
    }

    /// Something that the call needs does not answer; a retry may help.
    #[must_use]
    pub fn unavailable(reason: ErrorReason, message: impl Into<String>) -> Self {
        let mut error = Self::new(Code::Unavailable, reason, message);
        error.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// The deadline passed.
    #[must_use]
    pub fn deadline_exceeded() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            "the deadline passed before the call was done",
        )
    }

    /// The fault is ours. Logs `source`, which the caller is not told.
    #[must_use]
    pub fn internal(source: &dyn fmt::Display) -> Self {
        tracing::error!(error = %source, "internal error");
        Self::new(
            Code::Internal,
            ErrorReason::Internal,
            "an internal error; it is logged under the call's trace id",
        )
    }

    /// The reason as sent: the enum's name without its prefix.
    #[must_use]
    pub fn reason_text(&self) -> &'static str {
        self.reason.as_str_name().trim_start_matches("ERROR_REASON_")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason_text(), self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason_text();
        let metadata: HashMap<String, String> =
            error.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        if !error.violations.is_empty() {
            details.set_bad_request(
                error
                    .violations
                    .into_iter()
                    .map(|violation| FieldViolation::new(violation.field, violation.description))
                    .collect::<Vec<_>>(),
            );
        }
        if let Some(wait) = error.retry_after {
            details.set_retry_info(Some(wait));
        }
        if let Some(quota) = error.quota {
            let Quota { subject, description } = *quota;
            details.set_quota_failure(vec![QuotaViolation::new(subject, description)]);
        }
        Self::with_error_details(error.code, error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_reason_field_and_limit() {
        let status =
            Status::from(Error::invalid("link.slug", "must have at most 64 characters, has 65"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().expect("every error has one");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "linkmesh"));
        let bad = status.get_details_bad_request().expect("a violation was given");
        assert_eq!(bad.field_violations[0].field, "link.slug");
        assert!(status.message().contains("at most 64"));
    }

    #[test]
    fn internal_text_is_not_sent() {
        let status = Status::from(Error::internal(&"password=hunter2"));
        assert!(!status.message().contains("hunter2"));
        assert!(!String::from_utf8_lossy(status.details()).contains("hunter2"));
    }

    #[test]
    fn an_error_that_a_retry_may_help_says_when() {
        let status = Status::from(Error::overloaded("too many", Duration::from_secs(3)));
        let wait = status.get_details_retry_info().expect("overload names a wait").retry_delay;
        assert_eq!(wait, Some(Duration::from_secs(3)));
    }

    #[test]
    fn an_error_of_a_quota_says_whose_and_which() {
        let mut error = Error::rate_limited("too many", Duration::from_secs(3));
        let quota = Quota { subject: "key".to_owned(), description: "2 in 1s".to_owned() };
        error.quota = Some(Box::new(quota));
        let status = Status::from(error);
        let failure = status.get_details_quota_failure().expect("it was given");
        assert_eq!(failure.violations[0].subject, "key");
        assert!(status.get_details_retry_info().is_some());
    }
}
