//! When a certificate is renewed and the roots are looked at: by a clock that may be wrong and may be set.

use super::Validity;
use super::authority::CLOCK_SKEW_MAX;
use crate::backoff::Backoff;
use jiff::Timestamp;
use rand::RngExt as _;
use std::time::Duration;

/// When a certificate is renewed: after this share of its life, as Linkerd does, or a little earlier, so that processes that
/// started together do not renew together.
const RENEW_AT: f64 = 0.7;
const RENEW_JITTER: f64 = 0.1;
/// The waits between two attempts to get a certificate.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often the roots are looked at: so many times in a certificate's life, within bounds.
const TRUST_LOOKS: u32 = 20;
const TRUST_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// In how long, at most, certificates of a root that issues no more are replaced: a share of their life.
const REISSUE_SHARE: f64 = 0.1;
const REISSUE_WITHIN_MAX: Duration = Duration::from_secs(300);
/// How long a wait lasts before the clock is read again: clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) renew_at: Timestamp,
    pub(super) trust_at: Timestamp,
    /// How long the certificate is meant to be used.
    life: Duration,
    backoff: Backoff,
    /// How often renewing has failed in a row.
    pub(super) failures: u32,
    /// When the renewal was due before anything failed.
    due: Timestamp,
    /// The clock when it was last read.
    seen: Timestamp,
}

impl Schedule {
    pub(super) fn new(validity: Validity, now: Timestamp) -> Self {
        let mut schedule = Self {
            renew_at: now,
            trust_at: now,
            life: Duration::ZERO,
            backoff: Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1),
            failures: 0,
            due: now,
            seen: now,
        };
        schedule.renewed(validity, now);
        schedule.trust_looked(now);
        schedule
    }

    pub(super) fn renewed(&mut self, validity: Validity, now: Timestamp) {
        // The issuer has added the skew at both ends.
        let issued = validity.not_before + CLOCK_SKEW_MAX;
        let end = validity.not_after - CLOCK_SKEW_MAX;
        self.life = Duration::try_from(end.duration_since(issued)).unwrap_or_default();
        let share = RENEW_AT - rand::rng().random_range(0.0..RENEW_JITTER);
        // A clock that is behind the issuer's must not make it wait longer.
        self.due = issued.min(now) + self.life.mul_f64(share);
        self.renew_at = self.due;
        self.failures = 0;
        self.backoff.reset();
    }

    pub(super) fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.renew_at = now + self.backoff.next();
    }

    /// A clock that was set back must not put off what was planned by the one before.
    pub(super) fn see(&mut self, now: Timestamp) {
        if now < self.seen {
            self.trust_at = now;
            self.renew_at = self.renew_at.min(self.due.max(now));
        }
        self.seen = now;
    }

    pub(super) fn trust_looked(&mut self, now: Timestamp) {
        let every = (self.life / TRUST_LOOKS).clamp(TRUST_EVERY.0, TRUST_EVERY.1);
        self.trust_at = now + every.mul_f64(rand::rng().random_range(0.8..1.2));
    }

    pub(super) fn reissue(&mut self, now: Timestamp) {
        let within = self.life.mul_f64(REISSUE_SHARE).min(REISSUE_WITHIN_MAX);
        let at = now + within.mul_f64(rand::rng().random_range(0.0..1.0));
        self.renew_at = self.renew_at.min(at);
    }

    pub(super) async fn wait(&self, now: Timestamp) {
        let next = self.renew_at.min(self.trust_at);
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        tokio::time::sleep(wait.min(LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(now: Timestamp, life: Duration) -> Validity {
        Validity { not_before: now - CLOCK_SKEW_MAX, not_after: now + life + CLOCK_SKEW_MAX }
    }

    #[test]
    fn a_certificate_is_renewed_at_about_seven_tenths_of_its_life() {
        let now = Timestamp::now();
        for life in [60, 3600, 24 * 3600].map(Duration::from_secs) {
            for _ in 0..50 {
                let schedule = Schedule::new(validity(now, life), now);
                let share =
                    schedule.renew_at.duration_since(now).as_secs_f64() / life.as_secs_f64();
                assert!((0.6..=0.7).contains(&share), "{share}");
            }
        }
    }

    #[test]
    fn what_was_kept_for_long_is_renewed_at_once() {
        let now = Timestamp::now();
        let day = Duration::from_secs(24 * 3600);
        let schedule = Schedule::new(validity(now - day, day), now);
        assert!(schedule.renew_at <= now);
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_then_less_often() {
        let now = Timestamp::now();
        let mut schedule = Schedule::new(validity(now, Duration::from_secs(60)), now);
        schedule.failed(now);
        assert_eq!(schedule.renew_at, now + RETRY_WAIT.0);
        for _ in 0..20 {
            schedule.failed(now);
            assert!(schedule.renew_at <= now + RETRY_WAIT.1);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_puts_nothing_off() {
        let now = Timestamp::now();
        let day = Duration::from_secs(24 * 3600);
        let mut schedule = Schedule::new(validity(now, day), now);
        schedule.see(now + day);
        schedule.failed(now + day);
        schedule.trust_looked(now + day);
        schedule.see(now);
        assert!(schedule.trust_at <= now && schedule.renew_at <= now + day);
    }

    #[test]
    fn a_certificate_of_a_root_that_issues_no_more_is_replaced_soon() {
        let now = Timestamp::now();
        let mut schedule = Schedule::new(validity(now, Duration::from_secs(24 * 3600)), now);
        schedule.reissue(now);
        assert!(schedule.renew_at <= now + REISSUE_WITHIN_MAX);
        let earlier = schedule.renew_at;
        schedule.reissue(now + REISSUE_WITHIN_MAX);
        assert_eq!(schedule.renew_at, earlier, "it is not put off");
    }
}
