//! What is kept of a redirect: `linkmesh.events.v1.Click`, encoded in one buffer. No address is in it.

use std::borrow::Cow;

use http::HeaderMap;
use http::HeaderValue;
use http::header;
use percent_encoding::percent_decode;
use proto::events::v1::ClickMethod;

use crate::places::Place;
use crate::target::Target;
use crate::target::UTM_NAMES;
use crate::visitors::VisitorHash;

/// Bytes kept of the `user-agent` header.
pub(crate) const USER_AGENT_BYTES_MAX: usize = 512;
/// Bytes kept of the referring host.
const REFERRER_BYTES_MAX: usize = 253;
/// Bytes kept of a UTM parameter.
const UTM_BYTES_MAX: usize = 128;
/// Parameters of a request's query that are looked at.
const PARAMETERS_MAX: usize = 64;

/// What a request says about a click.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) time_micros: u64,
    pub(crate) method: ClickMethod,
    pub(crate) place: Place<'a>,
    pub(crate) visitor: Option<VisitorHash>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
}

/// The event for a redirect to `target`.
pub(crate) fn encode(target: &Target, seen: &Seen<'_>) -> Vec<u8> {
    let user_agent = cut(user_agent(seen.headers), USER_AGENT_BYTES_MAX);
    let mut click = Vec::with_capacity(160 + user_agent.len());
    field(&mut click, 1, &target.workspace_id);
    field(&mut click, 2, &target.link_id);
    click.push(3 << 3 | 1);
    click.extend_from_slice(&seen.time_micros.to_le_bytes());
    click.extend_from_slice(&[4 << 3, if seen.method == ClickMethod::Head { 2 } else { 1 }]);
    field(&mut click, 5, seen.place.country.as_bytes());
    field(&mut click, 6, seen.place.city.as_bytes());
    if let Some(visitor) = &seen.visitor {
        field(&mut click, 7, visitor);
    }
    field(&mut click, 8, user_agent);
    field(&mut click, 9, &referrer_host(seen.headers));
    let mut asked: [Option<Cow<'_, [u8]>>; 5] = Default::default();
    if let Some(query) = seen.query {
        utm_of_query(query, &mut asked);
    }
    for (number, (asked, own)) in (10..).zip(asked.iter().zip(&target.utm)) {
        let value = asked.as_deref().unwrap_or(own);
        field(&mut click, number, cut(value, UTM_BYTES_MAX));
    }
    click
}

/// Appends a field of bytes; an empty one is left out, as proto3 does. Numbers are at most 15: one byte.
fn field(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    into.push(number << 3 | 2);
    prost::encoding::encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

pub(crate) fn user_agent(headers: &HeaderMap) -> &[u8] {
    headers.get(header::USER_AGENT).map_or(&[], HeaderValue::as_bytes)
}

fn cut(bytes: &[u8], bytes_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(bytes_max)]
}

/// The host of the `referer` header in lower case, without user and port.
fn referrer_host(headers: &HeaderMap) -> Cow<'_, [u8]> {
    let Some(referrer) = headers.get(header::REFERER) else { return Cow::Borrowed(&[]) };
    let referrer = referrer.as_bytes();
    let Some(scheme_end) = referrer.windows(3).position(|three| three == b"://") else {
        return Cow::Borrowed(&[]);
    };
    let rest = &referrer[scheme_end + 3..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b'\\'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let host = authority.rsplit(|b| *b == b'@').next().unwrap_or_default();
    let port_at = match host.iter().position(|b| *b == b']') {
        Some(bracket) => bracket + 1,
        None => host.iter().position(|b| *b == b':').unwrap_or(host.len()),
    };
    let host = cut(&host[..port_at], REFERRER_BYTES_MAX);
    if host.iter().any(u8::is_ascii_uppercase) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

/// Reads the five parameters out of a query; the first of several wins, and an empty one is as good as none.
fn utm_of_query<'a>(query: &'a str, into: &mut [Option<Cow<'a, [u8]>>; 5]) {
    for pair in query.split('&').take(PARAMETERS_MAX) {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let Some(index) = UTM_NAMES.iter().position(|known| *known == name) else { continue };
        if value.is_empty() || into[index].is_some() {
            continue;
        }
        let value = if value.contains('+') {
            Cow::Owned(value.replace('+', " ").into_bytes())
        } else {
            Cow::Borrowed(value.as_bytes())
        };
        into[index] = Some(if value.contains(&b'%') {
            Cow::Owned(percent_decode(&value).collect())
        } else {
            value
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::events::v1::Click;
    use proto::links::v1::Route;
    use proto::links::v1::UtmParameters;

    fn target(utm: UtmParameters) -> Target {
        Target::new(&Route {
            link_id: vec![7; 16],
            workspace_id: vec![8; 16],
            destination_uri: "https://example.com".to_owned(),
            status: 302,
            enabled: true,
            utm: Some(utm),
            ..Route::default()
        })
        .expect("a good route")
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| name.parse::<http::HeaderName>().expect("a name");
        pairs.iter().map(|(n, v)| (name(n), v.parse().expect("a value"))).collect()
    }

    fn click(target: &Target, headers: &HeaderMap, query: Option<&str>) -> Click {
        let seen = Seen {
            time_micros: 1_764_000_000_000_000,
            method: ClickMethod::Head,
            place: Place { country: "SE", city: "Linköping" },
            visitor: Some([9; 8]),
            headers,
            query,
        };
        Click::decode(encode(target, &seen).as_slice()).expect("it is a Click")
    }

    #[test]
    fn an_encoded_click_is_the_message_of_the_proto() {
        let own = UtmParameters {
            source: "own".to_owned(),
            content: "banner".to_owned(),
            ..UtmParameters::default()
        };
        let headers = headers(&[
            ("user-agent", "Mozilla/5.0"),
            ("referer", "https://me@News.Example:8443/story?x"),
        ]);
        let query = "utm_source=a%26b+c&utm_source=second&utm_medium=&x=1&utm_term=t";
        assert_eq!(
            click(&target(own), &headers, Some(query)),
            Click {
                workspace_id: vec![8; 16],
                link_id: vec![7; 16],
                time_unix_micros: 1_764_000_000_000_000,
                method: ClickMethod::Head.into(),
                country: "SE".to_owned(),
                city: "Linköping".to_owned(),
                visitor_hash: vec![9; 8],
                user_agent: b"Mozilla/5.0".to_vec(),
                referrer_host: b"news.example".to_vec(),
                utm_source: b"a&b c".to_vec(),
                utm_term: b"t".to_vec(),
                utm_content: b"banner".to_vec(),
                ..Click::default()
            }
        );
    }

    #[test]
    fn what_a_client_sends_is_cut_to_its_limit() {
        let long = "x".repeat(5_000);
        let headers = headers(&[("user-agent", &long), ("referer", &format!("http://{long}/"))]);
        let query = format!("utm_campaign={long}");
        let click = click(&target(UtmParameters::default()), &headers, Some(&query));
        assert_eq!(click.user_agent.len(), USER_AGENT_BYTES_MAX);
        assert_eq!(click.referrer_host.len(), REFERRER_BYTES_MAX);
        assert_eq!(click.utm_campaign.len(), UTM_BYTES_MAX);
    }

    #[test]
    fn a_referrer_that_is_no_uri_is_none() {
        for (referrer, host) in [
            ("", ""),
            ("about:blank", ""),
            ("http://[::1]:80/x", "[::1]"),
            ("android-app://com.x/", "com.x"),
        ] {
            let headers = headers(&[("referer", referrer)]);
            let click = click(&target(UtmParameters::default()), &headers, None);
            assert_eq!(click.referrer_host, host.as_bytes(), "{referrer}");
        }
    }
}
