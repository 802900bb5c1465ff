//! A person, from signing up to being erased, with everything in between that takes others: a second factor, a workspace, somebody who is
//! invited and shown out again, a key. In each of the edge's protocols the calls are the same.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;

use crate::accounts::PASSWORD;
use crate::accounts::WITHIN;
use crate::accounts::base32;
use crate::accounts::text;
use crate::accounts::token_mailed_to;
use crate::accounts::totp;
use crate::client::Api;
use crate::speaking::Protocol;
use crate::speaking::Speaker;

const USERS: &str = "linkmesh.identity.v1.UsersService";
const SESSIONS: &str = "linkmesh.identity.v1.SessionsService";
const FACTORS: &str = "linkmesh.identity.v1.SecondFactorsService";
const WORKSPACES: &str = "linkmesh.identity.v1.WorkspacesService";
const INVITATIONS: &str = "linkmesh.identity.v1.InvitationsService";
const MEMBERS: &str = "linkmesh.identity.v1.MembersService";
const KEYS: &str = "linkmesh.identity.v1.ApiKeysService";
const LINKS: &str = "linkmesh.links.v1.LinksService";

/// Signs up, verifies, enables TOTP, invites a member, shows them out, makes a key, exports and erases. `mails` is where the cluster
/// writes mails.
pub async fn a_team_comes_and_goes(
    api: &Api,
    mails: &Path,
    protocol: Protocol,
) -> anyhow::Result<()> {
    let nobody = Speaker { api: api.with_key(""), protocol };
    let id = uuid::Uuid::new_v4().simple();
    let (ada, grace) = (format!("ada-{id}@example.com"), format!("grace-{id}@example.com"));
    sign_up(&nobody, mails, &ada).await?;
    let signed_in = nobody.call(&format!("{SESSIONS}/SignIn"), credentials(&ada)).await?;
    let owner = nobody.with_key(text(&signed_in["tokens"]["accessToken"])?);
    let owner = with_second_factor(&nobody, &owner, &ada).await?;

    // Under one key, in whatever form it is sent, there is one workspace; and nobody who sends the key sends an id of their own.
    let create = format!("{WORKSPACES}/CreateWorkspace");
    let wanted = json!({"workspace": {"displayName": "Team"}});
    let (bare, quoted) = (format!("team-{id}"), format!("\"team-{id}\""));
    let first = owner.call_under(&create, wanted.clone(), Some(&bare)).await?;
    let again = owner.call_under(&create, wanted.clone(), Some(&quoted)).await?;
    ensure!(first == again, "{first} {again}");
    let without = owner.call(&create, wanted).await;
    ensure!(without.is_err(), "a request id is required, in the message or as a header");
    let workspace = text(&first["workspace"]["name"])?.to_owned();
    let (read, named) = (format!("{WORKSPACES}/GetWorkspace"), json!({"name": workspace}));
    eventually("the owner is one", || async { owner.call(&read, named.clone()).await.is_ok() })
        .await?;

    let invitation = json!({"email": grace, "role": "ROLE_MEMBER"});
    let invite = json!({"parent": workspace, "invitation": invitation});
    owner.call(&format!("{INVITATIONS}/CreateInvitation"), invite).await?;
    let list = json!({"parent": workspace});
    let open = owner.call(&format!("{INVITATIONS}/ListInvitations"), list.clone()).await?;
    ensure!(open["invitations"][0]["email"] == grace.as_str(), "{open}");
    sign_up(&nobody, mails, &grace).await?;
    let signed_in = nobody.call(&format!("{SESSIONS}/SignIn"), credentials(&grace)).await?;
    let member = nobody.with_key(text(&signed_in["tokens"]["accessToken"])?);
    let token = token_mailed_to(mails, &grace, "lmi_").await?;
    let accept = format!("{INVITATIONS}/AcceptInvitation");
    let accepted = member.call(&accept, json!({"token": token})).await?;
    ensure!(accepted["member"]["role"] == "ROLE_MEMBER", "{accepted}");
    let members = || async {
        let listed = member.call(&format!("{MEMBERS}/ListMembers"), list.clone()).await.ok()?;
        listed["members"].as_array().map(Vec::len)
    };
    eventually("the member is one", || async { members().await == Some(2) }).await?;

    let scopes = ["SCOPE_LINKS_READ", "SCOPE_LINKS_WRITE"];
    let key = json!({"parent": workspace, "apiKey": {"displayName": "ci", "scopes": scopes}});
    let key = owner.call(&format!("{KEYS}/CreateApiKey"), key).await?;
    let program = owner.with_key(text(&key["secret"])?);
    key_works_once_under_an_id(&program, &workspace).await?;

    let name = accepted["member"]["name"].clone();
    owner.call(&format!("{MEMBERS}/RemoveMember"), json!({"name": name})).await?;
    eventually("the member is none", || async { members().await.is_none() }).await?;

    let me = json!({"name": "users/me"});
    let exported = owner.call(&format!("{USERS}/ExportUser"), me).await?;
    let document: Value = serde_json::from_str(text(&exported["document"])?)?;
    ensure!(document["user"]["email"] == ada.as_str(), "{document}");
    ensure!(document["secondFactor"]["totpEnabled"] == true, "{document}");
    let erase = json!({"name": "users/me", "password": PASSWORD});
    owner.call(&format!("{USERS}/EraseUser"), erase).await?;
    let gone = nobody.api.rest("POST", "/v1/sessions:signIn", Some(credentials(&ada))).await?;
    ensure!(gone.status == 401 && gone.json()["reason"] == "SIGN_IN_REFUSED", "{gone:?}");
    Ok(())
}

