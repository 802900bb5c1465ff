//! Ships a spool to a topic, on a thread of its own so that its cost can be told from the redirects'.
//!
//! It looks at what was written once per round, which gives a low latency at a low rate and large records at a high one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Bus;
use crate::Error;
use crate::spool::Spool;
use crate::spool::commit::Commit;
use crate::spool::lanes::Lanes;
use crate::spool::lanes::Shipment;
use crate::spool::ledger::Ledger;
use crate::spool::scan::Scanner;
use crate::spool::scan::Step;

/// The least time between two rounds: what a click waits at a low rate, unless its lane has a record on its way.
const ROUND_EVERY_MIN: Duration = Duration::from_millis(20);

/// The most, however many records a round sends.
const ROUND_EVERY_MAX: Duration = Duration::from_millis(100);

/// How much later the next round comes for each record of this one. A record costs client and broker as much as a hundred
/// clicks, so small ones are limited to 400 a second; 24 partitions then get one each per 60 ms.
const ROUND_LATER_BY: Duration = Duration::from_micros(2500);

/// How much is read ahead of what is acknowledged. With the log away, the rest stays on disk only.
const WINDOW_BYTES_MAX: usize = 32 << 20;

/// How many chunks a round reads, so that records leave while a long spool is being read.
const CHUNKS_PER_ROUND_MAX: usize = 16;

/// The wait before a record is sent again that the log did not take, and before a segment is read again that could not be.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The wait before a record is sent again that the log refused, as it does while the topic is missing.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Ships a spool to a topic.
#[derive(Debug)]
pub struct Shipper;

impl Shipper {
    /// Ships until `stop`, then until the spool is empty or `ship_at_stop_max` has passed. One at a time per spool.
    ///
    /// What the log does not take is sent again for as long as this runs; what is not shipped stays in the folder. Its
    /// thread is named `spool-shipper`. Dropping the future ends the thread without shipping the rest.
    ///
    /// # Errors
    /// Another shipper runs, or the thread can't be started.
    pub async fn run(
        spool: Spool,
        bus: Bus,
        topic: &'static str,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let taken = spool.inner.shipping.swap(true, Ordering::AcqRel);
        anyhow::ensure!(!taken, "the spool has a shipper already");
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let (sender, done) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("spool-shipper".to_owned())
            .spawn(move || {
                let shipped = ship_on_this_thread(&spool, bus, topic, stop, gone);
                spool.inner.shipping.store(false, Ordering::Release);
                // Whoever asked may be gone: then nobody wants to know.
                drop(sender.send(shipped));
            })
            .context("the shipper's thread can't be started")?;
        let shipped = done.await;
        if thread.join().is_err() {
            anyhow::bail!("the shipper panicked");
        }
        shipped.context("the shipper's thread ended without a word")?
    }
}

fn ship_on_this_thread(
    spool: &Spool,
    bus: Bus,
    topic: &'static str,
    stop: CancellationToken,
    gone: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("the shipper's runtime can't be made")?;
    let ledger = Arc::clone(&spool.inner.ledger);
    let mut shipping = Shipping {
        commit: Arc::clone(&spool.inner.commit),
        scanner: Scanner::new(Arc::clone(&ledger)),
        ledger,
        bus,
        topic,
        lanes: Lanes::default(),
        under_way: FuturesUnordered::new(),
        caught_up: false,
    };
    let at_stop_max = spool.inner.ship_at_stop_max;
    runtime.block_on(async {
        tokio::select! {
            () = gone.cancelled() => {}
            () = shipping.run(stop, at_stop_max) => {}
        }
    });
    Ok(())
}

/// What a round did.
struct Round {
    /// False if the disk could not be read.
    readable: bool,
    /// The time to the next one.
    wait: Duration,
}

struct Shipping {
    commit: Arc<Commit>,
    ledger: Arc<Ledger>,
    scanner: Scanner,
    bus: Bus,
    topic: &'static str,
    lanes: Lanes,
    /// At most one per incarnation and partition.
    under_way: FuturesUnordered<BoxFuture<'static, Shipment>>,
    /// The last round read all that was written.
    caught_up: bool,
}

