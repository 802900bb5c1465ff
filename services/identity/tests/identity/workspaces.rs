//! Workspaces: made by operators, changed by their owners.

use proto::identity::v1::{
    CreateWorkspaceRequest, GetWorkspaceRequest, UpdateWorkspaceRequest, UpdateWorkspaceResponse,
    Workspace,
};
use rpc::Principal;
use tonic::Status;

use super::harness::{Service, by, parent, reason, violation};

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
    let message = UpdateWorkspaceRequest { workspace: Some(workspace), update_mask };
    Ok(service.workspaces().update_workspace(by(caller, message)).await?.into_inner())
}

#[tokio::test]
async fn a_workspace_is_made_once_for_its_request_id_and_by_operators_only() {
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
    assert_eq!(reason(service.workspaces().create_workspace(key).await), "PEER_NOT_ALLOWED");
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
