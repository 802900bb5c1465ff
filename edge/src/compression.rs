//! Content codings of whole answers (RFC 9110, section 8.4): which one a client likes most, and bytes in it.
//!
//! Streams are never compressed here: a coder would hold back what is to be seen at once.

use async_compression::Level;
use async_compression::tokio::write::BrotliEncoder;
use async_compression::tokio::write::GzipEncoder;
use async_compression::tokio::write::ZstdEncoder;
use bytes::Bytes;
use http::HeaderMap;
use http::header;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

use crate::protocols::WORTH_BYTES_MIN;

/// brotli's 11 levels go from faster than gzip to a second for a megabyte; from this one on they hardly get smaller.
const BROTLI_LEVEL: Level = Level::Precise(5);
/// gzip's and zstd's own defaults: 6, and 3.
const OTHER_LEVEL: Level = Level::Default;
/// Codings of a header that are looked at.
const CODINGS_MAX: usize = 32;
/// Bytes that are compressed before others get their turn.
const PIECE_BYTES: usize = 64 * 1024;

/// How an answer's bytes are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    /// Not at all.
    Identity,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl ContentCoding {
    /// What compresses, in the order of our liking: zstd takes the least time for what it saves.
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    /// The coding of an answer: the one that the client likes most, if that is worth it.
    pub(crate) fn chosen(headers: &HeaderMap, media_type: &str, length: usize) -> Self {
        if length < WORTH_BYTES_MIN || !is_compressible(media_type) {
            return Self::Identity;
        }
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let stated =
            values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
        let mut weights = [None; Self::ALL.len()];
        let (mut any, mut identity) = (None, 0);
        for range in stated.take(CODINGS_MAX) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = weight(parts);
            match name {
                "*" => any = Some(weight),
                "identity" => identity = weight,
                _ => {}
            }
            if let Some(named) = Self::named(name)
                && let Some(index) = Self::ALL.iter().position(|coding| *coding == named)
            {
                weights[index] = Some(weight);
            }
        }
        let weighed = Self::ALL.into_iter().zip(weights);
        let mut best = (Self::Identity, 0);
        for (coding, weight) in weighed {
            let weight = weight.or(any).unwrap_or(0);
            if weight > best.1 {
                best = (coding, weight);
            }
        }
        // Who names both alike is not held to the longer one.
        if best.1 >= identity { best.0 } else { Self::Identity }
    }

    /// The bytes in this coding.
    pub(crate) async fn compress(self, bytes: &Bytes) -> Bytes {
        let plain = &bytes[..];
        match self {
            Self::Identity => bytes.clone(),
            Self::Brotli => {
                let mut coder = BrotliEncoder::with_quality(Vec::new(), BROTLI_LEVEL);
                write(&mut coder, plain).await;
                coder.into_inner().into()
            }
            Self::Gzip => {
                let mut coder = GzipEncoder::with_quality(Vec::new(), OTHER_LEVEL);
                write(&mut coder, plain).await;
                coder.into_inner().into()
            }
            Self::Zstd => {
                let mut coder = ZstdEncoder::with_quality(Vec::new(), OTHER_LEVEL);
                write(&mut coder, plain).await;
                coder.into_inner().into()
            }
        }
    }
}

/// In thousandths; what is no weight counts as 1 (RFC 9110, 12.4.2).
fn weight<'t>(parameters: impl Iterator<Item = &'t str>) -> u16 {
    let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
    let stated = pairs.find(|(name, _)| name.trim_end().eq_ignore_ascii_case("q"));
    let Some((_, value)) = stated else { return 1_000 };
    match value.trim_start().split_once('.') {
        None if value.trim() == "0" => 0,
        Some(("0", digits)) if digits.len() <= 3 => {
            format!("{digits:0<3}").parse().unwrap_or(1_000)
        }
        Some(_) | None => 1_000,
    }
}

