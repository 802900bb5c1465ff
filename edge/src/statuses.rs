//! How a failed call is told, whatever a service made of it: what every protocol sends on has a reason, each kind of detail once,
//! nothing meant for debugging, and can be read.
//!
//! tonic panics on details that are not base64 and forgets the code of a message that is not UTF-8: both are mended here, before it
//! sees them. The code in the header is the one that counts.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::Response;
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::Any;
use proto::common::v1::ErrorReason;
use proto::google::rpc;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;

use crate::body::BoxError;

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// What gRPC writes without padding, and reads with or without it.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const TYPE_BASE: &str = "type.googleapis.com/";
const ERROR_INFO: &str = "google.rpc.ErrorInfo";
const RETRY_INFO: &str = "google.rpc.RetryInfo";
const DEBUG_INFO: &str = "google.rpc.DebugInfo";
/// When to try again what was refused for now, if the service does not say.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A service's answer whose end is fit to be read and sent on.
pub(crate) fn answer<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = response.into_parts();
    mend(&mut head.headers);
    let body = body.map_frame(|mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            mend(trailers);
        }
        frame
    });
    Response::from_parts(head, Body::new(body))
}

/// Mends what headers or trailers say of a call that is over.
fn mend(headers: &mut HeaderMap) {
    let Some(said) = headers.get(Status::GRPC_STATUS) else { return };
    let code = Code::from_bytes(said.as_bytes());
    let message = headers.remove(MESSAGE);
    let details = headers.remove(DETAILS);
    if code == Code::Ok {
        return;
    }
    let message = message.map(|message| {
        percent_encoding::percent_decode(message.as_bytes()).decode_utf8_lossy().into_owned()
    });
    let details = details.and_then(|details| BASE64.decode(details.as_bytes()).ok());
    let status =
        Status::with_details(code, message.unwrap_or_default(), details.unwrap_or_default().into());
    fit(status).add_header(headers).expect("what is escaped makes a header");
}

/// Why an answer that was read here can't be. tonic makes it the client's fault that it is too long; what a service says itself has a
/// reason by now.
pub(crate) fn unread(status: Status) -> Status {
    if status.code() == Code::OutOfRange && status.details().is_empty() {
        return ::rpc::Error::internal(&status.message()).into();
    }
    status
}

/// A status as clients get it: with its reason, and when trying again may help.
pub(crate) fn fit(status: Status) -> Status {
    if status.code() == Code::Ok {
        return status;
    }
    // Details that can't be read are left out: the error itself is still true.
    let said = rpc::Status::decode(status.details()).unwrap_or_default();
    let mut details: Vec<Any> = Vec::with_capacity(said.details.len() + 1);
    for detail in said.details {
        let was_there = details.iter().any(|other| other.type_url == detail.type_url);
        if !was_there && !is(&detail, DEBUG_INFO) {
            details.push(detail);
        }
    }
    let reason = match details.iter().find(|detail| is(detail, ERROR_INFO)) {
        Some(info) => rpc::ErrorInfo::decode(info.value.as_slice())
            .map(|info| info.reason)
            .unwrap_or_default(),
        None => {
            let reason = text(reason_of(status.code())).to_owned();
            let info = rpc::ErrorInfo {
                reason: reason.clone(),
                domain: ::rpc::ERROR_DOMAIN.to_owned(),
                ..rpc::ErrorInfo::default()
            };
            details.insert(0, any(ERROR_INFO, &info));
            reason
        }
    };
    let may_help = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
        && ![text(ErrorReason::OutcomeUnknown), text(ErrorReason::BodyTooLarge)]
            .contains(&reason.as_str());
    if may_help && !details.iter().any(|detail| is(detail, RETRY_INFO)) {
        let seconds = i64::try_from(RETRY_AFTER.as_secs()).unwrap_or(i64::MAX);
        let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
        details.push(any(RETRY_INFO, &rpc::RetryInfo { retry_delay }));
    }
    let code = i32::from(status.code());
    let told = rpc::Status { code, message: status.message().to_owned(), details };
    Status::with_details_and_metadata(
        status.code(),
        status.message(),
        told.encode_to_vec().into(),
        status.metadata().clone(),
    )
}

/// The reason of a failure of which only the code is known.
fn reason_of(code: Code) -> ErrorReason {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorReason::InvalidField,
        Code::NotFound => ErrorReason::NotFound,
        Code::AlreadyExists => ErrorReason::AlreadyExists,
        Code::FailedPrecondition | Code::Aborted => ErrorReason::StateConflict,
        Code::PermissionDenied => ErrorReason::PeerNotAllowed,
        Code::Unauthenticated => ErrorReason::CredentialsMissing,
        Code::ResourceExhausted => ErrorReason::Overloaded,
        Code::Unimplemented => ErrorReason::MethodUnknown,
        Code::Unavailable => ErrorReason::NoEndpoint,
        Code::DeadlineExceeded => ErrorReason::DeadlineExceeded,
        Code::Cancelled => ErrorReason::Cancelled,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorReason::Internal,
    }
}

