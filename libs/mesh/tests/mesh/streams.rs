//! Large messages and streams, when what carries them breaks or is asked to leave.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::spawn;
use crate::chat::chat;
use crate::far::Far;
use crate::world::World;
use crate::world::eventually;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use stack::Faults;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Far more than a window, a frame or a buffer.
const LARGE_BYTES: usize = 8 << 20;

fn large() -> GetLinkRequest {
    GetLinkRequest { name: "x".repeat(LARGE_BYTES) }
}

fn named(name: &str) -> GetLinkRequest {
    GetLinkRequest { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_that_was_refused_is_sent_again_whole() {
    let world = World::new();
    let good = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let bad = Backend::start(&world, "links-2", Behaviour::Fail(Code::Unavailable)).await;
    let client = LinksServiceClient::new(world.mesh("edge"));
    let mut client = client.max_decoding_message_size(2 * LARGE_BYTES);
    let mut calls = 0;
    while bad.calls() == 0 {
        let answer = client.get_link(large()).await.unwrap().into_inner();
        assert_eq!(answer.link.unwrap().destination_uri.len(), LARGE_BYTES);
        calls += 1;
        assert!(calls < 50, "it is never asked first");
    }
    assert_eq!(good.calls(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_amid_a_large_message_costs_nothing() {
    let world = World::new();
    let slow = Faults { bytes_per_second: Some(4 << 20), ..Faults::NONE };
    let first = Far::start_behind(&world, "links-1", slow).await;
    let client = LinksServiceClient::new(world.mesh("edge"));
    let mut client = client.max_decoding_message_size(2 * LARGE_BYTES);
    // So that it is connected, and alone.
    client.get_link(named("x")).await.unwrap();
    let calling = spawn(async move { client.get_link(large()).await });
    eventually("that it is under way", || async {
        first.network.to_server_bytes() > LARGE_BYTES / 8
    })
    .await;
    let _second = Far::start(&world, "links-2").await;
    first.network.reset();
    let answer = calling.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.link.unwrap().destination_uri.len(), LARGE_BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_open_goes_on_while_its_server_leaves() {
    let world = World::new();
    let leaves = Backend::start(&world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let (say, said) = mpsc::channel(1);
    say.send(named("before")).await.unwrap();
    let mut answers = chat(&mesh, ReceiverStream::new(said)).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().name, "before");

    let stays = Backend::start(&world, "links-2", Behaviour::Answer).await;
    let leaving = spawn(leaves.leave());
    eventually("that it drains or is gone", || async {
        !mesh
            .view()
            .endpoints
            .iter()
            .any(|view| view.instance.instance == "links-1" && !view.instance.draining)
    })
    .await;
    // After GOAWAY, on a connection that takes no new call; those go to the other.
    LinksServiceClient::new(mesh.clone()).get_link(named("x")).await.unwrap();
    assert_eq!(stays.calls(), 1);
    for word in ["after", "long after"] {
        say.send(named(word)).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().name, word);
    }
    assert!(!leaving.is_finished(), "it waits for the stream");
    drop(say);
    assert!(answers.next().await.is_none());
    leaving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_says_so_and_is_not_begun_again() {
    let world = World::new();
    let far = Far::start(&world, "links-1").await;
    let mesh = world.mesh("edge");
    let (say, said) = mpsc::channel(1);
    say.send(named("before")).await.unwrap();
    let mut answers = chat(&mesh, ReceiverStream::new(said)).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().name, "before");
    far.network.reset();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    // The endpoint is not lost for that.
    LinksServiceClient::new(mesh).get_link(named("x")).await.unwrap();
}
