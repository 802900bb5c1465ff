//! Service accounts: programs with a role, which own keys.

use proto::common::v1::{Role, Scope};
use proto::events::v1::ApiKeyChanged;
use proto::identity::v1::{
    ApiKey, CreateServiceAccountRequest, DeleteServiceAccountRequest, GetServiceAccountRequest,
    ListServiceAccountsRequest, ServiceAccount, UpdateServiceAccountRequest,
};
use rpc::{Caller, Permissions, Principal};
use tonic::Status;

use super::harness::{Service, by, key_with, parent, reason, violation, workspace};

async fn create(
    service: &Service,
    caller: &Principal,
    role: Role,
) -> Result<ServiceAccount, Status> {
    let account = ServiceAccount {
        display_name: "importer".to_owned(),
        role: role.into(),
        ..ServiceAccount::default()
    };
    let message = CreateServiceAccountRequest {
        parent: parent(caller),
        service_account: Some(account),
        ..Default::default()
    };
    let created = service.service_accounts().create_service_account(by(caller, message)).await?;
    Ok(created.into_inner().service_account.unwrap())
}

#[tokio::test]
async fn a_key_of_a_service_account_may_do_what_its_scopes_and_the_role_allow_and_goes_with_it() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let account = create(&service, &owner, Role::Member).await.unwrap();
    let key =
        |scopes: &[Scope]| ApiKey { service_account: account.name.clone(), ..key_with(scopes) };
    let beyond = service.create_key(&owner, key(&[Scope::WorkspaceWrite])).await;
    let (field, why) = violation(beyond);
    assert_eq!(field, "api_key.scopes");
    assert!(why.contains("SCOPE_WORKSPACE_WRITE"), "{why}");
    let scopes = [Scope::LinksRead, Scope::LinksWrite];
    let created = service.create_key(&owner, key(&scopes)).await.unwrap();
    assert_eq!(created.api_key.as_ref().unwrap().service_account, account.name);
    let principal = async || {
        let answer = service.authenticate(&created.secret).await;
        answer.principal.map(|principal| Principal::try_from(&principal).unwrap())
    };
    let before = principal().await.unwrap();
    assert!(matches!(before.caller, Caller::ApiKey { service_account: Some(_), .. }));
    assert_eq!(before.grants[0].permissions, Permissions::of(&scopes));

    let demoted = ServiceAccount { role: Role::Viewer.into(), ..account.clone() };
    let message =
        UpdateServiceAccountRequest { service_account: Some(demoted), ..Default::default() };
    service.service_accounts().update_service_account(by(&owner, message)).await.unwrap();
    let after = principal().await.unwrap();
    assert_eq!(after.grants[0].permissions, Permissions::of(&[Scope::LinksRead]));

    let id = uuid::Uuid::new_v4().to_string();
    let delete = DeleteServiceAccountRequest { name: account.name.clone(), request_id: id };
    for _ in 0..2 {
        let request = by(&owner, delete.clone());
        service.service_accounts().delete_service_account(request).await.unwrap();
    }
    assert_eq!(principal().await, None);
    let get = GetServiceAccountRequest { name: account.name.clone() };
    let gone = service.service_accounts().get_service_account(by(&owner, get)).await;
    assert_eq!(reason(gone), "NOT_FOUND");
    let changes = service.announced::<ApiKeyChanged>(bus::topics::KEY_CHANGES.name, 1).await;
    let version = service.authenticate(&created.secret).await.version;
    assert_eq!(changes.last().unwrap().version, version);
    service.stop().await;
}

#[tokio::test]
async fn nobody_makes_a_service_account_that_may_do_more() {
    let service = Service::start().await;
    let owner = service.signed_in_owner().await;
    let admin = service.member_of(workspace(&owner), Role::Admin).await;
    assert_eq!(reason(create(&service, &admin, Role::Owner).await), "ROLE_INSUFFICIENT");
    let strong = create(&service, &owner, Role::Owner).await.unwrap();
    let delete = DeleteServiceAccountRequest { name: strong.name, ..Default::default() };
    let deleted = service.service_accounts().delete_service_account(by(&admin, delete)).await;
    assert_eq!(reason(deleted), "ROLE_INSUFFICIENT");
    create(&service, &admin, Role::Admin).await.unwrap();
    let list = ListServiceAccountsRequest { parent: parent(&admin), ..Default::default() };
    let listed = service.service_accounts().list_service_accounts(by(&admin, list)).await;
    assert_eq!(listed.unwrap().into_inner().service_accounts.len(), 2);
    service.stop().await;
}
