//! What a request speaks: gRPC, gRPC-Web or Connect, in protobuf or JSON; told by path, method and content type.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method as HttpMethod;
use http::Version;
use http::header;
use http::request::Parts;

use crate::fault::Fault;
use crate::protocols::connect::GetQuery;
use crate::protocols::method::Method;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const CONNECT_CONTENT_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const CONNECT_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("connect-accept-encoding");
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

/// A protocol that carries calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, binary.
    Web,
    /// gRPC-Web in base64.
    WebText,
    /// One message each way, as the body of a POST or the query of a GET.
    ConnectUnary,
    /// Messages in frames, the last of which says how it went.
    ConnectStream,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Protobuf's wire form, which services speak.
    Proto,
    /// ProtoJSON.
    Json,
}

/// A request that is a call, and how its answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'m> {
    pub(crate) protocol: Protocol,
    pub(crate) codec: Codec,
    /// The protocol of the answer: gRPC-Web has two forms, and a client may send one and accept the other.
    pub(crate) answered: Protocol,
    /// The method that the path names.
    pub(crate) method: Option<&'m Method>,
}

impl<'m> Call<'m> {
    /// What a request speaks; `None` if it is no call.
    ///
    /// # Errors
    /// What is a call and can't be made this way: 404, 405 or 415.
    pub(crate) fn of(head: &Parts, method: Option<&'m Method>) -> Option<Result<Self, Fault>> {
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let kind = content_type.and_then(Kind::of);
        let is_connect = match kind {
            Some(Kind::Grpc(..) | Kind::GrpcUnknown) => false,
            Some(Kind::ConnectStream(_) | Kind::ConnectUnknown | Kind::Proto) => true,
            Some(Kind::Json) | None if method.is_some() => true,
            Some(Kind::Json) | None => return None,
        };
        Some(match (is_connect, method) {
            (false, _) => Self::grpc(head, kind, method),
            (true, Some(method)) => Self::connect(head, kind, method),
            (true, None) => Err(Fault::path_unknown()),
        })
    }

    fn grpc(head: &Parts, kind: Option<Kind>, method: Option<&'m Method>) -> Result<Self, Fault> {
        if head.method != HttpMethod::POST {
            return Err(Fault::method_not_allowed("POST"));
        }
        let Some(Kind::Grpc(protocol, codec)) = kind else {
            let known = "application/grpc, application/grpc-web or application/grpc-web-text, \
                         each also with +proto or +json";
            return Err(Fault::media_type(format!("this content type is not known; use {known}")));
        };
        if protocol == Protocol::Grpc && head.version < Version::HTTP_2 {
            let why = "gRPC needs HTTP/2; over HTTP/1.1 use gRPC-Web, Connect or REST";
            return Err(Fault::media_type(why));
        }
        let accepted = head.headers.get(header::ACCEPT).and_then(Kind::of);
        let answered = match (protocol, accepted) {
            (
                Protocol::Web | Protocol::WebText,
                Some(Kind::Grpc(accepted @ (Protocol::Web | Protocol::WebText), _)),
            ) => accepted,
            _ => protocol,
        };
        Ok(Self { protocol, codec, answered, method })
    }

    fn connect(head: &Parts, kind: Option<Kind>, method: &'m Method) -> Result<Self, Fault> {
        let is_unary = !method.client_streams && !method.server_streams;
        let of =
            |protocol, codec| Self { protocol, codec, answered: protocol, method: Some(method) };
        if head.method == HttpMethod::GET && is_unary && method.is_read_only {
            let query = GetQuery::of(head.uri.query().unwrap_or_default());
            return Ok(of(Protocol::ConnectUnary, query.codec()?));
        }
        if head.method != HttpMethod::POST {
            let is_cacheable = is_unary && method.is_read_only;
            return Err(Fault::method_not_allowed(if is_cacheable { "GET, POST" } else { "POST" }));
        }
        match (kind, is_unary) {
            (Some(Kind::Proto), true) => Ok(of(Protocol::ConnectUnary, Codec::Proto)),
            (Some(Kind::Json), true) => Ok(of(Protocol::ConnectUnary, Codec::Json)),
            (Some(Kind::ConnectStream(codec)), false) => Ok(of(Protocol::ConnectStream, codec)),
            (_, true) => Err(Fault::media_type(
                "this method takes application/proto or application/json, or gRPC's types",
            )),
            (_, false) => Err(Fault::media_type(
                "this method streams: it takes application/connect+proto or \
                 application/connect+json, or gRPC's types",
            )),
        }
    }

