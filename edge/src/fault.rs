//! What goes wrong with a call, and how each protocol says it: problem JSON (RFC 9457) or one of Google's forms, as the client
//! likes, or a gRPC status.

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use prost_reflect::DescriptorPool;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tonic::Code;
use tonic::Status;
use transcode::ErrorForm;
use transcode::Problem;
use transcode::Schema;
use transcode::TranscodeError;

use crate::body::Body;
use crate::protocols::Codings;
use crate::statuses;
use crate::statuses::text;

/// What a reason is appended to, to name a kind of problem.
const TYPE_BASE: &str = "https://linkmesh.dev/errors/";
/// What a caller is asked for that proved nothing, and one whose proof is none (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"linkmesh\"";
const CHALLENGE_INVALID: &str = "Bearer realm=\"linkmesh\", error=\"invalid_token\"";
/// The reasons of the latter.
const INVALID: [&str; 2] = ["API_KEY_INVALID", "ACCESS_TOKEN_INVALID"];

/// How much of a client's text is said back to it.
const CODING_CHARACTERS_MAX: usize = 40;

/// What the edge's own errors are written by: their details are all of `google.rpc`.
static OWN: LazyLock<Schema> = LazyLock::new(|| Schema::new(&DescriptorPool::new()));

/// A failure, with the HTTP status where the gRPC code's own would say too little.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: Box<Status>,
    http_status: Option<StatusCode>,
    allow: Option<HeaderValue>,
}

impl Fault {
    fn with(error: Error, http_status: StatusCode) -> Self {
        Self { http_status: Some(http_status), ..Self::from(error) }
    }

