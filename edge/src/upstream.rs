//! What goes to a service: the metadata that a client may pass on, its principal, its deadline, and a message as bytes.
//!
//! Only what is listed passes, so that nothing a client sends can pass for ours: no `linkmesh-*`, no `grpc-internal-*`, no
//! identity, no forwarding header.

use std::pin::Pin;
use std::pin::pin;
use std::time::Duration;
use std::time::Instant;

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http_body_util::BodyExt as _;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use rpc::Deadline;
use rpc::Error;
use rpc::Principal;
use rpc::network;
use rpc::network::NetworkHash;
use tonic::Status;
use tonic::codec::Codec;
use tonic::codec::DecodeBuf;
use tonic::codec::Decoder;
use tonic::codec::EncodeBuf;
use tonic::codec::Encoder;
use tonic::metadata::BinaryMetadataValue;

use crate::body::BoxError;
use crate::fault::Fault;
use crate::protocols::Method;

/// The longest that a unary call may take.
const UNARY_MAX: Duration = Duration::from_secs(30);
/// The longest that a stream may last.
pub(crate) const STREAM_MAX: Duration = Duration::from_hours(1);

/// How long, and for how many bytes, what exceeds a body's limit is read before it is refused. nginx's `lingering_timeout` is
/// as long.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(5);
pub(crate) const LINGER_BYTES_MAX: usize = 64 << 20;
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static(Deadline::HEADER);
const SERVER_TIMEOUT: HeaderName = HeaderName::from_static("x-server-timeout");
const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
/// As Connect's protocol has it.
const CONNECT_TIMEOUT_DIGITS_MAX: usize = 10;

/// The metadata of a call on behalf of a client: who it is, if that was asked, and which network it is from, if the request's
/// extensions hold that. Nothing of a client's own passes; its trace is passed on by the mesh (`rpc::trace`).
pub(crate) fn metadata(principal: Option<HeaderValue>, extensions: &http::Extensions) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(8);
    if let Some(principal) = principal {
        metadata.insert(HeaderName::from_static(Principal::METADATA_KEY), principal);
    }
    if let Some(network) = extensions.get::<NetworkHash>() {
        let encoded = BinaryMetadataValue::from_bytes(network);
        let value =
            HeaderValue::from_bytes(encoded.as_encoded_bytes()).expect("base 64 is a header's");
        metadata.insert(HeaderName::from_static(network::METADATA_KEY), value);
    }
    metadata
}

/// The longest that a method may take, whatever its client says.
pub(crate) fn timeout_max(method: &Method) -> Duration {
    if method.client_streams || method.server_streams { STREAM_MAX } else { UNARY_MAX }
}

/// Until when the client waits: what it says, within what the method may take at all.
pub(crate) fn deadline(
    headers: &HeaderMap,
    method: &Method,
    now: Instant,
) -> Result<Deadline, Error> {
    let latest = Deadline(now + timeout_max(method));
    Ok(stated(headers, now)?.map_or(latest, |stated| stated.min(latest)))
}

/// Until when the client says that it waits, by the earliest of the headers that say so in any protocol.
///
/// # Errors
/// INVALID_FIELD for one that is malformed.
pub(crate) fn stated(headers: &HeaderMap, now: Instant) -> Result<Option<Deadline>, Error> {
    let text =
        |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let grpc = text(&GRPC_TIMEOUT).map(|text| Deadline::parse(text, now)).transpose()?;
    let connect = text(&CONNECT_TIMEOUT).map(connect_timeout).transpose()?;
    let server = text(&SERVER_TIMEOUT).map(server_timeout).transpose()?;
    let timeouts = connect.into_iter().chain(server).map(|timeout| Deadline(now + timeout));
    Ok(grpc.into_iter().chain(timeouts).min())
}

fn connect_timeout(text: &str) -> Result<Duration, Error> {
    let is_right = text.len() <= CONNECT_TIMEOUT_DIGITS_MAX
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = text.parse().ok().filter(|_| is_right);
    millis.map(Duration::from_millis).ok_or_else(|| {
        let why = format!("must be 1 to {CONNECT_TIMEOUT_DIGITS_MAX} digits");
        Error::invalid(CONNECT_TIMEOUT.as_str(), why)
    })
}

