//! Instances that come and go under load: no call notices.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::spawn;
use crate::naive::Caller;
use crate::world::World;
use crate::world::eventually;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// Which method a load calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Method {
    /// May be done twice.
    Get,
    /// May not.
    Create,
}

/// Callers that call one after the other, and what went wrong.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    callers: JoinSet<Vec<tonic::Status>>,
}

impl Load {
    pub(crate) fn start(caller: &impl Caller, method: Method) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let mut client = LinksServiceClient::new(caller.clone());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            callers.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let answer = match method {
                        Method::Get => client.get_link(GetLinkRequest::default()).await.err(),
                        Method::Create => {
                            client.create_link(CreateLinkRequest::default()).await.err()
                        }
                    };
                    failed.extend(answer);
                    done.fetch_add(1, Ordering::SeqCst);
                }
                failed
            });
        }
        Self { stop, done, callers }
    }

    /// Waits until so many calls more are done.
    pub(crate) async fn for_calls(&self, calls: usize) {
        let target = self.done.load(Ordering::SeqCst) + calls;
        eventually("calls", || async { self.done.load(Ordering::SeqCst) >= target }).await;
    }

    /// Ends it; what went wrong.
    pub(crate) async fn failures(self) -> Vec<tonic::Status> {
        self.stop.store(true, Ordering::SeqCst);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_even_of_methods_that_may_not_be_repeated() {
    let world = World::new();
    let mut backends = Vec::new();
    for number in 1..=2 {
        backends.push(Backend::start(&world, &format!("links-{number}"), Behaviour::Answer).await);
    }
    let load = Load::start(&world.mesh("edge"), Method::Create);
    for number in 1..=2 {
        load.for_calls(200).await;
        backends.remove(0).leave().await;
        load.for_calls(200).await;
        let instance = format!("links-{number}");
        backends.push(Backend::start(&world, &instance, Behaviour::Answer).await);
    }
    load.for_calls(200).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(backends.iter().all(|backend| backend.calls() > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_without_a_word_to_the_registry_fails_no_call() {
    let world = World::new();
    let _stays = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let goes = Backend::start(&world, "links-2", Behaviour::Answer).await;
    let load = Load::start(&world.mesh("edge"), Method::Create);
    load.for_calls(200).await;
    goes.stop().await;
    load.for_calls(200).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// What fails of the calls to two instances of which one is killed, and known to be there for a while after that.
pub(crate) async fn kill<C: Caller>(caller: impl FnOnce(&World) -> C) -> Vec<tonic::Status> {
    let world = World::new();
    let _stays = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mut killed = Backend::start(&world, "links-2", Behaviour::Answer).await;
    let lease = killed.lease.take();
    let load = Load::start(&caller(&world), Method::Get);
    eventually("calls to both", || async { killed.calls() > 100 }).await;
    killed.kill().await;
    load.for_calls(200).await;
    drop(lease);
    load.for_calls(200).await;
    load.failures().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_instance_fails_no_call_that_may_be_repeated() {
    let mut mesh = None;
    let failures = kill(|world| mesh.insert(world.mesh("edge")).clone()).await;
    assert!(failures.is_empty(), "{failures:?}");
    // Its lease ran out: it does not answer, so it is not kept.
    let mesh = mesh.expect("it called");
    eventually("its end", || async { mesh.view().endpoints.len() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_before_a_server_ends() {
    let world = World::new();
    let behaviour = Behaviour::AnswerAfter(Duration::from_millis(500));
    let backend = Backend::start(&world, "links-1", behaviour).await;
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let calling = spawn(async move { client.create_link(CreateLinkRequest::default()).await });
    eventually("the call", || async { backend.calls() == 1 }).await;
    backend.leave().await;
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_instance_whose_lease_ran_out_stays_while_it_answers() {
    let world = World::new();
    let mut backend = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.unwrap();
    drop(backend.lease.take());
    eventually("suspicion", || async { mesh.view().endpoints[0].suspect }).await;
    // It is asked every half second and would be gone after two misses.
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        client.get_link(GetLinkRequest::default()).await.unwrap();
        assert!(mesh.view().endpoints[0].suspect);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    backend.kill().await;
    eventually("its end", || async { mesh.view().endpoints.is_empty() }).await;
}

#[tokio::test]
async fn another_instance_at_a_suspects_address_does_not_keep_it() {
    let world = World::new();
    let backend = Backend::unregistered(&world, "links", "links-2", Behaviour::Answer).await;
    let address = backend.address.clone();
    let registration = crate::world::registration("links-1", &address, &["a.A"]);
    let lease = world.registry.register(registration);
    let mesh = world.mesh("edge");
    eventually("the instance", || async { mesh.view().endpoints.len() == 1 }).await;
    drop(lease);
    eventually("its end", || async { mesh.view().endpoints.is_empty() }).await;
}
