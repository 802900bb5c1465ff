//! What is known of who is there, and what an update makes of it.
//!
//! Leaving is said, not inferred: who goes without having said so is only suspect, and stays until asked. No I/O happens
//! here.

use crate::registry::Change;
use crate::registry::Entry;
use crate::registry::Instance;
use crate::registry::Update;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// How often in a row a suspect may leave a probe unanswered before it is taken for gone.
const PROBES_MISSED_MAX: u32 = 2;

/// All instances, by id.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The registry's revision; 0 before it was heard of.
    pub(super) revision: i64,
    pub(super) instances: BTreeMap<String, Arc<Known>>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) instance: Instance,
    /// The gRPC services it serves, and whether the registry still says so.
    pub(super) grpc_services: BTreeMap<String, Presence>,
    /// Whether it was seen to join, and was not there when the list was first read.
    pub(super) joined: bool,
    probes_missed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Registered,
    Suspect,
}

impl Known {
    /// Whether the registry no longer knows all of it.
    pub(super) fn is_suspect(&self) -> bool {
        self.grpc_services.values().any(|presence| *presence == Presence::Suspect)
    }
}

impl Table {
    /// What was known when it was last written down.
    pub(super) fn of_snapshot(entries: Vec<Entry>) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.put(entry, false);
        }
        table
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let of = |known: &Arc<Known>| {
            let instance = known.instance.clone();
            let entry = move |grpc_service: &String| Entry {
                grpc_service: grpc_service.clone(),
                instance: instance.clone(),
            };
            known.grpc_services.keys().map(entry).collect::<Vec<_>>()
        };
        self.instances.values().flat_map(of).collect()
    }

    /// Applies what a registry reports; returns the ids of the instances that it has just named.
    pub(super) fn apply(&mut self, update: Update) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        match update {
            Update::Alive { revision } => self.revision = revision,
            Update::Changed { revision, changes } => {
                self.revision = revision;
                for change in changes {
                    match change {
                        Change::Put(entry) => {
                            named.insert(entry.instance.instance.clone());
                            self.put(entry, true);
                        }
                        Change::Delete { grpc_service, instance } => {
                            self.delete(&grpc_service, &instance);
                        }
                    }
                }
            }
            Update::Listed { revision, entries } => {
                self.revision = revision;
                let listed: BTreeSet<(String, String)> = entries
                    .iter()
                    .map(|entry| (entry.grpc_service.clone(), entry.instance.instance.clone()))
                    .collect();
                let known = self.entries();
                let missing = known.into_iter().filter(|entry| {
                    !listed.contains(&(entry.grpc_service.clone(), entry.instance.instance.clone()))
                });
                for entry in missing {
                    self.delete(&entry.grpc_service, &entry.instance.instance);
                }
                for entry in entries {
                    named.insert(entry.instance.instance.clone());
                    self.put(entry, false);
                }
            }
        }
        named
    }

    fn put(&mut self, entry: Entry, joined: bool) {
        let Entry { grpc_service, instance } = entry;
        let known = self.instances.entry(instance.instance.clone()).or_insert_with(|| {
            let instance = instance.clone();
            let grpc_services = BTreeMap::new();
            Arc::new(Known { instance, grpc_services, joined, probes_missed: 0 })
        });
        let known = Arc::make_mut(known);
        let moved = known.instance.address != instance.address
            || known.instance.service != instance.service;
        if moved {
            // Another process under the same id: what the one before served says nothing.
            known.grpc_services.clear();
        }
        if known.instance.register_time != instance.register_time {
            known.joined = joined;
        }
        known.instance = instance;
        known.probes_missed = 0;
        known.grpc_services.insert(grpc_service, Presence::Registered);
    }

    fn delete(&mut self, grpc_service: &str, instance: &str) {
        let Some(known) = self.instances.get_mut(instance) else { return };
        let known = Arc::make_mut(known);
        if !known.instance.draining {
            if let Some(presence) = known.grpc_services.get_mut(grpc_service) {
                *presence = Presence::Suspect;
            }
            return;
        }
        known.grpc_services.remove(grpc_service);
        if known.grpc_services.is_empty() {
            self.instances.remove(instance);
        }
    }

    /// The instances to ask whether they are still there: each once, beginning after this one.
    pub(super) fn suspects_after(&self, last: &str) -> impl Iterator<Item = &Arc<Known>> {
        let after = self.instances.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
        let before = self.instances.range::<str, _>((Bound::Unbounded, Bound::Included(last)));
        after.chain(before).map(|(_, known)| known).filter(|known| known.is_suspect())
    }

    /// Takes the answer of a suspect, asked at `address`: whether the same instance answered. Returns whether that changed
    /// who is there.
    pub(super) fn probed(&mut self, instance: &str, address: &str, answered: bool) -> bool {
        let Some(known) = self.instances.get_mut(instance) else { return false };
        let known = Arc::make_mut(known);
        if known.instance.address != address {
            return false;
        }
        known.probes_missed = if answered { 0 } else { known.probes_missed + 1 };
        if known.probes_missed < PROBES_MISSED_MAX || !known.is_suspect() {
            return false;
        }
        known.grpc_services.retain(|_, presence| *presence == Presence::Registered);
        if known.grpc_services.is_empty() {
            self.instances.remove(instance);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(instance: &str, port: u16, draining: bool) -> Entry {
        let instance = Instance {
            instance: instance.to_owned(),
            service: "links".to_owned(),
            address: format!("127.0.0.1:{port}"),
            zone: String::new(),
            region: String::new(),
            version: String::new(),
            weight: 100,
            draining,
            register_time: jiff::Timestamp::UNIX_EPOCH,
        };
        Entry { grpc_service: "a.A".to_owned(), instance }
    }

    fn changed(changes: Vec<Change>) -> Update {
        Update::Changed { revision: 1, changes }
    }

    fn deleted(instance: &str) -> Change {
        Change::Delete { grpc_service: "a.A".to_owned(), instance: instance.to_owned() }
    }

    fn listed(entries: Vec<Entry>) -> Update {
        Update::Listed { revision: 1, entries }
    }

    fn suspects(table: &Table) -> Vec<&str> {
        table.suspects_after("").map(|known| known.instance.instance.as_str()).collect()
    }

    #[test]
    fn who_drains_before_it_goes_is_gone() {
        let mut table = Table::default();
        table.apply(changed(vec![Change::Put(entry("a", 1, false))]));
        table.apply(changed(vec![Change::Put(entry("a", 1, true)), deleted("a")]));
        assert!(table.instances.is_empty());
    }

    #[test]
    fn who_goes_without_a_word_is_suspect_until_two_probes_fail() {
        let mut table = Table::default();
        table.apply(changed(vec![Change::Put(entry("a", 1, false)), deleted("a")]));
        assert_eq!(suspects(&table), ["a"]);
        for answered in [false, true, false] {
            assert!(!table.probed("a", "127.0.0.1:1", answered), "nobody came or left");
        }
        assert_eq!(suspects(&table), ["a"]);
        assert!(table.probed("a", "127.0.0.1:1", false));
        assert!(table.instances.is_empty());
    }

    #[test]
    fn suspects_are_asked_in_turn() {
        let mut table =
            Table::of_snapshot(["a", "b", "c", "d"].map(|name| entry(name, 1, false)).to_vec());
        table.apply(changed(["a", "b", "d"].map(deleted).to_vec()));
        for (last, expected) in [
            ("", ["a", "b", "d"]),
            ("a", ["b", "d", "a"]),
            ("c", ["d", "a", "b"]),
            ("x", ["a", "b", "d"]),
        ] {
            let turn = table.suspects_after(last).map(|known| known.instance.instance.as_str());
            assert_eq!(turn.collect::<Vec<_>>(), expected, "after {last}");
        }
    }

    #[test]
    fn an_empty_list_removes_nobody_who_answers() {
        let mut table = Table::of_snapshot(vec![entry("a", 1, false), entry("b", 2, true)]);
        table.apply(listed(Vec::new()));
        assert_eq!(suspects(&table), ["a"]);
        assert_eq!(table.instances.len(), 1, "b had said that it leaves");
        table.apply(listed(vec![entry("a", 1, false)]));
        assert!(suspects(&table).is_empty());
    }

    #[test]
    fn an_instance_that_comes_back_elsewhere_replaces_the_one_before() {
        let mut table = Table::default();
        table.apply(changed(vec![Change::Put(entry("a", 1, false)), deleted("a")]));
        table.apply(changed(vec![Change::Put(entry("a", 2, false))]));
        assert!(suspects(&table).is_empty());
        assert_eq!(table.instances["a"].instance.address, "127.0.0.1:2");
        table.probed("a", "127.0.0.1:1", false);
        table.probed("a", "127.0.0.1:1", false);
        assert_eq!(table.instances.len(), 1, "an old address's probe says nothing");
    }

    #[test]
    fn what_is_written_down_reads_back() {
        let entries = vec![entry("a", 1, false), entry("b", 2, false)];
        assert_eq!(Table::of_snapshot(entries.clone()).entries(), entries);
    }
}
