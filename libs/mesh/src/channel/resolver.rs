//! Turns what the registry reports into routes: keeps the table, the fleet of endpoints and the directory, asks suspects, writes
//! the snapshot.
//!
//! While the registry is away, what was last known stays, for as long as it takes.

use super::balance::Position;
use super::balance::plan;
use super::balance::plan::Member;
use super::balance::plan::Standpoint;
use super::directory::Directory;
use super::directory::Policies;
use super::endpoint::Endpoint;
use super::fleet::EXAMINE_EVERY;
use super::fleet::Fleet;
use super::fleet::Unusable;
use super::fleet::key_of;
use super::keeper::Means;
use super::keeper::OPENING_MAX;
use super::owners::Told;
use super::shared::Shared;
use super::snapshot;
use super::snapshot::Snapshot;
use super::suspects;
use super::suspects::Answer;
use super::table::Known;
use super::table::Table;
use crate::identity::Identity;
use crate::metrics::CallMetrics;
use crate::policy::Policy;
use crate::policy::PolicyMetrics;
use crate::policy::PolicySet;
use crate::registry::Attendance;
use crate::registry::PolicyWatch;
use crate::registry::Registry;
use crate::registry::Roster;
use crate::registry::UPDATES_MAX;
use crate::registry::Update;
use crate::registry::Watch;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often suspects are asked, and the snapshot is written if there is news.
const TICK: Duration = Duration::from_millis(500);
/// How often routes are made anew while endpoints change by time alone, and at most while they change otherwise.
const SETTLE_EVERY: Duration = Duration::from_millis(100);
const SETTLE_EVERY_MIN: Duration = Duration::from_millis(5);
/// How many suspects are asked at a time: all of a large registry may be suspect at once.
const QUESTIONS_MAX: usize = 256;

/// What the mesh knows, for people.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) revision: i64,
    /// When the registry last answered.
    pub(super) heard: Option<Instant>,
    pub(super) instances: Arc<[PublishedInstance]>,
    pub(super) policies: Arc<PolicySet>,
}

#[derive(Debug)]
pub(super) struct PublishedInstance {
    pub(super) known: Arc<Known>,
    pub(super) endpoint: Arc<Endpoint>,
    /// How near it is.
    pub(super) tier: usize,
}

/// Where a caller is, and its place among the others.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) zone: String,
    pub(super) region: String,
    /// Once a policy asks for it.
    pub(super) roster: Arc<Roster>,
}

/// What follows the registry for a mesh.
pub(super) struct Resolver {
    shared: Arc<Shared>,
    home: Home,
    means: Means,
    snapshot: Option<PathBuf>,
    table: Table,
    heard: Option<Instant>,
    fleet: Fleet,
    directory: Directory,
    policies: Policies,
    policy_metrics: PolicyMetrics,
    /// Routes stay as they are until there is news.
    settled: bool,
    questions: JoinSet<Answer>,
    asked: BTreeSet<String>,
    /// Whose turn it was last.
    asked_last: String,
    unwritten: bool,
}

impl Resolver {
    pub(super) fn new(
        shared: Arc<Shared>,
        identity: Identity,
        home: Home,
        metrics: CallMetrics,
        policy_metrics: PolicyMetrics,
        snapshot: Option<PathBuf>,
    ) -> Self {
        let means = Means {
            identity,
            waiting: Arc::clone(&shared.waiting),
            opening: Arc::new(Semaphore::new(OPENING_MAX)),
        };
        Self {
            shared,
            home,
            snapshot,
            table: Table::default(),
            heard: None,
            fleet: Fleet::new(means.clone(), metrics.clone(), Instant::now()),
            directory: Directory::new(means.identity.service(), metrics),
            means,
            policies: Policies::default(),
            policy_metrics,
            settled: true,
            questions: JoinSet::new(),
            asked: BTreeSet::new(),
            asked_last: String::new(),
            unwritten: false,
        }
    }

