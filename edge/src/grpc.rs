//! gRPC passed through as frames, and gRPC-Web, which is gRPC in another envelope.
//!
//! A public method takes one message, so a request is read and checked whole before a service hears of it; the answer's
//! frames pass as they come.

use std::convert::Infallible;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::HeaderValue;
use http::Method as HttpMethod;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::StreamBody;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_web::GrpcWebLayer;
use tower::Layer as _;
use tower::Service as _;
use tower::ServiceExt as _;

use crate::body::Body;
use crate::body::BoxError;
use crate::cors::HOP_BY_HOP;
use crate::fault::Fault;
use crate::gateway;
use crate::gateway::Gateway;
use crate::health;
use crate::methods;
use crate::upstream;

/// Flag and length before a message.
const FRAME_HEAD_BYTES: usize = 5;
/// How much later than the deadline an answer's head is given up: the mesh keeps the deadline itself.
const GRACE: Duration = Duration::from_secs(1);

/// The dialects that a content type can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `application/grpc`.
    Grpc,
    /// `application/grpc-web`.
    Web,
    /// `application/grpc-web-text`.
    WebText,
    /// Something else that begins with `application/grpc`, such as `application/grpc+json`.
    Unknown,
}

impl Dialect {
    /// The dialect of a request; `None` if it is no gRPC at all. Parameters and case do not matter.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::of_type(headers.get(header::CONTENT_TYPE)?)
    }

    fn of_type(value: &HeaderValue) -> Option<Self> {
        let essence = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
        let rest = essence.strip_prefix("application/grpc")?;
        Some(match rest {
            "" | "+proto" => Self::Grpc,
            "-web" | "-web+proto" => Self::Web,
            "-web-text" | "-web-text+proto" => Self::WebText,
            _ => Self::Unknown,
        })
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Grpc | Self::Unknown => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        })
    }
}

/// Answers a request of any dialect.
pub(crate) async fn answer<B>(
    gateway: &Gateway,
    dialect: Dialect,
    mut request: Request<B>,
) -> Result<Response<Body>, Fault>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + std::fmt::Display,
{
    if request.method() != HttpMethod::POST {
        return Err(Fault::method_not_allowed("POST"));
    }
    match dialect {
        Dialect::Grpc if request.version() < Version::HTTP_2 => {
            Err(Fault::media_type("gRPC needs HTTP/2; over HTTP/1.1 use gRPC-Web or REST"))
        }
        Dialect::Grpc => {
            let request = request.map(tonic::body::Body::new);
            Ok(call_or_status(gateway, request).await.map(Body::stream))
        }
        Dialect::Web | Dialect::WebText => {
            let headers = request.headers_mut();
            // tonic-web knows four content types to the letter, and answers in what `accept` names.
            let accepted = headers.get(header::ACCEPT).and_then(Dialect::of_type);
            let answered = match accepted {
                Some(accepted @ (Dialect::Web | Dialect::WebText)) => accepted,
                Some(Dialect::Grpc | Dialect::Unknown) | None => dialect,
            };
            headers.insert(header::CONTENT_TYPE, dialect.content_type());
            headers.insert(header::ACCEPT, answered.content_type());
            Ok(web(gateway.clone(), request).await)
        }
        Dialect::Unknown => {
            let known = "application/grpc, application/grpc-web or application/grpc-web-text, \
                         each also with +proto";
            Err(Fault::media_type(format!("this content type is not known; use {known}")))
        }
    }
}

async fn web<B>(gateway: Gateway, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + std::fmt::Display,
{
    let inner = tower::service_fn(move |request: Request<tonic::body::Body>| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(call_or_status(&gateway, request).await) }
    });
    let answered = GrpcWebLayer::new().layer(inner).oneshot(request).await;
    let response = answered.unwrap_or_else(|never| match never {});
    if response.headers().contains_key("grpc-status") {
        // Trailers only: the status is in the headers, and an empty trailer frame would confuse clients.
        return response.map(|_| Body::Empty);
    }
    response.map(Body::stream)
}

/// A call with gRPC's own framing; what fails is an answer too.
async fn call_or_status(
    gateway: &Gateway,
    request: Request<tonic::body::Body>,
) -> Response<tonic::body::Body> {
    match call(gateway, request).await {
        Ok(response) => response,
        Err(fault) => fault.status.into_http(),
    }
}

