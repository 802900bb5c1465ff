//! Workspaces: made by operators and users, changed by their owners.

use proto::common::v1::{Role, Scope, Tier};
use proto::events::v1::user_event::Event;
use proto::events::v1::{ApiKeyChanged, UserEvent, UserGrantsChanged};
use proto::identity::v1::{
    CreateWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest, SetWorkspaceTierRequest,
    UpdateWorkspaceRequest, UpdateWorkspaceResponse, Workspace,
};
use rpc::{Permissions, Principal};
use tonic::Status;

use super::harness::{Service, by, parent, reason, violation, workspace};

fn creation(display_name: &str, request_id: &str) -> CreateWorkspaceRequest {
    CreateWorkspaceRequest {
        workspace: Some(Workspace {
            display_name: display_name.to_owned(),
            ..Workspace::default()
        }),
        request_id: request_id.to_owned(),
    }
}

async fn update(
    service: &Service,
    caller: &Principal,
    workspace: Workspace,
    paths: &[&str],
) -> Result<UpdateWorkspaceResponse, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let message =
        UpdateWorkspaceRequest { workspace: Some(workspace), update_mask, ..Default::default() };
    Ok(service.workspaces().update_workspace(by(caller, message)).await?.into_inner())
}

#[tokio::test]
async fn an_operator_makes_a_workspace_once_for_its_request_id() {
    let service = Service::start().await;
    let id = uuid::Uuid::new_v4().to_string();
    let first = service.as_operator().create_workspace(creation("Acme", &id)).await.unwrap();
    let again = service.as_operator().create_workspace(creation("Acme", &id)).await.unwrap();
    assert_eq!(first.into_inner(), again.into_inner());
    let other = service.as_operator().create_workspace(creation("Other", &id)).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");
    let edge = service.workspaces().create_workspace(creation("Acme", &id)).await;
    assert_eq!(reason(edge), "CREDENTIALS_MISSING");
    let key = by(&service.owner().await, creation("Acme", &id));
    assert_eq!(reason(service.workspaces().create_workspace(key).await), "USER_REQUIRED");
    for (name, id, field) in [
        ("Acme", "", "request_id"),
        ("Acme", "7", "request_id"),
        ("", &*id, "workspace.display_name"),
        (&"x".repeat(101), &*id, "workspace.display_name"),
    ] {
        let refused = service.as_operator().create_workspace(creation(name, id)).await;
        assert_eq!(violation(refused).0, field);
    }
    let empty = CreateWorkspaceRequest { workspace: None, request_id: id };
    assert_eq!(violation(service.as_operator().create_workspace(empty).await).0, "workspace");
    service.stop().await;
}

#[tokio::test]
async fn an_owner_renames_a_workspace_unless_someone_was_faster() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let get = GetWorkspaceRequest { name: parent(&caller) };
    let read = service.workspaces().get_workspace(by(&caller, get)).await.unwrap().into_inner();
    let workspace = read.workspace.unwrap();
    let renamed = Workspace { display_name: "New".to_owned(), ..workspace.clone() };
    let faster = update(&service, &caller, renamed.clone(), &["display_name"]).await.unwrap();
    let faster = faster.workspace.unwrap();
    assert_eq!(faster.display_name, "New");
    assert_ne!(faster.etag, workspace.etag);
    assert_eq!(faster.create_time, workspace.create_time);
    let slower = update(&service, &caller, renamed.clone(), &["*"]).await;
    assert_eq!(reason(slower), "ETAG_MISMATCH");

    let named = Workspace { name: parent(&caller), ..Workspace::default() };
    let untouched = update(&service, &caller, named.clone(), &[]).await.unwrap();
    assert_eq!(untouched.workspace.unwrap().display_name, "New");
    let emptied = update(&service, &caller, named.clone(), &["display_name"]).await;
    assert_eq!(violation(emptied).0, "workspace.display_name");
    let unknown = update(&service, &caller, named, &["etag"]).await;
    assert_eq!(violation(unknown).0, "update_mask");
    service.stop().await;
}

