//! An instance that joins while the others are busy.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::naive::Caller;
use crate::world::World;
use crate::world::eventually;
use mesh::EndpointState;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many call at a time.
const CALLERS: usize = 16;
/// Over how long each share is counted.
const WINDOW: Duration = Duration::from_millis(500);
/// The policy's, for this test.
const WARM_UP: Duration = Duration::from_secs(3);

/// The share of all calls that a fourth instance gets in each window of time after it has joined three that are busy.
pub(crate) async fn shares_of_a_newcomer<C: Caller>(
    caller: impl FnOnce(&World) -> C,
    windows: usize,
) -> Vec<f64> {
    let world = World::new();
    let behaviour = Behaviour::AnswerAfter(Duration::from_millis(2));
    let mut backends = Vec::new();
    for number in 1..=3 {
        backends.push(Backend::start(&world, &format!("links-{number}"), behaviour).await);
    }
    // By it the test sees how old the three are.
    let observer = world.mesh("edge");
    let seconds = WARM_UP.as_secs();
    let policy = format!(r#"{{"balancing": {{"warm_up": "{seconds}s"}}}}"#);
    world.obey(&observer, &policy).await;
    let caller = caller(&world);
    eventually("that the three are warm", || async {
        let mut client = LinksServiceClient::new(observer.clone());
        client.get_link(GetLinkRequest::default()).await.unwrap();
        let endpoints = observer.view().endpoints;
        endpoints.iter().all(|it| it.state == EndpointState::Ready && it.weight > 99.0)
    })
    .await;

    let enough = AtomicBool::new(false);
    let callers = futures_util::future::join_all((0..CALLERS).map(|_| async {
        let mut client = LinksServiceClient::new(caller.clone());
        while !enough.load(Ordering::Relaxed) {
            client.get_link(GetLinkRequest::default()).await.unwrap();
        }
    }));
    let looks = async {
        backends.push(Backend::start(&world, "links-4", behaviour).await);
        let newcomer = &backends[3];
        eventually("its first call", || async { newcomer.calls() > 0 }).await;
        let counts = || {
            let all: usize = backends.iter().map(Backend::calls).sum();
            (newcomer.calls(), all)
        };
        let mut shares = Vec::new();
        for _ in 0..windows {
            let before = counts();
            tokio::time::sleep(WINDOW).await;
            let after = counts();
            shares.push(share(after.0 - before.0, after.1 - before.1));
        }
        enough.store(true, Ordering::Relaxed);
        shares
    };
    tokio::join!(callers, looks).1
}

#[expect(clippy::cast_precision_loss, reason = "some thousand calls")]
fn share(of: usize, all: usize) -> f64 {
    of as f64 / all as f64
}

/// Scenario 10 of the fault list.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_joins_under_full_load_gets_a_share_that_grows() {
    let shares = shares_of_a_newcomer(|world| world.mesh("edge"), 8).await;
    // By weight a thirtieth at first, a thirteenth after half a second, a quarter in the end. It may get twice that while it looks better.
    assert!(shares[0] < 0.16 && shares[1] < 0.2, "{shares:?}");
    assert!(*shares.last().unwrap() > 0.18, "{shares:?}");
}
