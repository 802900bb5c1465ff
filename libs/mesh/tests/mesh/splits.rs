//! Which instances a call goes to: by share, by header, by caller.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::eventually;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use tonic::Code;
use tonic::Request;
use tonic::Status;

async fn get(mesh: &Mesh, headers: &[(&'static str, &'static str)]) -> Result<(), Status> {
    let mut request = Request::new(GetLinkRequest::default());
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    LinksServiceClient::new(mesh.clone()).get_link(request).await.map(|_| ())
}

/// An instance of the version that is in use, and one of the next.
async fn versions(world: &World) -> [Backend; 2] {
    [
        Backend::start_version(world, "links-1", "1.4", Behaviour::Answer).await,
        Backend::start_version(world, "links-2", "2.0", Behaviour::Answer).await,
    ]
}

const SUBSETS: &str =
    r#""subsets": [{"name": "stable", "version": "1.*"}, {"name": "canary", "version": "2.0"}]"#;

/// Until both have connections, so that neither yields its share.
async fn until_connected(mesh: &Mesh) {
    eventually("connections to both", || async {
        get(mesh, &[]).await.unwrap();
        mesh.view().endpoints.iter().all(|endpoint| endpoint.connections > 0)
    })
    .await;
}

#[tokio::test]
async fn calls_are_split_by_weight() {
    let world = World::new();
    let [stable, canary] = versions(&world).await;
    let mesh = world.mesh("edge");
    until_connected(&mesh).await;
    let split = r#"[{"subset": "stable", "weight": 90}, {"subset": "canary", "weight": 10}]"#;
    let policy = format!(r#"{{{SUBSETS}, "routes": [{{"name": "all", "split": {split}}}]}}"#);
    world.obey(&mesh, &policy).await;
    let before = [stable.calls(), canary.calls()];
    for _ in 0..1_000 {
        get(&mesh, &[]).await.unwrap();
    }
    let canary = canary.calls() - before[1];
    assert!((50..170).contains(&canary), "{canary} of 1000");
    assert_eq!(stable.calls() - before[0], 1_000 - canary);
}

#[tokio::test]
async fn a_share_without_a_usable_instance_goes_to_the_others() {
    let world = World::new();
    let stable = Backend::start_version(&world, "links-1", "1.4", Behaviour::Answer).await;
    let mesh = world.mesh("edge");
    get(&mesh, &[]).await.unwrap();
    let split = r#"[{"subset": "stable", "weight": 1}, {"subset": "canary", "weight": 99}]"#;
    let policy = format!(r#"{{{SUBSETS}, "routes": [{{"name": "all", "split": {split}}}]}}"#);
    world.obey(&mesh, &policy).await;
    let before = stable.calls();
    for _ in 0..50 {
        get(&mesh, &[]).await.unwrap();
    }
    assert_eq!(stable.calls() - before, 50);
}

#[tokio::test]
async fn a_header_leads_to_a_version_and_only_it() {
    let world = World::new();
    let [stable, canary] = versions(&world).await;
    let mesh = world.mesh("edge");
    let routes = r#"[
        {"name": "testers", "split": [{"subset": "canary", "weight": 1}],
         "matches": [{"headers": [{"name": "x-tester", "prefix": "team-"}]}]},
        {"name": "all", "split": [{"subset": "stable", "weight": 1}]}
    ]"#;
    world.obey(&mesh, &format!(r#"{{{SUBSETS}, "routes": {routes}}}"#)).await;
    for _ in 0..20 {
        get(&mesh, &[("x-tester", "team-a")]).await.unwrap();
    }
    assert_eq!((stable.calls(), canary.calls()), (0, 20));
    for _ in 0..20 {
        get(&mesh, &[("x-tester", "someone")]).await.unwrap();
    }
    assert_eq!((stable.calls(), canary.calls()), (20, 20));
    stable.behave(Behaviour::Fail(Code::Unavailable));
    get(&mesh, &[]).await.unwrap_err();
    let routes = &mesh.routes()[0].routes;
    let counted = |name: &str| {
        let route = routes.iter().find(|route| route.name == name).unwrap();
        (route.calls, route.failures)
    };
    assert_eq!(
        [counted("testers"), counted("all"), counted("default")],
        [(20, 0), (21, 1), (0, 0)]
    );
}

#[tokio::test]
async fn a_retry_may_go_to_another_share() {
    let world = World::new();
    let [stable, canary] = versions(&world).await;
    let mesh = world.mesh("edge");
    until_connected(&mesh).await;
    canary.behave(Behaviour::Fail(Code::Unavailable));
    let split = r#"[{"subset": "stable", "weight": 50}, {"subset": "canary", "weight": 50}]"#;
    let policy = format!(r#"{{{SUBSETS}, "routes": [{{"name": "all", "split": {split}}}]}}"#);
    world.obey(&mesh, &policy).await;
    for _ in 0..5 {
        get(&mesh, &[]).await.ok();
    }
    assert!(stable.calls() > 0);
}

#[tokio::test]
async fn how_much_a_call_matters_comes_from_the_policy_or_the_call_it_is_made_for() {
    let (world, next) = (World::new(), World::new());
    let last = Backend::start(&next, "links-2", Behaviour::Answer).await;
    let first = Backend::start(&world, "links-1", Behaviour::CallOn).await;
    first.calls_on(next.mesh("analytics"));
    let mesh = world.mesh("edge");
    let says = |backend: &Backend| {
        let metadata = backend.seen().metadata;
        metadata.get("linkmesh-criticality").map(|value| value.to_str().unwrap().to_owned())
    };
    get(&mesh, &[]).await.unwrap();
    assert_eq!((says(&first), says(&last)), (None, None));
    get(&mesh, &[("linkmesh-criticality", "sheddable")]).await.unwrap();
    assert_eq!(says(&last).as_deref(), Some("sheddable"), "passed on");
    let policy = r#"{"routes": [{"name": "all", "criticality": "CRITICALITY_CRITICAL"}]}"#;
    world.obey(&mesh, policy).await;
    get(&mesh, &[("linkmesh-criticality", "sheddable")]).await.unwrap();
    assert_eq!(says(&first).as_deref(), Some("critical"), "the policy decides");
    assert_eq!(says(&last).as_deref(), Some("critical"));
}
