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
use crate::methods::Method;

/// The longest that a unary call may take.
const UNARY_MAX: Duration = Duration::from_secs(30);
/// The longest that a stream may last.
pub(crate) const STREAM_MAX: Duration = Duration::from_hours(1);

/// How long, and for how many bytes, what exceeds a body's limit is read before it is refused. nginx's `lingering_timeout` is
/// as long.
const LINGER_MAX: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: usize = 64 << 20;
const SERVER_TIMEOUT: HeaderName = HeaderName::from_static("x-server-timeout");
/// What a client's metadata may say to services. Its trace is passed on by the mesh (`rpc::trace`).
const PASSED: [HeaderName; 2] =
    [HeaderName::from_static("grpc-encoding"), HeaderName::from_static("grpc-accept-encoding")];

/// The metadata of a call on behalf of a client. `takes_frames`: the body stays as the client framed it, encoding included.
pub(crate) fn metadata(
    client: &HeaderMap,
    principal: Option<HeaderValue>,
    deadline: Deadline,
    takes_frames: bool,
) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(8);
    for name in &PASSED {
        if !takes_frames && name.as_str().starts_with("grpc-") {
            continue;
        }
        if let Some(value) = client.get(name) {
            metadata.insert(name.clone(), value.clone());
        }
    }
    if let Some(principal) = principal {
        metadata.insert(HeaderName::from_static(Principal::METADATA_KEY), principal);
    }
    let left = HeaderValue::try_from(deadline.header(Instant::now()))
        .expect("digits and a letter make a header");
    metadata.insert(HeaderName::from_static(Deadline::HEADER), left);
    metadata
}

/// Tells a service which network a call is from, if the request's extensions hold that.
pub(crate) fn tell_network(extensions: &http::Extensions, metadata: &mut HeaderMap) {
    let Some(network) = extensions.get::<NetworkHash>() else { return };
    let encoded = BinaryMetadataValue::from_bytes(network);
    let value = HeaderValue::from_bytes(encoded.as_encoded_bytes()).expect("base 64 is a header's");
    metadata.insert(HeaderName::from_static(network::METADATA_KEY), value);
}

/// Until when the client waits: what it says, within what the method may take at all.
pub(crate) fn deadline(
    headers: &HeaderMap,
    method: Method,
    now: Instant,
) -> Result<Deadline, Error> {
    let latest = Deadline(now + if method.streams { STREAM_MAX } else { UNARY_MAX });
    let mut earliest = latest;
    if let Some(text) = headers.get(Deadline::HEADER) {
        earliest = earliest.min(Deadline::parse(text.to_str().unwrap_or_default(), now)?);
    }
    if let Some(text) = headers.get(&SERVER_TIMEOUT) {
        let seconds: Option<f64> = text.to_str().ok().and_then(|text| text.parse().ok());
        // NaN is less than nothing: `min` would make the longest timeout of it.
        let seconds = seconds.filter(|seconds| !seconds.is_nan());
        let timeout = seconds
            .and_then(|seconds| {
                Duration::try_from_secs_f64(seconds.min(STREAM_MAX.as_secs_f64())).ok()
            })
            .ok_or_else(|| {
                Error::invalid(SERVER_TIMEOUT.as_str(), "must be a number of seconds, such as 1.5")
            })?;
        earliest = earliest.min(Deadline(now + timeout));
    }
    Ok(earliest)
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

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(n, v)| (HeaderName::from_static(n), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_what_is_listed_passes_and_the_principal_is_ours() {
        let client = headers(&[
            ("linkmesh-principal-bin", "Zm9yZ2Vk"),
            ("linkmesh-other", "x"),
            ("grpc-internal-x", "x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "x"),
            ("grpc-encoding", "gzip"),
        ]);
        let deadline = Deadline(Instant::now() + Duration::from_secs(1));
        let ours = HeaderValue::from_static("b3Vycw");
        for (takes_frames, names) in [
            (true, &["grpc-encoding", "grpc-timeout", "linkmesh-principal-bin"][..]),
            (false, &["grpc-timeout", "linkmesh-principal-bin"]),
        ] {
            let metadata = metadata(&client, Some(ours.clone()), deadline, takes_frames);
            let mut passed: Vec<&str> = metadata.keys().map(HeaderName::as_str).collect();
            passed.sort_unstable();
            assert_eq!(passed, names);
            assert_eq!(metadata.get("linkmesh-principal-bin"), Some(&ours));
        }
        let nobody = metadata(&client, None, deadline, true);
        assert_eq!(nobody.get("linkmesh-principal-bin"), None);
    }

    #[test]
    fn a_deadline_is_the_least_of_what_client_and_method_allow() {
        let now = Instant::now();
        let unary = Method { path: "", streams: false, asks_who: true };
        let left = |pairs: &[(&'static str, &str)]| {
            deadline(&headers(pairs), unary, now).map(|deadline| deadline.left(now))
        };
        assert_eq!(left(&[]), Ok(UNARY_MAX));
        assert_eq!(left(&[("grpc-timeout", "2S")]), Ok(Duration::from_secs(2)));
        assert_eq!(left(&[("grpc-timeout", "9999H")]), Ok(UNARY_MAX));
        assert_eq!(left(&[("x-server-timeout", "0.25")]), Ok(Duration::from_millis(250)));
        assert_eq!(left(&[("x-server-timeout", "1e300")]), Ok(UNARY_MAX));
        for wrong in
            [("grpc-timeout", "1"), ("x-server-timeout", "-1"), ("x-server-timeout", "nan")]
        {
            assert!(left(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
