//! BreakDownClicks: values of a dimension, most clicks first, page by page.

use std::collections::HashMap;

use jiff::Timestamp;
use proto::analytics::v1::BreakDownClicksRequest;
use proto::analytics::v1::BreakDownClicksResponse;
use proto::analytics::v1::ClickShare;
use proto::analytics::v1::Dimension as ProtoDimension;
use rpc::Id;
use rpc::kind;
use uuid::Uuid;

use super::clicks::RANGE_DEFAULT_MICROS;
use super::failed;
use super::range;
use super::range::Subject;
use crate::domain::click::Dimension;
use crate::domain::counts::Counts;
use crate::domain::packed::read_dimensions;
use crate::domain::quarter::Quarter;
use crate::domain::visitors::Uniques;
use crate::store;
use crate::store::Store;

const METHOD: &str = "BreakDownClicks";

/// What the clicks are broken down by.
enum By {
    Link,
    Value(Dimension),
}

/// Where a page begins: the range of the first page, and the last share of the page before.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    quarters: std::ops::Range<i64>,
    /// Its weight, and its value (the 16 bytes of a link's id, or text).
    after: Option<(u64, Vec<u8>)>,
}

/// One page.
pub(super) async fn page(
    store: &Store,
    subject: &Subject,
    asked: &BreakDownClicksRequest,
    now: Timestamp,
) -> Result<BreakDownClicksResponse, rpc::Error> {
    let by = dimension(asked.dimension)?;
    let size = rpc::page::size(asked.page_size)?;
    let parameters = parameters(asked);
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let cursor = match rpc::page::cursor(METHOD, &parameters, &asked.page_token)? {
        Some(bytes) => Cursor::decode(&bytes).ok_or_else(rpc::Error::invalid_page_token)?,
        None => Cursor { quarters: quarters(asked, now)?, after: None },
    };
    let page = match by {
        By::Link => links(store, subject, &cursor, size).await,
        By::Value(dimension) => values(store, subject, dimension, &cursor, size).await,
    };
    let Page { shares, next } = page.map_err(|error| failed(&error))?;
    let next_page_token = next.map_or_else(String::new, |after| {
        let next = Cursor { quarters: cursor.quarters, after: Some(after) };
        rpc::page::token(METHOD, &parameters, &next.encode())
    });
    Ok(BreakDownClicksResponse { shares, next_page_token })
}

struct Page {
    shares: Vec<ClickShare>,
    next: Option<(u64, Vec<u8>)>,
}

async fn links(
    store: &Store,
    subject: &Subject,
    cursor: &Cursor,
    size: usize,
) -> Result<Page, store::Error> {
    let scope = subject.scope_by_link(cursor.quarters.clone());
    let after = cursor
        .after
        .as_ref()
        .and_then(|(weight, link)| Some((*weight, Uuid::from_slice(link).ok()?)));
    let mut found = store.links_by_clicks(&scope, after, size + 1).await?;
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more);
    let next = next.map(|(link, counts)| (counts.weight(), link.as_bytes().to_vec()));

    let mut visitors: HashMap<Uuid, Uniques> = HashMap::new();
    let mut of_page = scope;
    of_page.links = found.iter().map(|(link, _)| *link).collect();
    let see = |link: Uuid, quarter: Quarter, packed: &[u8]| {
        Ok(visitors.entry(link).or_default().see(quarter.day(), packed)?)
    };
    store.each_link_visitors(&of_page, see).await?;

    let workspace = subject.workspace;
    let shares = found.into_iter().map(|(link, counts)| {
        let uniques = visitors.remove(&link).map_or(0, Uniques::sum);
        let link = Id::<kind::Link>::from(link);
        ClickShare {
            value: format!("workspaces/{workspace}/links/{link}"),
            counts: Some(range::counts(counts, uniques)),
        }
    });
    Ok(Page { shares: shares.collect(), next })
}

