//! Hedges: another attempt, on another endpoint, while the first is under way; whichever answers first counts, and the other is
//! cancelled (gRFC A6, Finagle's backup requests).
//!
//! Only methods that may be done twice are hedged, out of the budget that retries have, and only while the deadline leaves time for an
//! answer.

use super::attempt::Attempt;
use super::attempt::Outcome;
use super::attempt::Pushback;
use super::budget::Budget;
use super::endpoint::Endpoint;
use super::latencies::Latency;
use super::payload::Sending;
use super::pick::Choice;
use super::pick::Place;
use super::record::Record;
use super::retry::again;
use crate::metrics::Event;
use crate::policy::Hedge;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// What a call needs to be hedged.
pub(super) struct Hedging<'a> {
    pub(super) hedge: &'a Hedge,
    pub(super) attempt: Attempt<'a>,
    pub(super) choice: Choice<'a>,
    pub(super) budget: &'a Budget,
    pub(super) record: &'a Record,
    /// How long the method's calls took of late; none if the policy names no percentile.
    pub(super) latency: Option<&'a Latency>,
    /// How many attempts there may be at a time.
    pub(super) attempts_max: usize,
}

impl Hedging<'_> {
    /// Sends a request to the first endpoint, and to others if that takes long. `tried` are those that had it before, and learns of
    /// those that have it now.
    pub(super) async fn send(
        &self,
        first: Place,
        bytes: &Bytes,
        tried: &mut Vec<Arc<Endpoint>>,
    ) -> Outcome {
        let started = Instant::now();
        let mut running = FuturesUnordered::new();
        tried.push(Arc::clone(&first.0));
        running.push(self.one(first, bytes, Some(Watch::new(self.latency, started))));
        let mut sent = 1;
        let after = self.after(started).unwrap_or(Duration::MAX);
        let mut next = started.checked_add(after);
        loop {
            let due = async {
                match next.filter(|_| sent < self.attempts_max) {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // An answer that is there goes before a hedge that is due.
                biased;
                Some((outcome, is_hedge)) = running.next() => {
                    let Some(pushback) = self.pushback(&outcome).filter(|_| !running.is_empty()) else {
                        if is_hedge && matches!(outcome, Outcome::Begun(_)) {
                            self.record.count(Event::HedgeWon);
                        }
                        return outcome;
                    };
                    next = match pushback {
                        Pushback::None => next.map(|_| Instant::now()),
                        Pushback::After(wait) => next.and_then(|_| Instant::now().checked_add(wait)),
                        Pushback::Never => None,
                    };
                }
                () = due => {
                    let now = Instant::now();
                    next = None;
                    if let Some(place) = self.place(tried, now) {
                        self.record.count(Event::Hedge);
                        tried.push(Arc::clone(&place.0));
                        running.push(self.one(place, bytes, None));
                        sent += 1;
                        next = now.checked_add(after);
                    }
                }
            }
        }
    }

    /// One attempt; and whether it is a hedge.
    async fn one(&self, place: Place, bytes: &Bytes, watch: Option<Watch<'_>>) -> (Outcome, bool) {
        let is_hedge = watch.is_none();
        let outcome = self.attempt.send(place, Sending::Whole(bytes.clone()), Instant::now()).await;
        if let (Some(watch), false) = (watch, matches!(outcome, Outcome::Begun(_))) {
            watch.forget();
        }
        (outcome, is_hedge)
    }

    /// Of an attempt that failed in a way that another may do better, how the server takes further ones; none: what came of it is
    /// the answer.
    fn pushback(&self, outcome: &Outcome) -> Option<Pushback> {
        let retry = &self.attempt.policy.retry;
        match outcome {
            Outcome::Failed { code, pushback, .. } => {
                retry.codes.contains(code).then_some(*pushback)
            }
            Outcome::Begun(_)
            | Outcome::Unprocessed { .. }
            | Outcome::Lost(_)
            | Outcome::TimedOut(_)
            | Outcome::Refused(_) => {
                again(outcome, self.attempt.method, retry).map(|again| again.pushback)
            }
        }
    }

    /// After how long a hedge is due; none: not at all.
    fn after(&self, now: Instant) -> Option<Duration> {
        let delay = self.hedge.delay;
        let Some(percentile) = self.hedge.percentile else { return Some(delay) };
        match self.latency.and_then(|latency| latency.percentile(percentile, now)) {
            Some(usual) => Some(usual.max(delay)),
            // As long as nothing is known, the delay alone decides, if there is one.
            None => Some(delay).filter(|delay| !delay.is_zero()),
        }
    }

    /// Where a hedge goes; nowhere if there is no other endpoint, no time for an answer, or nothing left in the budget.
    fn place(&self, tried: &[Arc<Endpoint>], now: Instant) -> Option<Place> {
        let usual = self.latency.and_then(|latency| latency.percentile(50.0, now));
        let left = self.attempt.deadline.map_or(Duration::MAX, |deadline| deadline.left(now));
        if left <= usual.unwrap_or_default() {
            return None;
        }
        let (endpoint, stream) = self.choice.pick_now(tried, now)?;
        if tried.iter().any(|tried| Arc::ptr_eq(tried, &endpoint)) {
            return None;
        }
        if !self.budget.withdraw(now) {
            self.record.count(Event::BudgetExhausted);
            return None;
        }
        Some((endpoint, stream))
    }
}

/// Notes how long a first attempt took, or had taken when it was cut short.
struct Watch<'a> {
    latency: Option<&'a Latency>,
    started: Instant,
}

impl<'a> Watch<'a> {
    fn new(latency: Option<&'a Latency>, started: Instant) -> Self {
        Self { latency, started }
    }

    /// It failed: how long that took says nothing.
    fn forget(mut self) {
        self.latency = None;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(latency) = self.latency {
            let now = Instant::now();
            latency.observe(now.saturating_duration_since(self.started), now);
        }
    }
}
