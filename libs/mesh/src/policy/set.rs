//! All policies that are in force, as one process sees them: what the registry reports, judged.
//!
//! A value that can't be used changes nothing: the last good one of its service stays, and the set says why.

use super::Policy;
use super::record::PolicyRecord;
use crate::registry::PolicyChange;
use crate::registry::PolicyEntry;
use crate::registry::PolicyUpdate;
use crate::registry::Update;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The policies of all services. Cheap to clone as long as there are few.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// The registry's.
    revision: i64,
    in_force: BTreeMap<String, InForce>,
    refused: BTreeMap<String, Refusal>,
}

#[derive(Debug, Clone)]
struct InForce {
    policy: Arc<Policy>,
    /// As it was stored, for the file from which a process starts while the registry is away.
    value: Arc<[u8]>,
}

/// Why what is stored for a service is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In words: each field that is wrong, and what it takes.
    pub reason: String,
    /// The revision of the service's policy that stays in force meanwhile; 0: the defaults.
    pub in_force: i64,
}

/// What was in force, as a file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptPolicy {
    service: String,
    value: String,
}

impl PolicySet {
    /// The policy of a service; none: it has the defaults.
    #[must_use]
    pub fn get(&self, service: &str) -> Option<&Arc<Policy>> {
        self.in_force.get(service).map(|it| &it.policy)
    }

    /// Whether some service's callers use a part of its instances only, so that callers must know their places.
    pub(crate) fn has_apertures(&self) -> bool {
        let mut balancing = self.in_force.values().map(|it| &it.policy.balancing);
        balancing.any(|balancing| balancing.aperture_instances_min.is_some())
    }

    /// The revisions that are in force, by service.
    pub fn revisions(&self) -> impl Iterator<Item = (&str, i64)> {
        self.in_force.iter().map(|(service, it)| (service.as_str(), it.policy.revision))
    }

