//! A living instance among thousands of leases that run out.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::servers::Servers;
use crate::servers::field;
use crate::world::eventually;
use etcd_client::Client;
use etcd_client::PutOptions;
use futures_util::StreamExt as _;
use futures_util::stream;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;

/// How many others there are.
const LEASES: usize = 2_000;
/// How many are granted at a time.
const AT_ONCE: usize = 256;
/// As short as ours.
const TTL_SECONDS: i64 = 5;

async fn register_others(client: &Client) {
    let others = (0..LEASES).map(|number| {
        let mut client = client.clone();
        async move {
            let lease = client.lease_grant(TTL_SECONDS, None).await.unwrap().id();
            let key = format!("linkmesh/endpoints/test.v1.Other/other-{number}");
            // Nobody answers there.
            let value = r#"{"Op":0,"Addr":"127.0.0.1:1","Metadata":{"service":"other","register_time":"2026-01-02T03:04:05Z"}}"#;
            let options = PutOptions::new().with_lease(lease);
            client.put(key, value, Some(options)).await.unwrap();
        }
    });
    stream::iter(others).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
}

/// Scenario 4 of the fault list, its second half (etcd#11886).
#[tokio::test(flavor = "multi_thread")]
async fn among_thousands_of_leases_that_run_out_one_that_is_kept_up_stays() {
    let servers = Servers::start().await;
    let world = &servers.world;
    let _backend = Backend::start(world, "links-1", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    let ours = || mesh.view().endpoints.into_iter().find(|it| it.instance.service == "links");
    eventually("ours", || async { ours().is_some() }).await;
    let lease = || (servers.lease_of("links-1"), field(&servers.etcd, "links-1", "CreateRevision"));
    let before = lease();

    let client = Client::connect([servers.etcd.address()], None).await.unwrap();
    register_others(&client).await;
    eventually("many others", || async { mesh.view().endpoints.len() > LEASES / 10 }).await;
    // Nobody keeps them up, and nobody answers for them.
    eventually("that ours is alone", || async {
        LinksServiceClient::new(mesh.clone()).get_link(GetLinkRequest::default()).await.unwrap();
        assert!(!ours().expect("it is never gone").suspect, "its lease ran out");
        mesh.view().endpoints.len() == 1
    })
    .await;
    assert_eq!(lease(), before, "and it is the lease that it had");
}
