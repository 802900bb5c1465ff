//! What all clones of a mesh share.

use super::resolver::Published;
use super::routes::Routes;
use super::waiting::Waiting;
use crate::metrics::CallMetrics;
use crate::metrics::PairMetrics;
use crate::policy::PolicyCell;
use arc_swap::ArcSwap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Shared {
    /// Who serves what.
    pub(super) routes: ArcSwap<Routes>,
    /// The same, for people.
    pub(super) published: ArcSwap<Published>,
    pub(super) waiting: Arc<Waiting>,
    /// The policy of the service that calls, for its own server.
    pub(super) policy: PolicyCell,
    /// What is counted of calls.
    pub(super) metrics: CallMetrics,
    /// For calls that were sent to nobody.
    pub(super) unrouted: Arc<PairMetrics>,
}