async fn values(
    store: &Store,
    subject: &Subject,
    dimension: Dimension,
    cursor: &Cursor,
    size: usize,
) -> Result<Page, store::Error> {
    let mut values: HashMap<String, Counts> = HashMap::new();
    let add = |_, packed: &[u8]| {
        read_dimensions(packed, Some(dimension), |_, value, counts| match values.get_mut(value) {
            Some(sum) => sum.add(counts),
            None => {
                values.insert(value.to_owned(), counts);
            }
        })?;
        Ok(())
    };
    store.each_dimensions(&subject.scope(cursor.quarters.clone()), add).await?;

    // Most clicks first, then by value.
    let order =
        |value: &str, counts: &Counts| (std::cmp::Reverse(counts.weight()), value.to_owned());
    let mut ranked: Vec<(String, Counts)> = values.into_iter().collect();
    ranked.sort_unstable_by_key(|(value, counts)| order(value, counts));
    let begin = cursor.after.as_ref().map_or(0, |(weight, after)| {
        let after = (std::cmp::Reverse(*weight), String::from_utf8_lossy(after).into_owned());
        ranked.partition_point(|(value, counts)| order(value, counts) <= after)
    });
    let end = ranked.len().min(begin + size);
    let next = ranked[begin..end].last().filter(|_| end < ranked.len());
    let next = next.map(|(value, counts)| (counts.weight(), value.clone().into_bytes()));
    let shares = ranked
        .drain(begin..end)
        .map(|(value, counts)| ClickShare { value, counts: Some(range::counts(counts, 0)) });
    Ok(Page { shares: shares.collect(), next })
}

fn quarters(
    asked: &BreakDownClicksRequest,
    now: Timestamp,
) -> Result<std::ops::Range<i64>, rpc::Error> {
    let (start, end) = range::range(
        asked.start_time.as_ref(),
        asked.end_time.as_ref(),
        now,
        RANGE_DEFAULT_MICROS,
    )?;
    Ok(Quarter::of(start).0..Quarter::at_or_after(end).0)
}

/// All that the next page's call must repeat.
fn parameters(asked: &BreakDownClicksRequest) -> Vec<String> {
    let mut parameters = vec![
        asked.parent.clone(),
        asked.dimension.to_string(),
        format!("{:?}", asked.start_time),
        format!("{:?}", asked.end_time),
    ];
    parameters.extend(asked.links.iter().cloned());
    parameters
}

fn dimension(number: i32) -> Result<By, rpc::Error> {
    let dimension = match ProtoDimension::try_from(number) {
        Ok(ProtoDimension::Link) => return Ok(By::Link),
        Ok(ProtoDimension::Country) => Dimension::Country,
        Ok(ProtoDimension::City) => Dimension::City,
        Ok(ProtoDimension::Device) => Dimension::Device,
        Ok(ProtoDimension::Os) => Dimension::Os,
        Ok(ProtoDimension::Browser) => Dimension::Browser,
        Ok(ProtoDimension::Referrer) => Dimension::Referrer,
        Ok(ProtoDimension::UtmSource) => Dimension::UtmSource,
        Ok(ProtoDimension::UtmMedium) => Dimension::UtmMedium,
        Ok(ProtoDimension::UtmCampaign) => Dimension::UtmCampaign,
        Ok(ProtoDimension::UtmTerm) => Dimension::UtmTerm,
        Ok(ProtoDimension::UtmContent) => Dimension::UtmContent,
        Ok(ProtoDimension::BotReason) => Dimension::BotReason,
        Ok(ProtoDimension::Unspecified) | Err(_) => {
            return Err(rpc::Error::invalid(
                "dimension",
                "is required: one of the dimensions, such as `DIMENSION_COUNTRY`",
            ));
        }
    };
    Ok(By::Value(dimension))
}

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.quarters.start.to_be_bytes());
        bytes.extend_from_slice(&self.quarters.end.to_be_bytes());
        if let Some((weight, value)) = &self.after {
            bytes.extend_from_slice(&weight.to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Cursor> {
        let (start, rest) = bytes.split_first_chunk::<8>()?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        let (weight, value) = rest.split_first_chunk::<8>()?;
        let quarters = i64::from_be_bytes(*start)..i64::from_be_bytes(*end);
        // A forged one may name quarter hours that no clock has.
        let known = Quarter::of(Timestamp::MIN.as_microsecond()).0
            ..=Quarter::at_or_after(Timestamp::MAX.as_microsecond()).0;
        if !known.contains(&quarters.start) || !known.contains(&quarters.end) {
            return None;
        }
        Some(Cursor { quarters, after: Some((u64::from_be_bytes(*weight), value.to_vec())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let cursor = Cursor { quarters: -3..99, after: Some((7, "Åre, SE".into())) };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        assert_eq!(Cursor::decode(b"short"), None);
        for quarters in [i64::MIN..0, 0..i64::MAX] {
            let forged = Cursor { quarters, after: Some((0, Vec::new())) };
            assert_eq!(Cursor::decode(&forged.encode()), None);
        }
    }
}
