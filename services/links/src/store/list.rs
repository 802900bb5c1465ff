//! Lists of links: filter, order, and the page behind a cursor.

use rpc::WorkspaceId;
use sqlx::{Postgres, QueryBuilder};

use super::rows::{LINK_COLUMNS, LinkRow};
use super::{Failure, Store};
use crate::domain::{Cursor, CursorKey, Filter, Link, Order, OrderField, Term};

/// What is listed.
pub(crate) struct Listing<'a> {
    pub workspace: WorkspaceId,
    pub filter: &'a Filter,
    pub order: Order,
    /// `None`: from the beginning.
    pub behind: Option<Cursor>,
    /// Links on the page, at most.
    pub size: usize,
}

impl Store {
    /// One page, and the cursor of the next one if there is more.
    pub(crate) async fn list_links(
        &self,
        listing: &Listing<'_>,
    ) -> Result<(Vec<Link>, Option<Cursor>), Failure> {
        let mut query = statement(listing);
        let rows = query.build_query_as::<LinkRow>().fetch_all(self.database.primary());
        let mut rows = self.database.observe("list_links", rows).await?;
        let more = rows.len() > listing.size;
        rows.truncate(listing.size);
        let links = rows.into_iter().map(Link::try_from).collect::<Result<Vec<_>, _>>()?;
        let next = links.last().filter(|_| more).map(|link| Cursor::behind(link, listing.order));
        Ok((links, next))
    }
}

/// Values are bound, never written into the text.
fn statement(listing: &Listing<'_>) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select ");
    query.push(LINK_COLUMNS);
    query.push(" from links.links where workspace_id = ").push_bind(listing.workspace.uuid());
    for term in listing.filter.terms() {
        match term {
            Term::Domain(host) => {
                query.push(" and domain = ").push_bind(host.to_ascii_lowercase());
            }
            Term::Slug(slug) => {
                query.push(" and (slug = ").push_bind(slug.clone());
                query.push(" or normalized_slug = ").push_bind(slug.to_ascii_lowercase());
                query.push(
                    " and domain in (select host from links.domains where not case_sensitive))",
                );
            }
            Term::Tag(tag) => {
                query.push(" and tags @> ").push_bind(vec![tag.clone()]);
            }
            Term::Enabled(enabled) => {
                query.push(" and enabled = ").push_bind(*enabled);
            }
            Term::CreatedFrom(micros) => {
                query.push(" and create_micros >= ").push_bind(*micros);
            }
            Term::CreatedBefore(micros) => {
                query.push(" and create_micros < ").push_bind(*micros);
            }
        }
    }
    let column = match listing.order.field {
        OrderField::CreateTime => "create_micros",
        OrderField::UpdateTime => "update_micros",
        OrderField::Slug => "slug",
    };
    let (comparison, direction) = if listing.order.descending { ("<", " desc") } else { (">", "") };
    if let Some(cursor) = &listing.behind {
        query.push(format_args!(" and ({column}, id) {comparison} ("));
        match &cursor.key {
            CursorKey::Time(micros) => query.push_bind(*micros),
            CursorKey::Slug(slug) => query.push_bind(slug.clone()),
        };
        query.push(", ").push_bind(cursor.id.uuid()).push(")");
    }
    query.push(format_args!(" order by {column}{direction}, id{direction} limit "));
    // One more than the page holds tells whether there is another one.
    query.push_bind(i64::try_from(listing.size).unwrap_or(i64::MAX).saturating_add(1));
    query
}