    /// Begins with what was last written down; returns the policies that were.
    pub(super) fn restore(&mut self) -> PolicySet {
        let Some(path) = &self.snapshot else { return PolicySet::default() };
        let Snapshot { entries, policies, .. } = snapshot::read(path);
        self.table = Table::of_snapshot(entries);
        let policies = PolicySet::of_kept(policies);
        self.obey(Arc::new(policies.clone()));
        policies
    }

    /// Follows the registry until `stop`; then ends all connections.
    pub(super) async fn run(
        mut self,
        registry: Arc<dyn Registry>,
        mut policies: PolicyWatch,
        mut told: mpsc::Receiver<Told>,
        stop: CancellationToken,
    ) {
        let mut watch = registry.watch();
        let mut attendance = None;
        let (mut tick, mut settle) = (every(TICK), every(SETTLE_EVERY));
        let mut examine = every(EXAMINE_EVERY);
        loop {
            if attendance.is_none() && self.policies.set().has_apertures() {
                let service = self.means.identity.service();
                attendance = Some(registry.attend(service, &self.home.zone));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(roster) = next_roster(&mut attendance) => {
                    self.home.roster = roster;
                    self.publish();
                }
                update = watch.next() => {
                    let Some(update) = update else { break };
                    self.take(update, &mut watch);
                }
                set = policies.next() => {
                    let Some(set) = set else { break };
                    self.obey(set);
                }
                Some(Told { owners, obeyed }) = told.recv() => {
                    self.policies.owners.replace(owners);
                    self.publish();
                    drop(obeyed);
                }
                () = self.fleet.tend() => {
                    self.settle(Instant::now());
                    // More changes may come together; calls that wait find what is new without this.
                    tokio::time::sleep(SETTLE_EVERY_MIN).await;
                }
                _ = settle.tick(), if !self.settled => self.settle(Instant::now()),
                _ = examine.tick() => {
                    if self.fleet.examine(Instant::now()) {
                        self.settle(Instant::now());
                    }
                }
                Some(answer) = self.questions.join_next() => self.hear(answer),
                _ = tick.tick() => {
                    self.ask_suspects();
                    self.write_snapshot().await;
                }
            }
        }
        drop(told);
        stop.cancelled().await;
        self.shared.routes.store(Arc::default());
        self.questions.shutdown().await;
        self.fleet.shutdown().await;
        self.write_snapshot().await;
    }

    /// Takes an update over, and those that are there already, so that many at once make one set of routes.
    fn take(&mut self, update: Update, watch: &mut Watch) {
        self.heard = Some(Instant::now());
        let mut named = BTreeSet::new();
        let mut changed = false;
        let further = std::iter::from_fn(|| watch.next_ready()).take(UPDATES_MAX);
        for update in std::iter::once(update).chain(further) {
            changed |= !matches!(update, Update::Alive { .. });
            named.append(&mut self.table.apply(update));
        }
        if !changed {
            self.publish_age();
            return;
        }
        self.publish();
        self.fleet.hurry(&named);
    }

    /// From now on, these policies hold. What is known of endpoints and what is left of budgets stays.
    fn obey(&mut self, policies: Arc<PolicySet>) {
        self.policy_metrics.show(self.policies.set(), &policies);
        self.shared.policy.follow(&policies);
        self.policies.follow(policies);
        self.publish();
    }

    /// Takes over what the table says, and makes routes of it.
    fn publish(&mut self) {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let mut instances = Vec::new();
        let mut wanted = BTreeSet::new();
        for known in self.table.instances.values() {
            let policy = self.policies.of(&known.instance.service);
            match self.fleet.put(known, &policy, now, wall) {
                Ok((endpoint, new)) => {
                    wanted.insert(key_of(known));
                    if new {
                        self.policies.warn_of_claims(known);
                    }
                    let tier =
                        plan::tier_of(self.home.standpoint(), &known.instance, &policy.balancing);
                    instances.push(PublishedInstance { known: Arc::clone(known), endpoint, tier });
                }
                Err(Unusable(error)) => tracing::warn!(
                    instance = known.instance.instance,
                    error = format!("{error:#}"),
                    "an instance is not used"
                ),
            }
        }
        self.fleet.retain(&wanted);
        self.list(&instances, now);
        self.settle(now);
        self.shared.published.store(Arc::new(Published {
            revision: self.table.revision,
            heard: self.heard,
            instances: instances.into(),
            policies: Arc::clone(self.policies.set()),
        }));
        self.unwritten = true;
    }

