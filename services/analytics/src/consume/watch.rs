//! One watcher of live clicks: first what its token has not seen yet, then the tail.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bus::Reader;
use bus::Start;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::folder::TOPIC;
use super::tail::Filter;
use super::tail::Full;
use super::tail::Placed;
use super::tail::Subscription;
use super::tail::Tail;
use super::tail::place;
use crate::domain::ledger::Incarnation;
use crate::domain::position::Position;
use crate::domain::position::Positions;

/// Without a click for so long, a heartbeat is sent.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after this; its caller resumes.
const LIFE: Duration = Duration::from_secs(3600);
/// How long the topic's end may take to be found.
const SUBSCRIBE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Records read at once while catching up.
const RECORDS_MAX: usize = 64;
/// How long one read waits while catching up.
const READ_WAIT: Duration = Duration::from_millis(500);

/// Why a watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Too many watch already.
    #[error(transparent)]
    Full(#[from] Full),
    /// This watcher was too slow.
    #[error("the reader fell too many clicks behind")]
    FellBehind,
    /// The token names places that the topic never had.
    #[error("was not made by this method")]
    UnknownPlace,
    /// The token names places that the topic no longer holds.
    #[error("is older than what the topic still holds")]
    Overtaken,
    /// The log can't be read now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<bus::Error> for WatchError {
    fn from(error: bus::Error) -> Self {
        WatchError::Unavailable(error.to_string())
    }
}

impl From<bus::ReadError> for WatchError {
    fn from(error: bus::ReadError) -> Self {
        match error {
            bus::ReadError::OutOfRange { .. } => WatchError::Overtaken,
            bus::ReadError::Unavailable(_) | bus::ReadError::Damaged(_) => {
                WatchError::Unavailable(error.to_string())
            }
        }
    }
}

struct CatchUp {
    partition: u32,
    until: i64,
    reader: Option<Reader>,
    seen: HashMap<Incarnation, u64>,
}

/// A watch under way.
pub struct Watch {
    tail: Arc<Tail>,
    filter: Filter,
    positions: Positions,
    catching_up: VecDeque<CatchUp>,
    ready: VecDeque<Placed>,
    /// Where a partition stands once `ready` is empty.
    caught_up_to: Option<(u32, i64)>,
    live: Option<Subscription>,
    ends: Instant,
    heartbeat: Instant,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watch").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl Watch {
    /// Begins at `resume`, or at the topic's end.
    pub async fn begin(
        tail: Arc<Tail>,
        filter: Filter,
        resume: Option<Positions>,
    ) -> Result<Watch, WatchError> {
        let now = Instant::now();
        let mut watch = Watch {
            tail,
            filter,
            positions: Positions::default(),
            catching_up: VecDeque::new(),
            ready: VecDeque::new(),
            caught_up_to: None,
            live: None,
            ends: now + LIFE,
            // The first message is a heartbeat: a token to resume from.
            heartbeat: now,
        };
        match resume {
            None => {
                watch.go_live().await?;
            }
            Some(positions) => {
                watch.positions = positions;
                watch.plan_catching_up().await?;
            }
        }
        Ok(watch)
    }

    /// The next click, or nothing for a heartbeat, each with where to go on from; the outer nothing is the end.
    pub async fn next(&mut self) -> Result<Option<(Option<Placed>, Positions)>, WatchError> {
        loop {
            if Instant::now() >= self.ends {
                return Ok(None);
            }
            if let Some(placed) = self.ready.pop_front() {
                if !self.positions.advance(placed.partition, placed.offset, placed.index) {
                    continue;
                }
                self.heartbeat = Instant::now() + HEARTBEAT;
                return Ok(Some((Some(placed), self.positions.clone())));
            }
            if Instant::now() >= self.heartbeat {
                self.heartbeat = Instant::now() + HEARTBEAT;
                self.reach_tail();
                return Ok(Some((None, self.positions.clone())));
            }
            if let Some((partition, offset)) = self.caught_up_to.take() {
                self.positions.pass(partition, offset);
            }
            if !self.catching_up.is_empty() {
                self.catch_up().await?;
                continue;
            }
            let Some(live) = &mut self.live else {
                self.go_live().await?;
                continue;
            };
            let received = timeout_at(self.heartbeat.min(self.ends), live.clicks.recv()).await;
            if live.fell_behind() {
                return Err(WatchError::FellBehind);
            }
            match received {
                Ok(Some(placed)) => self.ready.push_back(placed),
                Ok(None) => {
                    let why = "the instance stops reading; resume from the last token";
                    return Err(WatchError::Unavailable(why.to_owned()));
                }
                Err(_) => {}
            }
        }
    }

    /// Before the tail is joined, what lies behind is read apart, however much it is.
    async fn plan_catching_up(&mut self) -> Result<(), WatchError> {
        let bus = self.tail.bus.clone();
        let count = bus.partitions(TOPIC).await?;
        if self.positions.partitions() > count as usize {
            return Err(WatchError::UnknownPlace);
        }
        for partition in 0..count {
            let Position { offset, index } = self.positions.at(partition);
            let end = bus.end_offset(TOPIC, partition).await?;
            if offset > end || (offset == end && index > 0) {
                return Err(WatchError::UnknownPlace);
            }
            if offset < bus.low_offset(TOPIC, partition).await? {
                return Err(WatchError::Overtaken);
            }
            self.behind(partition, end);
        }
        Ok(())
    }

    fn behind(&mut self, partition: u32, until: i64) {
        if self.positions.at(partition).offset < until {
            let catch_up = CatchUp { partition, until, reader: None, seen: HashMap::new() };
            self.catching_up.push_back(catch_up);
        }
    }

    async fn catch_up(&mut self) -> Result<(), WatchError> {
        let Some(current) = self.catching_up.front_mut() else { return Ok(()) };
        let partition = current.partition;
        let reader = match &mut current.reader {
            Some(reader) => reader,
            none => {
                let start = Start::Offset(self.positions.at(partition).offset);
                none.insert(self.tail.bus.reader(TOPIC, partition, start).await?)
            }
        };
        let records = reader.next(RECORDS_MAX, READ_WAIT).await?;
        let mut placed = Vec::new();
        for record in &records {
            place(record, partition, &self.tail.agents, &mut current.seen, &mut placed);
        }
        let reached = records.last().map_or(0, |record| record.offset + 1);
        if reached >= current.until {
            self.catching_up.pop_front();
        }
        placed.retain(|placed| self.filter.wants(&placed.click));
        self.ready.extend(placed);
        self.caught_up_to = (reached > 0).then_some((partition, reached));
        Ok(())
    }

    /// Once everything behind was read, a token need not lie further back than the tail.
    fn reach_tail(&mut self) {
        if !self.catching_up.is_empty() || self.caught_up_to.is_some() {
            return;
        }
        if let Some(reached) = self.live.as_ref().and_then(Subscription::positions) {
            self.positions.reach(&reached);
        }
    }

    async fn go_live(&mut self) -> Result<(), WatchError> {
        let subscribed = self.tail.subscribe(self.filter.clone());
        let subscribed = tokio::time::timeout(SUBSCRIBE_WAIT_MAX, subscribed).await;
        let why = "the topic's end can't be found now";
        let live = subscribed.map_err(|_| WatchError::Unavailable(why.to_owned()))??;
        let resumes = self.positions.partitions() > 0;
        for (partition, from) in (0..).zip(live.from.clone()) {
            if resumes {
                self.behind(partition, from);
            } else {
                self.positions.pass(partition, from);
            }
        }
        self.live = Some(live);
        Ok(())
    }
}
