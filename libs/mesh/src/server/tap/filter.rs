//! Which calls a tap shows, and how much of them.

use http::HeaderMap;
use http::HeaderName;
use std::time::Duration;
use tonic::Code;

/// How many headers a filter names at most.
const HEADERS_MAX: usize = 16;

/// Which calls a tap shows: those for which all that is set here holds. By default all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TapFilter {
    /// The full name of a method, or of all of a gRPC service: `linkmesh.links.v1.LinksService/*`.
    pub method: Option<String>,
    /// The service that calls.
    pub caller: Option<String>,
    /// How the call ends. A call is then shown only once it has ended.
    pub code: Option<Code>,
    /// Request headers that are there; with a value, that have it.
    pub headers: Vec<(HeaderName, Option<String>)>,
    /// How long the call takes at least. A call is then shown only once it has ended.
    pub latency_min: Option<Duration>,
    /// The percentage of the calls that are shown, above 0 and up to 100; none: all.
    pub percent: Option<f64>,
}

/// How much a tap shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapLimit {
    /// Events in a second, 1 to [`EVENTS_PER_SECOND_MAX`](Self::EVENTS_PER_SECOND_MAX).
    pub events_per_second: u32,
    /// The largest message that is decoded, in bytes; 0: none is. At most [`MESSAGE_BYTES_MAX`](Self::MESSAGE_BYTES_MAX).
    pub message_bytes_max: usize,
}

impl TapLimit {
    /// The highest rate.
    pub const EVENTS_PER_SECOND_MAX: u32 = 1_000;
    /// The largest message.
    pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
}

impl Default for TapLimit {
    fn default() -> Self {
        Self { events_per_second: 100, message_bytes_max: 16 << 10 }
    }
}

/// What is known of a call when it comes in.
pub(super) struct Incoming<'a> {
    pub(super) caller: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Random, 0 to 100.
    pub(super) dice: f64,
}

impl TapFilter {
    /// Whether a call may be shown, as far as is known when it comes in.
    pub(super) fn takes(&self, call: &Incoming<'_>) -> bool {
        self.percent.is_none_or(|percent| call.dice < percent)
            && self.caller.as_ref().is_none_or(|caller| caller == call.caller)
            && self.method.as_ref().is_none_or(|method| names(method, call.path))
            && self.headers.iter().all(|(name, value)| has(call.headers, name, value.as_deref()))
    }

    /// Whether a call that was taken is shown, now that it has ended.
    pub(super) fn keeps(&self, code: Code, latency: Duration) -> bool {
        self.code.is_none_or(|wanted| wanted == code)
            && self.latency_min.is_none_or(|least| latency >= least)
    }

    /// Whether it takes a call's end to know.
    pub(super) fn waits_for_the_end(&self) -> bool {
        self.code.is_some() || self.latency_min.is_some()
    }
}

fn names(method: &str, path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    match method.strip_suffix('*') {
        Some(service) => path.starts_with(service),
        None => path == method,
    }
}

fn has(headers: &HeaderMap, name: &HeaderName, value: Option<&str>) -> bool {
    let mut values = headers.get_all(name).iter();
    match value {
        None => values.next().is_some(),
        Some(wanted) => values.any(|value| value.as_bytes() == wanted.as_bytes()),
    }
}

impl TapFilter {
    pub(super) fn validate(&self) -> Result<(), rpc::Error> {
        if let Some(method) = &self.method
            && crate::methods::grpc_service(&format!("/{method}")).is_none()
        {
            let form = "must be package.Service/Method, or package.Service/* for all of it";
            return Err(rpc::Error::invalid("method", form));
        }
        if self.percent.is_some_and(|percent| !(percent > 0.0 && percent <= 100.0)) {
            return Err(rpc::Error::invalid("percent", "must be above 0 and at most 100"));
        }
        if self.headers.len() > HEADERS_MAX {
            let limit = format!("must be at most {HEADERS_MAX}, are {}", self.headers.len());
            return Err(rpc::Error::invalid("headers", limit));
        }
        Ok(())
    }
}

impl TapLimit {
    pub(super) fn validate(&self) -> Result<(), rpc::Error> {
        let rate = self.events_per_second;
        if !(1..=Self::EVENTS_PER_SECOND_MAX).contains(&rate) {
            let limit = format!("must be 1 to {}, is {rate}", Self::EVENTS_PER_SECOND_MAX);
            return Err(rpc::Error::invalid("events_per_second", limit));
        }
        let bytes = self.message_bytes_max;
        if bytes > Self::MESSAGE_BYTES_MAX {
            let limit = format!("must be at most {}, is {bytes}", Self::MESSAGE_BYTES_MAX);
            return Err(rpc::Error::invalid("message_bytes_max", limit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/linkmesh.links.v1.LinksService/GetLink";

    fn takes(filter: &TapFilter) -> bool {
        let headers =
            HeaderMap::from_iter([("x-team".parse().unwrap(), "growth".parse().unwrap())]);
        filter.takes(&Incoming { caller: "edge", path: PATH, headers: &headers, dice: 30.0 })
    }

    #[test]
    fn all_that_is_set_must_hold() {
        let header = |value: Option<&str>| TapFilter {
            headers: vec![("x-team".parse().unwrap(), value.map(str::to_owned))],
            ..TapFilter::default()
        };
        let method =
            |method: &str| TapFilter { method: Some(method.to_owned()), ..TapFilter::default() };
        let percent = |percent| TapFilter { percent: Some(percent), ..TapFilter::default() };
        let caller =
            |caller: &str| TapFilter { caller: Some(caller.to_owned()), ..TapFilter::default() };
        for (filter, expected) in [
            (TapFilter::default(), true),
            (method("linkmesh.links.v1.LinksService/GetLink"), true),
            (method("linkmesh.links.v1.LinksService/*"), true),
            (method("linkmesh.links.v1.LinksService/GetLinks"), false),
            (method("linkmesh.links.v1.Links/*"), false),
            (caller("edge"), true),
            (caller("analytics"), false),
            (header(None), true),
            (header(Some("growth")), true),
            (header(Some("other")), false),
            (percent(30.1), true),
            (percent(30.0), false),
            (TapFilter { caller: Some("x".to_owned()), ..header(None) }, false),
        ] {
            assert_eq!(takes(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn code_and_latency_are_known_at_the_end() {
        let of = |code, latency_min| TapFilter { code, latency_min, ..TapFilter::default() };
        let second = Duration::from_secs(1);
        assert!(!of(None, None).waits_for_the_end());
        let failed = of(Some(Code::Internal), None);
        assert!(failed.waits_for_the_end());
        assert!(failed.keeps(Code::Internal, second) && !failed.keeps(Code::Ok, second));
        let slow = of(None, Some(second));
        assert!(slow.keeps(Code::Ok, second) && !slow.keeps(Code::Ok, second / 2));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let percent = |percent| TapFilter { percent: Some(percent), ..TapFilter::default() };
        for filter in [percent(0.0), percent(-1.0), percent(101.0), percent(f64::NAN)] {
            assert!(filter.validate().unwrap_err().message.contains("percent"));
        }
        let method = TapFilter { method: Some("GetLink".to_owned()), ..TapFilter::default() };
        assert!(method.validate().unwrap_err().message.contains("method"));
        let rate = TapLimit { events_per_second: 1_001, ..TapLimit::default() };
        assert!(rate.validate().unwrap_err().message.contains("1000"));
        let bytes = TapLimit { message_bytes_max: 1 << 20, ..TapLimit::default() };
        assert!(bytes.validate().unwrap_err().message.contains("65536"));
    }
}
