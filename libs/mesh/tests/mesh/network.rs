//! A network between caller and instances that delays, loses, breaks and swallows.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::drain::Load;
use crate::drain::Method;
use crate::far::Far;
use crate::naive::Caller;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use stack::Arrivals;
use stack::Faults;
use stack::Flow;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Status;

/// How many call at a time.
pub(crate) const CALLERS: usize = 8;
const SILENT: Faults = Faults { flow: Flow::None, ..Faults::NONE };

async fn three(world: &World) -> [Far; 3] {
    [
        Far::start(world, "links-1").await,
        Far::start(world, "links-2").await,
        Far::start(world, "links-3").await,
    ]
}

/// Whoever reads it knows that the call may have had its effect.
fn assert_unknown(status: &Status) {
    let said = (status.code(), reason(status));
    assert_eq!(said, (Code::Unavailable, "OUTCOME_UNKNOWN".to_owned()), "{status:?}");
    assert!(status.message().contains("outcome is unknown"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_and_loss_cost_time_and_no_call() {
    let world = World::new();
    let bad = Faults {
        delay: Duration::from_millis(5),
        lost_one_in: 20,
        stall: Duration::from_millis(200),
        ..Faults::NONE
    };
    let far = three(&world).await;
    far.iter().for_each(|far| far.network.set(bad));
    let mesh = world.mesh("edge");
    for method in [Method::Get, Method::Create] {
        let load = Load::start(&mesh, method);
        load.for_calls(300).await;
        let failures = load.failures().await;
        assert!(failures.is_empty(), "{failures:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_accepts_and_never_answers_is_sent_nothing() {
    let world = World::new();
    let half_open = Faults { arrivals: Arrivals::HalfOpen, ..Faults::NONE };
    let deaf = Far::start_behind(&world, "links-1", half_open).await;
    let good = Backend::start(&world, "links-2", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let load = Load::start(&mesh, Method::Create);
    eventually("an attempt to connect", || async { deaf.network.accepted() > 0 }).await;
    load.for_calls(500).await;
    // Its accepting is no sign of life: only an answer to a ping is.
    assert!(good.calls() >= 500 && deaf.backend.calls() == 0);
    deaf.network.heal();
    eventually("a call to the one that is back", || async { deaf.backend.calls() > 0 }).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// How many calls are made to three instances of which one is swallowed, and what fails.
pub(crate) async fn swallow<C: Caller>(caller: impl FnOnce(&World) -> C) -> (usize, Vec<Status>) {
    const DEADLINE: Duration = Duration::from_secs(1);
    let world = World::new();
    let far = three(&world).await;
    let client = LinksServiceClient::new(caller(&world));
    let call = || {
        let mut client = client.clone();
        let mut request = Request::new(GetLinkRequest::default());
        request.set_timeout(DEADLINE);
        async move { client.get_link(request).await.map(|_| ()) }
    };
    for _ in 0..100 {
        call().await.unwrap();
    }
    far[0].network.set(SILENT);
    let until = Instant::now() + 4 * DEADLINE;
    let callers = (0..CALLERS).map(|_| async {
        let (mut calls, mut failed) = (0, Vec::new());
        while Instant::now() < until {
            failed.extend(call().await.err());
            calls += 1;
        }
        (calls, failed)
    });
    let done = futures_util::future::join_all(callers).await;
    let calls: usize = done.iter().map(|(calls, _)| calls).sum();
    let failed: Vec<_> = done.into_iter().flat_map(|(_, failed)| failed).collect();
    (calls, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_swallowed_takes_few_calls_with_it() {
    let (calls, failed) = swallow(|world| world.mesh("edge")).await;
    // One for each caller before it is known, and a probe now and then.
    assert!(failed.len() <= 2 * CALLERS, "{} of {calls} failed: {failed:?}", failed.len());
    assert!(failed.iter().all(|status| status.code() == Code::DeadlineExceeded), "{failed:?}");
}

/// What fails of reads and writes to three instances whose connections break again and again.
pub(crate) async fn breaks<C: Caller>(
    caller: impl FnOnce(&World) -> C,
) -> (Vec<Status>, Vec<Status>) {
    let world = World::new();
    let far = three(&world).await;
    let caller = caller(&world);
    let reads = Load::start(&caller, Method::Get);
    let writes = Load::start(&caller, Method::Create);
    for round in 0..15 {
        reads.for_calls(50).await;
        far[round % 3].network.reset();
    }
    (reads.failures().await, writes.failures().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_fail_nothing_that_may_be_repeated_and_say_so_of_the_rest() {
    let (reads, writes) = breaks(|world| world.mesh("edge")).await;
    assert!(reads.is_empty(), "{reads:?}");
    writes.iter().for_each(assert_unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_refuses_connections_is_back_when_it_takes_them_again() {
    let world = World::new();
    let far = three(&world).await;
    let load = Load::start(&world.mesh("edge"), Method::Create);
    load.for_calls(100).await;
    far[0].network.set(Faults { arrivals: Arrivals::Refused, ..Faults::NONE });
    load.for_calls(100).await;
    let before = far[0].backend.calls();
    far[0].network.heal();
    eventually("its share", || async { far[0].backend.calls() > before + 50 }).await;
    let failures = load.failures().await;
    assert!(failures.is_empty(), "what is open stays open: {failures:?}");
}

#[tokio::test]
async fn a_call_to_a_process_that_dies_says_that_its_outcome_is_unknown() {
    let world = World::new();
    let far = Far::start(&world, "links-1").await;
    far.backend.behave(Behaviour::Hang);
    let mut client = LinksServiceClient::new(world.mesh("edge"));
    let calling = crate::backend::spawn(async move {
        client.create_link(CreateLinkRequest::default()).await.map(|_| ())
    });
    eventually("the call", || async { far.backend.calls() == 1 }).await;
    far.network.reset();
    let status = calling.await.unwrap().unwrap_err();
    assert_unknown(&status);
    assert_eq!(far.backend.calls(), 1, "it is not sent again");
}
