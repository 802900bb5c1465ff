//! Every public RPC with another workspace's key answers NOT_FOUND, and changes nothing.

use crate::client::Api;
use crate::client::public_methods;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

/// What is asked of workspace `a` with the key of workspace `b`: one request for every public method, so that a new
/// method without a line here fails the test.
fn requests(workspace: &str, link: &str, key: &str, domain: &str) -> Vec<(&'static str, Value)> {
    let id = "8a3c4a0e-52a4-4a6f-9f7e-3a4a0d6f1c11";
    let someone = "0".repeat(32);
    let member = format!("{workspace}/members/usr_{someone}");
    let invitation = format!("{workspace}/invitations/inv_{someone}");
    let account = format!("{workspace}/serviceAccounts/sva_{someone}");
    vec![
        ("linkmesh.identity.v1.WorkspacesService/GetWorkspace", json!({"name": workspace})),
        (
            "linkmesh.identity.v1.WorkspacesService/UpdateWorkspace",
            json!({"workspace": {"name": workspace, "displayName": "Taken over"}}),
        ),
        (
            "linkmesh.identity.v1.ApiKeysService/CreateApiKey",
            json!({"parent": workspace, "apiKey": {"displayName": "x", "scopes": ["SCOPE_LINKS_READ"]}, "requestId": id}),
        ),
        ("linkmesh.identity.v1.ApiKeysService/GetApiKey", json!({"name": key})),
        ("linkmesh.identity.v1.ApiKeysService/ListApiKeys", json!({"parent": workspace})),
        ("linkmesh.identity.v1.ApiKeysService/RevokeApiKey", json!({"name": key})),
        ("linkmesh.identity.v1.ApiKeysService/RotateApiKey", json!({"name": key})),
        ("linkmesh.identity.v1.AuditService/ListAuditEvents", json!({"parent": workspace})),
        (
            "linkmesh.identity.v1.InvitationsService/CreateInvitation",
            json!({"parent": workspace, "invitation": {"email": "me@evil.example", "role": "ROLE_OWNER"}}),
        ),
        ("linkmesh.identity.v1.InvitationsService/ListInvitations", json!({"parent": workspace})),
        ("linkmesh.identity.v1.InvitationsService/RevokeInvitation", json!({"name": invitation})),
        ("linkmesh.identity.v1.MembersService/GetMember", json!({"name": member})),
        ("linkmesh.identity.v1.MembersService/ListMembers", json!({"parent": workspace})),
        (
            "linkmesh.identity.v1.MembersService/UpdateMember",
            json!({"member": {"name": member, "role": "ROLE_OWNER"}}),
        ),
        ("linkmesh.identity.v1.MembersService/RemoveMember", json!({"name": member})),
        ("linkmesh.identity.v1.MembersService/LeaveWorkspace", json!({"name": workspace})),
        (
            "linkmesh.identity.v1.ServiceAccountsService/CreateServiceAccount",
            json!({"parent": workspace, "serviceAccount": {"displayName": "x", "role": "ROLE_OWNER"}}),
        ),
        ("linkmesh.identity.v1.ServiceAccountsService/GetServiceAccount", json!({"name": account})),
        (
            "linkmesh.identity.v1.ServiceAccountsService/ListServiceAccounts",
            json!({"parent": workspace}),
        ),
        (
            "linkmesh.identity.v1.ServiceAccountsService/UpdateServiceAccount",
            json!({"serviceAccount": {"name": account, "role": "ROLE_OWNER"}}),
        ),
        (
            "linkmesh.identity.v1.ServiceAccountsService/DeleteServiceAccount",
            json!({"name": account}),
        ),
        (
            "linkmesh.links.v1.LinksService/CreateLink",
            json!({"parent": workspace, "link": {"destinationUri": "https://example.com/"}}),
        ),
        (
            "linkmesh.links.v1.LinksService/BatchCreateLinks",
            json!({"parent": workspace, "links": [{"destinationUri": "https://example.com/"}], "requestId": id}),
        ),
        ("linkmesh.links.v1.LinksService/GetLink", json!({"name": link})),
        ("linkmesh.links.v1.LinksService/ListLinks", json!({"parent": workspace})),
        (
            "linkmesh.links.v1.LinksService/UpdateLink",
            json!({"link": {"name": link, "destinationUri": "https://evil.example/"}}),
        ),
        ("linkmesh.links.v1.LinksService/DeleteLink", json!({"name": link})),
        (
            "linkmesh.links.v1.DomainsService/CreateDomain",
            json!({"parent": workspace, "domain": {"host": "other.example"}}),
        ),
        ("linkmesh.links.v1.DomainsService/GetDomain", json!({"name": domain})),
        ("linkmesh.links.v1.DomainsService/ListDomains", json!({"parent": workspace})),
        ("linkmesh.links.v1.DomainsService/DeleteDomain", json!({"name": domain})),
        ("linkmesh.analytics.v1.AnalyticsService/CountClicks", json!({"parent": workspace})),
        ("linkmesh.analytics.v1.AnalyticsService/ListClickIntervals", json!({"parent": workspace})),
        (
            "linkmesh.analytics.v1.AnalyticsService/BreakDownClicks",
            json!({"parent": workspace, "dimension": "DIMENSION_COUNTRY"}),
        ),
        ("linkmesh.analytics.v1.AnalyticsService/WatchClicks", json!({"parent": workspace})),
    ]
}