    /// A body over its limit.
    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        Self::too_large(format!("the body has more than {bytes_max} bytes, the limit"), bytes_max)
    }

    fn too_large(message: String, bytes_max: usize) -> Self {
        let mut error = Error::new(Code::ResourceExhausted, ErrorReason::BodyTooLarge, message);
        error.metadata.push(("bytes_max", bytes_max.to_string()));
        Self::with(error, StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub(crate) fn is_body_too_large(&self) -> bool {
        self.http_status == Some(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// A body that did not arrive whole, or whose envelope could not be opened.
    pub(crate) fn body_broken() -> Self {
        Error::malformed("the body could not be read to its end").into()
    }

    pub(crate) fn media_type(message: impl Into<String>) -> Self {
        let error = Error::new(Code::InvalidArgument, ErrorReason::MediaTypeUnsupported, message);
        Self::with(error, StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// A coding that is not read here, with those that are: both gRPC and Connect want it so.
    pub(crate) fn coding_unknown(name: &str) -> Self {
        let name: String = name.chars().take(CODING_CHARACTERS_MAX).collect();
        let known = Codings::ALL_NAMES;
        let message = format!("the compression {name:?} is not known; use {known} or identity");
        Error::new(Code::Unimplemented, ErrorReason::MediaTypeUnsupported, message).into()
    }

    pub(crate) fn is_coding_unknown(&self) -> bool {
        self.http_status.is_none()
            && self.status.code() == Code::Unimplemented
            && problem(&self.status, None).reason == text(ErrorReason::MediaTypeUnsupported)
    }

    pub(crate) fn method_not_allowed(allow: &str) -> Self {
        let message = format!("this path takes {allow}");
        let error = Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, message);
        Self {
            allow: HeaderValue::from_str(allow).ok(),
            ..Self::with(error, StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    /// More than one `host`.
    pub(crate) fn host_ambiguous() -> Self {
        Error::invalid("host", "must be given once").into()
    }

    /// No route has the path.
    pub(crate) fn path_unknown() -> Self {
        let error = Error::new(
            Code::Unimplemented,
            ErrorReason::MethodUnknown,
            "nothing has this path; the API's documentation is at /docs",
        );
        Self::with(error, StatusCode::NOT_FOUND)
    }

    /// No public gRPC method has the path.
    pub(crate) fn method_unknown() -> Self {
        Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, "no such method").into()
    }

    /// A link that is not there, or not enabled: nobody is told which.
    pub(crate) fn no_link() -> Self {
        Error::new(Code::NotFound, ErrorReason::NotFound, "no link has this address").into()
    }

    /// A link that has expired and leads nowhere since.
    pub(crate) fn link_expired() -> Self {
        let error = Error::new(Code::NotFound, ErrorReason::NotFound, "the link has expired");
        Self::with(error, StatusCode::GONE)
    }

    /// `If-Match` or `If-None-Match` does not hold.
    pub(crate) fn precondition_failed() -> Self {
        let why = "the resource is not in the state that if-match or if-none-match asks for; read it again";
        let error = Error::new(Code::Aborted, ErrorReason::EtagMismatch, why);
        Self::with(error, StatusCode::PRECONDITION_FAILED)
    }

    /// What a call under a condition failed with: that another version is there is 412 then, and 409 for an `etag` in the body.
    pub(crate) fn under_condition(self, is_conditional: bool) -> Self {
        if is_conditional && self.is_of_another_version() {
            Self::precondition_failed()
        } else {
            self
        }
    }

    /// Whether the resource had another `etag` than the one that was asked for.
    pub(crate) fn is_of_another_version(&self) -> bool {
        self.status.code() == Code::Aborted && self.has_reason(ErrorReason::EtagMismatch)
    }

    /// Whether the request id stands for another request.
    pub(crate) fn is_request_id_reused(&self) -> bool {
        self.has_reason(ErrorReason::RequestIdReused)
    }

    fn has_reason(&self, reason: ErrorReason) -> bool {
        self.problem().reason == text(reason)
    }

    pub(crate) fn deadline_exceeded() -> Self {
        Error::deadline_exceeded().into()
    }

    fn problem(&self) -> Problem {
        problem(&self.status, self.http_status)
    }

    /// As JSON in the form that a client likes, with the headers that its status asks for.
    pub(crate) fn into_response(self, form: ErrorForm) -> Response<Body> {
        self.into_response_of(form, &OWN)
    }

    /// The same, of a service that has details of its own.
    pub(crate) fn into_response_of(self, form: ErrorForm, schema: &Schema) -> Response<Body> {
        let problem = self.problem();
        let (form, body) = body(&problem, form, schema);
        let mut response = Response::new(Body::Whole(body));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        self.add_headers(headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        response
    }

    /// The headers that the HTTP status of a failure asks for.
    pub(crate) fn add_headers(self, headers: &mut HeaderMap) {
        let problem = self.problem();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, allow);
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            let is_invalid = INVALID.contains(&problem.reason.as_str());
            let challenge = if is_invalid { CHALLENGE_INVALID } else { CHALLENGE };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(wait) = problem.retry_after {
            // Whole seconds, rounded up: sooner would be too soon.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
    }
}

fn problem(status: &Status, http_status: Option<StatusCode>) -> Problem {
    let status = statuses::fit(status.clone());
    let mut problem =
        Problem::from_status(i32::from(status.code()), status.message(), status.details());
    if let Some(http_status) = http_status {
        problem.status = http_status;
    }
    problem
}

/// The form of errors that a request's headers ask for.
pub(crate) fn form(headers: &HeaderMap) -> ErrorForm {
    ErrorForm::accepted(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()))
}

/// What a stream that has begun says of its failure.
pub(crate) fn last_word(status: &Status, form: ErrorForm, schema: &Schema) -> Bytes {
    body(&problem(status, None), form, schema).1
}

/// A problem in a form; a detail of which no JSON can be made leaves the form that needs none.
fn body(problem: &Problem, form: ErrorForm, schema: &Schema) -> (ErrorForm, Bytes) {
    match problem.body(form, schema, TYPE_BASE) {
        Ok(body) => (form, body),
        Err(_) => (ErrorForm::Problem, problem.to_json(TYPE_BASE)),
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self { status: Box::new(status), http_status: None, allow: None }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Status::from(error).into()
    }
}

impl From<TranscodeError> for Fault {
    fn from(error: TranscodeError) -> Self {
        match error {
            TranscodeError::Invalid(violations) => {
                let violations = violations.into_iter().map(|violation| rpc::Violation {
                    field: violation.field,
                    description: violation.description,
                });
                Error::invalid_fields(violations.collect()).into()
            }
            error @ TranscodeError::Malformed(_) => Error::malformed(error.to_string()).into(),
            error @ TranscodeError::MediaType(_) => Self::media_type(error.to_string()),
            TranscodeError::TooLong { bytes_max, .. } => {
                Self::too_large(error.to_string(), bytes_max)
            }
        }
    }
}
