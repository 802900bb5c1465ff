//! Group commit without a thread of its own: whoever finds the journal free writes what has queued up, its own click
//! included; the others wait for that write.
//!
//! Uncontended, an append is one lock, one write(2) and one lock. Whoever leads holds the journal; nobody else can.

use std::sync::Arc;
use std::sync::Mutex;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::spool::AppendError;
use crate::spool::journal::Clicks;
use crate::spool::journal::Journal;
use crate::spool::ledger::lock;

/// After so many writes a leader hands over: its own caller waits for an answer too.
const ROUNDS_MAX: usize = 8;

/// The most clicks that may wait for the write under way. One caller waits with one click, so this is reached only
/// when the disk stalls; what comes then is lost at once instead of holding redirects.
const WAITING_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Commit {
    state: Mutex<State>,
    lost: Counter,
}

#[derive(Debug)]
struct State {
    /// None while somebody leads.
    journal: Option<Box<Journal>>,
    queue: Batch,
    /// The other buffer, while nobody writes it.
    spare: Batch,
    /// A day began while somebody led.
    day: Option<Timestamp>,
}

/// Clicks and who waits for each.
#[derive(Debug, Default)]
struct Batch {
    clicks: Clicks,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
enum Waiting {
    Leader,
    Follower(oneshot::Sender<Answer>),
    /// The caller went away before its click was written, which it will be all the same.
    Gone,
}

#[derive(Debug)]
enum Answer {
    Done(Result<(), AppendError>),
    /// Nobody leads now but the receiver, whose click is the first in the queue.
    Lead(Lead),
}

/// The duty to write what is queued. Dropping it is doing it, so a caller that goes away takes no one with it.
#[derive(Debug)]
struct Lead {
    commit: Arc<Commit>,
    journal: Option<Box<Journal>>,
}

impl Commit {
    /// `lost` counts the clicks that never reach the journal; it counts its own.
    pub(crate) fn new(journal: Journal, lost: Counter) -> Self {
        let state = State {
            journal: Some(Box::new(journal)),
            queue: Batch::default(),
            spare: Batch::default(),
            day: None,
        };
        Self { state: Mutex::new(state), lost }
    }

    /// Returns once the click is written, or lost (and counted).
    pub(crate) async fn append(
        self: &Arc<Self>,
        partition: u32,
        click: &[u8],
    ) -> Result<(), AppendError> {
        let answer = {
            let mut state = lock(&self.state);
            if state.queue.clicks.len() >= WAITING_MAX {
                self.lost.inc();
                return Err(AppendError::Behind);
            }
            state.queue.clicks.push(partition, click);
            if let Some(journal) = state.journal.take() {
                state.queue.waiting.push(Waiting::Leader);
                drop(state);
                return self.lead(journal);
            }
            let (sender, answer) = oneshot::channel();
            state.queue.waiting.push(Waiting::Follower(sender));
            answer
        };
        match answer.await {
            Ok(Answer::Done(result)) => result,
            Ok(Answer::Lead(mut lead)) => {
                let journal = lead.journal.take().expect("only taken here or in drop");
                self.lead(journal)
            }
            Err(_) => Err(AppendError::Failed("the writer panicked".to_owned())),
        }
    }

    /// Begins a new incarnation if a UTC day has begun since the last, now or after the write under way.
    pub(crate) fn roll_day(&self, now: Timestamp) {
        let mut state = lock(&self.state);
        match &mut state.journal {
            Some(journal) => journal.roll_day(now),
            None => state.day = Some(now),
        }
    }

    /// Closes the segment that is being written, if it is this one and this long and nobody is writing.
    pub(crate) fn close_if_at(&self, sequence: u64, bytes: u64) -> bool {
        let mut state = lock(&self.state);
        state.journal.as_mut().is_some_and(|journal| journal.close_if_at(sequence, bytes))
    }

    /// Writes until nothing is queued, or hands over. What became of the caller's own click, which is in the queue.
    fn lead(self: &Arc<Self>, mut journal: Box<Journal>) -> Result<(), AppendError> {
        let mut own = Ok(());
        let mut done = Batch::default();
        for round in 0.. {
            let mut state = lock(&self.state);
            if let Some(now) = state.day.take() {
                journal.roll_day(now);
            }
            if round > 0 {
                done.waiting.clear();
                done.clicks.clear();
                state.spare = done;
            }
            if state.queue.waiting.is_empty() {
                state.journal = Some(journal);
                break;
            }
            if round >= ROUNDS_MAX {
                match hand_over(self, &mut state.queue.waiting, journal) {
                    Ok(()) => break,
                    Err(kept) => journal = kept,
                }
            }
            let empty = std::mem::take(&mut state.spare);
            let mut batch = std::mem::replace(&mut state.queue, empty);
            drop(state);

            let written = journal.write(&batch.clicks);
            for (index, waiting) in batch.waiting.drain(..).enumerate() {
                let result = match &written.error {
                    Some(error) if index >= written.clicks => Err(error.clone()),
                    _ => Ok(()),
                };
                match waiting {
                    Waiting::Follower(sender) => drop(sender.send(Answer::Done(result))),
                    Waiting::Leader => own = result,
                    Waiting::Gone => {}
                }
            }
            done = batch;
        }
        own
    }
}

/// Makes the first caller that still waits the leader; the journal comes back if there is none.
fn hand_over(
    commit: &Arc<Commit>,
    waiting: &mut [Waiting],
    mut journal: Box<Journal>,
) -> Result<(), Box<Journal>> {
    for slot in waiting {
        let Waiting::Follower(sender) = std::mem::replace(slot, Waiting::Gone) else {
            continue;
        };
        let lead = Lead { commit: Arc::clone(commit), journal: Some(journal) };
        *slot = Waiting::Leader;
        match sender.send(Answer::Lead(lead)) {
            Err(Answer::Lead(mut returned)) => {
                *slot = Waiting::Gone;
                journal = returned.journal.take().expect("it was just put there");
            }
            Ok(()) | Err(Answer::Done(_)) => return Ok(()),
        }
    }
    Err(journal)
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            // The click is in the queue already; whoever wanted to know of it is gone.
            drop(self.commit.lead(journal));
        }
    }
}