/// A reason as it is sent.
pub(crate) fn text(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

fn is(detail: &Any, name: &str) -> bool {
    detail.type_url.rsplit('/').next() == Some(name)
}

fn any(name: &str, message: &impl prost::Message) -> Any {
    Any { type_url: format!("{TYPE_BASE}{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(pairs: &[(&'static str, &str)]) -> Status {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.insert(HeaderName::from_static(name), value);
        }
        mend(&mut headers);
        Status::from_header_map(&headers).expect("a status")
    }

    fn details(status: &Status) -> Vec<Any> {
        let status = rpc::Status::decode(status.details()).expect("what was written");
        status.details
    }

    fn names(status: &Status) -> Vec<String> {
        let name = |any: &Any| any.type_url.rsplit('/').next().expect("a name").to_owned();
        details(status).iter().map(name).collect()
    }

    #[test]
    fn r25_a_message_that_is_not_utf8_is_read_as_far_as_it_goes_and_keeps_its_code() {
        for (sent, read) in [
            ("caf%C3%A9", "café"),
            ("100% sure", "100% sure"),
            ("%FF broken", "\u{fffd} broken"),
            ("%zz", "%zz"),
            ("caf\u{e9}", "café"),
        ] {
            let status = mended(&[("grpc-status", "5"), ("grpc-message", sent)]);
            assert_eq!((status.code(), status.message()), (Code::NotFound, read), "{sent}");
        }
    }

    #[test]
    fn r25_details_are_read_with_padding_and_without_and_what_is_none_is_left_out() {
        // Of three lengths, at least one has padding to lose.
        for description in ["is bad", "is bad.", "is bad.."] {
            let said = Status::from(::rpc::Error::invalid("slug", description));
            let encoded = BASE64.encode(said.details());
            for details in [encoded.as_str(), encoded.trim_end_matches('=')] {
                let status = mended(&[("grpc-status", "3"), ("grpc-status-details-bin", details)]);
                assert_eq!(names(&status), [ERROR_INFO, "google.rpc.BadRequest"]);
            }
        }
        for junk in ["!!!", "/////w", "a"] {
            let status = mended(&[("grpc-status", "5"), ("grpc-status-details-bin", junk)]);
            assert_eq!(status.code(), Code::NotFound, "{junk}");
            assert_eq!(names(&status), [ERROR_INFO], "{junk}");
        }
        let status = mended(&[("grpc-status", "0"), ("grpc-status-details-bin", "!!!")]);
        assert_eq!(status.code(), Code::Ok);
    }

    #[test]
    fn r25_the_code_in_the_header_wins_over_the_one_in_the_details() {
        let other = rpc::Status { code: 13, ..rpc::Status::default() };
        let details = BASE64.encode(other.encode_to_vec());
        let status = mended(&[("grpc-status", "5"), ("grpc-status-details-bin", &details)]);
        assert_eq!(status.code(), Code::NotFound);
        let told = rpc::Status::decode(status.details()).expect("what was written");
        assert_eq!(told.code, 5);
    }

    #[test]
    fn r26_what_has_no_reason_gets_its_codes_and_each_detail_is_there_once() {
        for code in 1..=16 {
            let status = fit(Status::new(Code::from_i32(code), "why"));
            let info = details(&status).remove(0);
            let info = rpc::ErrorInfo::decode(info.value.as_slice()).expect("an ErrorInfo");
            assert_eq!(info.domain, "linkmesh", "{code}");
            let is_upper = |c: char| c.is_ascii_uppercase() || c == '_';
            assert!(info.reason.len() > 2 && info.reason.chars().all(is_upper), "{code}");
        }
        let twice = any("google.rpc.Help", &rpc::Help::default());
        let kept = any("unknown.Detail", &rpc::Help::default());
        let said = rpc::Status {
            code: 5,
            message: String::new(),
            details: vec![twice.clone(), twice.clone(), kept.clone()],
        };
        let status = fit(Status::with_details(Code::NotFound, "", said.encode_to_vec().into()));
        assert_eq!(names(&status), [ERROR_INFO, "google.rpc.Help", "unknown.Detail"]);
        assert_eq!(details(&status)[2], kept);
    }

    #[test]
    fn r27_what_was_refused_for_now_says_when_to_come_again() {
        for code in [Code::Unavailable, Code::ResourceExhausted] {
            assert_eq!(names(&fit(Status::new(code, ""))), [ERROR_INFO, RETRY_INFO]);
        }
        let longer = Status::from(::rpc::Error::overloaded("", Duration::from_secs(7)));
        let told = details(&fit(longer));
        let retry = told.iter().find(|detail| is(detail, RETRY_INFO)).expect("a RetryInfo");
        let retry = rpc::RetryInfo::decode(retry.value.as_slice()).expect("a RetryInfo");
        assert_eq!(retry.retry_delay.expect("a delay").seconds, 7);
        let reason = ErrorReason::OutcomeUnknown;
        let unknown = ::rpc::Error::new(Code::Unavailable, reason, "look first");
        assert_eq!(names(&fit(unknown.into())), [ERROR_INFO]);
    }

    #[test]
    fn r28_what_is_for_debugging_stays_here() {
        let debug = rpc::DebugInfo { detail: "secret".to_owned(), ..rpc::DebugInfo::default() };
        let said = rpc::Status {
            code: 13,
            message: String::new(),
            details: vec![any(DEBUG_INFO, &debug)],
        };
        let encoded = BASE64.encode(said.encode_to_vec());
        let status = mended(&[("grpc-status", "13"), ("grpc-status-details-bin", &encoded)]);
        assert_eq!(names(&status), [ERROR_INFO]);
        assert!(!String::from_utf8_lossy(status.details()).contains("secret"));
    }
}
