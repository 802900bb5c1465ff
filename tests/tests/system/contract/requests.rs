//! A request for every public method that is refused for none of its fields, and who makes it.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::accounts::PASSWORD;
use crate::accounts::signed_in;
use crate::accounts::text;
use crate::accounts::token_mailed_to;
use crate::client::Api;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    Nobody,
    /// A workspace's key with every scope.
    Key,
    /// The owner of a workspace of their own.
    Person,
}

/// What a method is called with.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) method: &'static str,
    pub(super) caller: Caller,
    pub(super) request: Value,
}

/// What there has to be.
#[derive(Debug)]
pub(super) struct Fixture {
    key: String,
    workspace: String,
    link: String,
    access_token: String,
    own_workspace: String,
    reset_token: String,
    id: String,
}

impl Fixture {
    /// Makes a link in the workspace of `api`, a person with a workspace, and somebody who forgot their password.
    pub(super) async fn make(api: &Api, mails: &Path) -> anyhow::Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let link = json!({"destinationUri": "https://example.com/"});
        let link = ask(api, "/v1/{w}/links", link).await?;
        let person = signed_in(api, mails, &format!("limits-{id}@example.com")).await?;
        let own = json!({"displayName": "Own"});
        let own = ask(&person, &format!("/v1/workspaces?requestId={}", uuid()), own).await?;
        let forgetful = format!("forgets-{id}@example.com");
        signed_in(api, mails, &forgetful).await?;
        ask(&api.with_key(""), "/v1/users:requestPasswordReset", json!({"email": forgetful}))
            .await?;
        Ok(Self {
            key: api.key.clone(),
            workspace: api.workspace.clone(),
            link: text(&link["name"])?.to_owned(),
            access_token: person.key.clone(),
            own_workspace: text(&own["name"])?.to_owned(),
            reset_token: token_mailed_to(mails, &forgetful, "lmp_").await?,
            id,
        })
    }

    pub(super) fn key_of(&self, caller: Caller) -> String {
        match caller {
            Caller::Nobody => String::new(),
            Caller::Key => self.key.clone(),
            Caller::Person => self.access_token.clone(),
        }
    }
}

