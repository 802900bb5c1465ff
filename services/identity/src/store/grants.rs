//! What memberships come to for edges: what a user may do where, what that is worth, and the version that edges are told of.

use bus::topics::USER_CHANGES;
use pg::outbox;
use prost::Message as _;
use proto::common::v1::Tier;
use proto::events::v1::UserGrantsChanged;
use rpc::{Grant, UserId, WorkspaceId};
use uuid::Uuid;

use super::act::{Act, Change};
use super::members::stored_role;
use super::{Failure, Store};
use crate::wire;

/// What a user may do where, as the primary knows it.
#[derive(Debug)]
pub(crate) struct UserGrants {
    pub grants: Vec<Grant>,
    pub tier: Tier,
    /// 0: they never were a member of anything.
    pub version: i64,
}

impl Store {
    /// What a user may do where.
    pub(crate) async fn user_grants(&self, user: UserId) -> Result<UserGrants, Failure> {
        // One statement sees one state: the version is not of another one than the memberships.
        let statement = sqlx::query_as(
            "select coalesce(g.version, 0), m.workspace_id, m.role, w.tier
             from (select $1::uuid as user_id) one
             left join identity.user_grants g on g.user_id = one.user_id
             left join identity.members m on m.user_id = one.user_id
             left join identity.workspaces w on w.id = m.workspace_id
             order by m.workspace_id",
        )
        .bind(user.uuid())
        .fetch_all(self.database.primary());
        /// The user's version; and of a membership, if there is any: workspace, role and tier.
        type Row = (i64, Option<Uuid>, Option<i32>, Option<i32>);
        let rows: Vec<Row> = self.database.observe("get_user_grants", statement).await?;
        let mut found = UserGrants { grants: Vec::new(), tier: Tier::Free, version: 0 };
        for (version, workspace, role, tier) in rows {
            found.version = version;
            let (Some(workspace), Some(role)) = (workspace, role) else { continue };
            let workspace = WorkspaceId::from(workspace);
            let permissions = stored_role(role)?.permissions();
            found.grants.push(Grant { workspace, permissions });
            found.tier = found.tier.max(wire::tier(tier.unwrap_or_default()));
        }
        Ok(found)
    }
}

impl Change<'_> {
    /// Counts a change of what every member of a workspace is worth, and announces it to edges. The workspace is locked.
    pub(super) async fn outdate_members(
        &mut self,
        act: &Act<'_>,
        workspace: WorkspaceId,
    ) -> Result<(), Failure> {
        // In the order of the ids: whoever else locks several of them does so too.
        let changed: Vec<(Uuid, i64)> = sqlx::query_as(
            "insert into identity.user_grants as g (user_id, version)
             select user_id, $2::bigint from identity.members where workspace_id = $1 order by user_id
             on conflict (user_id) do update set version = greatest(g.version + 1, excluded.version)
             returning user_id, version",
        )
        .bind(workspace.uuid())
        .bind(act.micros())
        .fetch_all(self.connection())
        .await?;
        let changes = changed.iter().map(|(user, version)| grants_changed(*user, *version));
        self.announce(changes.collect()).await
    }

    /// Counts a change of what a user may do, and announces it to edges.
    pub(super) async fn outdate_grants(
        &mut self,
        act: &Act<'_>,
        user: UserId,
    ) -> Result<(), Failure> {
        let (version,): (i64,) = sqlx::query_as(
            "insert into identity.user_grants as g (user_id, version) values ($1, $2)
             on conflict (user_id) do update set version = greatest(g.version + 1, excluded.version)
             returning version",
        )
        .bind(user.uuid())
        .bind(act.micros())
        .fetch_one(self.connection())
        .await?;
        self.announce(vec![grants_changed(user.uuid(), version)]).await
    }
}

/// What tells edges to forget what a user may do.
fn grants_changed(user: Uuid, version: i64) -> outbox::Change {
    let changed = UserGrantsChanged { user_id: user.as_bytes().to_vec(), version };
    outbox::Change {
        topic: USER_CHANGES.name.into(),
        key: user.as_bytes().to_vec(),
        value: changed.encode_to_vec(),
    }
}
