//! Turns what the registry reports into routes: keeps the table, the endpoints and their keepers, asks suspects, writes the
//! snapshot.
//!
//! While the registry is away, what was last known stays, for as long as it takes.

use super::balance::Balancer;
use super::budget::Budget;
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::keeper;
use super::routes::Route;
use super::routes::Routes;
use super::shared::Shared;
use super::snapshot;
use super::snapshot::Snapshot;
use super::table::Known;
use super::table::Table;
use crate::identity::Identity;
use crate::identity::ServiceName;
use crate::methods::METHODS;
use crate::metrics::CallMetrics;
use crate::policy::Policy;
use crate::policy::PolicyMetrics;
use crate::policy::PolicySet;
use crate::registry::Instance;
use crate::registry::PolicyWatch;
use crate::registry::Update;
use crate::registry::Watch;
use anyhow::Context as _;
use rapidhash::RapidHashMap;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often suspects are asked, and the snapshot is written if there is news.
const TICK: Duration = Duration::from_millis(500);
/// How long a suspect may take to answer on a connection that is open.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the mesh knows, for people.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) revision: i64,
    /// When the registry last answered.
    pub(super) heard: Option<Instant>,
    pub(super) instances: Arc<[(Known, Arc<Endpoint>)]>,
    pub(super) policies: Arc<PolicySet>,
}

/// What a resolver needs.
pub(super) struct Resolver {
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Identity,
    pub(super) metrics: CallMetrics,
    pub(super) snapshot: Option<PathBuf>,
    table: Table,
    heard: Option<Instant>,
    endpoints: BTreeMap<EndpointKey, Kept>,
    budgets: RapidHashMap<String, Arc<Budget>>,
    policies: Arc<PolicySet>,
    policy_metrics: PolicyMetrics,
    /// Of services that have no policy, by service.
    policies_default: BTreeMap<String, Arc<Policy>>,
    keepers: JoinSet<()>,
    probes: JoinSet<Probe>,
    probed: BTreeSet<String>,
    unwritten: bool,
}

/// Service, instance and address: another process has another key.
type EndpointKey = (String, String, String);

struct Kept {
    endpoint: Arc<Endpoint>,
    gone: CancellationToken,
}

struct Probe {
    instance: String,
    address: String,
    answered: bool,
}