async fn sign_up(nobody: &Speaker, mails: &Path, email: &str) -> anyhow::Result<()> {
    let asked = json!({"email": email, "password": PASSWORD, "displayName": "Somebody"});
    nobody.call(&format!("{USERS}/SignUp"), asked).await?;
    let token = token_mailed_to(mails, email, "lmv_").await?;
    let proved = json!({"token": token, "password": PASSWORD});
    nobody.call(&format!("{USERS}/VerifyEmail"), proved).await.map(drop)
}

fn credentials(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "label": "test"})
}

/// Enables a second factor, and signs in with it.
async fn with_second_factor(
    nobody: &Speaker,
    owner: &Speaker,
    email: &str,
) -> anyhow::Result<Speaker> {
    let enroll = json!({"name": "users/me", "password": PASSWORD});
    let enrolled = owner.call(&format!("{FACTORS}/EnrollTotp"), enroll).await?;
    let secret = base32(text(&enrolled["secret"])?)?;
    let confirm = json!({"name": "users/me", "totpCode": totp(&secret, 0)});
    owner.call(&format!("{FACTORS}/ConfirmTotp"), confirm).await?;
    let asked = nobody.call(&format!("{SESSIONS}/SignIn"), credentials(email)).await?;
    let challenge = asked["challenge"]["challengeToken"].clone();
    let answer = json!({"challengeToken": challenge, "totpCode": totp(&secret, 1)});
    let completed = nobody.call(&format!("{SESSIONS}/CompleteSignIn"), answer).await?;
    Ok(owner.with_key(text(&completed["tokens"]["accessToken"])?))
}

/// A link is made once under an idempotency key, which stands for that link alone.
async fn key_works_once_under_an_id(program: &Speaker, workspace: &str) -> anyhow::Result<()> {
    let create = format!("{LINKS}/CreateLink");
    let link = |to: &str| json!({"parent": workspace, "link": {"destinationUri": to}});
    let key = uuid::Uuid::new_v4().to_string();
    let first = program.call_under(&create, link("https://example.com/1"), Some(&key)).await?;
    let again = program.call_under(&create, link("https://example.com/1"), Some(&key)).await?;
    ensure!(first == again, "{first} {again}");
    let refused = program.call_under(&create, link("https://example.com/2"), Some(&key)).await;
    ensure!(refused.is_err(), "the key stands for another link");
    let list = json!({"parent": workspace});
    let listed = program.call(&format!("{LINKS}/ListLinks"), list).await?;
    ensure!(listed["links"].as_array().context("links")?.len() == 1, "{listed}");

    let delete = json!({"name": first["link"]["name"]});
    for _ in 0..2 {
        // The second is the first one's answer, though the link is gone.
        program
            .call_under(&format!("{LINKS}/DeleteLink"), delete.clone(), Some("delete-1"))
            .await?;
    }
    Ok(())
}

/// Polls until `attempt` says yes.
async fn eventually<F: Future<Output = bool>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !attempt().await {
        ensure!(Instant::now() < deadline, "{what}, within {WITHIN:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}