/// Whether a type is of text. Images, archives and the like are compressed already.
fn is_compressible(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/').unwrap_or((essence, ""));
    kind == "text"
        || subtype.ends_with("+json")
        || subtype.ends_with("+xml")
        || ["json", "xml", "javascript"].contains(&subtype)
}

/// Piece by piece of what goes in: what repeats itself comes out as next to nothing, and takes as long.
async fn write(coder: &mut (impl AsyncWrite + Unpin), plain: &[u8]) {
    const IN_MEMORY: &str = "memory to memory, nothing fails";
    for piece in plain.chunks(PIECE_BYTES) {
        coder.write_all(piece).await.expect(IN_MEMORY);
        tokio::task::yield_now().await;
    }
    coder.shutdown().await.expect(IN_MEMORY);
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::AsyncReadExt as _;

    fn chosen(accept_encoding: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accept_encoding.parse().expect("a value"));
        ContentCoding::chosen(&headers, "application/json", WORTH_BYTES_MIN).name()
    }

    #[test]
    fn the_coding_that_is_liked_most_is_chosen_by_weight_and_then_by_ours() {
        for (accept_encoding, coding) in [
            ("", "identity"),
            ("identity", "identity"),
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, br", "br"),
            ("zstd;q=0.5, gzip;q=0.9, br;q=0.51", "gzip"),
            ("GZip ; Q=0.001", "gzip"),
            ("x-gzip", "gzip"),
            ("gzip;q=0, br;q=0.000", "identity"),
            ("*", "zstd"),
            ("*;q=0.5, gzip", "gzip"),
            ("*, zstd;q=0", "br"),
            ("deflate, compress", "identity"),
            ("identity, gzip;q=0.5", "identity"),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("gzip;q=nonsense", "gzip"),
        ] {
            assert_eq!(chosen(accept_encoding), coding, "{accept_encoding}");
        }
        assert_eq!(
            ContentCoding::chosen(&HeaderMap::new(), "text/html", 1 << 20).name(),
            "identity"
        );
    }

    #[test]
    fn what_is_small_or_compressed_already_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, "br".parse().expect("a value"));
        for (media_type, length, coding) in [
            ("application/json", WORTH_BYTES_MIN, "br"),
            ("application/json", WORTH_BYTES_MIN - 1, "identity"),
            ("application/problem+json; charset=utf-8", 1 << 20, "br"),
            ("text/html; charset=utf-8", 1 << 20, "br"),
            ("image/svg+xml", 1 << 20, "br"),
            ("image/png", 1 << 20, "identity"),
            ("application/octet-stream", 1 << 20, "identity"),
        ] {
            let chosen = ContentCoding::chosen(&headers, media_type, length);
            assert_eq!(chosen.name(), coding, "{media_type} {length}");
        }
    }

    #[tokio::test]
    async fn what_was_compressed_comes_back() {
        let plain = Bytes::from(r#"{"slug":"a","tags":["b"]},"#.repeat(20_000));
        for coding in ContentCoding::ALL {
            let coded = coding.compress(&plain).await;
            assert!(coded.len() < plain.len() / 10, "{coding:?}: {}", coded.len());
            let mut back = Vec::new();
            let decoded = match coding {
                ContentCoding::Identity => unreachable!("it does not compress"),
                ContentCoding::Brotli => {
                    let mut coder =
                        async_compression::tokio::bufread::BrotliDecoder::new(&coded[..]);
                    coder.read_to_end(&mut back).await
                }
                ContentCoding::Gzip => {
                    let mut coder = async_compression::tokio::bufread::GzipDecoder::new(&coded[..]);
                    coder.read_to_end(&mut back).await
                }
                ContentCoding::Zstd => {
                    let mut coder = async_compression::tokio::bufread::ZstdDecoder::new(&coded[..]);
                    coder.read_to_end(&mut back).await
                }
            };
            assert_eq!(decoded.expect("it is coded"), plain.len(), "{coding:?}");
            assert!(plain == back, "{coding:?}");
        }
    }
}
