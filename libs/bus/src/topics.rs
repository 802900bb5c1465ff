//! The topics there are, and what a topic's log promises.

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = HOUR.saturating_mul(24);

/// A topic, as [`Bus::ensure_topic`](crate::Bus::ensure_topic) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name: lower-case letters, digits and dashes.
    pub name: &'static str,
    /// How many partitions it has at least; 1 to [`PARTITIONS_MAX`]. A topic only ever grows.
    pub partitions: u32,
    /// What may be forgotten.
    pub retention: Retention,
}

/// What a topic's log may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Records older than this, by append time.
    Delete(Duration),
    /// Records whose key has a later record. Every record needs a key; offsets keep their gaps.
    Compact,
}

/// The most partitions a topic may have.
pub const PARTITIONS_MAX: u32 = 4096;

/// Clicks on their way from the edges' spools to the aggregators. It is kept longer than the oldest backup of the
/// aggregator's store (30 days), so that a restored store finds what it has not folded yet.
pub const LINK_EVENTS: TopicSpec = TopicSpec {
    name: "link-events",
    partitions: 24,
    retention: Retention::Delete(DAY.saturating_mul(36)),
};

/// What each (domain, slug) leads to, in the order of change, followed by every edge.
pub const LINK_CHANGES: TopicSpec =
    TopicSpec { name: "link-changes", partitions: 1, retention: Retention::Compact };

/// API keys of which edges must forget what they remember.
pub const KEY_CHANGES: TopicSpec =
    TopicSpec { name: "key-changes", partitions: 1, retention: Retention::Compact };

/// What happened to users' accounts, for whoever acts on it. Everyone follows all of it.
pub const USER_EVENTS: TopicSpec = TopicSpec {
    name: "user-events",
    partitions: 1,
    retention: Retention::Delete(DAY.saturating_mul(36)),
};

/// Sessions that ended early, followed by every edge from its beginning: no access token outlives what is kept.
pub const SESSION_ENDS: TopicSpec =
    TopicSpec { name: "session-ends", partitions: 1, retention: Retention::Delete(HOUR) };

/// Users of whom edges must forget what they may do where.
pub const USER_CHANGES: TopicSpec =
    TopicSpec { name: "user-changes", partitions: 1, retention: Retention::Compact };

/// Every topic, for a start that ensures them all.
pub const ALL: [TopicSpec; 6] =
    [LINK_EVENTS, LINK_CHANGES, KEY_CHANGES, USER_EVENTS, USER_CHANGES, SESSION_ENDS];