impl Resolver {
    pub(super) fn new(
        shared: Arc<Shared>,
        identity: Identity,
        metrics: CallMetrics,
        policy_metrics: PolicyMetrics,
        snapshot: Option<PathBuf>,
    ) -> Self {
        Self {
            shared,
            identity,
            metrics,
            snapshot,
            table: Table::default(),
            heard: None,
            endpoints: BTreeMap::new(),
            budgets: RapidHashMap::default(),
            policies: Arc::default(),
            policy_metrics,
            policies_default: BTreeMap::new(),
            keepers: JoinSet::new(),
            probes: JoinSet::new(),
            probed: BTreeSet::new(),
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
        mut watch: Watch,
        mut policies: PolicyWatch,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                update = watch.next() => {
                    let Some(update) = update else { break };
                    self.take(update);
                }
                set = policies.next() => {
                    let Some(set) = set else { break };
                    self.obey(set);
                }
                Some(probe) = self.probes.join_next() => self.take_probe(probe),
                Some(_) = self.keepers.join_next() => {}
                _ = tick.tick() => {
                    self.probe_suspects();
                    self.write_snapshot().await;
                }
            }
        }
        stop.cancelled().await;
        self.shared.routes.store(Arc::default());
        self.probes.shutdown().await;
        self.keepers.shutdown().await;
        self.write_snapshot().await;
    }

    fn take(&mut self, update: Update) {
        self.heard = Some(Instant::now());
        if let Update::Alive { revision } = update {
            self.table.revision = revision;
            self.publish_age();
            return;
        }
        let named = self.table.apply(update);
        self.publish();
        for Kept { endpoint, .. } in self.endpoints.values() {
            if named.contains(&endpoint.instance) {
                endpoint.hurry();
            }
        }
    }

    /// From now on, these policies hold. What is known of endpoints and what is left of budgets stays.
    fn obey(&mut self, policies: Arc<PolicySet>) {
        self.policy_metrics.show(&self.policies, &policies);
        self.shared.policy.follow(&policies);
        self.policies = policies;
        self.publish();
    }

    /// Makes routes of the table, and swaps them in as a whole.
    fn publish(&mut self) {
        let now = Instant::now();
        let mut by_service: BTreeMap<String, Vec<Arc<Endpoint>>> = BTreeMap::new();
        let mut instances = Vec::new();
        let mut wanted = BTreeSet::new();
        let known: Vec<Known> = self.table.instances.values().cloned().collect();
        for known in known {
            let Some((key, endpoint)) = self.endpoint(&known, now) else { continue };
            wanted.insert(key);
            for grpc_service in known.grpc_services.keys() {
                if self.may_serve(&known.instance, grpc_service) {
                    by_service.entry(grpc_service.clone()).or_default().push(Arc::clone(&endpoint));
                }
            }
            instances.push((known, endpoint));
        }
        self.endpoints.retain(|key, kept| {
            let keep = wanted.contains(key);
            if !keep {
                kept.gone.cancel();
            }
            keep
        });

        let mut routes = Routes::default();
        for (grpc_service, endpoints) in by_service {
            let policy = self.policy(&endpoints);
            let budget = self.budgets.entry(policy.service.clone());
            let budget = Arc::clone(budget.or_insert_with(|| Arc::new(Budget::new(now))));
            let route = Route {
                subsets: policy.subsets.iter().map(|_| balancer(&endpoints)).collect(),
                all: balancer(&endpoints),
                metrics: self.metrics.between(self.identity.service(), &policy.service),
                policy,
                budget,
            };
            routes.by_service.insert(grpc_service, Arc::new(route));
        }
        self.shared.routes.store(Arc::new(routes));
        self.shared.published.store(Arc::new(Published {
            revision: self.table.revision,
            heard: self.heard,
            instances: instances.into(),
            policies: Arc::clone(&self.policies),
        }));
        self.shared.waiting.wake_all();
        self.unwritten = true;
    }

    /// Whether an instance is of the service that serves a gRPC service, or of one that its policy names beside it. Who is in
    /// the registry has proved nothing: any service might claim the calls of another.
    fn may_serve(&self, instance: &Instance, grpc_service: &str) -> bool {
        let Some(owner) = METHODS.served_by(grpc_service) else { return true };
        let is_named = |policy: &Arc<Policy>| {
            let named = policy.subsets.iter().filter_map(|subset| subset.service.as_deref());
            named.into_iter().any(|service| service == instance.service)
        };
        instance.service == owner || self.policies.get(owner).is_some_and(is_named)
    }

    /// The policy of the service that has these endpoints.
    fn policy(&mut self, endpoints: &[Arc<Endpoint>]) -> Arc<Policy> {
        let service = endpoints.first().map_or("", |endpoint| endpoint.service.as_str());
        if let Some(policy) = self.policies.get(service) {
            return Arc::clone(policy);
        }
        let default = self.policies_default.entry(service.to_owned());
        Arc::clone(default.or_insert_with(|| Arc::new(Policy::default_of(service))))
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

    /// The endpoint of an instance, new or as it was; none if its service has no name that a certificate could have.
    fn endpoint(&mut self, known: &Known, now: Instant) -> Option<(EndpointKey, Arc<Endpoint>)> {
        let instance = &known.instance;
        let key = (instance.service.clone(), instance.instance.clone(), instance.address.clone());
        if let Some(kept) = self.endpoints.get(&key) {
            kept.endpoint.update(instance);
            return Some((key, Arc::clone(&kept.endpoint)));
        }
        let service = match ServiceName::parse(&instance.service) {
            Ok(service) => service,
            Err(error) => {
                tracing::warn!(
                    instance = instance.instance,
                    error = format!("{error:#}"),
                    "an instance is not used"
                );
                return None;
            }
        };
        for grpc_service in known.grpc_services.keys() {
            if !self.may_serve(instance, grpc_service) {
                tracing::warn!(
                    instance = instance.instance,
                    service = instance.service,
                    grpc_service,
                    "an instance of another service claims a gRPC service, and is not called for it"
                );
            }
        }
        let metrics = self.metrics.between(self.identity.service(), service.as_str());
        let endpoint = Arc::new(Endpoint::new(instance, service, metrics, now));
        let gone = CancellationToken::new();
        self.keepers.spawn(keeper::keep(
            Arc::clone(&endpoint),
            self.identity.clone(),
            Arc::clone(&self.shared.waiting),
            gone.clone(),
        ));
        self.endpoints.insert(key.clone(), Kept { endpoint: Arc::clone(&endpoint), gone });
        Some((key, endpoint))
    }

    /// Asks those who went without a word whether they are still there, one question at a time each.
    fn probe_suspects(&mut self) {
        for known in self.table.suspects() {
            let instance = &known.instance;
            let key =
                (instance.service.clone(), instance.instance.clone(), instance.address.clone());
            let Some(kept) = self.endpoints.get(&key) else { continue };
            if self.probed.insert(instance.instance.clone()) {
                let (endpoint, identity) = (Arc::clone(&kept.endpoint), self.identity.clone());
                self.probes.spawn(probe(endpoint, identity, Arc::clone(&self.shared.waiting)));
            }
        }
    }

    fn take_probe(&mut self, probe: Result<Probe, tokio::task::JoinError>) {
        let Ok(probe) = probe else {
            // It panicked, which must not keep the others from being asked.
            self.probed.clear();
            return;
        };
        self.probed.remove(&probe.instance);
        self.table.probed(&probe.instance, &probe.address, probe.answered);
        if !probe.answered {
            self.publish();
        }
    }

    async fn write_snapshot(&mut self) {
        let Some(path) = self.snapshot.clone().filter(|_| self.unwritten) else { return };
        self.unwritten = false;
        let snapshot = Snapshot::new(self.table.entries(), self.policies.to_kept());
        let written = tokio::task::spawn_blocking(move || snapshot::write(&path, &snapshot)).await;
        if let Ok(Err(error)) = written {
            // What is known stays in memory; the next change tries again.
            tracing::warn!(error = format!("{error:#}"), "the mesh's snapshot can't be written");
        }
    }
}

