//! What the service's policy says of the calls that it answers, with what is counted for that. Replaced as a whole when the policy
//! changes; a limit that did not change goes on counting where it was.

use super::rate_limits::Limit;
use crate::policy::Policy;
use crate::policy::PolicyCell;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Rules {
    /// How often the policy had changed when it was read, at least.
    pub(super) changes: u64,
    pub(super) policy: Arc<Policy>,
    pub(super) limits: Vec<Arc<Limit>>,
}

impl Rules {
    /// The rules of the policy that is there now, which replaces that of `before`.
    pub(super) fn of(policy: &PolicyCell, before: Option<&Self>) -> Self {
        // Before the policy: should it change in between, that shows as one more change.
        let changes = policy.changes();
        let policy = Arc::clone(&policy.load());
        let known = before.map_or(&[][..], |before| &before.limits);
        let limits = policy.rate_limits.iter().map(|rule| {
            let same = known.iter().find(|limit| limit.rule == *rule);
            same.cloned().unwrap_or_else(|| Arc::new(Limit::new(rule.clone())))
        });
        Self { changes, limits: limits.collect(), policy }
    }
}
