//! Reading, changing and deleting one link.

use jiff::Timestamp;
use pg::requests::Request;
use rpc::{LinkId, WorkspaceId};
use sqlx::{AssertSqlSafe, PgConnection};

use super::create::{link_hosts, on_link_domain};
use super::directory::{self, At};
use super::rows::{LINK_COLUMNS, LinkRow};
use super::{Failure, Outcome, Store};
use crate::domain::{Change, Error, Link};

/// Which link is changed or deleted, under which request id, and when.
pub(crate) struct Edit<'a> {
    pub workspace: WorkspaceId,
    pub link: LinkId,
    /// Empty: whatever the link's is.
    pub etag: &'a str,
    pub request: Option<Request<'a>>,
    pub now: Timestamp,
}

impl Edit<'_> {
    fn name(&self) -> String {
        format!("workspaces/{}/links/{}", self.workspace, self.link)
    }
}

impl Store {
    /// Reads a link.
    pub(crate) async fn link(&self, workspace: WorkspaceId, link: LinkId) -> Result<Link, Failure> {
        let statement = sqlx::query_as(AssertSqlSafe(format!(
            "select {LINK_COLUMNS} from links.links where id = $1 and workspace_id = $2"
        )))
        .bind(link.uuid())
        .bind(workspace.uuid())
        .fetch_optional(self.database.primary());
        let row: Option<LinkRow> = self.database.observe("get_link", statement).await?;
        match row {
            Some(row) => row.try_into(),
            None => Err(Error::NotFound(format!("workspaces/{workspace}/links/{link}")).into()),
        }
    }

    /// Makes the changes that `changes` derives from the link as it is; returns the link as it is then. What `response` makes of
    /// that is kept under the request id.
    pub(crate) async fn update_link(
        &self,
        edit: &Edit<'_>,
        changes: impl FnOnce(&Link) -> Result<Vec<Change>, Error>,
        response: impl FnOnce(&Link) -> Vec<u8>,
    ) -> Result<Outcome<Link>, Failure> {
        let now_micros = edit.now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        let request = edit.request.as_ref();
        if let Some(response) = self.claim(&mut transaction, request, now_micros).await? {
            return Ok(Outcome::Replayed(response));
        }
        let (mut link, normalized_slug) = lock(&mut transaction, edit).await?;
        let changes = changes(&link)?;
        let brought: Vec<_> = changes.iter().filter_map(Change::destination).collect();
        let hosts = brought.iter().map(|(_, destination)| destination.host()).collect();
        let own = link_hosts(&mut transaction, hosts).await?;
        if let Some((field, uri)) = brought.iter().find(|(_, uri)| own.contains(uri.host())) {
            return Err(Error::from(on_link_domain(field, uri.host())).into());
        }
        for change in changes {
            link.settings.apply(change);
        }
        let at = At { host: &link.host, normalized_slug: &normalized_slug, now_micros };
        let route = link.route();
        link.version = directory::replace(&mut transaction, &at, &route).await?;
        link.update_time =
            Timestamp::from_microsecond(now_micros).expect("it came from a timestamp");
        write(&mut transaction, &link).await?;
        let place = (link.host.to_string(), normalized_slug);
        let change = directory::change(&place, link.version, Some(&route));
        self.outbox.append(&mut transaction, vec![change]).await?;
        self.complete(&mut transaction, request, || response(&link)).await?;
        self.database.observe("update_link", transaction.commit()).await?;
        self.outbox.committed();
        Ok(Outcome::Done(link))
    }

    /// Deletes a link and leaves a tombstone in the directory.
    pub(crate) async fn delete_link(&self, edit: &Edit<'_>) -> Result<(), Failure> {
        let now_micros = edit.now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        let request = edit.request.as_ref();
        if self.claim(&mut transaction, request, now_micros).await?.is_some() {
            return Ok(());
        }
        let (link, normalized_slug) = lock(&mut transaction, edit).await?;
        let at = At { host: &link.host, normalized_slug: &normalized_slug, now_micros };
        let version = directory::clear(&mut transaction, &at).await?;
        sqlx::query("delete from links.links where id = $1")
            .bind(link.id.uuid())
            .execute(&mut *transaction)
            .await?;
        let place = (link.host.to_string(), normalized_slug);
        let change = directory::change(&place, version, None);
        self.outbox.append(&mut transaction, vec![change]).await?;
        self.complete(&mut transaction, request, Vec::new).await?;
        self.database.observe("delete_link", transaction.commit()).await?;
        self.outbox.committed();
        Ok(())
    }
}

/// Reads a link under a lock, with its normalised slug, and compares the etag.
async fn lock(transaction: &mut PgConnection, edit: &Edit<'_>) -> Result<(Link, String), Failure> {
    let row: Option<LinkRow> = sqlx::query_as(AssertSqlSafe(format!(
        "select {LINK_COLUMNS} from links.links where id = $1 and workspace_id = $2 for update"
    )))
    .bind(edit.link.uuid())
    .bind(edit.workspace.uuid())
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Err(Error::NotFound(edit.name()).into()) };
    let link = Link::try_from(row)?;
    if !edit.etag.is_empty() && edit.etag != link.etag() {
        return Err(Error::EtagMismatch.into());
    }
    let (normalized_slug,): (String,) =
        sqlx::query_as("select normalized_slug from links.links where id = $1")
            .bind(edit.link.uuid())
            .fetch_one(transaction)
            .await?;
    Ok((link, normalized_slug))
}

/// Writes all that can change of a link.
async fn write(transaction: &mut PgConnection, link: &Link) -> Result<(), Failure> {
    let settings = &link.settings;
    let expired = settings.expired_destination.as_ref().map_or("", |uri| uri.as_given());
    sqlx::query(
        "update links.links set destination_uri = $2, redirect_status = $3, enabled = $4,
             forward_query = $5, utm_source = $6, utm_medium = $7, utm_campaign = $8, utm_term = $9,
             utm_content = $10, tags = $11, expire_micros = $12, expired_destination_uri = $13,
             display_name = $14, update_micros = $15, version = $16
         where id = $1",
    )
    .bind(link.id.uuid())
    .bind(settings.destination.as_given())
    .bind(settings.redirect.code().cast_signed())
    .bind(settings.enabled)
    .bind(settings.forward_query)
    .bind(&settings.utm.source)
    .bind(&settings.utm.medium)
    .bind(&settings.utm.campaign)
    .bind(&settings.utm.term)
    .bind(&settings.utm.content)
    .bind(settings.tags.as_slice())
    .bind(settings.expire_time.map(Timestamp::as_microsecond))
    .bind(expired)
    .bind(&settings.display_name)
    .bind(link.update_time.as_microsecond())
    .bind(link.version)
    .execute(transaction)
    .await?;
    Ok(())
}