fn server_timeout(text: &str) -> Result<Duration, Error> {
    // NaN is less than nothing: `min` would make the longest timeout of it.
    let seconds: Option<f64> = text.parse().ok().filter(|seconds: &f64| !seconds.is_nan());
    let timeout = seconds.and_then(|seconds| {
        Duration::try_from_secs_f64(seconds.min(STREAM_MAX.as_secs_f64())).ok()
    });
    timeout.ok_or_else(|| {
        Error::invalid(SERVER_TIMEOUT.as_str(), "must be a number of seconds, such as 1.5")
    })
}

/// Reads a whole body within its limit and the deadline.
pub(crate) async fn read_body<B>(
    body: B,
    bytes_max: usize,
    deadline: Deadline,
) -> Result<Bytes, Fault>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let is_too_long = body.size_hint().lower() > bytes_max as u64;
    if !is_too_long {
        let read = Limited::new(body.as_mut(), bytes_max).collect();
        match tokio::time::timeout_at(deadline.0.into(), read).await {
            Err(_) => return Err(Fault::deadline_exceeded()),
            Ok(Ok(whole)) => return Ok(whole.to_bytes()),
            Ok(Err(error)) if !error.is::<LengthLimitError>() => return Err(Fault::body_broken()),
            Ok(Err(_)) => {}
        }
    }
    let until = (Instant::now() + LINGER_MAX).min(deadline.0);
    // Whether it came to an end in time or not: the answer is the same.
    drop(tokio::time::timeout_at(until.into(), discard(body)).await);
    Err(Fault::body_too_large(bytes_max))
}

/// Reads what a client of HTTP/1.1 is still sending of a request that is refused already.
pub(crate) async fn linger<B: http_body::Body<Data = Bytes>>(body: B) {
    // Whether it came to an end in time or not: the answer is the same.
    drop(tokio::time::timeout(LINGER_MAX, discard(pin!(body))).await);
}

/// Reads on without keeping anything. A client that is still sending when its connection is closed may never read the
/// answer that says why.
async fn discard<B: http_body::Body<Data = Bytes>>(mut body: Pin<&mut B>) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.as_mut().frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > LINGER_BYTES_MAX {
            return;
        }
    }
}

/// Messages as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::contract::Contract;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(n, v)| (HeaderName::from_static(n), v.parse().expect("a value"))).collect()
    }

    /// R42, and R40 for Connect.
    #[test]
    fn a_deadline_is_the_least_of_what_client_and_method_allow() {
        let now = Instant::now();
        let left = |pairs: &[(&'static str, &str)]| {
            let unary = Contract::built_in().method("/linkmesh.links.v1.LinksService/GetLink");
            let unary = unary.expect("it is public");
            deadline(&headers(pairs), unary, now).map(|deadline| deadline.left(now))
        };
        assert_eq!(left(&[]), Ok(UNARY_MAX));
        assert_eq!(left(&[("grpc-timeout", "2S")]), Ok(Duration::from_secs(2)));
        assert_eq!(left(&[("grpc-timeout", "9999H")]), Ok(UNARY_MAX));
        assert_eq!(left(&[("x-server-timeout", "0.25")]), Ok(Duration::from_millis(250)));
        assert_eq!(left(&[("x-server-timeout", "1e300")]), Ok(UNARY_MAX));
        assert_eq!(left(&[("connect-timeout-ms", "0")]), Ok(Duration::ZERO));
        assert_eq!(left(&[("connect-timeout-ms", "9999999999")]), Ok(UNARY_MAX));
        let both = [("connect-timeout-ms", "90"), ("x-server-timeout", "0.05")];
        assert_eq!(left(&both), Ok(Duration::from_millis(50)));
        for wrong in [
            ("grpc-timeout", "1"),
            ("grpc-timeout", "123456789S"),
            ("x-server-timeout", "-1"),
            ("x-server-timeout", "nan"),
            ("connect-timeout-ms", ""),
            ("connect-timeout-ms", "+1"),
            ("connect-timeout-ms", "12345678901"),
        ] {
            assert!(left(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