    /// The services for which something is stored that can't be used, and why.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<String, Refusal> {
        &self.refused
    }

    /// The registry's revision that this was seen at; 0 if it was not seen there yet.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What was in force when it was written down.
    pub(crate) fn of_kept(kept: Vec<KeptPolicy>) -> Self {
        let mut set = Self::default();
        for KeptPolicy { service, value } in kept {
            set.put(PolicyEntry { service, value: value.into_bytes() });
        }
        set
    }

    /// What is in force, to be written down.
    pub(crate) fn to_kept(&self) -> Vec<KeptPolicy> {
        let in_force = self.in_force.iter().filter_map(|(service, it)| {
            let value = String::from_utf8(it.value.to_vec()).ok()?;
            Some(KeptPolicy { service: service.clone(), value })
        });
        in_force.collect()
    }

    /// Takes what the registry reports; whether that changed more than its revision.
    pub(crate) fn take(&mut self, update: PolicyUpdate) -> bool {
        match update {
            Update::Alive { revision } => {
                self.revision = revision;
                false
            }
            Update::Changed { revision, changes } => {
                self.revision = revision;
                for change in changes {
                    match change {
                        PolicyChange::Put(entry) => self.put(entry),
                        PolicyChange::Delete { service } => self.delete(&service),
                    }
                }
                true
            }
            Update::Listed { revision, entries } => {
                let lost = revision < self.revision;
                self.revision = revision;
                let listed: BTreeSet<_> = entries.iter().map(|it| it.service.clone()).collect();
                let known: BTreeSet<_> =
                    self.in_force.keys().chain(self.refused.keys()).cloned().collect();
                for service in known.difference(&listed) {
                    if lost {
                        // Nobody removed it: what it forbids stays forbidden.
                        let reason = "the registry has lost it; apply it again, or delete it";
                        self.refuse(service, reason.to_owned());
                    } else {
                        self.delete(service);
                    }
                }
                entries.into_iter().for_each(|entry| self.put(entry));
                true
            }
        }
    }

    fn put(&mut self, entry: PolicyEntry) {
        let PolicyEntry { service, value } = entry;
        let known = self.in_force.get(&service);
        if known.is_some_and(|known| *known.value == *value) {
            // Listed again, or put back as it was.
            self.accept(&service);
            return;
        }
        let compiled = PolicyRecord::decode(&service, &value).and_then(|record| record.compile());
        match compiled {
            Ok(policy) => {
                self.accept(&service);
                let in_force = InForce { policy: Arc::new(policy), value: value.into() };
                self.in_force.insert(service, in_force);
            }
            Err(reason) => self.refuse(&service, reason),
        }
    }

    fn accept(&mut self, service: &str) {
        if self.refused.remove(service).is_some() {
            tracing::info!(service, "a policy that could not be used is replaced");
        }
    }

    fn refuse(&mut self, service: &str, reason: String) {
        let in_force = self.in_force.get(service).map_or(0, |it| it.policy.revision);
        let refusal = Refusal { reason, in_force };
        // Said once, not each time that it is listed.
        if self.refused.get(service) != Some(&refusal) {
            let reason = &refusal.reason;
            tracing::warn!(
                service,
                in_force,
                reason,
                "a policy can't be used; the last good one stays"
            );
        }
        self.refused.insert(service.to_owned(), refusal);
    }

    fn delete(&mut self, service: &str) {
        self.in_force.remove(service);
        self.refused.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proto::mesh::v1::Concurrency;
    use proto::mesh::v1::ServicePolicy;

    fn entry(service: &str, revision: i64, calls_max: u32) -> PolicyEntry {
        let policy = ServicePolicy {
            service: service.to_owned(),
            concurrency: Some(Concurrency { calls_max, ..Concurrency::default() }),
            ..ServicePolicy::default()
        };
        let record = PolicyRecord {
            service: service.to_owned(),
            policy: Some(policy),
            revision,
            apply_time: Timestamp::UNIX_EPOCH,
            author: String::new(),
            note: String::new(),
        };
        PolicyEntry { service: service.to_owned(), value: record.encode() }
    }

    fn put(entry: PolicyEntry) -> PolicyUpdate {
        Update::Changed { revision: 1, changes: vec![PolicyChange::Put(entry)] }
    }

    fn listed(revision: i64, entries: Vec<PolicyEntry>) -> PolicyUpdate {
        Update::Listed { revision, entries }
    }

    fn revisions(set: &PolicySet) -> Vec<(&str, i64)> {
        set.revisions().collect()
    }

    #[test]
    fn a_bad_value_changes_nothing_but_what_is_said_of_it() {
        let mut set = PolicySet::default();
        set.take(listed(1, vec![entry("edge", 1, 10), entry("links", 2, 20)]));
        let edge = Arc::clone(set.get("edge").unwrap());
        let garbage = PolicyEntry { service: "links".to_owned(), value: b"garbage".to_vec() };
        for bad in [garbage, entry("links", 3, 1_000_000)] {
            assert!(set.take(put(bad)));
            assert_eq!(revisions(&set), [("edge", 1), ("links", 2)]);
            assert_eq!(set.refused()["links"].in_force, 2);
        }
        let reason = &set.refused()["links"].reason;
        assert!(reason.contains("concurrency.calls_max") && reason.contains("100000"), "{reason}");
        assert!(Arc::ptr_eq(&edge, set.get("edge").unwrap()), "the others are as they were");
        set.take(put(entry("links", 4, 30)));
        assert!(set.refused().is_empty());
        assert_eq!(revisions(&set), [("edge", 1), ("links", 4)]);
    }

    #[test]
    fn a_service_whose_first_policy_is_bad_has_the_defaults() {
        let mut set = PolicySet::default();
        set.take(put(entry("links", 1, 1_000_000)));
        assert!(set.get("links").is_none());
        assert_eq!(set.refused()["links"].in_force, 0);
        let gone = PolicyChange::Delete { service: "links".to_owned() };
        set.take(Update::Changed { revision: 2, changes: vec![gone] });
        assert!(set.refused().is_empty());
    }

    #[test]
    fn what_is_not_listed_any_more_is_gone_unless_the_registry_lost_its_data() {
        let mut set = PolicySet::default();
        set.take(listed(7, vec![entry("edge", 1, 10), entry("links", 2, 20)]));
        set.take(listed(9, vec![entry("links", 2, 20)]));
        assert_eq!(revisions(&set), [("links", 2)]);
        set.take(listed(1, Vec::new()));
        assert_eq!(revisions(&set), [("links", 2)]);
        assert!(set.refused()["links"].reason.contains("lost"));
        set.take(put(entry("links", 1, 30)));
        assert_eq!(revisions(&set), [("links", 1)]);
        assert!(set.refused().is_empty());
    }

    #[test]
    fn what_is_written_down_is_what_was_in_force() {
        let mut set = PolicySet::default();
        set.take(listed(7, vec![entry("links", 2, 20)]));
        set.take(put(entry("links", 3, 1_000_000)));
        let again = PolicySet::of_kept(set.to_kept());
        assert_eq!(revisions(&again), [("links", 2)]);
        assert_eq!(again.get("links"), set.get("links"));
    }
}
