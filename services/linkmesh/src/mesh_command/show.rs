//! Numbers as the tables show them.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::sample::Sample;
use super::sample::code_name;

/// What `operator`'s own questions are made of: left out, unless they are asked for.
const OWN: &str = "linkmesh.mesh.v1.MeshService/";

/// Whether a method is one of those that these commands call themselves.
pub(super) fn is_own(method: &str) -> bool {
    method.starts_with(OWN)
}

/// `linkmesh.links.v1.LinksService/GetLink` without its package.
pub(super) fn short(method: &str) -> &str {
    let service = method.split('/').next().unwrap_or(method);
    service.rfind('.').map_or(method, |dot| &method[dot + 1..])
}

/// Three digits and a unit.
pub(super) fn duration(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        ..999.5 => (micros, "µs"),
        ..999_500.0 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

pub(super) fn duration_or_dash(value: Option<Duration>) -> String {
    value.map_or_else(|| "-".to_owned(), duration)
}

/// A share as a percentage; not 100 as long as anything is missing.
pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.2} %", (share * 100.0).min(99.99)),
    }
}

pub(super) fn rate(rps: f64) -> String {
    if rps < 99.95 { format!("{rps:.1}") } else { format!("{rps:.0}") }
}

/// What a sample says, for scripts.
pub(super) fn golden_json(sample: &Sample) -> Value {
    let codes: serde_json::Map<String, Value> = sample
        .codes
        .iter()
        .map(|(code, count)| (code_name(*code).to_owned(), json!(count)))
        .collect();
    let seconds = |percent| sample.percentile(percent).map(|latency| latency.as_secs_f64());
    json!({
        "calls": sample.calls(),
        "rps": sample.rps,
        "successRate": sample.success_rate(),
        "codes": codes,
        "p50Seconds": seconds(50.0),
        "p95Seconds": seconds(95.0),
        "p99Seconds": seconds(99.0),
    })
}

/// A duration on the command line, as `10s`, `500ms` or `2m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 500ms, 10s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let value: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(value * unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let shown = [0.0, 42.0, 999.4, 999.6, 1_234.0, 98_765.0, 999_600.0, 12_345_678.0]
            .map(|micros| duration(Duration::from_secs_f64(micros / 1e6)));
        assert_eq!(
            shown,
            ["0.00 µs", "42.0 µs", "999 µs", "1.00 ms", "1.23 ms", "98.8 ms", "1.00 s", "12.3 s"]
        );
    }

    #[test]
    fn what_is_not_whole_is_not_shown_as_whole() {
        assert_eq!(percent(Some(1.0)), "100 %");
        assert_eq!(percent(Some(0.999_999)), "99.99 %");
        assert_eq!(percent(None), "-");
    }

    #[test]
    fn a_method_is_shown_without_its_package() {
        assert_eq!(short("linkmesh.links.v1.LinksService/GetLink"), "LinksService/GetLink");
        assert_eq!(short("other"), "other");
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "10", "s", "-1s", "1d", "1e9h", ".s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
