//! How much of a caller's traffic each tier takes: the own zone, then the others in order of nearness.
//!
//! A tier takes all that those before leave, as far as its health and its load allow. It loses its share at once and gets it back
//! slowly, so a zone that comes and goes does not make the traffic swing.

use super::super::health::Counts;
use crate::policy::Locality;
use std::time::Duration;
use std::time::Instant;

/// How long a tier that lost everything takes to get it back.
const RETURN_WAIT: Duration = Duration::from_secs(10);
/// How often a tier's refusals are looked at.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);
/// The share of refusals (RESOURCE_EXHAUSTED) that is taken for overload.
const REFUSED_MAX: f32 = 0.01;
/// By how much a tier without refusals may take more each time, once it was overloaded.
const RELIEF: f32 = 0.02;
/// What an overloaded tier is left with at least, so that it can show that it has recovered.
const ALLOWED_MIN: f32 = 0.1;

/// Where an instance or a caller is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) zone: &'a str,
    pub(super) region: &'a str,
}

/// How near an instance is: lower is nearer.
pub(super) fn rank(own: Place<'_>, other: Place<'_>, locality: Option<&Locality>) -> usize {
    let Some(locality) = locality.filter(|_| !own.zone.is_empty()) else { return 0 };
    let failover = &locality.failover_zones;
    if other.zone == own.zone {
        0
    } else if let Some(at) = failover.iter().position(|zone| *zone == other.zone) {
        1 + at
    } else if other.region == own.region {
        1 + failover.len()
    } else {
        2 + failover.len()
    }
}

/// What is seen of a tier.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) members: usize,
    /// Those that can be called.
    pub(super) able: usize,
    /// Their calls of the last second, and the refusals for want of room among them.
    pub(super) refusals: Counts,
}

/// What is remembered of a tier.
#[derive(Debug, Clone)]
pub(super) struct Tier {
    /// What it may take by its health, 0 to 1; none before it was able to take anything.
    capacity: Option<f32>,
    /// What it may take by its load, 0 to 1.
    allowed: f32,
    updated: Instant,
    looked: Instant,
}

impl Tier {
    pub(super) fn new(now: Instant) -> Self {
        Self { capacity: None, allowed: 1.0, updated: now, looked: now }
    }

    /// How much it may take, 0 to 1.
    pub(super) fn take(&mut self, seen: Seen, healthy_percent_min: u32, now: Instant) -> f32 {
        let target = capacity(seen, healthy_percent_min);
        let elapsed = now.saturating_duration_since(self.updated);
        self.updated = now;
        self.capacity = match self.capacity {
            Some(before) if target > before => {
                Some(target.min(before + elapsed.as_secs_f32() / RETURN_WAIT.as_secs_f32()))
            }
            None if target == 0.0 => None,
            Some(_) | None => Some(target),
        };
        self.look(seen, now);
        self.capacity.unwrap_or(0.0) * self.allowed
    }

    /// Whether its share changes by itself with time.
    pub(super) fn is_settled(&self, seen: Seen, healthy_percent_min: u32) -> bool {
        let target = capacity(seen, healthy_percent_min);
        self.capacity.unwrap_or(0.0) >= target - 1e-4 && self.allowed >= 1.0
    }

    /// Refusals reduce what is allowed by their share, quiet times increase it little by little.
    fn look(&mut self, seen: Seen, now: Instant) {
        if now.saturating_duration_since(self.looked) < REFUSALS_EVERY {
            return;
        }
        self.looked = now;
        let refused = seen.refusals.failed();
        self.allowed = if refused > REFUSED_MAX {
            (self.allowed * (1.0 - refused.min(0.5))).max(ALLOWED_MIN)
        } else {
            (self.allowed + RELIEF).min(1.0)
        };
    }
}

/// What a tier may take by its health: everything as long as enough of it is able (Envoy's overprovisioning).
#[expect(clippy::cast_precision_loss, reason = "thousands of endpoints at most")]
fn capacity(seen: Seen, healthy_percent_min: u32) -> f32 {
    if seen.members == 0 {
        return 0.0;
    }
    let able = seen.able as f32 / seen.members as f32;
    (able * 100.0 / healthy_percent_min as f32).min(1.0)
}

