//! Where a field is in a text: the text is read again up to there, and the reader says where it is.

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error as _;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::fmt;

/// The line, from 1, of the field `path` of the document at `place`; of what it should be in, if it is not there.
pub(super) fn line(text: &str, place: usize, path: &str) -> Option<usize> {
    let document = serde_yaml_ng::Deserializer::from_str(text).nth(place)?;
    let path = segments(path);
    let found = Seek(&path).deserialize(document).err()?;
    found.location().map(|location| location.line())
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Field(String),
    Index(usize),
}

/// `routes[0].retry` is a field, an index and a field.
fn segments(path: &str) -> Vec<Segment> {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    let segments = parts.map(|part| match part.strip_suffix(']').map(str::parse) {
        Some(Ok(index)) => Segment::Index(index),
        Some(Err(_)) | None => Segment::Field(part.to_owned()),
    });
    segments.collect()
}

/// Goes down a path and fails where it ends: the error has the place.
struct Seek<'a>(&'a [Segment]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the path leads through")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let [Segment::Field(wanted), rest @ ..] = self.0 else {
            return Err(A::Error::custom("here"));
        };
        let is_last = rest.is_empty();
        while let Some(is_wanted) = map.next_key_seed(Key { wanted, is_last })? {
            if is_wanted {
                map.next_value_seed(Seek(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom("here it should be"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [Segment::Index(wanted), rest @ ..] = self.0 else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        list.next_element_seed(Seek(rest))?;
        Err(A::Error::custom("here it should be"))
    }
}

/// A key of a mapping; the one that is sought fails, if it is the end of the path: its own line is the field's.
struct Key<'a> {
    wanted: &'a str,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        // Both spellings of a field: `backoff_min` and `backoffMin`.
        let is_wanted = key == self.wanted
            || key.replace('_', "").eq_ignore_ascii_case(&self.wanted.replace('_', ""));
        if is_wanted && self.is_last {
            return Err(E::custom("here"));
        }
        Ok(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_through_fields_and_lists() {
        let text = "a:\n  - b: 1\n    cD: 2\n  - {b: 3,\n     e: 4}\n---\na: 1\n";
        for (path, expected) in [
            ("a", 1),
            ("a[0]", 2),
            ("a[0].b", 2),
            ("a[0].c_d", 3),
            ("a[0].missing", 2),
            ("a[1].e", 5),
            ("a[7]", 2),
            ("a[0].b.below", 2),
        ] {
            assert_eq!(line(text, 0, path), Some(expected), "{path}");
        }
        assert_eq!(line(text, 1, "a"), Some(7));
        assert_eq!(line(text, 2, "a"), None);
        let field = |name: &str| Segment::Field(name.to_owned());
        assert_eq!(segments("a[0].b"), [field("a"), Segment::Index(0), field("b")]);
    }
}
