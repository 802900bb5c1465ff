//! Durations in configuration, as `250ms`, `30s`, `5m`, `2h` or `35d`: for `#[serde(with = "service::duration")]`.

use std::time::Duration;

use serde::Deserialize as _;
use serde::Deserializer;
use serde::Serializer;
use serde::de::Error as _;

/// Reads a whole number with a unit.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        let accepted = "expected a whole number and ms, s, m, h or d, such as 30s";
        D::Error::custom(format!("is {text:?}, {accepted}"))
    })
}

/// Writes milliseconds.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}ms", duration.as_millis()))
}

/// Reads a whole number with a unit; none if it is something else.
pub fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..unit_at].parse().ok()?;
    let milliseconds: u64 = match &text[unit_at..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}
