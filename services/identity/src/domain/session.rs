//! What becomes of a session when a refresh token is presented.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// How long a session lasts that is not refreshed.
pub(crate) const IDLE_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long a session lasts at all.
pub(crate) const AGE_MAX: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long whoever lost the answer of a refresh may ask for it again.
pub(crate) const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Sessions of one user.
pub(crate) const SESSIONS_MAX: i64 = 100;
/// What a label measures at most, in characters.
pub(crate) const LABEL_CHARS_MAX: usize = 100;

/// What is known of a session's refresh.
#[derive(Clone, Debug)]
pub(crate) struct Refreshed {
    /// When it was last refreshed, or began.
    pub at: Timestamp,
    /// The request that did it, if it named itself.
    pub by: Option<Uuid>,
    /// When it ends.
    pub expire_time: Timestamp,
}

/// Which of a session's tokens was presented. It is known to be one that we issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// The one that holds.
    Current,
    /// The one that the current one replaced.
    Previous,
    /// One of those before.
    Older,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Replace the token.
    Refresh,
    /// Answer as the last time.
    Repeat,
    /// End the session: its time is over.
    Expire,
    /// End the session: two hold its tokens.
    Reused,
}

/// Decides.
pub(crate) fn verdict(
    last: &Refreshed,
    presented: Presented,
    request: Option<Uuid>,
    now: Timestamp,
) -> Verdict {
    if now >= last.expire_time {
        return Verdict::Expire;
    }
    let is_same_request = request.is_some() && request == last.by;
    match presented {
        Presented::Current => Verdict::Refresh,
        Presented::Previous if is_same_request && now < last.at + GRACE => Verdict::Repeat,
        Presented::Previous | Presented::Older => Verdict::Reused,
    }
}

/// When a session ends that began then and is refreshed now.
pub(crate) fn expiry(began: Timestamp, now: Timestamp) -> Timestamp {
    (now + IDLE_MAX).min(began + AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_the_newest_token_refreshes_and_an_older_one_ends_the_session() {
        let request = Uuid::from_u128(1);
        let last = Refreshed { at: at(100), by: Some(request), expire_time: at(10_000) };
        for (presented, by, now, expected) in [
            (Presented::Current, None, 100, Verdict::Refresh),
            (Presented::Current, Some(request), 9_999, Verdict::Refresh),
            (Presented::Current, None, 10_000, Verdict::Expire),
            (Presented::Previous, Some(request), 129, Verdict::Repeat),
            (Presented::Previous, Some(request), 130, Verdict::Reused),
            (Presented::Previous, Some(Uuid::from_u128(2)), 101, Verdict::Reused),
            (Presented::Previous, None, 101, Verdict::Reused),
            (Presented::Older, Some(request), 101, Verdict::Reused),
        ] {
            let found = verdict(&last, presented, by, at(now));
            assert_eq!(found, expected, "{presented:?} {by:?} {now}");
        }
        let unnamed = Refreshed { by: None, ..last };
        assert_eq!(verdict(&unnamed, Presented::Previous, None, at(101)), Verdict::Reused);
    }

    #[test]
    fn a_session_ends_thirty_days_after_its_last_refresh_and_ninety_after_its_beginning() {
        let day = 86_400;
        assert_eq!(expiry(at(0), at(0)), at(30 * day));
        assert_eq!(expiry(at(0), at(50 * day)), at(80 * day));
        assert_eq!(expiry(at(0), at(80 * day)), at(90 * day));
    }
}