    fn list(&mut self, instances: &[PublishedInstance], now: Instant) {
        let mut services: BTreeMap<String, (Arc<Policy>, Vec<Member<'_>>)> = BTreeMap::new();
        for PublishedInstance { known, endpoint, .. } in instances {
            for grpc_service in known.grpc_services.keys() {
                if !self.policies.may_serve(&known.instance, grpc_service) {
                    continue;
                }
                let listing = services.entry(grpc_service.clone()).or_insert_with(|| {
                    (self.policies.of_calls(grpc_service, &known.instance), Vec::new())
                });
                listing.1.push((&known.instance, endpoint));
            }
        }
        self.directory.replace(services, self.home.standpoint(), now);
    }

    /// Makes routes of how the endpoints are now, and swaps them in as a whole.
    fn settle(&mut self, now: Instant) {
        let warming = self.fleet.weigh(now);
        let (routes, settled) = self.directory.routes(self.fleet.tick(now), now);
        self.settled = settled && !warming;
        self.shared.routes.store(Arc::new(routes));
        self.shared.waiting.wake_all();
    }

    fn publish_age(&self) {
        let before = self.shared.published.load();
        self.shared.published.store(Arc::new(Published {
            revision: self.table.revision,
            heard: self.heard,
            instances: Arc::clone(&before.instances),
            policies: Arc::clone(&before.policies),
        }));
    }

    /// Asks those who went without a word whether they are still there, one question at a time each, in turn if they are many.
    fn ask_suspects(&mut self) {
        let mut unknown = Vec::new();
        let last = self.asked_last.clone();
        for known in self.table.suspects_after(&last) {
            if self.asked.len() >= QUESTIONS_MAX {
                break;
            }
            self.asked_last.clone_from(&known.instance.instance);
            let Some(endpoint) = self.fleet.get(&key_of(known)) else {
                unknown.push((known.instance.instance.clone(), known.instance.address.clone()));
                continue;
            };
            if self.asked.insert(known.instance.instance.clone()) {
                let identity = self.means.identity.clone();
                self.questions.spawn(suspects::ask(Arc::clone(endpoint), identity));
            }
        }
        // What can't be called is not kept for ever.
        for (instance, address) in unknown {
            self.table.probed(&instance, &address, false);
        }
    }

    /// Takes an answer over, and those that are there already: routes are made anew once for all of them.
    fn hear(&mut self, answer: Result<Answer, JoinError>) {
        let mut changed = false;
        let mut next = Some(answer);
        while let Some(answer) = next {
            match answer {
                Ok(answer) => {
                    self.asked.remove(&answer.instance);
                    changed |=
                        self.table.probed(&answer.instance, &answer.address, answer.answered);
                }
                // It panicked, which must not keep the others from being asked.
                Err(_) => self.asked.clear(),
            }
            next = self.questions.try_join_next();
        }
        if changed {
            self.publish();
        }
    }

    async fn write_snapshot(&mut self) {
        let Some(path) = self.snapshot.clone().filter(|_| self.unwritten) else { return };
        self.unwritten = false;
        let snapshot = Snapshot::new(self.table.entries(), self.policies.set().to_kept());
        let written = tokio::task::spawn_blocking(move || snapshot::write(&path, &snapshot)).await;
        if let Ok(Err(error)) = written {
            // What is known stays in memory; the next change tries again.
            tracing::warn!(error = format!("{error:#}"), "the mesh's snapshot can't be written");
        }
    }
}

impl Home {
    fn standpoint(&self) -> Standpoint<'_> {
        Standpoint {
            zone: &self.zone,
            region: &self.region,
            in_zone: Position::of(&self.roster, Some(&self.zone)),
            among_all: Position::of(&self.roster, None),
        }
    }
}

async fn next_roster(attendance: &mut Option<Attendance>) -> Option<Arc<Roster>> {
    attendance.as_mut()?.next().await
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
