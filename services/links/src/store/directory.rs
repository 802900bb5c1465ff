//! The directory: what is, or was, at each (domain, slug).
//!
//! Every change here adds its row to the outbox, under the lock that the change took on the directory's row.

use std::collections::HashMap;

use pg::outbox::Change;
use sqlx::PgConnection;

use super::rows::DirectoryRow;
use super::{Failure, Store};
use crate::domain::{Host, Route};
use crate::wire;

/// What a (domain, slug) leads to, as read on the primary.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub route: Option<Route>,
    /// 0 if there never was anything.
    pub version: i64,
    pub normalized_slug: String,
    pub domain_known: bool,
    pub case_sensitive: bool,
}

/// A place in the directory: host and normalised slug.
pub(super) type Place = (String, String);

/// Who changes a row of the directory that holds a link, and when.
pub(super) struct At<'a> {
    pub host: &'a Host,
    pub normalized_slug: &'a str,
    pub now_micros: i64,
}

impl Store {
    /// Reads the directory, for any text as slug.
    pub(crate) async fn resolve(&self, domain: &str, slug: &str) -> Result<Resolved, Failure> {
        // Postgres takes no NUL; neither text can name anything then.
        let storable =
            |text: &str| if text.contains('\0') { String::new() } else { text.to_owned() };
        let lower = slug.to_ascii_lowercase();
        let statement = sqlx::query_as(
            "select d.case_sensitive, at.version, at.link_id, at.workspace_id, at.destination_uri,
                 at.redirect_status, at.enabled, at.forward_query, at.expire_micros,
                 at.expired_destination_uri, at.utm_source, at.utm_medium, at.utm_campaign, at.utm_term,
                 at.utm_content
             from links.domains d
             left join links.directory at
                 on at.domain = d.host and at.slug = case when d.case_sensitive then $2 else $3 end
             where d.host = $1",
        )
        .bind(storable(domain))
        .bind(storable(slug))
        .bind(storable(&lower))
        .fetch_optional(self.database.primary());
        let row: Option<DirectoryRow> = self.database.observe("resolve", statement).await?;
        let Some(row) = row else {
            return Ok(Resolved {
                route: None,
                version: 0,
                normalized_slug: lower,
                domain_known: false,
                case_sensitive: false,
            });
        };
        let case_sensitive = row.case_sensitive;
        Ok(Resolved {
            version: row.version.unwrap_or(0),
            normalized_slug: if case_sensitive { slug.to_owned() } else { lower },
            domain_known: true,
            case_sensitive,
            route: row.into_route()?,
        })
    }
}

