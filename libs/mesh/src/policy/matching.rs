//! Which calls a rule is about.

use super::Callers;
use super::MethodMatch;
use http::HeaderMap;
use http::HeaderName;
use std::fmt;

/// Calls for which all that is set here holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallMatch {
    /// None: every method.
    pub(crate) method: Option<MethodMatch>,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) callers: Callers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderMatch {
    pub(crate) name: HeaderName,
    pub(crate) value: ValueMatch,
    pub(crate) invert: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueMatch {
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
}

impl CallMatch {
    pub(crate) fn matches(&self, path: &str, headers: &HeaderMap, caller: &str) -> bool {
        self.method.as_ref().is_none_or(|method| method.matches(path))
            && self.callers.contain(caller)
            && self.headers.iter().all(|header| header.matches(headers))
    }
}

/// `x-team = growth`, as people read it.
impl fmt::Display for HeaderMatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.invert { "not " } else { "" };
        match &self.value {
            ValueMatch::Present => write!(formatter, "{not}{}", self.name),
            ValueMatch::Exact(value) => write!(formatter, "{not}{} = {value}", self.name),
            ValueMatch::Prefix(value) => write!(formatter, "{not}{} = {value}*", self.name),
            ValueMatch::Suffix(value) => write!(formatter, "{not}{} = *{value}", self.name),
        }
    }
}

impl HeaderMatch {
    fn matches(&self, headers: &HeaderMap) -> bool {
        let is = |value: &http::HeaderValue| {
            let value = value.as_bytes();
            match &self.value {
                ValueMatch::Present => true,
                ValueMatch::Exact(wanted) => value == wanted.as_bytes(),
                ValueMatch::Prefix(wanted) => value.starts_with(wanted.as_bytes()),
                ValueMatch::Suffix(wanted) => value.ends_with(wanted.as_bytes()),
            }
        };
        headers.get_all(&self.name).iter().any(is) != self.invert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_header_matches_by_any_of_its_values_and_may_be_inverted() {
        let of = |value, invert| HeaderMatch { name: "x-canary".parse().unwrap(), value, invert };
        let some = headers(&[("x-canary", "team-a"), ("other", "1")]);
        for (value, matches) in [
            (ValueMatch::Present, true),
            (ValueMatch::Exact("team-a".to_owned()), true),
            (ValueMatch::Exact("team".to_owned()), false),
            (ValueMatch::Prefix("team".to_owned()), true),
            (ValueMatch::Suffix("-a".to_owned()), true),
            (ValueMatch::Suffix("-b".to_owned()), false),
        ] {
            assert_eq!(of(value.clone(), false).matches(&some), matches, "{value:?}");
            assert_eq!(of(value.clone(), true).matches(&some), !matches, "{value:?}");
            assert!(!of(value, false).matches(&HeaderMap::new()));
        }
    }
}