/// The share of the traffic that each tier gets, of what each may take: those before come first. If all together may take less than
/// everything, each takes more.
pub(super) fn shares(takes: &[f32]) -> Vec<f32> {
    let sum: f32 = takes.iter().sum();
    if sum <= 0.0 {
        return vec![0.0; takes.len()];
    }
    let mut left = 1.0_f32;
    let shares = takes.iter().map(|take| {
        let share = take.min(left);
        left -= share;
        share / sum.min(1.0)
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERCENT: u32 = 70;

    fn seen(members: usize, able: usize) -> Seen {
        Seen { members, able, ..Seen::default() }
    }

    fn close(one: f32, other: f32) -> bool {
        (one - other).abs() < 0.001
    }

    #[test]
    fn nearer_is_own_zone_then_failover_then_region_then_the_rest() {
        let locality = Locality {
            healthy_percent_min: 70,
            failover_zones: vec!["x".to_owned(), "c".to_owned()],
        };
        let own = Place { zone: "a", region: "eu" };
        let rank_of = |zone, region| rank(own, Place { zone, region }, Some(&locality));
        let ranks = [("a", "eu"), ("x", "us"), ("c", "eu"), ("b", "eu"), ("y", "us")];
        assert_eq!(ranks.map(|(zone, region)| rank_of(zone, region)), [0, 1, 2, 3, 4]);
        assert_eq!(rank(own, Place { zone: "y", region: "us" }, None), 0);
        let nowhere = Place { zone: "", region: "" };
        assert_eq!(rank(nowhere, own, Some(&locality)), 0, "who is nowhere is near to all");
    }

    #[test]
    fn a_healthy_zone_keeps_its_calls_and_an_ailing_one_spills_in_proportion() {
        let now = Instant::now();
        for (able, expected) in [(10, 1.0), (7, 1.0), (5, 0.714), (1, 0.143), (0, 0.0)] {
            let take = Tier::new(now).take(seen(10, able), PERCENT, now);
            assert!(close(take, expected), "{able} of 10 take {take}");
            assert!(close(shares(&[take, 1.0])[1], 1.0 - expected));
        }
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
        assert!(close(shares(&[0.25, 0.25, 0.0])[1], 0.5));
    }

    #[test]
    fn a_zone_that_is_lost_and_returns_does_not_swing() {
        let start = Instant::now();
        let mut tier = Tier::new(start);
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert!(close(tier.take(seen(4, 4), PERCENT, at(0)), 1.0));
        assert!(close(tier.take(seen(4, 0), PERCENT, at(1)), 0.0), "lost at once");
        let mut before = 0.0;
        for tenths in 2..=101 {
            let take = tier.take(seen(4, 4), PERCENT, at(tenths));
            assert!(take >= before && take - before < 0.011, "{before}, then {take}");
            before = take;
        }
        assert!(close(before, 1.0) && tier.is_settled(seen(4, 4), PERCENT));
    }

    #[test]
    fn a_zone_that_flaps_keeps_only_what_it_earned() {
        let start = Instant::now();
        let mut tier = Tier::new(start);
        tier.take(seen(4, 4), PERCENT, start);
        let mut most = 0.0_f32;
        for second in 1..60 {
            let able = if second % 2 == 0 { 4 } else { 0 };
            let take = tier.take(seen(4, able), PERCENT, start + Duration::from_secs(second));
            most = most.max(take);
        }
        assert!(most < 0.11, "{most}");
    }

    #[test]
    fn a_zone_that_refuses_calls_spills_and_recovers_slowly() {
        let start = Instant::now();
        let mut tier = Tier::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut look = |failures, now| {
            let refusals = Counts { calls: 100, failures };
            tier.take(Seen { refusals, ..seen(4, 4) }, PERCENT, now)
        };
        assert!(close(look(0, at(1)), 1.0));
        assert!(close(look(30, at(2)), 0.7));
        assert!(close(look(0, at(3)), 0.72));
        for second in 4..20 {
            look(0, at(second));
        }
        assert!(close(look(1, at(20)), 1.0), "one in a hundred is no overload");
        // However bad it gets, it is asked again.
        for second in 21..60 {
            look(90, at(second));
        }
        assert!(close(look(90, at(60)), ALLOWED_MIN));
    }
}
