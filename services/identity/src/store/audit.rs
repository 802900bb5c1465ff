//! The audit log: hash-chained streams, one of each workspace and user.
//!
//! What must stay true: an event is written in the transaction of what it tells, its bytes are never written again, and the row of
//! the stream's head is locked from the reading of its hash to the commit, so that a stream has one order and no gap.

use aws_lc_rs::digest;
use jiff::Timestamp;
use prost::Message as _;
use proto::identity::v1::{AuditAction, AuditEvent, BrokenAuditEvent};
use rpc::{Caller, Principal, WorkspaceId, time};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Failure, Store};
use crate::domain::service_account_name;

/// What stands before the first event.
const FIRST_HASH: [u8; 32] = [0; 32];

/// What was done to what.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub action: AuditAction,
    /// A resource name.
    pub resource: String,
    /// As the action says; ids and names of roles, nothing personal.
    pub details: &'a [(&'static str, &'a str)],
}

/// How far a verification got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub stream: Uuid,
    pub sequence: i64,
    pub hash: [u8; 32],
}

/// What a verification found.
#[derive(Debug)]
pub(crate) struct Verification {
    /// Events that were looked at.
    pub count: i64,
    pub broken: Option<BrokenAuditEvent>,
    /// Where to go on.
    pub next: Option<Verified>,
}

#[derive(FromRow)]
struct Row {
    sequence: i64,
    event: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(FromRow)]
struct Link {
    stream_id: Uuid,
    sequence: i64,
    event: Vec<u8>,
    hash: Vec<u8>,
}

/// The event of an act; `by` nobody who has proved anything, if none.
pub(crate) fn event(by: Option<&Principal>, entry: Entry<'_>, now: Timestamp) -> AuditEvent {
    let mut service_account = String::new();
    let actor = match by.map(|by| (by, by.caller)) {
        None => String::new(),
        Some((_, Caller::Operator)) => "operator".to_owned(),
        Some((_, Caller::User { user, .. })) => format!("users/{user}"),
        Some((by, Caller::ApiKey { key, service_account: account })) => {
            // A key has one workspace.
            let workspace = by.grants.first().map_or(WorkspaceId::NIL, |grant| grant.workspace);
            if let Some(account) = account {
                service_account = service_account_name(workspace, account);
            }
            format!("workspaces/{workspace}/apiKeys/{key}")
        }
    };
    let details =
        entry.details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    AuditEvent {
        event_time: Some(time::to_proto(now)),
        action: entry.action.into(),
        actor,
        service_account,
        resource: entry.resource,
        details: details.collect(),
        // These are columns of their own.
        sequence: 0,
        hash: Vec::new(),
    }
}

/// Adds an event to a stream, in the transaction of what it tells. The last thing that a transaction locks.
pub(crate) async fn append(
    transaction: &mut PgConnection,
    stream: Uuid,
    event: &AuditEvent,
) -> Result<(), Failure> {
    sqlx::query(
        "insert into identity.audit_heads (stream_id, sequence, hash) values ($1, 0, $2)
         on conflict do nothing",
    )
    .bind(stream)
    .bind(FIRST_HASH.as_slice())
    .execute(&mut *transaction)
    .await?;
    let (last, before): (i64, Vec<u8>) = sqlx::query_as(
        "select sequence, hash from identity.audit_heads where stream_id = $1 for update",
    )
    .bind(stream)
    .fetch_one(&mut *transaction)
    .await?;
    let (sequence, bytes) = (last + 1, event.encode_to_vec());
    let hash = chained(&before, stream, sequence, &bytes);
    sqlx::query(
        "with written as (
             insert into identity.audit_events (stream_id, sequence, event, hash) values ($1, $2, $3, $4))
         update identity.audit_heads set sequence = $2, hash = $4 where stream_id = $1",
    )
    .bind(stream)
    .bind(sequence)
    .bind(bytes)
    .bind(hash.as_slice())
    .execute(transaction)
    .await?;
    Ok(())
}

