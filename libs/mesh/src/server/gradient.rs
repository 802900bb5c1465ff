//! How many calls a method is worked on at a time without them queueing: a limit that follows the response times.
//!
//! After Netflix's `Gradient2Limit` (tolerance 1.5, gradient at least 0.5) and Envoy's adaptive concurrency (headroom √limit; what is
//! usual is measured anew every 60 s with few calls in flight). When response times rise above what is usual, the limit is what is in
//! flight times the gradient, `usual / now`; else it grows. Unlike theirs it takes nothing away while there is no sign of a queue,
//! so that a burst after a quiet hour is let in, and it measures anew only if calls are held back: then what is usual
//! can't be seen otherwise. Only arithmetic: no clock, no atomics.

use std::time::Duration;

/// How much slower than usual is no sign of a queue (Netflix: 1.5) ...
const TOLERANCE: f64 = 1.5;
/// ... and how much in time: below it the noise of a busy machine's scheduler is larger than any queue that matters (64 calls in
/// flight on two cores that others use as well were refused at 5 ms).
const SLACK: Duration = Duration::from_millis(20);
/// The most that a limit shrinks at a time (Netflix: 0.5).
const GRADIENT_MIN: f64 = 0.5;
/// How fast a limit grows at least that nothing speaks against.
const GROWTH: f64 = 1.25;
/// How fast what is usual falls, and how fast it rises when few calls are in flight; under load it does not rise, or a long queue
/// would become usual.
const FALL: f64 = 0.2;
const RISE: f64 = 0.1;
/// After how many windows of holding calls back what is usual is measured anew (Envoy: 60 s; four windows a second) ...
const MEASURE_AFTER: u32 = 240;
/// ... and how many it may take until few calls are in flight.
const MEASURE_WITHIN: u32 = 8;

/// What a window of calls told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Their mean response time.
    pub(super) mean: Duration,
    /// The most that were in flight at a time.
    pub(super) in_flight_max: usize,
    /// Whether calls were refused.
    pub(super) refused: bool,
}

/// What is known of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gradient {
    /// The response time without a queue; zero: not known.
    pub(super) usual: Duration,
    pub(super) limit: usize,
    /// Whether the last window was slow. One may be a hiccup of the machine; two are a queue.
    pub(super) slow: bool,
    /// For how many windows calls were held back since what is usual was measured. From [`MEASURE_AFTER`] on it is being
    /// measured.
    pub(super) held_back: u32,
    /// The limit that holds again when it is measured.
    pub(super) limit_after: usize,
}

impl Gradient {
    /// After another window; the limit stays within `least` and `most`.
    pub(super) fn after(self, window: Window, (least, most): (usize, usize)) -> Self {
        let quiet = window.in_flight_max <= least;
        if self.held_back >= MEASURE_AFTER {
            return self.measuring(window, quiet);
        }
        let now = window.mean.as_secs_f64();
        let usual = usual(self.usual.as_secs_f64(), now, quiet);
        let allowed = usual * TOLERANCE + SLACK.as_secs_f64();
        let gradient = (allowed / now.max(f64::MIN_POSITIVE)).clamp(GRADIENT_MIN, 1.0);

        let limit = self.limit.clamp(least, most);
        let slow = gradient < 1.0;
        let usual = Duration::from_secs_f64(usual);
        if slow && !self.slow && self.held_back == 0 {
            return Self { usual, limit, slow, ..self };
        }
        let next = if slow {
            // What was in flight was too much, however high the limit was.
            let limit = as_float(limit.min(window.in_flight_max));
            limit * gradient + limit.sqrt()
        } else if window.refused {
            as_float(limit) + as_float(limit).sqrt()
        } else {
            (as_float(limit) + as_float(limit).sqrt()).max(as_float(limit) * GROWTH)
        };
        let limit = whole(next).clamp(least, most);
        let held_back = if slow || window.refused { self.held_back + 1 } else { 0 };
        if held_back >= MEASURE_AFTER {
            return Self { usual, limit: least, slow, held_back, limit_after: limit };
        }
        Self { usual, limit, slow, held_back, limit_after: 0 }
    }

    /// Lets few in until what is usual can be seen.
    fn measuring(self, window: Window, quiet: bool) -> Self {
        let limit = self.limit_after;
        // The first window still ends what had begun before it.
        if quiet && self.held_back > MEASURE_AFTER {
            return Self { usual: window.mean, limit, slow: false, held_back: 0, limit_after: 0 };
        }
        if self.held_back >= MEASURE_AFTER + MEASURE_WITHIN {
            return Self { limit, held_back: 0, limit_after: 0, ..self };
        }
        Self { held_back: self.held_back + 1, ..self }
    }
}

