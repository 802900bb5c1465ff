//! Connect's own words: errors as JSON, the end of a stream, and the query of a GET.
//! <https://connectrpc.com/docs/protocol>

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use prost::Message as _;
use rpc::Error;
use serde_json::Value;
use serde_json::json;
use tonic::Code;
use tonic::Status;

use crate::fault::Fault;
use crate::protocols::call::Codec;
use crate::protocols::frame;

/// Clients pad or don't, as they like.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a GET says in place of a body and its headers: in any order, with other parameters among it.
#[derive(Debug, Default)]
pub(crate) struct GetQuery<'q> {
    encoding: Option<Cow<'q, str>>,
    message: Option<Cow<'q, [u8]>>,
    is_base64: bool,
    pub(crate) compression: Option<Cow<'q, str>>,
    version: Option<Cow<'q, str>>,
}

impl<'q> GetQuery<'q> {
    pub(crate) fn of(query: &'q str) -> Self {
        let mut read = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "encoding" => read.encoding = Some(text(value)),
                "message" => read.message = Some(bytes(value)),
                "base64" => read.is_base64 = value == "1",
                "compression" => read.compression = Some(text(value)),
                "connect" => read.version = Some(text(value)),
                _ => {}
            }
        }
        read
    }

    /// # Errors
    /// 415 for a codec that is not known.
    pub(crate) fn codec(&self) -> Result<Codec, Fault> {
        match self.encoding.as_deref() {
            Some("proto") => Ok(Codec::Proto),
            Some("json") => Ok(Codec::Json),
            Some(_) | None => Err(Fault::media_type("`encoding` must be `proto` or `json`")),
        }
    }

    /// # Errors
    /// A message that is missing or not base64, and a version that is not ours.
    pub(crate) fn message(&self) -> Result<Bytes, Fault> {
        if self.version.as_deref().is_some_and(|version| version != "v1") {
            return Err(Error::invalid("connect", "must be v1").into());
        }
        let message = self.message.as_deref();
        let message = message.ok_or_else(|| Error::invalid("message", "must be given"))?;
        if !self.is_base64 {
            return Ok(Bytes::copy_from_slice(message));
        }
        let decoded = URL_SAFE.decode(message);
        Ok(decoded.map_err(|_| Error::invalid("message", "must be URL-safe base64"))?.into())
    }
}

/// Percent-decoded, `+` being a space as in any query.
fn bytes(value: &str) -> Cow<'_, [u8]> {
    if value.contains('+') {
        let spaced = value.replace('+', " ");
        return Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect());
    }
    percent_encoding::percent_decode_str(value).into()
}

fn text(value: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy()
}

/// The name of a code.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        // An answer that is an error and says OK contradicts itself.
        Code::Ok | Code::Unknown => "unknown",
        Code::Cancelled => "canceled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// An error as JSON, details included.
pub(crate) fn error(status: &Status) -> Value {
    let mut error = json!({ "code": code_name(status.code()) });
    if !status.message().is_empty() {
        error["message"] = status.message().into();
    }
    // Details that can't be read are left out: the error itself is still true.
    let details = proto::google::rpc::Status::decode(status.details()).unwrap_or_default().details;
    if !details.is_empty() {
        let details = details.iter().map(|detail| {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            json!({ "type": name, "value": STANDARD_NO_PAD.encode(&detail.value) })
        });
        error["details"] = details.collect();
    }
    error
}

/// The last frame of a stream: how it went, and its trailers.
pub(crate) fn end_of_stream(status: &Status, trailers: &HeaderMap) -> Bytes {
    let mut end = json!({});
    if status.code() != Code::Ok {
        end["error"] = error(status);
    }
    let mut metadata = serde_json::Map::new();
    for name in trailers.keys().filter(|name| is_metadata(name)) {
        let values = trailers.get_all(name).into_iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        metadata.insert(name.as_str().to_owned(), Value::Array(values.collect()));
    }
    if !metadata.is_empty() {
        end["metadata"] = metadata.into();
    }
    frame::encode(frame::END_OF_STREAM, end.to_string().as_bytes())
}

/// Whether a name is a service's own, and not gRPC's or HTTP's.
pub(crate) fn is_metadata(name: &HeaderName) -> bool {
    use http::header;
    let is_http = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::DATE].contains(name);
    !is_http && !name.as_str().starts_with("grpc-") && !crate::cors::HOP_BY_HOP.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R39.
    #[test]
    fn a_query_is_read_in_any_order_and_with_strange_parameters() {
        for (query, message) in [
            ("connect=v1&encoding=proto&message=abc", &b"abc"[..]),
            ("message=%00%FF&x=y&encoding=proto&y", b"\0\xff"),
            ("base64=1&message=_-8&encoding=json", b"\xff\xef"),
            ("base64=1&message=_-8%3D&encoding=json", b"\xff\xef"),
            ("base64=1&message=_-8=&encoding=json", b"\xff\xef"),
            ("encoding=json&message=%7B%7D", b"{}"),
            ("encoding=json&message=a+b", b"a b"),
            ("encoding=proto&message=", b""),
        ] {
            let read = GetQuery::of(query);
            assert!(read.codec().is_ok(), "{query}");
            assert_eq!(read.message().expect("a message"), message, "{query}");
        }
        for wrong in ["connect=v2&message=a", "encoding=proto", "base64=1&message=*"] {
            assert!(GetQuery::of(wrong).message().is_err(), "{wrong}");
        }
        for wrong in ["encoding=xml", ""] {
            assert!(GetQuery::of(wrong).codec().is_err(), "{wrong}");
        }
    }

    /// R37.
    #[test]
    fn an_error_has_its_details_in_unpadded_base64() {
        let status = Status::from(Error::not_found("it"));
        let error = error(&status);
        assert_eq!(error["code"], "not_found");
        assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
        let value = error["details"][0]["value"].as_str().expect("text");
        assert!(!value.contains('=') && STANDARD_NO_PAD.decode(value).is_ok(), "{value}");
    }

    /// R38.
    #[test]
    fn the_end_of_a_stream_says_how_it_went_and_its_trailers() {
        let trailers = [("x-a", "1"), ("x-a", "2"), ("grpc-status", "0")];
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.append(name, value.parse().expect("a value"));
        }
        let end = end_of_stream(&Status::ok(""), &map);
        assert_eq!(end[0], frame::END_OF_STREAM);
        assert_eq!(&end[5..], br#"{"metadata":{"x-a":["1","2"]}}"#);
        let end = end_of_stream(&Status::aborted("no"), &HeaderMap::new());
        assert_eq!(&end[5..], br#"{"error":{"code":"aborted","message":"no"}}"#);
    }
}
