//! Compression: which codings a client and a service know, and bytes through them, never further than a limit.

use std::io;
use std::io::Read as _;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use rpc::Error;

use crate::fault::Fault;

/// What is smaller than this is not worth a coding: it would hardly get smaller. gRPC's and Envoy's defaults are near.
pub(crate) const WORTH_BYTES_MIN: usize = 1024;
/// A frame of zstd may ask for this much memory and no more, 2^23 bytes: RFC 9659, section 3.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// zstd's own default; more costs time that a client's network rarely gives back.
const ZSTD_LEVEL: i32 = 3;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The ones that compress, best first.
    const ALL: [Self; 2] = [Self::Zstd, Self::Gzip];

    pub(crate) fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }

    fn named(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "identity" | "" => Some(Self::Identity),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What a header says that the bytes are in; `identity` if there is none.
    ///
    /// # Errors
    /// UNIMPLEMENTED for what is not known here, with what is, as both gRPC and Connect want it.
    pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Self, Fault> {
        match headers.get(name) {
            None => Ok(Self::Identity),
            Some(value) => Self::parse(value.to_str().unwrap_or("?")),
        }
    }

    /// As [`Coding::of`], from text.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        Self::named(text).ok_or_else(|| Fault::coding_unknown(text))
    }

    /// What decompresses to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// BODY_TOO_LARGE, as soon as there is more; MALFORMED for what is not in this coding.
    pub(crate) fn decompress(self, bytes: &Bytes, bytes_max: usize) -> Result<Bytes, Fault> {
        if self == Self::Identity || bytes.is_empty() {
            return Ok(bytes.clone());
        }
        let mut plain = Vec::new();
        let limit = bytes_max as u64 + 1;
        let read = match self {
            Self::Identity => Ok(0),
            Self::Gzip => {
                let gzip = flate2::bufread::MultiGzDecoder::new(&bytes[..]);
                gzip.take(limit).read_to_end(&mut plain)
            }
            Self::Zstd => zstd_reader(bytes).and_then(|zstd| {
                let mut zstd = zstd.take(limit);
                zstd.read_to_end(&mut plain)
            }),
        };
        if plain.len() > bytes_max {
            return Err(Fault::body_too_large(bytes_max));
        }
        match read {
            Ok(_) => Ok(plain.into()),
            Err(error) => {
                let name = self.name();
                let name = name.to_str().unwrap_or_default();
                Err(Error::malformed(format!("a message is not {name}: {error}")).into())
            }
        }
    }

    /// Compresses.
    pub(crate) fn compress(self, bytes: &[u8]) -> Bytes {
        let compressed = match self {
            Self::Identity => Ok(bytes.to_vec()),
            Self::Gzip => {
                let mut into = Vec::with_capacity(bytes.len() / 2);
                let level = flate2::Compression::default();
                let mut gzip = flate2::bufread::GzEncoder::new(bytes, level);
                gzip.read_to_end(&mut into).map(|_| into)
            }
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
        };
        compressed.expect("memory to memory, nothing fails").into()
    }
}

fn zstd_reader(bytes: &[u8]) -> io::Result<zstd::stream::read::Decoder<'_, &[u8]>> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(bytes)?;
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(reader)
}

/// A set of codings; `identity` is always in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Codings {
    gzip: bool,
    zstd: bool,
}

impl Codings {
    /// Only `identity`.
    pub const NONE: Self = Self { gzip: false, zstd: false };
    /// All that are known here.
    pub const ALL: Self = Self { gzip: true, zstd: true };
    /// What tells clients of [`Codings::ALL`].
    pub(crate) const ALL_NAMES: &'static str = "zstd, gzip";

    pub(crate) fn contains(self, coding: Coding) -> bool {
        match coding {
            Coding::Identity => true,
            Coding::Gzip => self.gzip,
            Coding::Zstd => self.zstd,
        }
    }

    fn with(self, coding: Coding) -> Self {
        Self {
            gzip: self.gzip || coding == Coding::Gzip,
            zstd: self.zstd || coding == Coding::Zstd,
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { gzip: self.gzip && other.gzip, zstd: self.zstd && other.zstd }
    }

    /// The best of them.
    pub(crate) fn best(self) -> Coding {
        Coding::ALL.into_iter().find(|coding| self.contains(*coding)).unwrap_or(Coding::Identity)
    }

    /// The value of a header that names them; `None` if there is nothing to name.
    pub(crate) fn header(self) -> Option<HeaderValue> {
        match (self.gzip, self.zstd) {
            (true, true) => Some(HeaderValue::from_static("zstd,gzip")),
            (true, false) => Some(HeaderValue::from_static("gzip")),
            (false, true) => Some(HeaderValue::from_static("zstd")),
            (false, false) => None,
        }
    }

    /// Those that a client's header accepts, weights (RFC 9110, section 12.5.3) included.
    pub(crate) fn accepted(headers: &HeaderMap, name: &HeaderName) -> Self {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let names = values.flat_map(|value| value.split(','));
        names.fold(Self::NONE, |accepted, item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = parameters.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            match Coding::named(name) {
                Some(coding) if weight != Some(0.0) => accepted.with(coding),
                Some(_) | None => accepted,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use http::header;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_compressed_comes_back_and_never_beyond_the_limit(
            bytes in proptest::collection::vec(0_u8..4, 0..5_000),
            limit in 0_usize..5_000,
        ) {
            for coding in Coding::ALL {
                let compressed = coding.compress(&bytes);
                match coding.decompress(&compressed, limit) {
                    Ok(plain) => prop_assert_eq!(&plain[..], &bytes[..]),
                    Err(fault) => {
                        prop_assert!(fault.is_body_too_large());
                        prop_assert!(bytes.len() > limit);
                    }
                }
            }
        }

        #[test]
        fn junk_is_refused_and_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            for coding in Coding::ALL {
                drop(coding.decompress(&bytes.clone().into(), 1_000));
            }
        }
    }

    /// R41, and the bombs of the fault list: what 100 MB of zeros shrink to.
    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = vec![0; 100_000_000];
        for coding in Coding::ALL {
            let bomb = coding.compress(&zeros);
            assert!(bomb.len() < 200_000, "{coding:?}");
            let fault = coding.decompress(&bomb, 1_000).expect_err("too large");
            assert!(fault.is_body_too_large(), "{coding:?}");
        }
    }

    /// R40: a zero-length body is never decompressed.
    #[test]
    fn nothing_is_nothing_in_any_coding() {
        for coding in Coding::ALL {
            assert!(coding.decompress(&Bytes::new(), 10).expect("nothing").is_empty());
        }
    }

    #[test]
    fn a_client_accepts_what_it_names_without_a_weight_of_zero() {
        for (text, best) in [
            ("gzip, deflate, br", Coding::Gzip),
            ("gzip;q=0, zstd;q=0.5", Coding::Zstd),
            ("gzip,zstd", Coding::Zstd),
            ("GZIP", Coding::Gzip),
            ("zstd;q=0", Coding::Identity),
            ("", Coding::Identity),
        ] {
            let value = HeaderValue::from_str(text).expect("a header");
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            let accepted = Codings::accepted(&headers, &header::ACCEPT_ENCODING);
            assert_eq!(accepted.best(), best, "{text}");
        }
    }

    /// R40.
    #[test]
    fn an_unknown_coding_is_refused_with_those_that_are_known() {
        let fault = Coding::parse("snappy").expect_err("unknown");
        assert_eq!(fault.status.code(), tonic::Code::Unimplemented);
        assert!(fault.status.message().contains(Codings::ALL_NAMES), "{fault:?}");
    }
}