async fn call(
    gateway: &Gateway,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, Fault> {
    if health::local_service(request.uri().path()).is_some() {
        let mut local = gateway.local.clone();
        let answered = local.call(request).await;
        return Ok(answered.unwrap_or_else(|never| match never {}));
    }
    let method = methods::find(request.uri().path()).ok_or_else(Fault::method_unknown)?;
    let (head, body) = request.into_parts();
    let deadline = upstream::deadline(&head.headers, method, Instant::now())?;
    let principal = gateway.principal(method, &head.headers).await?;
    let bytes_max = gateway.body_bytes_max;
    let body = match upstream::read_body(body, bytes_max + FRAME_HEAD_BYTES, deadline).await {
        Ok(body) => body,
        Err(fault) if fault.is_body_too_large() => return Err(Fault::body_too_large(bytes_max)),
        Err(fault) => return Err(fault),
    };
    let message = check_frame(&body, bytes_max)?;
    if !methods::is_request(method, message) {
        // A service would blame itself: its library answers INTERNAL.
        return Err(Error::malformed("the body is not a message of the method's type").into());
    }

    let mut upstream = Request::new(tonic::body::Body::new(Full::new(body)));
    *upstream.method_mut() = HttpMethod::POST;
    *upstream.version_mut() = Version::HTTP_2;
    *upstream.uri_mut() = http::Uri::from_static(method.path);
    let mut metadata = upstream::metadata(&head.headers, principal, deadline, true);
    upstream::tell_network(&head.extensions, &mut metadata);
    metadata.insert(header::CONTENT_TYPE, Dialect::Grpc.content_type());
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    *upstream.headers_mut() = metadata;

    let mut mesh = gateway.mesh.clone();
    let called = async { mesh.ready().await?.call(upstream).await };
    let answer = tokio::time::timeout_at((deadline.0 + GRACE).into(), called).await;
    let mut response: Response<mesh::Body> = answer.map_err(|_| Fault::deadline_exceeded())??;
    let headers = response.headers_mut();
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
    *response.version_mut() = Version::default();
    if method.streams {
        let leaving = gateway.leaving.clone();
        return Ok(response.map(|body| until_leaving(body, leaving)));
    }
    Ok(response.map(tonic::body::Body::new))
}

/// A stream that ends with the edge that passes it on.
fn until_leaving(body: mesh::Body, leaving: CancellationToken) -> tonic::body::Body {
    let frames = stream::unfold(Some((body, leaving)), |open| async move {
        let (mut body, leaving) = open?;
        match leaving.run_until_cancelled(body.frame()).await {
            Some(frame) => Some((frame?, Some((body, leaving)))),
            None => {
                let mut trailers = HeaderMap::new();
                gateway::leaving().add_header(&mut trailers).expect("our own text is a header's");
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    tonic::body::Body::new(StreamBody::new(frames))
}

/// The one message that a body is, within its limit.
fn check_frame(body: &[u8], bytes_max: usize) -> Result<&[u8], Fault> {
    let malformed = |what: &str| Error::malformed(format!("the body is not one message: {what}"));
    let Some((head, message)) = body.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Err(malformed("it has no whole frame").into());
    };
    let [flag, length @ ..] = *head;
    if flag > 1 {
        return Err(malformed("the first byte of a frame is 0, or 1 for a compressed one").into());
    }
    if flag == 1 {
        return Err(Fault::compressed());
    }
    let length = u32::from_be_bytes(length);
    if u64::from(length) > bytes_max as u64 {
        return Err(Fault::body_too_large(bytes_max));
    }
    if u64::from(length) != message.len() as u64 {
        let what = format!("the frame says {length} bytes, {} follow", message.len());
        return Err(malformed(&what).into());
    }
    Ok(message)
}

/// The code of an answer, if its headers or trailers say one.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<tonic::Code> {
    headers.get("grpc-status").map(|value| tonic::Code::from_bytes(value.as_bytes()))
}

/// What an answer without any status is: broken off.
pub(crate) fn broken_off() -> Status {
    Status::unknown("the answer broke off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_of_a_content_type_do_not_matter() {
        for (content_type, dialect) in [
            ("application/grpc", Some(Dialect::Grpc)),
            ("application/grpc+proto; charset=utf-8", Some(Dialect::Grpc)),
            ("Application/gRPC-Web+proto", Some(Dialect::Web)),
            ("application/grpc-web-text;x=y", Some(Dialect::WebText)),
            ("application/grpc-web+json", Some(Dialect::Unknown)),
            ("application/grpc+json", Some(Dialect::Unknown)),
            ("application/json", None),
        ] {
            let value = HeaderValue::from_str(content_type).expect("a header");
            assert_eq!(Dialect::of_type(&value), dialect, "{content_type}");
        }
    }

    #[test]
    fn a_frame_that_is_not_one_whole_message_is_refused_with_its_reason() {
        let reason = |body: &[u8]| {
            let fault = check_frame(body, 4).err()?;
            let info = tonic_types::StatusExt::get_details_error_info(&*fault.status)?;
            Some(info.reason)
        };
        assert_eq!(reason(&[0, 0, 0, 0, 2, 1, 1]), None);
        assert_eq!(reason(&[1, 0, 0, 0, 0]).as_deref(), Some("MEDIA_TYPE_UNSUPPORTED"));
        for malformed in [
            &[][..],
            &[0, 0, 0, 0],
            &[2, 0, 0, 0, 0],
            &[0x80, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 1],
            &[0, 0, 0, 0, 1, 1, 1],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(reason(malformed).as_deref(), Some("MALFORMED"), "{malformed:?}");
        }
        assert_eq!(reason(&[0, 0, 0, 0, 5, 1, 1, 1, 1, 1]).as_deref(), Some("BODY_TOO_LARGE"));
        assert_eq!(reason(&[0, 255, 255, 255, 255]).as_deref(), Some("BODY_TOO_LARGE"));
    }
}