fn balancer(endpoints: &[Arc<Endpoint>]) -> Balancer {
    Balancer { endpoints: endpoints.into() }
}

async fn probe(
    endpoint: Arc<Endpoint>,
    identity: Identity,
    waiting: Arc<super::waiting::Waiting>,
) -> Probe {
    let answered = match instance_at(&endpoint, &identity, &waiting).await {
        Ok(instance) => instance == endpoint.instance,
        Err(error) => {
            tracing::debug!(
                instance = endpoint.instance,
                error = format!("{error:#}"),
                "a suspect does not answer"
            );
            false
        }
    };
    Probe { instance: endpoint.instance.clone(), address: endpoint.address.clone(), answered }
}

/// Which instance answers where the endpoint is: on its connection, or on one for the question.
async fn instance_at(
    endpoint: &Endpoint,
    identity: &Identity,
    waiting: &Arc<super::waiting::Waiting>,
) -> anyhow::Result<String> {
    if let Some(connection) = endpoint.connection() {
        let asked = tokio::time::timeout(PROBE_WAIT_MAX, connection.instance()).await;
        return asked.context("no answer in time")?;
    }
    let opened = Connection::open(&endpoint.address, &endpoint.service, identity, waiting).await;
    let (connection, driver) = opened?;
    let connection = Arc::new(connection);
    tokio::select! {
        asked = tokio::time::timeout(PROBE_WAIT_MAX, connection.instance()) => {
            asked.context("no answer in time")?
        }
        () = driver => anyhow::bail!("the connection was lost"),
    }
}
