//! How much a call matters, as it crosses the wire: `linkmesh-criticality: sheddable`, `normal` or `critical`.

use crate::policy::Criticality;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

impl Criticality {
    /// The header that says it.
    pub(crate) const HEADER: HeaderName = HeaderName::from_static("linkmesh-criticality");

    /// What a caller says; none if it says nothing, or nothing that has a meaning.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        match headers.get(Self::HEADER)?.as_bytes() {
            b"sheddable" => Some(Self::Sheddable),
            b"normal" => Some(Self::Normal),
            b"critical" => Some(Self::Critical),
            _ => None,
        }
    }

    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Sheddable => "sheddable",
            Self::Normal => "normal",
            Self::Critical => "critical",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_counts() {
        for criticality in [Criticality::Sheddable, Criticality::Normal, Criticality::Critical] {
            let headers = HeaderMap::from_iter([(Criticality::HEADER, criticality.header())]);
            assert_eq!(Criticality::of_headers(&headers), Some(criticality));
        }
        let unknown =
            HeaderMap::from_iter([(Criticality::HEADER, HeaderValue::from_static("vital"))]);
        assert_eq!(Criticality::of_headers(&unknown), None);
        assert_eq!(Criticality::of_headers(&HeaderMap::new()), None);
    }
}
