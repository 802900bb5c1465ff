//! Validators and conditions of HTTP (RFC 9110, sections 8.8.3 and 13): what names a state of a resource, and what a client knows
//! of it.
//!
//! An entity tag is strong: equal tags mean equal bytes, so each coding has its own. Where the resource has an `etag` (AIP-154) it is
//! in the tag, so that `If-Match` can be told to the service, which alone can compare and change at once.

use aws_lc_rs::digest;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use rpc::Error;

use crate::compression::ContentCoding;
use crate::fault::Fault;

/// Hexadecimal digits of the body's hash in a tag: 128 bits, which nobody makes collide.
const HASH_DIGITS: usize = 32;
/// Bytes of a resource's `etag` that are told in a tag.
const ETAG_BYTES_MAX: usize = 128;
/// Tags of a header that are looked at.
const TAGS_MAX: usize = 64;

/// A state of a resource, whatever coding it is sent in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    /// The version that a body is, of a resource with this `etag`.
    pub(crate) fn of(body: &[u8], etag: Option<&str>) -> Self {
        let hash = digest::digest(&digest::SHA256, body);
        let mut digits = [0; HASH_DIGITS];
        for (digit, place) in digits.iter_mut().zip(0_usize..) {
            let byte = hash.as_ref()[place / 2];
            let nibble = if place % 2 == 0 { byte >> 4 } else { byte & 15 };
            *digit = b"0123456789abcdef"[usize::from(nibble)];
        }
        let hash = std::str::from_utf8(&digits).expect("digits are ASCII");
        let tellable = |etag: &&str| {
            let is_of_tags = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
            etag.len() <= ETAG_BYTES_MAX && etag.bytes().all(is_of_tags)
        };
        Self(match etag.filter(tellable) {
            Some(etag) => [etag, ".", hash].concat(),
            None => hash.to_owned(),
        })
    }

    /// The tag of this version in a coding.
    pub(crate) fn tag(&self, coding: ContentCoding) -> HeaderValue {
        let version = self.0.as_str();
        let tag = if coding == ContentCoding::Identity {
            ["\"", version, "\""].concat()
        } else {
            ["\"", version, "-", coding.name(), "\""].concat()
        };
        HeaderValue::try_from(tag).expect("visible ASCII makes a header")
    }
}

/// What `If-Match` asks of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// `*`: that there is something to change, which a service sees anyway.
    Exists,
    /// That the resource's `etag` is this one.
    Is(String),
}

impl Precondition {
    /// What a request's `If-Match` asks, if it has one.
    ///
    /// # Errors
    /// Several tags, of which a service can't compare more than one; or one that can never hold.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        if !headers.contains_key(header::IF_MATCH) {
            return Ok(None);
        }
        let tags = tags(headers, &header::IF_MATCH);
        match tags.as_slice() {
            [Tag::Any] => Ok(Some(Self::Exists)),
            // Tags are compared strongly here: a weak one is equal to none.
            [Tag::Weak(_)] => Err(Fault::precondition_failed()),
            [Tag::Strong(tag)] => Ok(Some(Self::Is(etag_of(tag).to_owned()))),
            _ => Err(Error::invalid("if-match", "must be one entity tag, or `*`").into()),
        }
    }
}

/// Whether a read goes on under its `If-Match`, if it has one (RFC 9110, 13.1.1).
pub(crate) fn may_be_read(headers: &HeaderMap, current: &HeaderValue) -> bool {
    if !headers.contains_key(header::IF_MATCH) {
        return true;
    }
    tags(headers, &header::IF_MATCH).iter().any(|tag| match tag {
        Tag::Any => true,
        Tag::Strong(tag) => is_inside(current, tag),
        Tag::Weak(_) => false,
    })
}

/// Whether the client has this very version already: `If-None-Match`, compared weakly (RFC 9110, 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, current: &HeaderValue) -> bool {
    tags(headers, &header::IF_NONE_MATCH).iter().any(|tag| match tag {
        Tag::Any => true,
        Tag::Strong(tag) | Tag::Weak(tag) => is_inside(current, tag),
    })
}

fn is_inside(current: &HeaderValue, tag: &str) -> bool {
    let current = current.as_bytes();
    current.get(1..current.len().saturating_sub(1)) == Some(tag.as_bytes())
}

