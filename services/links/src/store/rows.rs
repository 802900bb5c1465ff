//! Rows as Postgres gives them, and what they are.

use jiff::Timestamp;
use rpc::{LinkId, WorkspaceId};
use sqlx::FromRow;
use uuid::Uuid;

use super::Failure;
use crate::domain::{Destination, Domain, Host, Link, Redirect, Route, Settings, Slug, Tags, Utm};

/// The columns of [`LinkRow`]. Named, so that a later column breaks no statement that is prepared.
pub(super) const LINK_COLUMNS: &str = "id, workspace_id, domain, slug, destination_uri, redirect_status, \
    enabled, forward_query, utm_source, utm_medium, utm_campaign, utm_term, utm_content, tags, expire_micros, \
    expired_destination_uri, display_name, create_micros, update_micros, version";

#[derive(Debug, FromRow)]
pub(super) struct LinkRow {
    id: Uuid,
    workspace_id: Uuid,
    domain: String,
    slug: String,
    destination_uri: String,
    redirect_status: i16,
    enabled: bool,
    forward_query: bool,
    utm_source: String,
    utm_medium: String,
    utm_campaign: String,
    utm_term: String,
    utm_content: String,
    tags: Vec<String>,
    expire_micros: Option<i64>,
    expired_destination_uri: String,
    display_name: String,
    create_micros: i64,
    update_micros: i64,
    version: i64,
}

impl TryFrom<LinkRow> for Link {
    type Error = Failure;

    fn try_from(row: LinkRow) -> Result<Self, Failure> {
        let corrupt = |what: &str| Failure::Corrupt(format!("link {}: {what}", row.id));
        let stored = |text: &str| {
            Destination::parse("destination_uri", text).map_err(|violation| corrupt(&violation.why))
        };
        let expired_destination = match row.expired_destination_uri.as_str() {
            "" => None,
            text => Some(stored(text)?),
        };
        let settings = Settings {
            destination: stored(&row.destination_uri)?,
            enabled: row.enabled,
            redirect: redirect(row.redirect_status)?,
            forward_query: row.forward_query,
            utm: Utm {
                source: row.utm_source,
                medium: row.utm_medium,
                campaign: row.utm_campaign,
                term: row.utm_term,
                content: row.utm_content,
            },
            tags: Tags::stored(row.tags),
            expire_time: row.expire_micros.map(time).transpose()?,
            expired_destination,
            display_name: row.display_name,
        };
        Ok(Link {
            id: LinkId::from(row.id),
            workspace: WorkspaceId::from(row.workspace_id),
            host: Host::stored(row.domain),
            slug: Slug::stored(row.slug),
            settings,
            create_time: time(row.create_micros)?,
            update_time: time(row.update_micros)?,
            version: row.version,
        })
    }
}

#[derive(Debug, FromRow)]
pub(super) struct DomainRow {
    pub(super) host: String,
    pub(super) workspace_id: Option<Uuid>,
    pub(super) case_sensitive: bool,
    pub(super) create_micros: i64,
}

impl TryFrom<DomainRow> for Domain {
    type Error = Failure;

    fn try_from(row: DomainRow) -> Result<Self, Failure> {
        Ok(Domain {
            host: Host::stored(row.host),
            workspace: row.workspace_id.map(WorkspaceId::from),
            case_sensitive: row.case_sensitive,
            create_time: time(row.create_micros)?,
        })
    }
}

/// A row of the directory beside the row of its domain; all but the domain's are null where nothing ever was.
#[derive(Debug, FromRow)]
pub(super) struct DirectoryRow {
    pub(super) case_sensitive: bool,
    pub(super) version: Option<i64>,
    link_id: Option<Uuid>,
    workspace_id: Option<Uuid>,
    destination_uri: Option<String>,
    redirect_status: Option<i16>,
    enabled: Option<bool>,
    forward_query: Option<bool>,
    expire_micros: Option<i64>,
    expired_destination_uri: Option<String>,
    utm_source: Option<String>,
    utm_medium: Option<String>,
    utm_campaign: Option<String>,
    utm_term: Option<String>,
    utm_content: Option<String>,
}

impl DirectoryRow {
    /// The route, unless nothing is there or a tombstone is.
    pub(super) fn into_route(self) -> Result<Option<Route>, Failure> {
        let Some(link) = self.link_id else { return Ok(None) };
        let route = || {
            Some(Route {
                link: LinkId::from(link),
                workspace: WorkspaceId::from(self.workspace_id?),
                destination_uri: self.destination_uri?,
                redirect: redirect(self.redirect_status?).ok()?,
                enabled: self.enabled?,
                forward_query: self.forward_query?,
                expire_unix_micros: self.expire_micros?,
                expired_destination_uri: self.expired_destination_uri?,
                utm: Utm {
                    source: self.utm_source?,
                    medium: self.utm_medium?,
                    campaign: self.utm_campaign?,
                    term: self.utm_term?,
                    content: self.utm_content?,
                },
            })
        };
        match route() {
            Some(route) => Ok(Some(route)),
            None => Err(Failure::Corrupt(format!("directory row of link {link}: not whole"))),
        }
    }
}

fn redirect(code: i16) -> Result<Redirect, Failure> {
    Redirect::from_code(code).ok_or_else(|| Failure::Corrupt(format!("redirect status {code}")))
}

fn time(micros: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(micros)
        .map_err(|_| Failure::Corrupt(format!("time {micros} µs since 1970")))
}