#[tokio::test]
async fn whoever_creates_a_workspace_owns_it_and_alone_sees_it() {
    let service = Service::start().await;
    let (user, other) = (service.user().await, service.user().await);
    let id = uuid::Uuid::new_v4().to_string();
    let create = |caller: &Principal| {
        let mut client = service.workspaces();
        let request = by(caller, creation("Acme", &id));
        async move { client.create_workspace(request).await }
    };
    let first = create(&user).await.unwrap().into_inner();
    assert_eq!(create(&user).await.unwrap().into_inner(), first);
    // Another user's ids have nothing to do with it.
    let second = create(&other).await.unwrap().into_inner();
    assert_ne!(second.workspace.unwrap().name, first.workspace.as_ref().unwrap().name);

    let list = by(&user, ListWorkspacesRequest {});
    let listed = service.workspaces().list_workspaces(list).await.unwrap().into_inner();
    assert_eq!(listed.workspaces, first.workspace.as_slice());
    let owner = service.refreshed(&user).await;
    assert_eq!(owner.grants.len(), 1);
    assert_eq!(parent(&owner), listed.workspaces[0].name);
    assert_eq!(owner.grants[0].permissions, Permissions::ALL);

    let topic = bus::topics::USER_EVENTS.name;
    let events = service.announced(topic, |events: &[UserEvent]| events.len() >= 4).await;
    let of_user: Vec<_> = events
        .iter()
        .filter(|event| event.user_id == user.user().unwrap().as_bytes())
        .map(|event| event.event.as_ref().unwrap())
        .collect();
    assert!(matches!(of_user[..], [Event::WorkspaceCreated(_), Event::MemberAdded(_)]));
    service.stop().await;
}

#[tokio::test]
async fn a_user_is_a_member_of_at_most_100_workspaces() {
    let service = Service::start().await;
    let user = service.user().await;
    let database = service.database.open();
    sqlx::query(
        "with made as (
             insert into identity.workspaces (id, display_name, create_micros, update_micros, version)
             select gen_random_uuid(), 'w', 0, 0, 1 from generate_series(1, 99) returning id)
         insert into identity.members (workspace_id, user_id, role, create_micros, update_micros)
         select id, $1, 1, 0, 0 from made",
    )
    .bind(user.user().unwrap().uuid())
    .execute(database.primary())
    .await
    .unwrap();
    let create = || async {
        let id = uuid::Uuid::new_v4().to_string();
        service.workspaces().create_workspace(by(&user, creation("Acme", &id))).await
    };
    let (first, second) = tokio::join!(create(), create());
    let (made, refused): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 1));
    assert_eq!(reason(refused.into_iter().next().unwrap()), "STATE_CONFLICT");
    assert_eq!(service.refreshed(&user).await.grants.len(), 100);
    service.stop().await;
}

#[tokio::test]
async fn what_a_workspace_has_paid_for_is_set_by_operators_and_told_with_every_caller() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let member = service.member_of(workspace(&owner), Role::Member).await;
    let key = service.create_key(&owner, super::harness::key_with(&[Scope::LinksRead])).await;
    let key = key.unwrap();
    let before = service.authenticate(&key.secret).await.version;
    let set = SetWorkspaceTierRequest {
        name: parent(&owner),
        tier: Tier::Premium.into(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let by_owner = service.workspaces().set_workspace_tier(by(&owner, set.clone())).await;
    assert_eq!(reason(by_owner), "PEER_NOT_ALLOWED");
    let answer = service.as_operator().set_workspace_tier(set).await.unwrap().into_inner();
    assert_eq!(answer.workspace.unwrap().tier(), Tier::Premium);
    assert_eq!(service.refreshed(&owner).await.tier, Tier::Premium);
    let authenticated = service.authenticate(&key.secret).await;
    assert_eq!(authenticated.principal.unwrap().tier(), Tier::Premium);

    // Every edge is told to forget what it knew, under a version that what it reads then has.
    assert!(authenticated.version > before);
    let prefix = key.api_key.unwrap().prefix;
    let is_told = |changes: &[ApiKeyChanged]| {
        let mut told = changes.iter().filter(|change| change.prefix == prefix);
        told.next_back().is_some_and(|change| change.version == authenticated.version)
    };
    service.announced(bus::topics::KEY_CHANGES.name, is_told).await;
    for caller in [&owner, &member] {
        let user = caller.user().unwrap();
        let version = service.grants(user).await.version;
        let is_told = |changes: &[UserGrantsChanged]| {
            let mut told = changes.iter().filter(|change| change.user_id == user.as_bytes());
            told.next_back().is_some_and(|change| change.version == version && version > 1)
        };
        service.announced(bus::topics::USER_CHANGES.name, is_told).await;
    }
    service.stop().await;
}
