//! From a message's bytes to what a tap shows of it. Runs where the tap is read.

use super::event::Content;
use super::event::Direction;
use super::event::TappedMessage;
use super::render;
use crate::descriptors::DESCRIPTORS;
use crate::methods::Method;
use bytes::Bytes;
use flate2::read::GzDecoder;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use std::io::Read;
use std::sync::Arc;

/// How large a message may become when it is decompressed.
const DECOMPRESSED_BYTES_MAX: u64 = 256 << 10;

/// A message as it passed.
#[derive(Debug)]
pub(super) struct Undecoded {
    pub(super) method: &'static Method,
    pub(super) direction: Direction,
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// If it is compressed.
    pub(super) encoding: Option<Arc<str>>,
    /// The tap's limit.
    pub(super) bytes_max: usize,
    /// None if it is above the limit.
    pub(super) kept: Option<Bytes>,
}

pub(super) fn message(message: Undecoded) -> TappedMessage {
    let content = match content(&message) {
        Ok(value) => Content::Json(value),
        Err(why) => Content::Omitted(why),
    };
    let Undecoded { direction, number, bytes, .. } = message;
    TappedMessage { direction, number, bytes, content }
}

fn content(message: &Undecoded) -> Result<serde_json::Value, String> {
    let Some(kept) = &message.kept else {
        return Err(format!("larger than {} bytes, the tap's limit", message.bytes_max));
    };
    let descriptor = descriptor(message.method, message.direction)
        .ok_or_else(|| "no descriptor knows the method".to_owned())?;
    let decompressed = match message.encoding.as_deref() {
        None => kept.clone(),
        Some(encoding) => decompressed(encoding, kept)?,
    };
    let decoded = DynamicMessage::decode(descriptor, decompressed)
        .map_err(|error| format!("can't be decoded: {error}"))?;
    render::json(&decoded)
}

fn descriptor(method: &Method, direction: Direction) -> Option<MessageDescriptor> {
    let (service, name) = method.name.split_once('/')?;
    let service = DESCRIPTORS.get_service_by_name(service)?;
    let method = service.methods().find(|method| method.name() == name)?;
    Some(match direction {
        Direction::Request => method.input(),
        Direction::Response => method.output(),
    })
}

fn decompressed(encoding: &str, compressed: &[u8]) -> Result<Bytes, String> {
    let unreadable = |error: std::io::Error| format!("can't be decompressed: {error}");
    let reader: Box<dyn Read> = match encoding {
        "gzip" => Box::new(GzDecoder::new(compressed)),
        "zstd" => Box::new(zstd::Decoder::with_buffer(compressed).map_err(unreadable)?),
        other => return Err(format!("compressed as `{other}`, which a tap can't read")),
    };
    let mut read = Vec::new();
    reader.take(DECOMPRESSED_BYTES_MAX + 1).read_to_end(&mut read).map_err(unreadable)?;
    if read.len() as u64 > DECOMPRESSED_BYTES_MAX {
        return Err(format!("larger than {DECOMPRESSED_BYTES_MAX} bytes when decompressed"));
    }
    Ok(read.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::METHODS;
    use prost_reflect::prost::Message as _;
    use proto::links::v1::GetLinkRequest;
    use serde_json::json;
    use std::io::Write as _;

    fn shown(encoding: Option<&str>, bytes: Vec<u8>) -> Content {
        let undecoded = Undecoded {
            method: METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink"),
            direction: Direction::Request,
            number: 1,
            bytes: bytes.len() as u64,
            encoding: encoding.map(Arc::from),
            bytes_max: 1 << 16,
            kept: Some(bytes.into()),
        };
        message(undecoded).content
    }

    #[test]
    fn a_message_is_read_plain_or_compressed() {
        let request = GetLinkRequest { name: "links/a".to_owned() };
        let plain = request.encode_to_vec();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let expected = Content::Json(json!({"name": "links/a"}));
        assert_eq!(shown(None, plain), expected);
        assert_eq!(shown(Some("gzip"), gzip.finish().unwrap()), expected);
        assert_eq!(shown(Some("zstd"), zstd), expected);
    }

    #[test]
    fn what_can_t_be_read_says_why() {
        let omitted = |encoding, bytes| match shown(encoding, bytes) {
            Content::Omitted(why) => why,
            Content::Json(value) => panic!("shown: {value}"),
        };
        assert!(omitted(None, vec![0xff]).contains("can't be decoded"));
        assert!(omitted(Some("gzip"), vec![1, 2, 3]).contains("can't be decompressed"));
        assert!(omitted(Some("br"), vec![]).contains("`br`"));
        let bomb = zstd::encode_all(vec![0; 1 << 24].as_slice(), 1).unwrap();
        assert!(omitted(Some("zstd"), bomb).contains("262144"));
    }
}