async fn ask(api: &Api, path: &str, body: Value) -> anyhow::Result<Value> {
    let answer = api.rest("POST", path, Some(body)).await?;
    anyhow::ensure!(answer.status == 200, "{path}: {answer:?}");
    Ok(answer.json())
}

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// One line for every public method. What costs attempts, and what ends a session, comes last.
pub(super) fn table(fixture: &Fixture) -> Vec<Line> {
    let w = &fixture.workspace;
    let id = &fixture.id;
    let none = "0".repeat(32);
    let link = json!({"destinationUri": "https://example.com/", "tags": ["t"]});
    let of_links = json!({"parent": w, "links": [fixture.link]});
    let account = format!("{w}/serviceAccounts/sva_{none}");
    let (member, invitation) =
        (format!("{w}/members/usr_{none}"), format!("{w}/invitations/inv_{none}"));
    let (key, domain) = (format!("{w}/apiKeys/key_{none}"), format!("{w}/domains/none.example"));
    let named = |name: &str| json!({"name": name});
    let parent = json!({"parent": w});
    let me = named("users/me");
    let with = |base: &Value, more: Value| {
        let (Value::Object(mut base), Value::Object(more)) = (base.clone(), more) else {
            panic!("requests are objects")
        };
        base.extend(more);
        Value::Object(base)
    };
    let key_lines = [
        ("linkmesh.links.v1.LinksService/CreateLink", with(&parent, json!({"link": link}))),
        (
            "linkmesh.links.v1.LinksService/BatchCreateLinks",
            with(&parent, json!({"links": [link], "requestId": uuid()})),
        ),
        ("linkmesh.links.v1.LinksService/GetLink", named(&fixture.link)),
        ("linkmesh.links.v1.LinksService/ListLinks", parent.clone()),
        (
            "linkmesh.links.v1.LinksService/UpdateLink",
            json!({"link": with(&link, named(&fixture.link)), "updateMask": "*"}),
        ),
        ("linkmesh.links.v1.LinksService/DeleteLink", named(&format!("{w}/links/lnk_{none}"))),
        (
            "linkmesh.links.v1.DomainsService/CreateDomain",
            with(&parent, json!({"domain": {"host": format!("d{id}.example")}})),
        ),
        ("linkmesh.links.v1.DomainsService/GetDomain", named(&domain)),
        ("linkmesh.links.v1.DomainsService/ListDomains", parent.clone()),
        ("linkmesh.links.v1.DomainsService/DeleteDomain", named(&domain)),
        ("linkmesh.analytics.v1.AnalyticsService/CountClicks", of_links.clone()),
        ("linkmesh.analytics.v1.AnalyticsService/ListClickIntervals", of_links.clone()),
        (
            "linkmesh.analytics.v1.AnalyticsService/BreakDownClicks",
            with(&of_links, json!({"dimension": "DIMENSION_COUNTRY"})),
        ),
        ("linkmesh.analytics.v1.AnalyticsService/WatchClicks", of_links),
        ("linkmesh.identity.v1.WorkspacesService/GetWorkspace", named(w)),
        (
            "linkmesh.identity.v1.WorkspacesService/UpdateWorkspace",
            json!({"workspace": {"name": w, "displayName": "Changed"}, "updateMask": "*"}),
        ),
        (
            "linkmesh.identity.v1.ApiKeysService/CreateApiKey",
            with(&parent, json!({"apiKey": {"displayName": "k", "scopes": ["SCOPE_LINKS_READ"]}})),
        ),
        ("linkmesh.identity.v1.ApiKeysService/GetApiKey", named(&key)),
        ("linkmesh.identity.v1.ApiKeysService/ListApiKeys", parent.clone()),
        ("linkmesh.identity.v1.ApiKeysService/RevokeApiKey", named(&key)),
        ("linkmesh.identity.v1.ApiKeysService/RotateApiKey", named(&key)),
        ("linkmesh.identity.v1.AuditService/ListAuditEvents", parent.clone()),
        (
            "linkmesh.identity.v1.InvitationsService/CreateInvitation",
            with(
                &parent,
                json!({"invitation": {"email": format!("i-{id}@example.com"), "role": "ROLE_VIEWER"}}),
            ),
        ),
        ("linkmesh.identity.v1.InvitationsService/ListInvitations", parent.clone()),
        ("linkmesh.identity.v1.InvitationsService/RevokeInvitation", named(&invitation)),
        ("linkmesh.identity.v1.MembersService/GetMember", named(&member)),
        ("linkmesh.identity.v1.MembersService/ListMembers", parent.clone()),
        (
            "linkmesh.identity.v1.MembersService/UpdateMember",
            json!({"member": {"name": member, "role": "ROLE_VIEWER"}, "updateMask": "*"}),
        ),
        ("linkmesh.identity.v1.MembersService/RemoveMember", named(&member)),
        (
            "linkmesh.identity.v1.ServiceAccountsService/CreateServiceAccount",
            with(&parent, json!({"serviceAccount": {"displayName": "s", "role": "ROLE_VIEWER"}})),
        ),
        ("linkmesh.identity.v1.ServiceAccountsService/GetServiceAccount", named(&account)),
        ("linkmesh.identity.v1.ServiceAccountsService/ListServiceAccounts", parent.clone()),
        (
            "linkmesh.identity.v1.ServiceAccountsService/UpdateServiceAccount",
            json!({
                "serviceAccount": {"name": account, "displayName": "s", "role": "ROLE_VIEWER"},
                "updateMask": "*",
            }),
        ),
        ("linkmesh.identity.v1.ServiceAccountsService/DeleteServiceAccount", named(&account)),
    ];
    let email = format!("nobody-{id}@example.com");
    let credentials = json!({"email": email, "password": PASSWORD});
    let proved = json!({"token": format!("lmv_{id}"), "password": PASSWORD});
    let nobody_lines = [
        (
            "linkmesh.identity.v1.UsersService/SignUp",
            with(&credentials, json!({"displayName": "N"})),
        ),
        ("linkmesh.identity.v1.UsersService/VerifyEmail", proved),
        ("linkmesh.identity.v1.UsersService/RequestPasswordReset", json!({"email": email})),
        (
            "linkmesh.identity.v1.UsersService/ResetPassword",
            json!({"token": fixture.reset_token, "newPassword": PASSWORD}),
        ),
        ("linkmesh.identity.v1.SessionsService/SignIn", credentials),
        (
            "linkmesh.identity.v1.SessionsService/CompleteSignIn",
            json!({"challengeToken": format!("lmc_{id}"), "totpCode": "000000"}),
        ),
        ("linkmesh.identity.v1.SessionsService/RefreshSession", json!({"refreshToken": "lms_x"})),
        ("linkmesh.identity.v1.ProvidersService/ListProviders", json!({})),
        (
            "linkmesh.identity.v1.ProvidersService/BeginProviderSignIn",
            json!({"name": "providers/none", "redirectUri": "https://example.com/"}),
        ),
        (
            "linkmesh.identity.v1.ProvidersService/FinishProviderSignIn",
            json!({"flowToken": "lmf_x", "state": "s", "code": "c"}),
        ),
        (
            "linkmesh.identity.v1.ProvidersService/ConfirmProviderLink",
            json!({"linkToken": format!("lml_{id}"), "password": PASSWORD}),
        ),
        ("linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys", json!({})),
    ];
    let wrong = json!({"name": "users/me", "password": "not the right one"});
    let person_lines = [
        ("linkmesh.identity.v1.UsersService/GetUser", me.clone()),
        (
            "linkmesh.identity.v1.UsersService/UpdateUser",
            json!({"user": {"name": "users/me", "displayName": "Ada"}, "updateMask": "*"}),
        ),
        ("linkmesh.identity.v1.UsersService/ExportUser", me.clone()),
        ("linkmesh.identity.v1.WorkspacesService/ListWorkspaces", json!({})),
        (
            "linkmesh.identity.v1.WorkspacesService/CreateWorkspace",
            json!({"workspace": {"displayName": "Another"}, "requestId": uuid()}),
        ),
        ("linkmesh.identity.v1.MembersService/LeaveWorkspace", named(&fixture.own_workspace)),
        (
            "linkmesh.identity.v1.InvitationsService/AcceptInvitation",
            json!({"token": format!("lmi_{id}")}),
        ),
        (
            "linkmesh.identity.v1.InvitationsService/DeclineInvitation",
            json!({"token": format!("lmi_{id}")}),
        ),
        ("linkmesh.identity.v1.AuditService/ListOwnAuditEvents", json!({})),
        ("linkmesh.identity.v1.SessionsService/ListSessions", json!({"parent": "users/me"})),
        (
            "linkmesh.identity.v1.SessionsService/EndSession",
            named(&format!("users/me/sessions/ses_{none}")),
        ),
        (
            "linkmesh.identity.v1.UsersService/ChangePassword",
            with(
                &me,
                json!({"oldPassword": "not the right one", "newPassword": "another horse battery"}),
            ),
        ),
        ("linkmesh.identity.v1.UsersService/EraseUser", wrong.clone()),
        ("linkmesh.identity.v1.SecondFactorsService/EnrollTotp", wrong),
        (
            "linkmesh.identity.v1.SecondFactorsService/ConfirmTotp",
            with(&me, json!({"totpCode": "000000"})),
        ),
        (
            "linkmesh.identity.v1.SecondFactorsService/DisableTotp",
            with(&me, json!({"totpCode": "000000"})),
        ),
        (
            "linkmesh.identity.v1.SecondFactorsService/ReplaceRecoveryCodes",
            with(&me, json!({"totpCode": "000000"})),
        ),
        ("linkmesh.identity.v1.SessionsService/EndAllSessions", json!({"parent": "users/me"})),
    ];
    let of = |caller| move |(method, request)| Line { method, caller, request };
    let lines = key_lines.into_iter().map(of(Caller::Key));
    let lines = lines.chain(nobody_lines.into_iter().map(of(Caller::Nobody)));
    lines.chain(person_lines.into_iter().map(of(Caller::Person))).collect()
}
