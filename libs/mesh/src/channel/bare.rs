//! A service whose endpoints lead nowhere, for tests and the bench: all that happens before a request is sent and after it was
//! answered, without a network and with a time that is told.

use super::balance::Position;
use super::balance::plan::Member;
use super::balance::plan::Standpoint;
use super::connection::Connection;
use super::directory::Directory;
use super::endpoint::Endpoint;
use super::fleet::Fleet;
use super::keeper::Means;
use super::routes::Picked;
use super::routes::Routes;
use super::routes::Selection;
use super::table::Known;
use super::table::Table;
use crate::identity::Identity;
use crate::metrics::CallMetrics;
use crate::policy::Policy;
use crate::registry::Change;
use crate::registry::Entry;
use crate::registry::Instance;
use crate::registry::Registration;
use crate::registry::Update;
use jiff::Timestamp;
use prometheus_client::registry::Registry as MetricsRegistry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

const GRPC_SERVICE: &str = "test.v1.Bare";
/// More calls than any test or bench has in flight.
const STREAMS: usize = 10_000;

pub(super) struct Bare {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) routes: Routes,
    known: Vec<Arc<Known>>,
    policy: Arc<Policy>,
    fleet: Fleet,
    directory: Directory,
    /// The caller's place among the others, if it has one.
    position: Option<Position>,
}

impl Bare {
    /// A service with these instances, all of them old and connected, as a caller in zone `a` of region `eu` sees it.
    pub(super) fn new(policy: Policy, registrations: Vec<Registration>, now: Instant) -> Self {
        let mut bare = Self::unconnected(policy, registrations, Timestamp::UNIX_EPOCH, now);
        for endpoint in &bare.endpoints {
            endpoint.want();
            endpoint.connected(Connection::to_nobody(endpoint, STREAMS), now);
        }
        bare.settle(now);
        bare
    }

    /// The same without connections, joined just now if they say so.
    pub(super) fn unconnected(
        policy: Policy,
        registrations: Vec<Registration>,
        joined: Timestamp,
        now: Instant,
    ) -> Self {
        let means = Means {
            identity: Identity::plaintext_for_bench("edge").expect("a service's name"),
            waiting: Arc::default(),
            opening: Arc::new(Semaphore::new(1)),
        };
        let metrics = CallMetrics::outbound(&mut MetricsRegistry::default());
        let mut table = Table::default();
        let changes = registrations.iter().map(|registration| {
            let instance = Instance::new(registration, joined);
            Change::Put(Entry { grpc_service: GRPC_SERVICE.to_owned(), instance })
        });
        table.apply(Update::Changed { revision: 1, changes: changes.collect() });
        let mut bare = Self {
            endpoints: Vec::new(),
            routes: Routes::default(),
            known: table.instances.into_values().collect(),
            policy: Arc::new(policy),
            fleet: Fleet::new(means, metrics.clone(), now),
            directory: Directory::new("edge", metrics),
            position: None,
        };
        for known in &bare.known {
            let put = bare.fleet.put(known, &bare.policy, now, Timestamp::now());
            bare.endpoints.push(put.expect("a service's name").0);
        }
        bare.list(now);
        bare
    }

    /// Another process takes over an instance: it registered at `joined`, and was seen to.
    #[cfg(test)]
    pub(super) fn join(&mut self, at: usize, joined: Timestamp, now: Instant) {
        let known = Arc::make_mut(&mut self.known[at]);
        known.instance.register_time = joined;
        let put = self.fleet.put(known, &self.policy, now, joined);
        put.expect("a service's name");
        self.list(now);
    }

    /// The caller is told its place.
    #[cfg(test)]
    pub(super) fn stand_at(&mut self, position: Position, now: Instant) {
        self.position = Some(position);
        self.list(now);
    }

    /// Takes over who is there; the plan goes on.
    pub(super) fn list(&mut self, now: Instant) {
        let members: Vec<Member<'_>> =
            self.known.iter().map(|known| &known.instance).zip(&self.endpoints).collect();
        let services =
            BTreeMap::from([(GRPC_SERVICE.to_owned(), (Arc::clone(&self.policy), members))]);
        let standpoint = Standpoint {
            zone: "a",
            region: "eu",
            in_zone: self.position,
            among_all: self.position,
        };
        self.directory.replace(services, standpoint, now);
        self.settle(now);
    }

    /// Makes routes anew, as the resolver does after a change.
    pub(super) fn settle(&mut self, now: Instant) {
        self.fleet.weigh(now);
        self.routes = self.directory.routes(self.fleet.tick(now), now).0;
    }

    /// Compares the endpoints, as the resolver does every second.
    #[cfg(test)]
    pub(super) fn examine(&mut self, now: Instant) {
        self.fleet.examine(now);
        self.settle(now);
    }

    pub(super) fn pick(&self, tried: &[Arc<Endpoint>], hash: Option<u64>, now: Instant) -> Picked {
        let selection = Selection { subset: None, tried, hash, now };
        self.routes.by_service[GRPC_SERVICE].pick(&selection)
    }
}
