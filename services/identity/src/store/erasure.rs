//! Everything that is held on a user: to be taken along, and to be erased.

use jiff::Timestamp;
use pg::requests::Request;
use proto::common::v1::Role;
use proto::events::v1::UserErased;
use proto::events::v1::user_event::Event;
use proto::identity::v1::AuditAction;
use rpc::{InvitationId, UserId, WorkspaceId};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::audit::Entry;
use super::events::append_to;
use super::members::stored_role;
use super::{ADDRESS_METHODS, Failure, Store, invitations};
use crate::domain::Error;

/// What is held beside the account and its sessions.
#[derive(Debug)]
pub(crate) struct Holdings {
    /// Open invitations to them, the newest ones of too many: name, role, and until when it is open.
    pub invitations: Vec<(String, auth::Role, Timestamp)>,
    /// Providers whose accounts sign them in, and since when.
    pub providers: Vec<(String, Timestamp)>,
    pub recovery_codes: i64,
    /// Whether a second factor was begun that is not enabled.
    pub totp_begun: bool,
    /// Mails on their way to them.
    pub mails: i64,
    /// What they were given to use once and have not used.
    pub tokens: i64,
}

/// The tables whose rows are a user's alone, by the column that says whose.
const OWNED: [(&str, &str); 5] = [
    ("user_tokens", "user_id"),
    ("recovery_codes", "user_id"),
    ("provider_links", "user_id"),
    ("sessions", "user_id"),
    ("members", "user_id"),
];

/// Invitations that an export lists, at most.
const EXPORTED_MAX: i64 = 1_000;

/// An invitation that is no more: its workspace, its id, and the role that it offered.
type Withdrawn = (WorkspaceId, InvitationId, auth::Role);

impl Store {
    /// What is held on a user beside the account and its sessions.
    pub(crate) async fn holdings(&self, user: UserId, now: Timestamp) -> Result<Holdings, Failure> {
        let providers: Vec<(String, i64)> = sqlx::query_as(
            "select provider, create_micros from identity.provider_links where user_id = $1 order by 1, 2",
        )
        .bind(user.uuid())
        .fetch_all(self.database.primary())
        .await?;
        let (recovery_codes, totp_begun, mails, tokens): (i64, bool, i64, i64) = sqlx::query_as(
            "select (select count(*) from identity.recovery_codes where user_id = u.id),
                 u.totp_secret is not null and u.totp_enable_micros is null,
                 (select count(*) from identity.mails
                  where email_hash = u.email_hash and expire_micros > $2),
                 (select count(*) from identity.user_tokens
                  where user_id = u.id and expire_micros > $2)
             from identity.users u where id = $1",
        )
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .fetch_one(self.database.primary())
        .await?;
        let invitations: Vec<(Uuid, Uuid, i32, i64)> = sqlx::query_as(
            "select i.workspace_id, i.id, i.role, i.expire_micros from identity.invitations i
             join identity.users u on u.email_hash = i.email_hash
             where u.id = $1 and i.expire_micros > $2 order by i.id desc limit $3",
        )
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .bind(EXPORTED_MAX)
        .fetch_all(self.database.primary())
        .await?;
        let invitations = invitations
            .into_iter()
            .map(|(workspace, id, role, micros)| {
                let name = invitations::name(workspace.into(), id.into());
                Ok((name, stored_role(role)?, super::time(micros)?))
            })
            .collect::<Result<_, Failure>>()?;
        let providers = providers
            .into_iter()
            .map(|(provider, micros)| Ok((provider, super::time(micros)?)))
            .collect::<Result<_, Failure>>()?;
        Ok(Holdings { invitations, providers, recovery_codes, totp_begun, mails, tokens })
    }

