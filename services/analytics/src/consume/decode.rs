//! Records of the topic, click by click, each decoded by itself so that one that is broken leaves the others alone.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bus::Stored;
use bus::clicks;
use bytes::Bytes;
use prost::Message as _;
use proto::events::v1::Click as ClickEvent;
use proto::events::v1::ClickMethod;

use crate::domain::agent::Agents;
use crate::domain::agent::BotReason;
use crate::domain::click::Click;
use crate::domain::click::text;
use crate::domain::ledger::Incarnation;
use crate::store::fold::FoldedRecord;

const CITY_BYTES_MAX: usize = 128;
const USER_AGENT_BYTES_MAX: usize = 512;
const REFERRER_BYTES_MAX: usize = 253;
const UTM_BYTES_MAX: usize = 128;

/// The smallest part of a record that is folded by itself: a click, or a record that can't be taken apart.
#[derive(Clone, Debug)]
pub struct Step {
    /// The record's offset.
    pub offset: i64,
    /// When the log took the record, microseconds since 1970.
    pub append_micros: i64,
    /// Which clicks; nothing if the record's headers are unreadable.
    pub numbers: Option<(Incarnation, RangeInclusive<u64>)>,
    /// The encoded click, or the record's whole value.
    pub payload: Bytes,
    /// What the payload says.
    pub content: Content,
    /// With this step the record is done.
    pub ends: Option<FoldedRecord>,
}

/// What the payload of a step says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A click.
    Click(Box<Click>),
    /// It is no click that this build understands.
    Undecodable {
        /// What is wrong.
        detail: String,
        /// The payload is a whole record.
        whole_record: bool,
    },
}

impl Step {
    /// Its click, if it is one.
    pub fn click(&self) -> Option<&Click> {
        match &self.content {
            Content::Click(click) => Some(click),
            Content::Undecodable { .. } => None,
        }
    }
}

/// A record as it is remembered beside the offset.
pub fn remembered(record: &Stored) -> FoldedRecord {
    let append_micros = record.append_time.as_microsecond();
    match clicks::range(record) {
        Ok(range) => FoldedRecord {
            incarnation: Some(range.incarnation.into_bytes()),
            first: range.first,
            count: range.last - range.first + 1,
            append_micros,
        },
        Err(_) => FoldedRecord { incarnation: None, first: 0, count: 0, append_micros },
    }
}

/// The steps of a record, in order; at least one.
pub fn steps(record: &Stored, agents: &Agents, into: &mut Vec<Step>) {
    let (offset, append_micros) = (record.offset, record.append_time.as_microsecond());
    let batch = match clicks::decode(record) {
        Ok(batch) => batch,
        Err(error) => {
            let numbers = error
                .range()
                .map(|range| (range.incarnation.into_bytes(), range.first..=range.last));
            into.push(Step {
                offset,
                append_micros,
                numbers,
                payload: record.value.clone(),
                content: Content::Undecodable { detail: error.to_string(), whole_record: true },
                ends: Some(remembered(record)),
            });
            return;
        }
    };
    let incarnation = batch.incarnation.into_bytes();
    let mut left = batch.clicks.len();
    for (number, payload) in (batch.first..).zip(batch.clicks) {
        left -= 1;
        let content = match click(&payload, agents) {
            Ok(click) => Content::Click(Box::new(click)),
            Err(detail) => Content::Undecodable { detail, whole_record: false },
        };
        into.push(Step {
            offset,
            append_micros,
            numbers: Some((incarnation, number..=number)),
            payload,
            content,
            ends: (left == 0).then(|| remembered(record)),
        });
    }
}

/// Decodes one click: texts made valid and cut, user agent understood.
///
/// # Errors
/// What is wrong with it, for people.
pub fn click(payload: &[u8], agents: &Agents) -> Result<Click, String> {
    let event = ClickEvent::decode(payload).map_err(|error| error.to_string())?;
    let workspace = id("workspace_id", &event.workspace_id)?;
    let link = id("link_id", &event.link_id)?;
    let time_micros = i64::try_from(event.time_unix_micros)
        .map_err(|_| "time_unix_micros is out of range".to_owned())?;
    let method = event.method();
    let mut user_agent = event.user_agent;
    user_agent.truncate(USER_AGENT_BYTES_MAX);
    let agent = agents.understand(&user_agent);
    let bot = match method {
        ClickMethod::Get => agent.bot,
        ClickMethod::Head => Some(BotReason::Head),
        ClickMethod::Unspecified => return Err(format!("method {} is unknown", event.method)),
    };
    let country = country(event.country);
    let city = city(event.city, &country);
    Ok(Click {
        workspace,
        link,
        time_micros,
        bot,
        visitor: visitor(&event.visitor_hash)?,
        country,
        city,
        agent: Arc::clone(&agent),
        referrer: text(event.referrer_host, REFERRER_BYTES_MAX).to_ascii_lowercase(),
        utm: [
            event.utm_source,
            event.utm_medium,
            event.utm_campaign,
            event.utm_term,
            event.utm_content,
        ]
        .map(|value| text(value, UTM_BYTES_MAX)),
    })
}