impl Store {
    /// Up to `size` events of a stream, the newest first, before `before`; and whether there are more.
    pub(crate) async fn audit_events(
        &self,
        stream: Uuid,
        before: Option<i64>,
        size: usize,
    ) -> Result<(Vec<AuditEvent>, bool), Failure> {
        let statement = sqlx::query_as(
            "select sequence, event, hash from identity.audit_events
             where stream_id = $1 and sequence < $2 order by sequence desc limit $3",
        )
        .bind(stream)
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<Row> = self.database.observe("list_audit_events", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let events = rows.into_iter().map(|row| {
            let event = AuditEvent::decode(row.event.as_slice());
            let event = event.map_err(|error| {
                Failure::Corrupt(format!("audit event {stream}/{}: {error}", row.sequence))
            })?;
            Ok(AuditEvent { sequence: row.sequence, hash: row.hash, ..event })
        });
        Ok((events.collect::<Result<_, Failure>>()?, more))
    }

    /// Recomputes the hashes of up to `size` events of all streams behind `behind`, stream by stream.
    pub(crate) async fn verify_audit_events(
        &self,
        behind: Option<Verified>,
        size: i64,
    ) -> Result<Verification, Failure> {
        let start =
            behind.unwrap_or(Verified { stream: Uuid::nil(), sequence: 0, hash: FIRST_HASH });
        let statement = sqlx::query_as(
            "select stream_id, sequence, event, hash from identity.audit_events
             where (stream_id, sequence) > ($1, $2) order by stream_id, sequence limit $3",
        )
        .bind(start.stream)
        .bind(start.sequence)
        .bind(size)
        .fetch_all(self.database.primary());
        let rows: Vec<Link> = self.database.observe("verify_audit_events", statement).await?;
        let is_whole = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= size;
        let (mut last, mut count) = (start, 0);
        for row in rows {
            if row.stream_id != last.stream {
                if let Some(broken) = self.cut_off(last.stream, last.sequence).await? {
                    return Ok(Verification { count, broken: Some(broken), next: None });
                }
                last = Verified { stream: row.stream_id, sequence: 0, hash: FIRST_HASH };
            }
            match last.followed_by(&row) {
                Ok(next) => last = next,
                Err(broken) => return Ok(Verification { count, broken: Some(broken), next: None }),
            }
            count += 1;
        }
        if is_whole {
            return Ok(Verification { count, broken: None, next: Some(last) });
        }
        let mut broken = self.cut_off(last.stream, last.sequence).await?;
        if broken.is_none() {
            broken = self.emptied().await?;
        }
        Ok(Verification { count, broken, next: None })
    }

    /// Whether a stream's end is missing, whose last event is this one. Events that were written since are no sign of it.
    async fn cut_off(&self, stream: Uuid, last: i64) -> Result<Option<BrokenAuditEvent>, Failure> {
        let missing: Option<(i64,)> = sqlx::query_as(
            "select h.sequence from identity.audit_heads h where h.stream_id = $1 and h.sequence > $2
             and not exists (select 1 from identity.audit_events e
                             where e.stream_id = $1 and e.sequence = $2 + 1)",
        )
        .bind(stream)
        .bind(last)
        .fetch_optional(self.database.primary())
        .await?;
        Ok(missing.map(|(head,)| {
            broken(stream, last + 1, &format!("is missing: the stream has {head} events"))
        }))
    }

    /// A stream all of whose events are missing, if there is one.
    async fn emptied(&self) -> Result<Option<BrokenAuditEvent>, Failure> {
        let emptied: Option<(Uuid, i64)> = sqlx::query_as(
            "select h.stream_id, h.sequence from identity.audit_heads h where not exists (
                 select 1 from identity.audit_events e where e.stream_id = h.stream_id)
             order by h.stream_id limit 1",
        )
        .fetch_optional(self.database.primary())
        .await?;
        Ok(emptied.map(|(stream, head)| {
            broken(stream, 1, &format!("is missing: the stream has {head} events"))
        }))
    }
}

impl Verified {
    /// The row behind this one, if it is what was written.
    fn followed_by(self, row: &Link) -> Result<Self, BrokenAuditEvent> {
        let sequence = self.sequence + 1;
        if row.sequence != sequence {
            let why = format!("is missing: the next one is {}", row.sequence);
            return Err(broken(row.stream_id, sequence, &why));
        }
        let hash = chained(&self.hash, row.stream_id, sequence, &row.event);
        if row.hash != hash {
            return Err(broken(row.stream_id, sequence, "has another hash than what is in it"));
        }
        Ok(Self { stream: row.stream_id, sequence, hash })
    }
}

fn broken(stream: Uuid, sequence: i64, message: &str) -> BrokenAuditEvent {
    BrokenAuditEvent { stream_id: stream.to_string(), sequence, message: message.to_owned() }
}

/// The hash of an event: everything in front of the event's bytes has a fixed length.
fn chained(before: &[u8], stream: Uuid, sequence: i64, event: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(stream.as_bytes());
    context.update(&sequence.to_be_bytes());
    context.update(event);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(before: &Verified, event: &[u8]) -> Link {
        let sequence = before.sequence + 1;
        let hash = chained(&before.hash, before.stream, sequence, event).to_vec();
        Link { stream_id: before.stream, sequence, event: event.to_vec(), hash }
    }

    #[test]
    fn an_event_follows_only_what_it_was_chained_to() {
        let first = Verified { stream: Uuid::now_v7(), sequence: 0, hash: FIRST_HASH };
        let written = row(&first, b"event");
        let next = first.followed_by(&written).unwrap();
        assert_eq!(next.sequence, 1);
        assert!(next.followed_by(&row(&next, b"another")).is_ok());

        let changed = Link { event: b"evenT".to_vec(), ..row(&first, b"event") };
        assert!(first.followed_by(&changed).unwrap_err().message.contains("hash"));
        let skipped = Link { sequence: 2, ..row(&first, b"event") };
        let missing = first.followed_by(&skipped).unwrap_err();
        assert_eq!(missing.sequence, 1);
        let elsewhere = Verified { stream: Uuid::now_v7(), ..first };
        let moved = Link { stream_id: elsewhere.stream, ..row(&first, b"event") };
        assert!(elsewhere.followed_by(&moved).is_err());
    }

    #[test]
    fn an_actor_is_named_by_what_it_proved() {
        let entry = || Entry {
            action: AuditAction::WorkspaceUpdated,
            resource: "workspaces/x".to_owned(),
            details: &[],
        };
        let actor = |by: Option<&Principal>| event(by, entry(), Timestamp::UNIX_EPOCH).actor;
        assert_eq!(actor(None), "");
        assert_eq!(actor(Some(&Principal::operator())), "operator");
        let (key, workspace) = (rpc::ApiKeyId::new(), WorkspaceId::new());
        let program = Principal::api_key(key, workspace, rpc::Permissions::ALL);
        assert_eq!(actor(Some(&program)), format!("workspaces/{workspace}/apiKeys/{key}"));
    }
}
