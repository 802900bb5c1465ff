//! Zones that are lost, flap and return.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::drain::Load;
use crate::drain::Method;
use crate::servers::Network;
use crate::servers::Servers;
use crate::world::PATIENCE;
use crate::world::eventually;
use crate::world::registration;
use mesh::EndpointState;
use mesh::EndpointView;
use mesh::registry::Lease;
use stack::Arrivals;
use stack::FaultProxy;
use stack::Faults;
use stack::Flow;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;

/// Nobody listens, and what is open breaks.
const DOWN: Faults = Faults { arrivals: Arrivals::Refused, ..Faults::NONE };
const SILENT: Faults = Faults { flow: Flow::None, ..Faults::NONE };
/// How long a zone takes at least to get everything back.
const RETURN_WAIT: Duration = Duration::from_secs(10);
/// How far chance may take a share from where it should be, counted over [`CALLS_COUNTED`] calls: more than four times its
/// deviation.
const CHANCE: f64 = 0.15;
const CALLS_COUNTED: usize = 200;

/// Two instances, and the ways to them and from them to etcd.
struct Zone {
    backends: Vec<Backend>,
    ways: Vec<FaultProxy>,
    etcd: Network,
    _leases: Vec<Box<dyn Lease>>,
}

impl Zone {
    async fn start(servers: &Servers, name: &str) -> Self {
        let etcd = Network::to(vec![servers.etcd.address()]).await;
        let (mut backends, mut ways, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=2 {
            let instance = format!("links-{name}-{number}");
            let backend =
                Backend::unregistered(&servers.world, "links", &instance, Behaviour::Answer).await;
            let way = FaultProxy::start(backend.address.clone()).await.unwrap();
            let mut registration = registration(&instance, &way.address(), &[LINKS]);
            registration.zone = name.to_owned();
            leases.push(etcd.registry.register(registration));
            backends.push(backend);
            ways.push(way);
        }
        Self { backends, ways, etcd, _leases: leases }
    }

    fn calls(&self) -> usize {
        self.backends.iter().map(Backend::calls).sum()
    }

    /// Its instances can't be reached.
    fn go_down(&self) {
        self.ways.iter().for_each(|way| way.set(DOWN));
        self.ways.iter().for_each(FaultProxy::reset);
    }

    fn come_up(&self) {
        self.ways.iter().for_each(FaultProxy::heal);
        self.etcd.heal();
    }
}

/// The own zone, and the one next to it.
struct Zones {
    own: Zone,
    next: Zone,
}

impl Zones {
    async fn start(servers: &Servers) -> Self {
        Self { own: Zone::start(servers, "a").await, next: Zone::start(servers, "b").await }
    }

    /// The own zone's share of the calls from now on, until enough are counted.
    async fn share(&self) -> f64 {
        let before = (self.own.calls(), self.next.calls());
        let counts = || (self.own.calls() - before.0, self.next.calls() - before.1);
        eventually("calls", || async { counts().0 + counts().1 >= CALLS_COUNTED }).await;
        let (own, next) = counts();
        share(own, own + next)
    }
}

#[expect(clippy::cast_precision_loss, reason = "some hundred calls")]
fn share(of: usize, all: usize) -> f64 {
    of as f64 / all as f64
}

/// Scenario 17 of the fault list.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_lost_takes_no_call_with_it_and_returns_without_a_swing() {
    let servers = Servers::start().await;
    let zones = Zones::start(&servers).await;
    let mesh = servers.world.mesh("edge");
    eventually("all", || async { mesh.view().endpoints.len() == 4 }).await;
    let load = Load::start(&mesh, Method::Get);
    eventually("that the own zone has all calls", || async { zones.share().await >= 1.0 }).await;

    // It is lost: to its callers, and to etcd, until its leases have run out.
    zones.own.go_down();
    zones.own.etcd.set(SILENT);
    eventually("that it is gone", || async { mesh.view().endpoints.len() == 2 }).await;
    assert!(zones.share().await <= 0.0);

    // It flaps: each time it has to begin from nothing.
    for _ in 0..2 {
        zones.own.come_up();
        let (returned, before) = (Instant::now(), zones.own.calls());
        eventually("a call to it", || async { zones.own.calls() > before }).await;
        let share = zones.share().await;
        let earned = returned.elapsed().div_duration_f64(RETURN_WAIT);
        assert!(share < earned + CHANCE, "{share} of the calls after {:?}", returned.elapsed());
        zones.own.go_down();
        eventually("that it is down", || async { zones.share().await <= 0.0 }).await;
    }

    // It returns: its share grows, and no faster than it may.
    zones.own.come_up();
    let before = zones.own.calls();
    eventually("a call to it", || async { zones.own.calls() > before }).await;
    let returned = Instant::now();
    let mut most = 0.0_f64;
    while most < 1.0 {
        let share = zones.share().await;
        let earned = returned.elapsed().div_duration_f64(RETURN_WAIT);
        assert!(share < earned + CHANCE, "{share} of the calls after {:?}", returned.elapsed());
        assert!(share > most - CHANCE, "it swings: from {most} to {share}");
        most = most.max(share);
        assert!(returned.elapsed() < PATIENCE, "it has no more than {most} of the calls");
    }
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// Nobody is unhealthy: a zone that has too much to do says so, and the next one helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_has_too_much_to_do_gives_calls_to_the_next_and_is_asked_again() {
    let servers = Servers::start().await;
    let zones = Zones::start(&servers).await;
    let mesh = servers.world.mesh("edge");
    eventually("all", || async { mesh.view().endpoints.len() == 4 }).await;
    let load = Load::start(&mesh, Method::Get);
    eventually("that the own zone has all calls", || async { zones.share().await >= 1.0 }).await;
    let full = Behaviour::Fail(Code::ResourceExhausted);
    zones.own.backends.iter().for_each(|it| it.behave(full));
    eventually("help", || async { zones.share().await < 0.1 + CHANCE }).await;
    let before = zones.own.calls();
    eventually("that it is asked again", || async { zones.own.calls() > before + 10 }).await;
    let endpoints = mesh.view().endpoints;
    let out_of_use = |it: &EndpointView| {
        matches!(it.state, EndpointState::Unhealthy { .. } | EndpointState::Ejected { .. })
    };
    assert!(!endpoints.iter().any(out_of_use), "who is full is not broken: {endpoints:?}");

    let failures = load.failures().await;
    assert!(failures.iter().all(|status| status.code() == Code::ResourceExhausted));
}
