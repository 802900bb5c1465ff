//! Every call is scoped to its caller's workspace, and no key grants more than it holds.

use proto::common::v1::Scope;
use proto::identity::v1::*;
use rpc::{Permissions, Principal};
use tonic::{Request, Status};

use super::harness::{Service, by, key_with, parent, reason, stranger, with};

/// Every call about what `target` owns that the edge may make, made by `caller`.
async fn every_call(
    service: &Service,
    caller: &Principal,
    target: &Principal,
    key: &str,
) -> Vec<(&'static str, Result<(), Status>)> {
    let (mut keys, mut workspaces) = (service.api_keys(), service.workspaces());
    let (parent, key) = (parent(target), key.to_owned());
    let renamed =
        Workspace { name: parent.clone(), display_name: "x".to_owned(), ..Workspace::default() };
    let create = CreateApiKeyRequest {
        parent: parent.clone(),
        api_key: Some(key_with(&[Scope::LinksRead])),
        request_id: String::new(),
    };
    let get = GetApiKeyRequest { name: key.clone() };
    let list = ListApiKeysRequest { parent: parent.clone(), ..Default::default() };
    let revoke = RevokeApiKeyRequest { name: key, ..Default::default() };
    let read = GetWorkspaceRequest { name: parent };
    let update = UpdateWorkspaceRequest { workspace: Some(renamed), ..Default::default() };
    vec![
        ("CreateApiKey", keys.create_api_key(by(caller, create)).await.map(drop)),
        ("GetApiKey", keys.get_api_key(by(caller, get)).await.map(drop)),
        ("ListApiKeys", keys.list_api_keys(by(caller, list)).await.map(drop)),
        ("GetWorkspace", workspaces.get_workspace(by(caller, read)).await.map(drop)),
        ("UpdateWorkspace", workspaces.update_workspace(by(caller, update)).await.map(drop)),
        ("RevokeApiKey", keys.revoke_api_key(by(caller, revoke)).await.map(drop)),
    ]
}

async fn with_a_key(service: &Service) -> (Principal, String) {
    let caller = service.owner().await;
    let created = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    (caller, created.api_key.unwrap().name)
}

#[tokio::test]
async fn for_another_workspaces_key_nothing_of_it_exists() {
    let service = Service::start().await;
    let (target, key) = with_a_key(&service).await;
    let other = service.owner().await;
    for (call, result) in every_call(&service, &other, &target, &key).await {
        assert_eq!(reason(result), "NOT_FOUND", "{call}");
    }
    let claimed = key.replace(&parent(&target), &parent(&other));
    let message = GetApiKeyRequest { name: claimed.clone() };
    assert_eq!(reason(service.api_keys().get_api_key(by(&other, message)).await), "NOT_FOUND");
    let message = RevokeApiKeyRequest { name: claimed, ..Default::default() };
    assert_eq!(reason(service.api_keys().revoke_api_key(by(&other, message)).await), "NOT_FOUND");
    for (call, result) in every_call(&service, &target, &target, &key).await {
        result.unwrap_or_else(|status| panic!("{call}: {status:?}"));
    }
    let nobody = stranger();
    let created = service.create_key(&nobody, key_with(&[Scope::LinksRead])).await;
    assert_eq!(reason(created), "NOT_FOUND");
    service.stop().await;
}

#[tokio::test]
async fn a_key_without_the_scope_is_told_which_one_it_lacks() {
    let service = Service::start().await;
    let (target, key) = with_a_key(&service).await;
    let reads = ["GetApiKey", "ListApiKeys", "GetWorkspace"];
    let with = |scope| with(&target, &[scope, Scope::LinksRead]);
    for (call, result) in every_call(&service, &with(Scope::WorkspaceRead), &target, &key).await {
        match reads.contains(&call) {
            true => result.unwrap_or_else(|status| panic!("{call}: {status:?}")),
            false => assert_eq!(reason(result), "SCOPE_MISSING", "{call}"),
        }
    }
    for (call, result) in every_call(&service, &with(Scope::WorkspaceWrite), &target, &key).await {
        match reads.contains(&call) {
            true => assert_eq!(reason(result), "SCOPE_MISSING", "{call}"),
            false => result.unwrap_or_else(|status| panic!("{call}: {status:?}")),
        }
    }
    let message = GetApiKeyRequest { name: key };
    let anonymous = service.api_keys().get_api_key(Request::new(message)).await;
    assert_eq!(reason(anonymous), "CREDENTIALS_MISSING");
    service.stop().await;
}

#[tokio::test]
async fn a_key_grants_no_scope_that_it_lacks() {
    let service = Service::start().await;
    let owner = service.owner().await;
    let weak = with(&owner, &[Scope::WorkspaceWrite, Scope::LinksRead]);
    let status = service
        .create_key(&weak, key_with(&[Scope::LinksRead, Scope::LinksWrite]))
        .await
        .unwrap_err();
    assert!(status.message().contains("LINKS_WRITE"), "{status:?}");
    assert_eq!(reason::<()>(Err(status)), "SCOPE_MISSING");
    service.create_key(&weak, key_with(&[Scope::LinksRead])).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn an_operator_makes_the_first_key_of_a_workspace() {
    let service = Service::start().await;
    let owner = service.owner().await;
    let every: Vec<_> = Permissions::ALL.scopes().collect();
    let message = CreateApiKeyRequest {
        parent: parent(&owner),
        api_key: Some(key_with(&every)),
        request_id: String::new(),
    };
    let created = service.keys_as_operator().create_api_key(message).await.unwrap();
    let answer = service.authenticate(&created.into_inner().secret).await;
    let principal = Principal::try_from(&answer.principal.unwrap()).unwrap();
    assert_eq!(principal.grants, owner.grants);
    service.stop().await;
}
