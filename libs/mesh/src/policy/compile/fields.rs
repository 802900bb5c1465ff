//! A message's fields while they are checked: each is known by its path, and all that is wrong is collected, not the first alone.

use prost_reflect::prost_types;
use rpc::Violation;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How many violations are told at most: the first few show what is wrong with the rest.
const VIOLATIONS_MAX: usize = 100;
/// The longest label, in bytes: DNS's.
const LABEL_BYTES_MAX: usize = 63;
/// The longest text that is shown again in a violation, in characters.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// What was found wrong so far.
pub(super) type Violations = RefCell<Vec<Violation>>;

/// The fields of one message, at its path.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    violations: &'a Violations,
    /// The service whose policy it is.
    pub(super) service: &'a str,
    path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(violations: &'a Violations, service: &'a str) -> Self {
        Self { violations, service, path: String::new() }
    }

    /// The fields of the message in a field.
    pub(super) fn at(&self, field: &str) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{separator}{field}", self.path), ..*self }
    }

    /// Those of a message in a list.
    pub(super) fn item(&self, field: &str, index: usize) -> Self {
        let list = self.at(field);
        Self { path: format!("{}[{index}]", list.path), ..list }
    }

    /// Says what is wrong with a field; an empty one is the message itself.
    pub(super) fn wrong(&self, field: &str, description: impl Into<String>) {
        let mut violations = self.violations.borrow_mut();
        if violations.len() < VIOLATIONS_MAX {
            let path = if field.is_empty() { self.path.clone() } else { self.at(field).path };
            violations.push(Violation { field: path, description: description.into() });
        }
    }

    /// A number whose 0 means the default.
    pub(super) fn number(
        &self,
        field: &str,
        value: u32,
        allowed: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        if value == 0 {
            return default;
        }
        self.within(field, value, &allowed);
        value
    }

    /// A number whose absence means the default, and whose 0 means that there is none.
    pub(super) fn number_or_none(
        &self,
        field: &str,
        value: Option<u32>,
        max: u32,
        default: Option<u32>,
    ) -> Option<u32> {
        let Some(value) = value else { return default };
        self.within(field, value, &(0..=max));
        (value > 0).then_some(value)
    }

    pub(super) fn within(&self, field: &str, value: u32, allowed: &RangeInclusive<u32>) {
        if !allowed.contains(&value) {
            let (least, most) = (allowed.start(), allowed.end());
            self.wrong(field, format!("must be {least} to {most}, is {value}"));
        }
    }

    /// A duration, if it is there.
    pub(super) fn duration(
        &self,
        field: &str,
        value: Option<&prost_types::Duration>,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = value?;
        let Some(duration) = duration(value) else {
            self.wrong(field, format!("must be {}", Span(&allowed)));
            return None;
        };
        if !allowed.contains(&duration) {
            self.wrong(field, format!("must be {}, is {}", Span(&allowed), Shown(duration)));
        }
        Some(duration)
    }

    /// A shortest and a longest duration.
    pub(super) fn durations(
        &self,
        names: (&str, &str),
        values: (Option<&prost_types::Duration>, Option<&prost_types::Duration>),
        allowed: &RangeInclusive<Duration>,
        defaults: (Duration, Duration),
    ) -> (Duration, Duration) {
        let min = self.duration(names.0, values.0, allowed.clone()).unwrap_or(defaults.0);
        let max = self.duration(names.1, values.1, allowed.clone()).unwrap_or(defaults.1);
        if min > max {
            let wrong = format!("must be at most `{}`, which is {}", names.1, Shown(max));
            self.wrong(names.0, format!("{wrong}; is {}", Shown(min)));
        }
        (min, max)
    }

    /// A percentage above 0, as a share.
    pub(super) fn share(&self, field: &str, percent: f64) -> f64 {
        // Also what is no number.
        if !(percent > 0.0 && percent <= 100.0) {
            self.wrong(field, format!("must be above 0 and at most 100, is {percent}"));
        }
        percent / 100.0
    }

    /// Whether a list is not too long; one that is is not looked into.
    pub(super) fn holds<T>(&self, field: &str, list: &[T], max: usize) -> bool {
        if list.len() > max {
            self.wrong(field, format!("must have at most {max} entries, has {}", list.len()));
        }
        list.len() <= max
    }

    /// A name in a list of things that are told apart by it.
    pub(super) fn label(&self, name: &str, taken: &mut BTreeSet<String>) {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if name.is_empty() || name.len() > LABEL_BYTES_MAX || !name.bytes().all(allowed) {
            let allowed = format!("1 to {LABEL_BYTES_MAX} of a-z, 0-9 and -");
            self.wrong("name", format!("must be {allowed}, is {}", quoted(name)));
        } else if !taken.insert(name.to_owned()) {
            self.wrong("name", format!("is there twice: {}", quoted(name)));
        }
    }

    /// The name of a service.
    pub(super) fn service(&self, field: &str, name: &str) {
        if crate::identity::ServiceName::parse(name).is_err() {
            let allowed =
                "the name of a service, 1 to 63 of a-z, 0-9 and -, beginning with a letter";
            self.wrong(field, format!("must be {allowed}; is {}", quoted(name)));
        }
    }

    /// A text of visible ASCII characters: what a header's value, a version and a zone are made of.
    pub(super) fn text(&self, field: &str, text: &str, bytes_max: usize) {
        let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.is_empty() || text.len() > bytes_max || !visible {
            let allowed = format!("1 to {bytes_max} visible ASCII characters");
            self.wrong(field, format!("must be {allowed}, is {}", quoted(text)));
        }
    }

    /// The name of a request header that is text.
    pub(super) fn header(&self, field: &str, name: &str) -> Option<http::HeaderName> {
        let parsed = http::HeaderName::from_lowercase(name.as_bytes()).ok();
        if parsed.is_none() {
            let wrong = format!("must be a header's name in lower case, is {}", quoted(name));
            self.wrong(field, wrong);
        } else if name.ends_with("-bin") {
            self.wrong(field, "must not be a binary header, whose name ends in -bin");
        }
        parsed
    }
}

/// A text as it is shown in a violation: never so long that it hides the rest.
pub(in crate::policy) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{:?} …", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The duration that a message means; none if it is negative or malformed. (The conversion of prost panics on some.)
pub(in crate::policy) fn duration(said: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(said.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(said.seconds).ok()?, nanos))
}

/// A duration as people write it.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(duration) = self;
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        match (seconds, nanos) {
            (1.., 0) if seconds % 3_600 == 0 => write!(f, "{} h", seconds / 3_600),
            (1.., 0) if seconds % 60 == 0 => write!(f, "{} min", seconds / 60),
            (_, 0) => write!(f, "{seconds} s"),
            (0, _) if nanos % 1_000_000 == 0 => write!(f, "{} ms", nanos / 1_000_000),
            _ => write!(f, "{} s", duration.as_secs_f64()),
        }
    }
}

struct Span<'a>(&'a RangeInclusive<Duration>);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", Shown(*self.0.start()), Shown(*self.0.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_unit_that_people_would_use() {
        let shown = |millis| Shown(Duration::from_millis(millis)).to_string();
        assert_eq!(shown(0), "0 s");
        assert_eq!(shown(25), "25 ms");
        assert_eq!(shown(1_500), "1.5 s");
        assert_eq!(shown(90_000), "90 s");
        assert_eq!(shown(300_000), "5 min");
        assert_eq!(shown(86_400_000), "24 h");
    }
}
