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
/// Versions that a change may be meant for: a service compares one at a time.
const VERSIONS_MAX: usize = 8;
/// What no resource has as its `etag`, so that a change of one that is there is refused.
const NOBODYS: &str = "*";

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

/// What a change asks of the resource's `etag`: that it is one of these. Nothing, if there are none.
///
/// `If-Match: *` asks that there is something to change, which a service sees anyway; `If-None-Match: *`, that there is nothing.
///
/// # Errors
/// What can never hold, or is no list of tags; more than [`VERSIONS_MAX`]; a list in `If-None-Match`, which no service can compare and
/// change by at once.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Vec<String>, Fault> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let is_any = tags(headers, &header::IF_NONE_MATCH) == [Tag::Any];
        let why = "must be `*` where something is changed";
        return if is_any {
            Ok(vec![NOBODYS.to_owned()])
        } else {
            Err(refused("if-none-match", why))
        };
    }
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(Vec::new());
    }
    let tags = tags(headers, &header::IF_MATCH);
    if tags == [Tag::Any] {
        return Ok(Vec::new());
    }
    if tags.is_empty() || tags.contains(&Tag::Any) {
        return Err(refused("if-match", "must be entity tags, or `*`"));
    }
    let mut versions: Vec<String> = Vec::new();
    for tag in tags {
        // Tags are compared strongly here: a weak one is equal to none. Nor is an empty one, which would ask nothing of a service.
        let Tag::Strong(tag) = tag else { continue };
        let etag = etag_of(tag);
        if !etag.is_empty() && !versions.iter().any(|other| other == etag) {
            versions.push(etag.to_owned());
        }
    }
    match versions.len() {
        0 => Err(Fault::precondition_failed()),
        1..=VERSIONS_MAX => Ok(versions),
        _ => Err(refused("if-match", &format!("must name at most {VERSIONS_MAX} versions"))),
    }
}

/// The same of what a client streams, which can't be sent again for another version.
///
/// # Errors
/// As for [`wanted`]; more than one version.
pub(crate) fn wanted_of_stream(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let mut versions = wanted(headers)?;
    if versions.len() > 1 {
        return Err(refused("if-match", "must name one version where the client streams"));
    }
    Ok(versions.pop())
}

fn refused(header: &str, why: &str) -> Fault {
    Error::invalid(header, why).into()
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
            assert_eq!(wanted(&headers).expect("one tag"), ["7f.x"]);
        }
        for (values, etags) in [
            (&[r#""7f""#][..], &["7f"][..]),
            (&[r#""a.b""#], &["a.b"]),
            (&[r#""a", "b", "a""#, r#""c""#], &["a", "b", "c"]),
            (&[r#"W/"a", "b", """#], &["b"]),
            (&["*"], &[]),
        ] {
            let asked = wanted(&headers(header::IF_MATCH, values));
            assert_eq!(asked.expect("a condition"), etags, "{values:?}");
        }
        assert_eq!(wanted(&HeaderMap::new()).expect("no condition"), [""; 0]);
    }

    #[test]
    fn r54_a_condition_that_can_not_hold_is_412_and_one_that_is_none_is_refused() {
        let nine = (0..9).map(|nth| format!("\"{nth}\"")).collect::<Vec<_>>().join(", ");
        for (name, value, status) in [
            (header::IF_MATCH, r#"W/"a", W/"b""#, 412),
            (header::IF_MATCH, r#""""#, 412),
            (header::IF_MATCH, "a", 400),
            (header::IF_MATCH, "", 400),
            (header::IF_MATCH, r#""a", *"#, 400),
            (header::IF_MATCH, &nine, 400),
            (header::IF_NONE_MATCH, r#""a""#, 400),
            (header::IF_NONE_MATCH, "", 400),
        ] {
            let fault = wanted(&headers(name, &[value])).expect_err("it is refused");
            let response = fault.into_response(crate::fault::form(&HeaderMap::new()));
            assert_eq!(response.status(), status, "{value}");
        }
        let absent = wanted(&headers(header::IF_NONE_MATCH, &["*"]));
        assert_eq!(absent.expect("a condition"), [NOBODYS]);
    }
}
