//! What the requests for counts have in common: whose, of which links, in which range.

use std::collections::BTreeSet;

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;
use proto::analytics::v1::ClickCounts;
use rpc::Principal;
use rpc::WorkspaceId;
use rpc::kind;
use uuid::Uuid;

use crate::domain::counts::Counts;
use crate::store::queries::Scope;

/// Links that one call may name.
pub(super) const LINKS_MAX: usize = 100;

/// Whose clicks are asked for, and of which links; no links means all.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) workspace: WorkspaceId,
    pub(super) links: Vec<Uuid>,
}

impl Subject {
    /// Reads `parent` and `links`. Another's workspace does not exist for the caller, nor does a link in it.
    pub(super) fn of<T>(
        request: &tonic::Request<T>,
        parent: &str,
        links: &[String],
    ) -> Result<Subject, rpc::Error> {
        let workspace = rpc::name::workspace("parent", parent)?;
        Principal::admitted(request, workspace)?;
        if links.len() > LINKS_MAX {
            let why = format!("must name at most {LINKS_MAX} links, names {}", links.len());
            return Err(rpc::Error::invalid("links", why));
        }
        let mut named = BTreeSet::new();
        for name in links {
            let (of, link) = rpc::name::child::<kind::Link>("links", "links", name)?;
            if of != workspace {
                return Err(rpc::Error::not_found(name));
            }
            named.insert(link.uuid());
        }
        Ok(Subject { workspace, links: named.into_iter().collect() })
    }

    /// Its rollups: those of the links, or of the workspace as a whole.
    pub(super) fn scope(&self, quarters: std::ops::Range<i64>) -> Scope {
        let links = if self.links.is_empty() { vec![Uuid::nil()] } else { self.links.clone() };
        Scope { workspace: self.workspace.uuid(), links, quarters }
    }

    /// Its rollups link by link; no links means every one.
    pub(super) fn scope_by_link(&self, quarters: std::ops::Range<i64>) -> Scope {
        Scope { workspace: self.workspace.uuid(), links: self.links.clone(), quarters }
    }
}

/// Reads a range in microseconds. Without an end it ends now, without a start it is `default_micros` long.
pub(super) fn range(
    start: Option<&ProtoTimestamp>,
    end: Option<&ProtoTimestamp>,
    now: Timestamp,
    default_micros: i64,
) -> Result<(i64, i64), rpc::Error> {
    let read = |field, time: Option<&ProtoTimestamp>| {
        time.map(|time| rpc::time::from_proto(field, time)).transpose()
    };
    let end = read("end_time", end)?.unwrap_or(now).as_microsecond();
    let start = read("start_time", start)?.map(|start| start.as_microsecond());
    let start = start.unwrap_or_else(|| end.saturating_sub(default_micros));
    if start > end {
        return Err(rpc::Error::invalid("start_time", "must not be after `end_time`"));
    }
    Ok((start, end))
}

/// A moment in microseconds, for a message.
pub(super) fn time(micros: i64) -> Option<ProtoTimestamp> {
    Timestamp::from_microsecond(micros).ok().map(rpc::time::to_proto)
}

/// Counts, for a message.
pub(super) fn counts(counts: Counts, unique_visitors: u64) -> ClickCounts {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    ClickCounts {
        clicks: signed(counts.clicks),
        bot_clicks: signed(counts.bot_clicks),
        unique_visitors: signed(unique_visitors),
    }
}
