//! What may happen to a call on its way: each a counter of its own, by caller, callee and method.
//!
//! To count something new, add it here and call [`PairMetrics::count`](super::PairMetrics::count) where it happens.

use super::Direction;

/// Something that a layer did with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Another attempt was made after one that failed.
    Retry,
    /// Another attempt was made while one was under way.
    Hedge,
    /// An attempt that a hedge made was the one that counted.
    HedgeWon,
    /// A retry or a hedge was wanted, and the budget had nothing left.
    BudgetExhausted,
    /// A copy was sent to a mirror.
    Mirrored,
    /// A copy was due, and too many were under way.
    MirrorSkipped,
    /// A fault was injected: the call was delayed.
    FaultDelayed,
    /// A fault was injected: the call failed without being sent.
    FaultAborted,
    /// An attempt was sent though too few instances were healthy to be choosy.
    Panic,
    /// The call found no instance that could take it.
    Unroutable,
    /// The caller may not call the method.
    Denied,
    /// The caller would not have been let in by a rule that only reports.
    DeniedDryRun,
    /// The caller called too often.
    RateLimited,
    /// There was more to do than could be done, and the call mattered too little.
    Shed,
    /// The call came when its deadline had passed.
    Expired,
}

impl Event {
    /// All of them.
    pub(super) const ALL: [Self; 15] = [
        Self::Retry,
        Self::Hedge,
        Self::HedgeWon,
        Self::BudgetExhausted,
        Self::Mirrored,
        Self::MirrorSkipped,
        Self::FaultDelayed,
        Self::FaultAborted,
        Self::Panic,
        Self::Unroutable,
        Self::Denied,
        Self::DeniedDryRun,
        Self::RateLimited,
        Self::Shed,
        Self::Expired,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The counter's name, without `_total`.
    pub(super) fn metric(self) -> &'static str {
        match self {
            Self::Retry => "mesh_retries",
            Self::Hedge => "mesh_hedges",
            Self::HedgeWon => "mesh_hedges_won",
            Self::BudgetExhausted => "mesh_budget_exhausted",
            Self::Mirrored => "mesh_mirrored",
            Self::MirrorSkipped => "mesh_mirrors_skipped",
            Self::FaultDelayed => "mesh_faults_delayed",
            Self::FaultAborted => "mesh_faults_aborted",
            Self::Panic => "mesh_panics",
            Self::Unroutable => "mesh_unroutable",
            Self::Denied => "mesh_server_denied",
            Self::DeniedDryRun => "mesh_server_denied_dry_run",
            Self::RateLimited => "mesh_server_rate_limited",
            Self::Shed => "mesh_server_shed",
            Self::Expired => "mesh_server_expired",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::Retry => "Attempts made after one that failed",
            Self::Hedge => "Attempts made while another was under way",
            Self::HedgeWon => "Calls whose answer came from a hedge",
            Self::BudgetExhausted => {
                "Retries and hedges that were not made because the budget had nothing left"
            }
            Self::Mirrored => "Copies sent to a mirror",
            Self::MirrorSkipped => "Copies not sent because too many were under way",
            Self::FaultDelayed => "Calls delayed on purpose",
            Self::FaultAborted => "Calls failed on purpose",
            Self::Panic => "Attempts sent to any instance because too few were healthy",
            Self::Unroutable => "Calls that found no instance to take them",
            Self::Denied => "Calls refused because the caller may not make them",
            Self::DeniedDryRun => "Calls that a rule which only reports would have refused",
            Self::RateLimited => "Calls refused because the caller made too many",
            Self::Shed => "Calls refused because there was more to do than could be done",
            Self::Expired => "Calls refused because their deadline had passed when they came",
        }
    }

    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Retry
            | Self::Hedge
            | Self::HedgeWon
            | Self::BudgetExhausted
            | Self::Mirrored
            | Self::MirrorSkipped
            | Self::FaultDelayed
            | Self::FaultAborted
            | Self::Panic
            | Self::Unroutable => Direction::Outbound,
            Self::Denied | Self::DeniedDryRun | Self::RateLimited | Self::Shed | Self::Expired => {
                Direction::Inbound
            }
        }
    }
}

/// Something that befell one of a callee's instances, whatever call brought it about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incident {
    /// It was taken out of use after its failures.
    BreakerTripped,
    /// It was taken out of use because it fares worse than the others.
    Ejected,
}

impl Incident {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::BreakerTripped, Self::Ejected];

    /// Its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The counter's name, without `_total`.
    pub(super) fn metric(self) -> &'static str {
        match self {
            Self::BreakerTripped => "mesh_breaker_trips",
            Self::Ejected => "mesh_ejections",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Self::BreakerTripped => "Instances taken out of use after failures",
            Self::Ejected => "Instances taken out of use because they fare worse than the others",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_event_has_its_place_and_its_name() {
        for (place, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event.index(), place);
        }
        for (place, incident) in Incident::ALL.into_iter().enumerate() {
            assert_eq!(incident.index(), place);
        }
        let names: BTreeSet<_> = Event::ALL.map(Event::metric).into();
        assert_eq!(names.len(), Event::ALL.len());
    }
}
