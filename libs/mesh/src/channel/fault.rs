//! Faults: calls that are delayed or fail on purpose, as the service's policy says, to see how callers take it (gRFC A33).
//!
//! A fault comes before the call is copied or sent, and once for all of its attempts.

use super::record::Record;
use crate::metrics::Event;
use crate::policy::Fault;
use http::HeaderMap;
use proto::common::v1::ErrorReason;
use rand::RngExt as _;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Code;
use tonic::Status;

/// By which a call asks for a delay, in milliseconds, where the policy lets it.
const DELAY_HEADER: &str = "linkmesh-fault-delay-ms";
/// By which a call asks to fail with a code: its number.
const ABORT_HEADER: &str = "linkmesh-fault-abort-code";
/// The longest delay that a header can ask for: the policy's own bound.
const DELAY_MAX: Duration = Duration::from_secs(3_600);

/// How many calls of this process suffer at the moment.
#[derive(Debug, Default)]
pub(super) struct ActiveFaults(AtomicU32);

/// One call that suffers.
struct Suffering<'a>(&'a ActiveFaults);

impl ActiveFaults {
    /// Lets one more call suffer; none if as many do as may.
    fn begin(&self, max: Option<u32>) -> Option<Suffering<'_>> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= max.unwrap_or(u32::MAX) {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Suffering(self))
    }
}

impl Drop for Suffering<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes a call suffer what the policy says, if it is one of those that do.
pub(super) async fn inject(
    fault: &Fault,
    headers: &HeaderMap,
    active: &ActiveFaults,
    record: &Record,
) -> Result<(), Status> {
    let (delay, abort) = (delay(fault, headers), abort(fault, headers));
    if delay.is_none() && abort.is_none() {
        return Ok(());
    }
    let Some(_suffering) = active.begin(fault.active_max) else { return Ok(()) };
    if let Some(delay) = delay {
        record.count(Event::FaultDelayed);
        tokio::time::sleep(delay).await;
    }
    let Some(code) = abort else { return Ok(()) };
    record.count(Event::FaultAborted);
    let message = "the service's policy makes this call fail";
    Err(rpc::Error::new(code, ErrorReason::FaultInjected, message).into())
}

/// How long this call is delayed.
fn delay(fault: &Fault, headers: &HeaderMap) -> Option<Duration> {
    let (delay, share) = fault.delay?;
    let delay = if fault.by_header { asked_delay(headers)? } else { delay };
    hits(share).then_some(delay)
}

/// With which code this call fails.
fn abort(fault: &Fault, headers: &HeaderMap) -> Option<Code> {
    let (code, share) = fault.abort?;
    let code = if fault.by_header { asked_code(headers)? } else { code };
    hits(share).then_some(code)
}

fn asked_delay(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get(DELAY_HEADER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis).min(DELAY_MAX))
}

fn asked_code(headers: &HeaderMap) -> Option<Code> {
    let number: i32 = headers.get(ABORT_HEADER)?.to_str().ok()?.parse().ok()?;
    (1..=16).contains(&number).then(|| Code::from_i32(number))
}

/// Whether a call is one of a share of all, 0 to 1.
pub(super) fn hits(share: f64) -> bool {
    share >= 1.0 || rand::rng().random_bool(share.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn fault() -> Fault {
        Fault {
            delay: Some((Duration::from_millis(5), 1.0)),
            abort: Some((Code::Unavailable, 1.0)),
            active_max: None,
            by_header: false,
        }
    }

    #[test]
    fn a_share_is_kept() {
        let hit = (0..10_000).filter(|_| hits(0.25)).count();
        assert!((2_200..2_800).contains(&hit), "{hit}");
        assert!(!hits(0.0) && hits(1.0));
    }

    #[test]
    fn headers_count_only_where_the_policy_says_so() {
        let asked = headers(&[(DELAY_HEADER, "70"), (ABORT_HEADER, "10")]);
        assert_eq!(delay(&fault(), &asked), Some(Duration::from_millis(5)));
        assert_eq!(abort(&fault(), &asked), Some(Code::Unavailable));
        let by_header = Fault { by_header: true, ..fault() };
        assert_eq!(delay(&by_header, &asked), Some(Duration::from_millis(70)));
        assert_eq!(abort(&by_header, &asked), Some(Code::Aborted));
        assert_eq!(
            (delay(&by_header, &headers(&[])), abort(&by_header, &headers(&[]))),
            (None, None)
        );
        let nonsense = headers(&[(DELAY_HEADER, "soon"), (ABORT_HEADER, "0")]);
        assert_eq!((delay(&by_header, &nonsense), abort(&by_header, &nonsense)), (None, None));
        // A header can't ask for what the policy does not have.
        let delays_only = Fault { abort: None, ..by_header };
        assert_eq!(abort(&delays_only, &asked), None);
    }

    #[test]
    fn no_more_suffer_at_a_time_than_may() {
        let active = ActiveFaults::default();
        let first = active.begin(Some(1));
        assert!(first.is_some() && active.begin(Some(1)).is_none());
        drop(first);
        assert!(active.begin(Some(1)).is_some());
    }
}