/// The resource's `etag` in a tag that was made here; any other tag is taken for one.
fn etag_of(tag: &str) -> &str {
    let Some((etag, rest)) = tag.rsplit_once('.') else { return tag };
    let (hash, coding) = rest.split_once('-').unwrap_or((rest, ""));
    let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_coding = coding.is_empty() || ContentCoding::named(coding).is_some();
    if is_hash && is_coding { etag } else { tag }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tag<'h> {
    Any,
    /// Without its quotes.
    Strong(&'h str),
    Weak(&'h str),
}

/// The tags of a header, up to the first that is none. A comma may be within a tag, so they are not split by it.
fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<Tag<'h>> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let Ok(mut rest) = value.to_str() else { break };
        while tags.len() < TAGS_MAX {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            if let Some(after) = rest.strip_prefix('*') {
                tags.push(Tag::Any);
                rest = after;
                continue;
            }
            let (is_weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let inside = quoted.strip_prefix('"').and_then(|quoted| quoted.split_once('"'));
            let Some((tag, after)) = inside else { return tags };
            tags.push(if is_weak { Tag::Weak(tag) } else { Tag::Strong(tag) });
            rest = after;
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let value = |value: &&str| (name.clone(), value.parse().expect("a value"));
        values.iter().map(value).fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn r54_a_tag_is_quoted_strong_and_differs_by_body_etag_and_coding() {
        let plain = Version::of(b"{}", None);
        let tag = plain.tag(ContentCoding::Identity);
        let text = tag.to_str().expect("text");
        assert!(text.starts_with('"') && text.ends_with('"') && text.len() == HASH_DIGITS + 2);
        let others = [
            plain.tag(ContentCoding::Gzip),
            plain.tag(ContentCoding::Brotli),
            Version::of(b"{ }", None).tag(ContentCoding::Identity),
            Version::of(b"{}", Some("7f")).tag(ContentCoding::Identity),
        ];
        assert!(others.iter().all(|other| *other != tag), "{others:?}");
        assert_eq!(Version::of(b"{}", Some("a\"b")), plain, "what no tag can hold is left out");
    }

    #[test]
    fn r54_if_none_match_is_compared_weakly_and_if_match_strongly() {
        let current = HeaderValue::from_static("\"a,b\"");
        for (values, known, read) in [
            (&["\"a,b\""][..], true, true),
            (&["W/\"a,b\""], true, false),
            (&["\"x\", \"a,b\""], true, true),
            (&["\"x\"", "\"a,b\""], true, true),
            (&["*"], true, true),
            (&["\"a\""], false, false),
            (&["a,b"], false, false),
            (&[""], false, false),
            (&["\"a,b"], false, false),
        ] {
            let none_match = headers(header::IF_NONE_MATCH, values);
            assert_eq!(is_known(&none_match, &current), known, "{values:?}");
            let if_match = headers(header::IF_MATCH, values);
            assert_eq!(may_be_read(&if_match, &current), read, "{values:?}");
        }
        assert!(!is_known(&HeaderMap::new(), &current));
        assert!(may_be_read(&HeaderMap::new(), &current));
    }

    #[test]
    fn r54_if_match_tells_the_resources_etag_out_of_a_tag_of_any_coding() {
        let version = Version::of(b"{}", Some("7f.x"));
        for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd] {
            let tag = version.tag(coding);
            let headers = headers(header::IF_MATCH, &[tag.to_str().expect("text")]);
            let asked = Precondition::of(&headers).expect("one tag");
            assert_eq!(asked, Some(Precondition::Is("7f.x".to_owned())));
        }
        for (value, etag) in [("\"7f\"", "7f"), ("\"a.b\"", "a.b"), ("\"\"", "")] {
            let asked = Precondition::of(&headers(header::IF_MATCH, &[value]));
            assert_eq!(asked.ok().flatten(), Some(Precondition::Is(etag.to_owned())), "{value}");
        }
        let any = Precondition::of(&headers(header::IF_MATCH, &["*"]));
        assert_eq!(any.ok().flatten(), Some(Precondition::Exists));
        for refused in ["W/\"a\"", "\"a\", \"b\"", "a", ""] {
            assert!(Precondition::of(&headers(header::IF_MATCH, &[refused])).is_err(), "{refused}");
        }
        assert_eq!(Precondition::of(&HeaderMap::new()).ok(), Some(None));
    }
}