    /// What the headers of a call must say beside its type.
    pub(crate) fn check(self, headers: &HeaderMap) -> Result<(), Fault> {
        match headers.get(CONNECT_VERSION) {
            Some(version) if self.is_connect() && version != "1" => {
                Err(rpc::Error::invalid(CONNECT_VERSION.as_str(), "must be 1").into())
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn is_connect(self) -> bool {
        matches!(self.protocol, Protocol::ConnectUnary | Protocol::ConnectStream)
    }

    /// The header that names the coding of messages, or of the whole body.
    pub(crate) fn coding_header(self) -> HeaderName {
        match self.protocol {
            Protocol::Grpc | Protocol::Web | Protocol::WebText => GRPC_ENCODING,
            Protocol::ConnectUnary => header::CONTENT_ENCODING,
            Protocol::ConnectStream => CONNECT_CONTENT_ENCODING,
        }
    }

    /// The header that names the codings that a peer reads.
    pub(crate) fn accepted_header(self) -> HeaderName {
        match self.protocol {
            Protocol::Grpc | Protocol::Web | Protocol::WebText => GRPC_ACCEPT_ENCODING,
            Protocol::ConnectUnary => header::ACCEPT_ENCODING,
            Protocol::ConnectStream => CONNECT_ACCEPT_ENCODING,
        }
    }

    /// The content type of an answer that is no error.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match (self.answered, self.codec) {
            (Protocol::Grpc, Codec::Proto) => "application/grpc",
            (Protocol::Grpc, Codec::Json) => "application/grpc+json",
            (Protocol::Web, Codec::Proto) => "application/grpc-web+proto",
            (Protocol::Web, Codec::Json) => "application/grpc-web+json",
            (Protocol::WebText, Codec::Proto) => "application/grpc-web-text+proto",
            (Protocol::WebText, Codec::Json) => "application/grpc-web-text+json",
            (Protocol::ConnectUnary, Codec::Proto) => "application/proto",
            (Protocol::ConnectUnary, Codec::Json) => "application/json",
            (Protocol::ConnectStream, Codec::Proto) => "application/connect+proto",
            (Protocol::ConnectStream, Codec::Json) => "application/connect+json",
        })
    }
}

/// Whether a content type begins as gRPC's do: such a request is for no short link.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(Kind::of);
    matches!(kind, Some(Kind::Grpc(..) | Kind::GrpcUnknown))
}

/// What a content type names. Parameters and case do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc(Protocol, Codec),
    /// Something else that begins with `application/grpc`.
    GrpcUnknown,
    ConnectStream(Codec),
    ConnectUnknown,
    Proto,
    Json,
}

impl Kind {
    fn of(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let essence = text.split_once(';').map_or(text, |(essence, _)| essence).trim();
        let subtype = after(essence, "application/")?;
        if let Some(form) = after(subtype, "grpc") {
            return Some(Self::of_grpc(form));
        }
        if let Some(codec) = after(subtype, "connect+") {
            return Some(match codec.to_ascii_lowercase().as_str() {
                "proto" => Self::ConnectStream(Codec::Proto),
                "json" => Self::ConnectStream(Codec::Json),
                _ => Self::ConnectUnknown,
            });
        }
        match subtype.to_ascii_lowercase().as_str() {
            "proto" => Some(Self::Proto),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn of_grpc(form: &str) -> Self {
        let (protocol, codec) = if let Some(codec) = after(form, "-web-text") {
            (Protocol::WebText, codec)
        } else if let Some(codec) = after(form, "-web") {
            (Protocol::Web, codec)
        } else {
            (Protocol::Grpc, form)
        };
        match codec.to_ascii_lowercase().as_str() {
            "" | "+proto" => Self::Grpc(protocol, Codec::Proto),
            "+json" => Self::Grpc(protocol, Codec::Json),
            _ => Self::GrpcUnknown,
        }
    }
}

/// What follows a prefix, in any case.
fn after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R30.
    #[test]
    fn parameters_and_case_of_a_content_type_do_not_matter() {
        let grpc = |protocol, codec| Some(Kind::Grpc(protocol, codec));
        for (content_type, kind) in [
            ("application/grpc", grpc(Protocol::Grpc, Codec::Proto)),
            ("application/grpc+proto; charset=utf-8", grpc(Protocol::Grpc, Codec::Proto)),
            ("application/grpc+json", grpc(Protocol::Grpc, Codec::Json)),
            ("Application/gRPC-Web+proto", grpc(Protocol::Web, Codec::Proto)),
            ("application/grpc-web", grpc(Protocol::Web, Codec::Proto)),
            ("application/grpc-web+json", grpc(Protocol::Web, Codec::Json)),
            ("application/grpc-web-text;x=y", grpc(Protocol::WebText, Codec::Proto)),
            ("application/grpc-web-text+proto", grpc(Protocol::WebText, Codec::Proto)),
            ("application/grpc-web+thrift", Some(Kind::GrpcUnknown)),
            ("application/grpcx", Some(Kind::GrpcUnknown)),
            ("application/connect+proto", Some(Kind::ConnectStream(Codec::Proto))),
            ("Application/Connect+JSON", Some(Kind::ConnectStream(Codec::Json))),
            ("application/connect+xml", Some(Kind::ConnectUnknown)),
            ("application/proto", Some(Kind::Proto)),
            ("application/json; charset=utf-8", Some(Kind::Json)),
            ("text/plain", None),
            ("", None),
        ] {
            let value = HeaderValue::from_str(content_type).expect("a header");
            assert_eq!(Kind::of(&value), kind, "{content_type}");
        }
    }
}