/// The nil UUID stands for "all" in rollups, so no workspace and no link may bear it.
fn id(field: &str, bytes: &[u8]) -> Result<[u8; 16], String> {
    match <[u8; 16]>::try_from(bytes) {
        Ok(id) if id != [0; 16] => Ok(id),
        Ok(_) => Err(format!("{field} is nil")),
        Err(_) => Err(format!("{field} has {} bytes, not 16", bytes.len())),
    }
}

fn visitor(hash: &[u8]) -> Result<Option<u64>, String> {
    match hash {
        [] => Ok(None),
        _ => match <[u8; 8]>::try_from(hash) {
            Ok(hash) => Ok(Some(u64::from_be_bytes(hash))),
            Err(_) => Err(format!("visitor_hash has {} bytes, not 8", hash.len())),
        },
    }
}

fn country(code: String) -> String {
    let valid = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if valid { code } else { String::new() }
}

/// A city's name says little without its country.
fn city(name: String, country: &str) -> String {
    let mut name = text(name.into_bytes(), CITY_BYTES_MAX);
    if !name.is_empty() && !country.is_empty() {
        name.push_str(", ");
        name.push_str(country);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agent::tests::AGENTS;
    use crate::domain::click::Dimension;

    fn event() -> ClickEvent {
        ClickEvent {
            workspace_id: vec![1; 16],
            link_id: vec![2; 16],
            time_unix_micros: 1_000_000,
            method: ClickMethod::Get.into(),
            country: "SE".to_owned(),
            city: "Linköping".to_owned(),
            visitor_hash: vec![7; 8],
            user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
                .to_vec(),
            referrer_host: b"News.Example".to_vec(),
            utm_source: b"mail\0\xff".to_vec(),
            ..Default::default()
        }
    }

    fn decoded(event: &ClickEvent) -> Result<Click, String> {
        click(&event.encode_to_vec(), &AGENTS)
    }

    #[test]
    fn a_click_is_decoded_with_valid_text() {
        let click = decoded(&event()).unwrap();
        let value = |dimension| click.value(dimension).unwrap();
        assert_eq!(value(Dimension::City), "Linköping, SE");
        assert_eq!(value(Dimension::Browser), "Firefox");
        assert_eq!(value(Dimension::Device), "desktop");
        assert_eq!(value(Dimension::Referrer), "news.example");
        assert_eq!(value(Dimension::UtmSource), "mail\u{fffd}");
        assert_eq!(value(Dimension::UtmTerm), "");
        assert_eq!(click.value(Dimension::BotReason), None);
    }

    #[test]
    fn a_head_request_is_a_bots_whatever_it_says() {
        let click = decoded(&ClickEvent { method: ClickMethod::Head.into(), ..event() }).unwrap();
        assert_eq!(click.bot, Some(BotReason::Head));
        let click = decoded(&ClickEvent { user_agent: Vec::new(), ..event() }).unwrap();
        assert_eq!(click.bot, Some(BotReason::NoUserAgent));
    }

    #[test]
    fn long_text_is_cut_and_odd_countries_are_unknown() {
        let long = decoded(&ClickEvent {
            utm_term: vec![b'x'; 5_000],
            referrer_host: vec![b'y'; 5_000],
            country: "sweden".to_owned(),
            ..event()
        });
        let long = long.unwrap();
        assert_eq!((long.utm[3].len(), long.referrer.len(), long.country.as_str()), (128, 253, ""));
        assert_eq!(long.city, "Linköping");
    }

    #[test]
    fn what_is_no_click_says_why() {
        for (wrong, why) in [
            (ClickEvent { workspace_id: vec![1; 15], ..event() }, "workspace_id"),
            (ClickEvent { link_id: vec![0; 16], ..event() }, "nil"),
            (ClickEvent { visitor_hash: vec![1], ..event() }, "visitor_hash"),
            (ClickEvent { method: 77, ..event() }, "method 77"),
            (ClickEvent { time_unix_micros: u64::MAX, ..event() }, "time_unix_micros"),
        ] {
            let error = decoded(&wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(click(&[0xff, 0xff], &AGENTS).is_err());
    }
}