impl Shipping {
    async fn run(&mut self, stop: CancellationToken, at_stop_max: Duration) {
        let ledger = Arc::clone(&self.ledger);
        let mut next_round = Instant::now();
        let mut wanted = true;
        let mut deadline = None;
        loop {
            tokio::select! {
                Some(shipment) = self.under_way.next() => {
                    self.acknowledge(&shipment);
                    wanted |= self.lanes.has_ready() || !self.caught_up || deadline.is_some();
                }
                () = ledger.written.notified(), if !wanted => wanted = true,
                () = tokio::time::sleep_until(next_round), if wanted => {
                    let round = self.round();
                    next_round = Instant::now() + round.wait;
                    let more = !self.caught_up && !self.is_window_full();
                    wanted = more || !round.readable || deadline.is_some();
                    if deadline.is_some() && self.is_empty() && self.retire() {
                        return;
                    }
                }
                () = stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + at_stop_max);
                    wanted = true;
                }
                () = until(deadline) => {
                    tracing::warn!(bytes = self.ledger.bytes(), "spool was not shipped in time, it will be at the next start");
                    return;
                }
            }
        }
    }

    /// Reads what was written, as far as the window allows, and sends what may be sent.
    fn round(&mut self) -> Round {
        let mut readable = true;
        for _ in 0..CHUNKS_PER_ROUND_MAX {
            if self.is_window_full() {
                self.caught_up = false;
                break;
            }
            match self.scanner.step(&mut self.lanes) {
                Ok(step) => self.caught_up = step == Step::CaughtUp,
                Err(error) => {
                    tracing::error!(%error, "spool segment can't be read");
                    (readable, self.caught_up) = (false, false);
                }
            }
            if self.caught_up || !readable {
                break;
            }
        }
        let ready = self.lanes.take_ready();
        let wait = if !readable {
            RETRY_AFTER
        } else if !self.caught_up {
            // Records are as large as they get.
            ROUND_EVERY_MIN
        } else {
            let records = u32::try_from(ready.len()).unwrap_or(u32::MAX);
            ROUND_LATER_BY.saturating_mul(records).clamp(ROUND_EVERY_MIN, ROUND_EVERY_MAX)
        };
        for shipment in ready {
            let sent = send_until_acknowledged(self.bus.clone(), self.topic, shipment);
            self.under_way.push(Box::pin(sent));
        }
        self.settle();
        Round { readable, wait }
    }

    fn acknowledge(&mut self, shipment: &Shipment) {
        self.lanes.acknowledge(shipment);
        let metrics = &self.ledger.metrics;
        metrics.unshipped.dec_by(i64::from(shipment.count));
        metrics.shipped.inc_by(u64::from(shipment.count));
        metrics.records.inc();
        self.settle();
    }

    /// Does what the lanes ask for: removes shipped segments, publishes what was found and lost.
    fn settle(&mut self) {
        let events = self.lanes.take_events();
        for sequence in events.done {
            self.ledger.remove(sequence);
        }
        let metrics = &self.ledger.metrics;
        let lost = events.lost + events.lost_leftover;
        if lost > 0 {
            metrics.lost.inc_by(lost);
            tracing::error!(lost, "clicks were lost to a damaged spool segment");
        }
        let counted = |clicks: u64| i64::try_from(clicks).unwrap_or(i64::MAX);
        metrics.unshipped.inc_by(counted(events.found));
        metrics.unshipped.dec_by(counted(events.lost));
    }

    fn is_window_full(&self) -> bool {
        self.lanes.bytes() >= WINDOW_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.caught_up && self.under_way.is_empty() && !self.lanes.has_ready()
    }

    /// Closes and removes the segment being written, all of which is acknowledged. False if something was appended since.
    fn retire(&mut self) -> bool {
        let Some((sequence, position)) = self.scanner.place() else {
            return true;
        };
        if !self.commit.close_if_at(sequence, position) {
            return false;
        }
        self.round();
        self.scanner.place().is_none()
    }
}

/// Sends the record until the log has it.
async fn send_until_acknowledged(bus: Bus, topic: &'static str, shipment: Shipment) -> Shipment {
    loop {
        let wait = match bus.produce(topic, shipment.partition, shipment.record()).await {
            Ok(_) => return shipment,
            Err(Error::Unavailable(why)) => {
                tracing::warn!(topic, partition = shipment.partition, why, "clicks are sent again");
                RETRY_AFTER
            }
            Err(Error::Refused(why)) => {
                tracing::error!(
                    topic,
                    partition = shipment.partition,
                    why,
                    "clicks were refused, they are sent again"
                );
                REFUSED_RETRY_AFTER
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