/// Takes each place that no link holds; returns the versions of those taken. `routes` are sorted by place, so that two
/// calls lock what they share in one order, and no place comes twice.
pub(super) async fn take(
    transaction: &mut PgConnection,
    routes: &[(Place, Route)],
    now_micros: i64,
) -> Result<HashMap<Place, i64>, Failure> {
    debug_assert!(routes.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, and no place twice");
    let column = |text: fn(&Route) -> &str| -> Vec<&str> {
        routes.iter().map(|(_, route)| text(route)).collect()
    };
    let taken: Vec<(String, String, i64)> = sqlx::query_as(
        "insert into links.directory as d (domain, slug, version, link_id, workspace_id, destination_uri,
             redirect_status, enabled, forward_query, expire_micros, expired_destination_uri,
             utm_source, utm_medium, utm_campaign, utm_term, utm_content)
         select place.domain, place.slug, $1, place.link_id, place.workspace_id, place.destination_uri,
             place.redirect_status, place.enabled, place.forward_query, place.expire_micros,
             place.expired_destination_uri, place.utm_source, place.utm_medium, place.utm_campaign,
             place.utm_term, place.utm_content
         from unnest($2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::smallint[],
             $8::boolean[], $9::boolean[], $10::bigint[], $11::text[], $12::text[], $13::text[],
             $14::text[], $15::text[], $16::text[])
             with ordinality as place (domain, slug, link_id, workspace_id, destination_uri,
                 redirect_status, enabled, forward_query, expire_micros, expired_destination_uri,
                 utm_source, utm_medium, utm_campaign, utm_term, utm_content, nth)
         order by place.nth
         on conflict (domain, slug) do update set
             version = greatest(d.version + 1, excluded.version),
             link_id = excluded.link_id, workspace_id = excluded.workspace_id,
             destination_uri = excluded.destination_uri, redirect_status = excluded.redirect_status,
             enabled = excluded.enabled, forward_query = excluded.forward_query,
             expire_micros = excluded.expire_micros,
             expired_destination_uri = excluded.expired_destination_uri,
             utm_source = excluded.utm_source, utm_medium = excluded.utm_medium,
             utm_campaign = excluded.utm_campaign, utm_term = excluded.utm_term,
             utm_content = excluded.utm_content
         where d.link_id is null
         returning d.domain, d.slug, d.version",
    )
    .bind(now_micros)
    .bind(routes.iter().map(|((domain, _), _)| domain.as_str()).collect::<Vec<_>>())
    .bind(routes.iter().map(|((_, slug), _)| slug.as_str()).collect::<Vec<_>>())
    .bind(routes.iter().map(|(_, route)| route.link.uuid()).collect::<Vec<_>>())
    .bind(routes.iter().map(|(_, route)| route.workspace.uuid()).collect::<Vec<_>>())
    .bind(column(|route| &route.destination_uri))
    .bind(routes.iter().map(|(_, route)| route.redirect.code().cast_signed()).collect::<Vec<_>>())
    .bind(routes.iter().map(|(_, route)| route.enabled).collect::<Vec<_>>())
    .bind(routes.iter().map(|(_, route)| route.forward_query).collect::<Vec<_>>())
    .bind(routes.iter().map(|(_, route)| route.expire_unix_micros).collect::<Vec<_>>())
    .bind(column(|route| &route.expired_destination_uri))
    .bind(column(|route| &route.utm.source))
    .bind(column(|route| &route.utm.medium))
    .bind(column(|route| &route.utm.campaign))
    .bind(column(|route| &route.utm.term))
    .bind(column(|route| &route.utm.content))
    .fetch_all(transaction)
    .await?;
    Ok(taken.into_iter().map(|(domain, slug, version)| ((domain, slug), version)).collect())
}

/// Writes the new route of a link that is there; returns the version.
pub(super) async fn replace(
    transaction: &mut PgConnection,
    at: &At<'_>,
    route: &Route,
) -> Result<i64, Failure> {
    let (version,): (i64,) = sqlx::query_as(
        "update links.directory set version = greatest(version + 1, $1), destination_uri = $5,
             redirect_status = $6, enabled = $7, forward_query = $8, expire_micros = $9,
             expired_destination_uri = $10, utm_source = $11, utm_medium = $12, utm_campaign = $13,
             utm_term = $14, utm_content = $15
         where domain = $2 and slug = $3 and link_id = $4 returning version",
    )
    .bind(at.now_micros)
    .bind(at.host.as_str())
    .bind(at.normalized_slug)
    .bind(route.link.uuid())
    .bind(&route.destination_uri)
    .bind(route.redirect.code().cast_signed())
    .bind(route.enabled)
    .bind(route.forward_query)
    .bind(route.expire_unix_micros)
    .bind(&route.expired_destination_uri)
    .bind(&route.utm.source)
    .bind(&route.utm.medium)
    .bind(&route.utm.campaign)
    .bind(&route.utm.term)
    .bind(&route.utm.content)
    .fetch_one(transaction)
    .await?;
    Ok(version)
}

/// Leaves a tombstone where a link was; returns its version.
pub(super) async fn clear(transaction: &mut PgConnection, at: &At<'_>) -> Result<i64, Failure> {
    let (version,): (i64,) = sqlx::query_as(
        "update links.directory set version = greatest(version + 1, $1), link_id = null, workspace_id = null,
             destination_uri = null, redirect_status = null, enabled = null, forward_query = null,
             expire_micros = null, expired_destination_uri = null, utm_source = null, utm_medium = null,
             utm_campaign = null, utm_term = null, utm_content = null
         where domain = $2 and slug = $3 returning version",
    )
    .bind(at.now_micros)
    .bind(at.host.as_str())
    .bind(at.normalized_slug)
    .fetch_one(transaction)
    .await?;
    Ok(version)
}

/// The outbox's row of a change.
pub(super) fn change(place: &Place, version: i64, route: Option<&Route>) -> Change {
    let (domain, slug) = place;
    Change {
        topic: bus::topics::LINK_CHANGES.name.into(),
        key: format!("{domain}/{slug}").into_bytes(),
        value: wire::link_changed(domain, slug, version, route),
    }
}
