//! Domains: whose they are, and the shared one.

use pg::requests::Request;
use rpc::WorkspaceId;

use super::rows::DomainRow;
use super::{Failure, Outcome, Store};
use crate::domain::{Domain, Error, Host};

impl Store {
    /// Makes sure that the shared domain is there, for every workspace. [`Failure::Corrupt`] if it is there already as a
    /// workspace's own, or with the other case rule: nothing that waiting would help.
    pub(crate) async fn ensure_shared_domain(
        &self,
        case_sensitive: bool,
        now_micros: i64,
    ) -> Result<(), Failure> {
        sqlx::query(
            "insert into links.domains (host, workspace_id, case_sensitive, create_micros)
             values ($1, null, $2, $3) on conflict do nothing",
        )
        .bind(self.shared.as_str())
        .bind(case_sensitive)
        .bind(now_micros)
        .execute(self.database.primary())
        .await?;
        let (is_own, found): (bool, bool) = sqlx::query_as(
            "select workspace_id is not null, case_sensitive from links.domains where host = $1",
        )
        .bind(self.shared.as_str())
        .fetch_one(self.database.primary())
        .await?;
        let host = &self.shared;
        if is_own {
            let why = format!("the domain `{host}` belongs to a workspace and can't be shared");
            return Err(Failure::Corrupt(why));
        }
        if found != case_sensitive {
            let why = format!("the shared domain `{host}` has case_sensitive = {found} for good");
            return Err(Failure::Corrupt(why));
        }
        Ok(())
    }

    /// Adds a domain to its workspace.
    pub(crate) async fn create_domain(
        &self,
        domain: &Domain,
        request: Option<Request<'_>>,
        response: impl FnOnce() -> Vec<u8>,
    ) -> Result<Outcome<()>, Failure> {
        let now_micros = domain.create_time.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        if let Some(response) = self.claim(&mut transaction, request.as_ref(), now_micros).await? {
            return Ok(Outcome::Replayed(response));
        }
        let added = sqlx::query(
            "insert into links.domains (host, workspace_id, case_sensitive, create_micros)
             values ($1, $2, $3, $4) on conflict do nothing",
        )
        .bind(domain.host.as_str())
        .bind(domain.workspace.map(|workspace| workspace.uuid()))
        .bind(domain.case_sensitive)
        .bind(now_micros)
        .execute(&mut *transaction)
        .await?;
        if added.rows_affected() == 0 {
            return Err(Error::DomainTaken(domain.host.to_string()).into());
        }
        self.complete(&mut transaction, request.as_ref(), response).await?;
        self.database.observe("create_domain", transaction.commit()).await?;
        Ok(Outcome::Done(()))
    }

    /// Reads one of the workspace's own domains.
    pub(crate) async fn domain(
        &self,
        workspace: WorkspaceId,
        host: &Host,
    ) -> Result<Domain, Failure> {
        let statement = sqlx::query_as(
            "select host, workspace_id, case_sensitive, create_micros from links.domains
             where host = $1 and workspace_id = $2",
        )
        .bind(host.as_str())
        .bind(workspace.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<DomainRow> = self.database.observe("get_domain", statement).await?;
        match row {
            Some(row) => row.try_into(),
            None => Err(Error::NotFound(domain_name(workspace, host)).into()),
        }
    }

    /// Up to `size` of the workspace's own domains by host, behind `behind`, and whether there are more.
    pub(crate) async fn list_domains(
        &self,
        workspace: WorkspaceId,
        behind: &str,
        size: usize,
    ) -> Result<(Vec<Domain>, bool), Failure> {
        let statement = sqlx::query_as(
            "select host, workspace_id, case_sensitive, create_micros from links.domains
             where workspace_id = $1 and host > $2 order by host limit $3",
        )
        .bind(workspace.uuid())
        .bind(behind)
        .bind(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_all(self.database.primary());
        let mut rows: Vec<DomainRow> = self.database.observe("list_domains", statement).await?;
        let more = rows.len() > size;
        rows.truncate(size);
        Ok((rows.into_iter().map(Domain::try_from).collect::<Result<_, _>>()?, more))
    }

    /// Deletes one of the workspace's own domains if no link is on it. Its tombstones stay in the directory.
    pub(crate) async fn delete_domain(
        &self,
        workspace: WorkspaceId,
        host: &Host,
        request: Option<Request<'_>>,
        now_micros: i64,
    ) -> Result<(), Failure> {
        let mut transaction = self.database.primary().begin().await?;
        if self.claim(&mut transaction, request.as_ref(), now_micros).await?.is_some() {
            return Ok(());
        }
        // Whoever creates a link here holds a share of this lock until it is committed.
        let found: Option<(i32,)> = sqlx::query_as(
            "select 1 from links.domains where host = $1 and workspace_id = $2 for update",
        )
        .bind(host.as_str())
        .bind(workspace.uuid())
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Err(Error::NotFound(domain_name(workspace, host)).into());
        }
        let (has_links,): (bool,) =
            sqlx::query_as("select exists (select 1 from links.links where domain = $1)")
                .bind(host.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        if has_links {
            return Err(Error::DomainHasLinks(host.to_string()).into());
        }
        sqlx::query("delete from links.domains where host = $1")
            .bind(host.as_str())
            .execute(&mut *transaction)
            .await?;
        self.complete(&mut transaction, request.as_ref(), Vec::new).await?;
        self.database.observe("delete_domain", transaction.commit()).await?;
        Ok(())
    }
}

fn domain_name(workspace: WorkspaceId, host: &Host) -> String {
    format!("workspaces/{workspace}/domains/{host}")
}
