//! How often something that can be guessed at, or that costs us, may be tried.

use std::time::Duration;

/// A limit by GCRA: `burst` at once, and then one every so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What the limit is of: a part of what it is counted under.
    pub name: &'static str,
    /// How many at once.
    pub burst: i64,
    /// The wait for one more.
    pub every: Duration,
}

/// Passwords and codes of one account: NIST SP 800-63B-4, section 3.2.2, wants fewer than 100 in a row; this many a day are
/// 2,890, of at least a hundred million.
pub(crate) const OF_ACCOUNT: Limit =
    Limit { name: "account", burst: 10, every: Duration::from_secs(30) };
/// Calls that stand on one token: what goes with it may be guessed at, too.
pub(crate) const OF_TOKEN: Limit =
    Limit { name: "token", burst: 10, every: Duration::from_secs(30) };
/// Codes of one account's second factor, 290 a day: of a million codes three are right at a time.
pub(crate) const OF_FACTOR: Limit =
    Limit { name: "factor", burst: 5, every: Duration::from_mins(5) };
/// Sign-ins from one network: people behind one address share it.
pub(crate) const OF_NETWORK: Limit =
    Limit { name: "network", burst: 30, every: Duration::from_secs(2) };
/// Sign-ups and mails that one network asks for.
pub(crate) const OF_NETWORK_MAILS: Limit =
    Limit { name: "network-mails", burst: 10, every: Duration::from_secs(30) };
/// Mails to one address.
pub(crate) const OF_ADDRESS: Limit =
    Limit { name: "address", burst: 3, every: Duration::from_mins(20) };

/// Invitations of one workspace, each of which is a mail to whomever it names.
pub(crate) const OF_WORKSPACE: Limit =
    Limit { name: "workspace", burst: 50, every: Duration::from_secs(30) };
/// Invitations that one user or key makes: however many workspaces somebody has.
pub(crate) const OF_INVITER: Limit =
    Limit { name: "inviter", burst: 50, every: Duration::from_secs(30) };

impl Limit {
    /// Microseconds between two.
    pub(crate) fn every_micros(self) -> i64 {
        i64::try_from(self.every.as_micros()).unwrap_or(i64::MAX)
    }

    /// How long to wait, given the theoretical arrival time of the next one.
    pub(crate) fn wait(self, due_micros: i64, now_micros: i64) -> Duration {
        let allowed_at = due_micros + self.every_micros() - self.burst * self.every_micros();
        let micros = u64::try_from(allowed_at - now_micros).unwrap_or(0);
        // Whole seconds, rounded up: a header has no others, and too early is refused again.
        Duration::from_secs(Duration::from_micros(micros).as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_next_one_is_allowed_and_is_never_too_short() {
        let limit = Limit { name: "test", burst: 3, every: Duration::from_secs(10) };
        // Three at second 0 make the fourth due at second 30: it is allowed at second 10.
        for (now_seconds, wait_seconds) in [(0, 11), (9, 2), (10, 1), (40, 1)] {
            let wait = limit.wait(30_000_000, now_seconds * 1_000_000);
            assert_eq!(wait, Duration::from_secs(wait_seconds), "{now_seconds}");
        }
    }
}