fn usual(before: f64, now: f64, quiet: bool) -> f64 {
    let step = match (now < before, quiet) {
        _ if before == 0.0 => 1.0,
        (true, _) => FALL,
        (false, true) => RISE,
        (false, false) => 0.0,
    };
    before + (now - before) * step
}

#[expect(clippy::cast_precision_loss, reason = "a limit is small")]
fn as_float(limit: usize) -> f64 {
    limit as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit is small and positive, and a cast saturates"
)]
fn whole(limit: f64) -> usize {
    limit as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (usize, usize) = (16, 1_024);

    fn window(millis: u64, in_flight_max: usize) -> Window {
        Window { mean: Duration::from_millis(millis), in_flight_max, refused: false }
    }

    /// A backend that does `workers` calls at a time, each in `service` milliseconds, and always has more to do than the
    /// limit lets in.
    fn saturated(mut gradient: Gradient, workers: usize, service: f64, windows: usize) -> Gradient {
        for _ in 0..windows {
            let in_flight = gradient.limit;
            let queueing = (as_float(in_flight) / as_float(workers)).max(1.0);
            let mean = Duration::from_secs_f64(service * queueing / 1_000.0);
            let refused = true;
            gradient = gradient.after(Window { mean, in_flight_max: in_flight, refused }, BOUNDS);
        }
        gradient
    }

    /// Of which everything is let in.
    fn known(millis: u64) -> Gradient {
        let usual = Duration::from_millis(millis);
        Gradient { usual, limit: 1_024, slow: false, held_back: 0, limit_after: 0 }
    }

    #[test]
    fn without_a_queue_it_opens_up_and_stays_open() {
        let mut gradient = Gradient { limit: 16, ..known(0) };
        for _ in 0..40 {
            gradient = gradient.after(window(10, 12), BOUNDS);
        }
        assert_eq!(gradient.limit, 1_024);
    }

    #[test]
    fn overload_brings_it_down_to_what_the_backend_can_do_within_seconds_and_keeps_it_there() {
        // Four windows a second.
        let soon = saturated(known(20), 40, 20.0, 12);
        assert!((40..=120).contains(&soon.limit), "{soon:?}");
        let minutes_later = saturated(soon, 40, 20.0, 1_200);
        assert!((40..=120).contains(&minutes_later.limit), "{minutes_later:?}");
    }

    #[test]
    fn a_queue_that_was_there_from_the_start_is_seen_through_after_a_minute() {
        // What is taken for usual has a queue of ten in it.
        let start = saturated(known(200), 40, 20.0, 100);
        assert!(start.limit > 400, "{start:?}");
        let later = saturated(start, 40, 20.0, 300);
        assert!((40..=120).contains(&later.limit), "{later:?}");
    }

    #[test]
    fn noise_is_no_queue() {
        let usual = Duration::from_micros(50);
        let known = Gradient { usual, ..known(1) };
        // Below what a scheduler does to anyone, for as long as it likes.
        let noisy = (0..20).fold(known, |it, _| it.after(window(15, 200), BOUNDS));
        assert_eq!(noisy.limit, 1_024);
        // Far above it, but once.
        let hiccup = known.after(window(500, 200), BOUNDS);
        assert_eq!(hiccup.limit, 1_024);
        assert_eq!(hiccup.after(window(1, 200), BOUNDS).limit, 1_024);
        assert!(hiccup.after(window(500, 200), BOUNDS).limit < 200);
    }

    #[test]
    fn what_got_slower_for_good_is_usual_after_a_minute() {
        // A database that got ten times slower, whatever is in flight.
        let mut gradient = known(10);
        for _ in 0..300 {
            let in_flight_max = gradient.limit.min(100);
            let refused = gradient.limit < 100;
            let mean = Duration::from_millis(100);
            gradient = gradient.after(Window { mean, in_flight_max, refused }, BOUNDS);
        }
        assert!(gradient.limit >= 100, "{gradient:?}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let low = (0..50).fold(known(1), |it, _| it.after(window(10_000, 500), (16, 64)));
        assert!((16..=64).contains(&low.limit));
        let high = (0..50).fold(low, |it, _| it.after(window(1, 1), (16, 64)));
        assert_eq!(high.limit, 64);
    }
}
