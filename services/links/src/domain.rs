//! What links and their domains are, and the rules they keep: no input or output, no wire, no store.
//!
//! Everything here was parsed at the border and can't be wrong afterwards.

mod destination;
mod filter;
mod host;
mod link;
mod page;
mod slug;
mod utm;

pub(crate) use destination::Destination;
pub(crate) use filter::{Filter, Term};
pub(crate) use host::{Domain, Host};
pub(crate) use link::{Change, Draft, Link, Redirect, Route, Settings, Tags, display_name, expiry};
pub(crate) use page::{Cursor, CursorKey, Order, OrderField};
pub(crate) use slug::Slug;
pub(crate) use utm::Utm;

/// What a field must keep to and does not: becomes `BadRequest` with the request's path of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field within its message, such as `destination_uri`.
    pub field: &'static str,
    /// What is wrong, with the limit.
    pub why: String,
}

impl Violation {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// The cases that a caller can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// A field is missing or out of its limits.
    Invalid(Violation),
    /// The resource of this name does not exist in the caller's workspace.
    NotFound(String),
    /// The slug is taken on its domain.
    SlugTaken { host: String, slug: String },
    /// The domain belongs to a workspace already.
    DomainTaken(String),
    /// The domain still has links.
    DomainHasLinks(String),
    /// Someone else changed the link first.
    EtagMismatch,
    /// The request id stands for another request.
    RequestIdReused,
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Error::Invalid(violation)
    }
}

/// The version of what is at a (domain, slug) after a change at `now_micros` (since 1970): it grows through deletion,
/// re-creation and restore from a backup, since clocks have moved on by then.
///
/// The store computes the same in SQL, where it sees the last version under its lock.
#[cfg(test)]
fn next_version(last: i64, now_micros: i64) -> i64 {
    last.saturating_add(1).max(now_micros)
}

/// Refuses text that no store or header can hold as it is.
fn without_control(field: &'static str, text: &str) -> Result<(), Violation> {
    match text.char_indices().find(|(_, character)| character.is_control()) {
        None => Ok(()),
        Some((at, character)) => Err(Violation::new(
            field,
            format!("must not contain control characters, has {character:?} at byte {at}"),
        )),
    }
}

/// Refuses text of more than `chars_max` characters.
fn at_most_chars(field: &'static str, text: &str, chars_max: usize) -> Result<(), Violation> {
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(Violation::new(
            field,
            format!("must have at most {chars_max} characters, has {chars}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_only_grow_whatever_the_clock_does(
            last in 0..i64::MAX / 2,
            now in i64::MIN..i64::MAX / 2,
        ) {
            let next = next_version(last, now);
            prop_assert!(next > last);
            prop_assert!(next >= now);
        }
    }
}
