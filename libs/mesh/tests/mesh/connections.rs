//! Connections that grow old, can't be opened, or break again and again.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::chat::chat;
use crate::drain::Load;
use crate::drain::Method;
use crate::far::Far;
use crate::naive::Naive;
use crate::raw::Act;
use crate::raw::Raw;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use crate::world::registration;
use mesh::Identity;
use mesh::Mesh;
use prometheus_client::registry::Registry as Metrics;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use stack::Arrivals;
use stack::FaultProxy;
use stack::Faults;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// The youngest age that a policy can have.
const AGE: &str = r#"{"connections": {"age_max": "10s"}}"#;
const REFUSED: Faults = Faults { arrivals: Arrivals::Refused, ..Faults::NONE };

fn named(name: &str) -> GetLinkRequest {
    GetLinkRequest { name: name.to_owned() }
}

async fn get(mesh: &Mesh) -> Result<(), tonic::Status> {
    let mut client = LinksServiceClient::new(mesh.clone());
    client.get_link(GetLinkRequest::default()).await.map(|_| ())
}

/// Scenario 13 of the fault list.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_too_old_is_replaced_by_either_side_and_a_stream_on_it_goes_on() {
    // Both at once: no policy allows a connection to grow old in less than 10 s.
    tokio::join!(callers_replace(), servers_ask_to_leave());
}

async fn callers_replace() {
    let world = World::new();
    let far = Far::start(&world, "links-1").await;
    let mesh = world.mesh("edge");
    world.obey(&mesh, AGE).await;
    let (say, said) = mpsc::channel(1);
    say.send(named("before")).await.unwrap();
    let mut answers = chat(&mesh, ReceiverStream::new(said)).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().name, "before");
    let load = Load::start(&mesh, Method::Create);
    load.for_calls(100).await;
    assert_eq!(far.network.accepted(), 1);

    eventually("another connection", || async { far.network.accepted() == 2 }).await;
    eventually("that the old one is given up", || async {
        mesh.view().endpoints[0].connections == 1
    })
    .await;
    load.for_calls(100).await;
    for word in ["after", "long after"] {
        say.send(named(word)).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().name, word);
    }
    drop(say);
    assert!(answers.next().await.is_none());
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

/// Those that are none of ours would never leave the instance that they found first (gRFC A9).
async fn servers_ask_to_leave() {
    let world = World::new();
    world.apply(&format!(r#"{{"service": "links", {}"#, &AGE[1..])).await;
    let metrics = &mut Metrics::default();
    let backend = Backend::obeying(&world, "links-1", Behaviour::Answer, metrics).await;
    let network = FaultProxy::start(backend.address.clone()).await.unwrap();
    let elsewhere = world.beside();
    let registration = registration("links-1", &network.address(), &[LINKS]);
    let _lease = elsewhere.registry.register(registration);
    let load = Load::start(&Naive::start_at(&world, &elsewhere.registry), Method::Get);
    load.for_calls(100).await;
    assert_eq!(network.accepted(), 1);
    eventually("another connection", || async { network.accepted() == 2 }).await;
    load.for_calls(100).await;
    // Calls that tonic's own channel begins as it hears of GOAWAY fail there; so it is the fewest that may leave each time.
    drop(load.failures().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_refuses_connections_is_tried_less_and_less() {
    const LOOK: Duration = Duration::from_secs(5);
    /// Waits of at most 100, 200, 400… ms.
    const ATTEMPTS_MAX: usize = 12;
    let world = World::new();
    let reset = Faults { arrivals: Arrivals::Reset, ..Faults::NONE };
    let far = Far::start_behind(&world, "links-1", reset).await;
    let _good = Backend::start(&world, "links-2", Behaviour::Answer).await;
    let load = Load::start(&world.mesh("edge"), Method::Create);
    let until = Instant::now() + LOOK;
    while Instant::now() < until {
        load.for_calls(10).await;
    }
    let attempts = far.network.accepted();
    assert!((3..=ATTEMPTS_MAX).contains(&attempts), "{attempts}");
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_instance_is_found_again_however_long_it_was_away() {
    let world = World::new();
    let far = Far::start_behind(&world, "links-1", REFUSED).await;
    let mesh = world.mesh("edge");
    // Each waits for 2 s, so that by now many attempts have failed.
    for _ in 0..3 {
        let callers = (0..8).map(|_| get(&mesh));
        for answer in futures_util::future::join_all(callers).await {
            assert_eq!(reason(&answer.unwrap_err()), "NO_ENDPOINT");
        }
    }
    far.network.heal();
    get(&mesh).await.unwrap();
}

/// A process that dies of each call and is started again at once always looks new.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_breaks_off_each_call_is_avoided() {
    /// Long enough for a mesh to learn what is usual among the others, and to believe it of who is new.
    const LOOK: Duration = Duration::from_secs(4);
    let world = World::new();
    let good = Backend::plaintext("links-1").await;
    let bad = Raw::start(Act::Close).await;
    let _leases = [("links-1", &good.address), ("links-2", &bad.address)]
        .map(|(name, address)| world.registry.register(registration(name, address, &[LINKS])));
    let identity = Identity::plaintext_for_bench("edge").unwrap();
    let mesh = world.mesh_with(identity, None, &mut Metrics::default());
    let load = Load::start(&mesh, Method::Create);
    let until = Instant::now() + LOOK;
    while Instant::now() < until {
        load.for_calls(10).await;
    }
    load.failures().await;
    assert!(bad.calls() > 0, "it was tried");
    assert!(bad.calls() < 25, "{} calls, and {} to the other", bad.calls(), good.calls());
}
