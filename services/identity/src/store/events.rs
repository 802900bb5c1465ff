//! What is told to others of a user, and written into the user's own audit log: ids alone.

use bus::topics::USER_EVENTS;
use jiff::Timestamp;
use pg::outbox::Change;
use prost::Message as _;
use proto::common::v1::Tier;
use proto::events::v1::UserEvent;
use proto::events::v1::user_event::Event;
use proto::identity::v1::AuditAction;
use rpc::{Caller, Principal, SessionId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::{Failure, Store};
use crate::failures::Failed;

impl Store {
    /// Adds an event to the transaction that makes it true, for others and for the user's audit log.
    pub(super) async fn tell(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        event: Event,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let logged = action(&event);
        let change = Change {
            topic: USER_EVENTS.name.into(),
            key: user.as_bytes().to_vec(),
            value: UserEvent {
                event_id: Uuid::now_v7().as_bytes().to_vec(),
                user_id: user.as_bytes().to_vec(),
                time_unix_micros: now.as_microsecond().unsigned_abs(),
                event: Some(event),
            }
            .encode_to_vec(),
        };
        self.outbox.append(transaction, vec![change]).await?;
        let Some((action, detail)) = logged else { return Ok(()) };
        let detail = detail.as_ref().map(|(name, value)| (*name, value.as_str()));
        let details = detail.as_slice();
        let entry = Entry { action, resource: format!("users/{user}"), details };
        append(transaction, user, entry, now).await
    }

    /// Adds to a user's audit log what nobody else is told of.
    pub(super) async fn log(
        &self,
        transaction: &mut PgConnection,
        session: (UserId, SessionId),
        action: AuditAction,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (user, session) = session;
        let resource = format!("users/{user}/sessions/{session}");
        append(transaction, user, Entry { action, resource, details: &[] }, now).await
    }
}

impl Store {
    /// Adds to a user's audit log that somebody failed to prove that they are the user. If there was no user, there is nothing to add.
    pub(crate) async fn log_failed_proof(&self, failed: &Failed) -> Result<(), Failure> {
        let Some(user) = failed.user else { return Ok(()) };
        let entry = Entry {
            action: AuditAction::UserSignInFailed,
            resource: format!("users/{user}"),
            details: &[("reason", failed.proof.name())],
        };
        let event = audit::event(None, entry, failed.at);
        let mut transaction = self.database.primary().begin().await?;
        audit::append(&mut transaction, user.uuid(), &event).await?;
        Ok(self.database.observe("log_failed_proof", transaction.commit()).await?)
    }
}

async fn append(
    transaction: &mut PgConnection,
    user: UserId,
    entry: Entry<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    append_to(transaction, user.uuid(), user, entry, now).await
}

/// Adds what a user does to the audit log that it is of.
pub(super) async fn append_to(
    transaction: &mut PgConnection,
    stream: Uuid,
    user: UserId,
    entry: Entry<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let caller = Caller::User { user, session: SessionId::NIL };
    let by = Principal { caller, grants: Vec::new(), tier: Tier::Unspecified };
    audit::append(transaction, stream, &audit::event(Some(&by), entry, now)).await
}

/// As what an event of an account is logged, with its detail; what happens in a workspace is logged there.
fn action(event: &Event) -> Option<(AuditAction, Option<(&'static str, String)>)> {
    match event {
        Event::Registered(registered) => {
            let provider = Some(&registered.provider).filter(|provider| !provider.is_empty());
            let detail = provider.map(|provider| ("provider", provider.clone()));
            Some((AuditAction::UserRegistered, detail))
        }
        Event::PasswordChanged(_) => Some((AuditAction::UserPasswordChanged, None)),
        Event::SecondFactorChanged(changed) => {
            let detail = Some(("enabled", changed.enabled.to_string()));
            Some((AuditAction::UserSecondFactorChanged, detail))
        }
        Event::ProviderLinked(linked) => {
            Some((AuditAction::UserProviderLinked, Some(("provider", linked.provider.clone()))))
        }
        Event::Erased(_) => Some((AuditAction::UserErased, None)),
        Event::WorkspaceCreated(_)
        | Event::MemberAdded(_)
        | Event::MemberRoleChanged(_)
        | Event::MemberRemoved(_) => None,
    }
}
