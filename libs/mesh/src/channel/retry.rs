//! Whether a call is sent again after an attempt that failed, and when.
//!
//! What was provably not processed may always be sent again; what may have been, only if the method is NO_SIDE_EFFECTS or
//! IDEMPOTENT and the policy names the code.

use super::attempt::Outcome;
use super::attempt::Pushback;
use super::body::Body;
use crate::methods::Method;
use crate::methods::Safety;
use crate::policy::Retry;
use rand::RngExt as _;
use std::time::Duration;
use tonic::Status;

/// What a call is answered.
pub(super) type Answer = Result<http::Response<Body>, Status>;

/// On which terms a call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) pushback: Pushback,
    /// No server has looked at it.
    pub(super) unprocessed: bool,
}

/// Whether a call may be tried again after an attempt; none: what came of the attempt is the call's answer.
pub(super) fn again(outcome: &Outcome, method: &Method, retry: &Retry) -> Option<Again> {
    let repeatable = method.safety == Safety::Repeatable;
    let again = Again { pushback: Pushback::None, unprocessed: false };
    match outcome {
        Outcome::Unprocessed { .. } => Some(Again { unprocessed: true, ..again }),
        Outcome::TimedOut(_) => repeatable.then_some(again),
        Outcome::Lost(status) => {
            (repeatable && retry.codes.contains(&status.code())).then_some(again)
        }
        Outcome::Failed { code, pushback, .. } => {
            let wanted = *pushback != Pushback::Never && retry.codes.contains(code);
            (repeatable && wanted).then_some(Again { pushback: *pushback, ..again })
        }
        Outcome::Begun(_) | Outcome::Refused(_) => None,
    }
}

/// What an attempt comes to if it was the last.
pub(super) fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Begun(response) | Outcome::Failed { response, .. } => Ok(response),
        Outcome::Unprocessed { status, .. }
        | Outcome::Lost(status)
        | Outcome::TimedOut(status)
        | Outcome::Refused(status) => Err(status),
    }
}

/// The waits between a call's attempts.
#[derive(Debug)]
pub(super) struct Waits {
    ceiling: Duration,
    max: Duration,
}

impl Waits {
    pub(super) fn new(retry: &Retry) -> Self {
        Self { ceiling: retry.backoff.0, max: retry.backoff.1 }
    }

    /// How long to wait before the next attempt, which is the `number`th: what the server asked for; otherwise another endpoint is
    /// tried at once, and after that a time that is random below a bound that doubles (full jitter), so that those who failed
    /// together don't come back together.
    pub(super) fn before(&mut self, number: usize, pushback: Pushback) -> Duration {
        match pushback {
            Pushback::After(wait) => wait,
            Pushback::None | Pushback::Never if number == 2 => Duration::ZERO,
            Pushback::None | Pushback::Never => {
                let wait = rand::rng().random_range(Duration::ZERO..=self.ceiling);
                self.ceiling = (self.ceiling * 2).min(self.max);
                wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::METHODS;
    use crate::policy::RoutePolicy;
    use tonic::Code;

    const GET: &str = "/linkmesh.links.v1.LinksService/GetLink";
    const CREATE: &str = "/linkmesh.links.v1.LinksService/CreateLink";

    fn again(outcome: Outcome, path: &str) -> Option<Again> {
        super::again(&outcome, METHODS.of_path(path), &RoutePolicy::default().retry)
    }

    fn failed(code: Code, pushback: Pushback) -> Outcome {
        Outcome::Failed { code, pushback, response: http::Response::default() }
    }

    #[test]
    fn what_was_not_processed_may_always_be_sent_again() {
        for path in [GET, CREATE] {
            let outcome = Outcome::Unprocessed { status: Status::unavailable(""), unsent: None };
            assert!(again(outcome, path).unwrap().unprocessed, "{path}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_sent_again_only_if_the_method_allows_it() {
        let outcomes = || {
            [
                Outcome::Lost(Status::unavailable("")),
                Outcome::TimedOut(Status::deadline_exceeded("")),
                failed(Code::Unavailable, Pushback::None),
            ]
        };
        for outcome in outcomes() {
            assert!(again(outcome, GET).is_some_and(|again| !again.unprocessed));
        }
        for outcome in outcomes() {
            assert_eq!(again(outcome, CREATE), None);
        }
    }

    #[test]
    fn a_server_that_sheds_or_says_never_is_not_asked_again() {
        assert_eq!(again(failed(Code::ResourceExhausted, Pushback::None), GET), None);
        assert_eq!(again(failed(Code::Unavailable, Pushback::Never), GET), None);
        assert_eq!(again(Outcome::Lost(Status::resource_exhausted("")), GET), None);
        let wait = Pushback::After(Duration::from_secs(1));
        assert_eq!(again(failed(Code::Unavailable, wait), GET).unwrap().pushback, wait);
    }

    #[test]
    fn waits_are_random_below_a_bound_that_doubles_and_a_server_may_set_them() {
        let retry = RoutePolicy::default().retry;
        let mut longest = [Duration::ZERO; 4];
        for _ in 0..500 {
            let mut waits = Waits::new(&retry);
            assert_eq!(waits.before(2, Pushback::None), Duration::ZERO);
            for (number, longest) in (3..).zip(&mut longest) {
                *longest = (*longest).max(waits.before(number, Pushback::None));
            }
        }
        for (longest, bound) in longest.into_iter().zip([25, 50, 100, 200]) {
            let bound = Duration::from_millis(bound);
            assert!(longest <= bound && longest > bound / 2, "{longest:?} below {bound:?}");
        }
        let asked = Duration::from_secs(3);
        assert_eq!(Waits::new(&retry).before(2, Pushback::After(asked)), asked);
    }
}