    /// Erases a user: what remains is the id, with its times, and for some days the request id.
    pub(crate) async fn erase_user(
        &self,
        user: UserId,
        now: Timestamp,
        request: Option<&Request<'_>>,
    ) -> Result<(), Failure> {
        let mut transaction = self.database.primary().begin().await?;
        if self.claim(&mut transaction, request, now.as_microsecond()).await?.is_some() {
            return Ok(());
        }
        // Workspaces first, as every act in one does. One with other members needs an owner still.
        sqlx::query(
            "select 1 from identity.workspaces where id in (
                 select workspace_id from identity.members where user_id = $1
                 union select workspace_id from identity.invitations where inviter_id = $1
                 union select i.workspace_id from identity.invitations i
                 join identity.users u on u.email_hash = i.email_hash where u.id = $1)
             order by id for no key update",
        )
        .bind(user.uuid())
        .execute(&mut *transaction)
        .await?;
        let (is_needed,): (bool,) = sqlx::query_as(
            "select exists (
                 select 1 from identity.members m where m.user_id = $1 and m.role = $2
                 and exists (select 1 from identity.members o
                             where o.workspace_id = m.workspace_id and o.user_id <> $1)
                 and not exists (select 1 from identity.members o
                                 where o.workspace_id = m.workspace_id and o.user_id <> $1 and o.role = $2))",
        )
        .bind(user.uuid())
        .bind(i32::from(Role::Owner))
        .fetch_one(&mut *transaction)
        .await?;
        if is_needed {
            let why = "a workspace with other members has no other owner; make one of them its owner first";
            return Err(Error::Conflict(why).into());
        }
        let found = self.locked_user(&mut transaction, user).await?;
        let email_hash = self.email_hash(&found.email);
        self.end_sessions(&mut transaction, user, None, now).await?;
        for (table, column) in OWNED {
            sqlx::query(AssertSqlSafe(format!("delete from identity.{table} where {column} = $1")))
                .bind(user.uuid())
                .execute(&mut *transaction)
                .await?;
        }
        let withdrawn = withdraw(&mut transaction, user, &email_hash, now).await?;
        for table in ["mails", "sign_ups"] {
            sqlx::query(AssertSqlSafe(format!(
                "delete from identity.{table} where email_hash = $1"
            )))
            .bind(email_hash.as_slice())
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "update identity.users set email_hash = null, email = null, display_name = null, password = null,
                 totp_secret = null, totp_enable_micros = null, update_micros = $2, erase_micros = $2,
                 version = greatest(version + 1, $2) where id = $1",
        )
        .bind(user.uuid())
        .bind(now.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        // Request ids of the user: their responses hold names of sessions and the like. And of the address, before it was anybody's.
        self.forget_answers(&mut transaction, user).await?;
        let of = found.email.normalized();
        let mut namespaces: Vec<Uuid> =
            ADDRESS_METHODS.iter().map(|method| self.namespace(method, &of)).collect();
        namespaces.push(user.uuid());
        sqlx::query(
            "delete from identity.requests
             where workspace_id = any($1) and request_id is distinct from $2",
        )
        .bind(namespaces)
        .bind(request.map(|request| request.id))
        .execute(&mut *transaction)
        .await?;
        for (workspace, invitation, role) in withdrawn {
            let entry = Entry {
                action: AuditAction::InvitationRevoked,
                resource: invitations::name(workspace, invitation),
                details: &[("role", role.name())],
            };
            append_to(&mut transaction, workspace.uuid(), user, entry, now).await?;
        }
        self.complete(&mut transaction, request, &[]).await?;
        self.tell(&mut transaction, user, Event::Erased(UserErased {}), now).await?;
        self.database.observe("erase_user", transaction.commit()).await?;
        self.outbox.committed();
        Ok(())
    }

    /// Deletes what has expired, a few thousand rows of each table at once; returns how many there were.
    pub(crate) async fn purge_expired(&self, now: Timestamp) -> Result<u64, Failure> {
        const ROWS_MAX: i64 = 5_000;
        let mut purged = 0;
        for (table, key, column) in [
            ("sign_ups", "id", "expire_micros"),
            ("invitations", "id", "expire_micros"),
            ("user_tokens", "digest", "expire_micros"),
            ("sessions", "id", "expire_micros"),
            ("mails", "id", "expire_micros"),
            ("provider_flows", "digest", "expire_micros"),
            ("attempts", "subject", "due_micros"),
        ] {
            let statement = sqlx::query(AssertSqlSafe(format!(
                "delete from identity.{table} where {key} in (
                     select {key} from identity.{table} where {column} < $1 order by {column} limit $2)"
            )))
            .bind(now.as_microsecond())
            .bind(ROWS_MAX)
            .execute(self.database.primary());
            purged += self.database.observe("purge_expired", statement).await?.rows_affected();
        }
        // What was kept for whoever lost an answer is wiped once nobody may ask for it.
        let lost_before = now - crate::domain::session::GRACE;
        let statement = sqlx::query(
            "update identity.sessions set refresh_answer = null
             where refresh_answer is not null and refresh_micros < $1",
        )
        .bind(lost_before.as_microsecond())
        .execute(self.database.primary());
        self.database.observe("purge_answers", statement).await?;
        Ok(purged)
    }
}

/// Deletes the invitations that a user made, which are worth nothing without them, and those to their address, with their mails; gives
/// those that were open, in the order of their workspaces.
async fn withdraw(
    transaction: &mut PgConnection,
    user: UserId,
    email_hash: &[u8; 32],
    now: Timestamp,
) -> Result<Vec<Withdrawn>, Failure> {
    let deleted: Vec<(Uuid, Uuid, i32, i64)> = sqlx::query_as(
        "delete from identity.invitations where inviter_id = $1 or email_hash = $2
         returning workspace_id, id, role, expire_micros",
    )
    .bind(user.uuid())
    .bind(email_hash.as_slice())
    .fetch_all(&mut *transaction)
    .await?;
    let ids: Vec<Uuid> = deleted.iter().map(|(_, id, _, _)| *id).collect();
    sqlx::query("delete from identity.mails where id = any($1)")
        .bind(ids)
        .execute(transaction)
        .await?;
    let open = deleted.into_iter().filter(|(.., expire)| *expire > now.as_microsecond());
    let mut open = open
        .map(|(workspace, id, role, _)| Ok((workspace.into(), id.into(), stored_role(role)?)))
        .collect::<Result<Vec<Withdrawn>, Failure>>()?;
    open.sort_unstable_by_key(|(workspace, invitation, _)| (workspace.uuid(), invitation.uuid()));
    Ok(open)
}