/// Asserts the table with `a`'s resources and `b`'s key; both keys have every scope.
pub async fn another_workspaces_key_finds_nothing(a: &Api, b: &Api) -> anyhow::Result<()> {
    let created = a
        .rest("POST", "/v1/{w}/links", Some(json!({"destinationUri": "https://example.com/kept"})))
        .await?;
    anyhow::ensure!(created.status == 200, "{created:?}");
    let link = created.json()["name"].as_str().expect("a link has a name").to_owned();
    let host = format!("d{}.example", uuid::Uuid::new_v4().simple());
    let domain = a.rest("POST", "/v1/{w}/domains", Some(json!({"host": host}))).await?;
    let domain = domain.json()["name"].as_str().expect("a domain has a name").to_owned();
    let keys = a.rest("GET", "/v1/{w}/apiKeys", None).await?.json();
    let key = keys["apiKeys"][0]["name"].as_str().expect("the workspace has a key").to_owned();

    let table = requests(&a.workspace, &link, &key, &domain);
    for method in public_methods() {
        let name = format!("{}/{}", method.parent_service().full_name(), method.name());
        // What is about no workspace has no other one.
        let asked = rpc::Requirement::of_path(&format!("/{name}"));
        if !matches!(asked, Some(rpc::Requirement::Permission(_))) {
            continue;
        }
        let (_, request) = table
            .iter()
            .find(|(listed, _)| *listed == name)
            .unwrap_or_else(|| panic!("{name} is public and has no line in the tenancy table"));
        let answer = b.grpc(&name, request.clone()).await;
        let status = answer.expect_err(&name);
        assert_eq!(status.code(), Code::NotFound, "{name}: {status:?}");

        // Without a key nothing is said about what exists.
        let nobody = Api::new(&a.url, "", &a.workspace);
        let status = nobody.grpc(&name, request.clone()).await.expect_err(&name);
        assert_eq!(status.code(), Code::Unauthenticated, "{name}: {status:?}");
    }

    let kept = a.rest("GET", &format!("/v1/{link}"), None).await?.json();
    assert_eq!(kept["destinationUri"], "https://example.com/kept");
    let keys = a.rest("GET", "/v1/{w}/apiKeys", None).await?.json();
    assert!(keys["apiKeys"][0]["revokeTime"].is_null(), "the key was not revoked");
    assert_eq!(a.rest("GET", &format!("/v1/{domain}"), None).await?.status, 200);
    Ok(())
}
