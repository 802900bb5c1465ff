//! Creating links, one or ten thousand, in a handful of statements and one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use pg::requests::Request;
use rpc::{LinkId, WorkspaceId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::directory::{self, Place};
use super::{Failure, Outcome, Store};
use crate::domain::{Draft, Error, Host, Link, Route, Slug, Violation};

/// How often a random slug is drawn before the domain is called full.
const RANDOM_DRAWS_MAX: u32 = 8;

/// Who creates, and when.
pub(crate) struct Creation<'a> {
    pub workspace: WorkspaceId,
    pub request: Option<Request<'a>>,
    pub now: Timestamp,
}

/// A draft on its way to a place.
struct Pending<'a> {
    index: usize,
    draft: &'a Draft,
    host: &'a Host,
    case_sensitive: bool,
    slug: Slug,
}

impl Pending<'_> {
    fn place(&self) -> Place {
        (self.host.as_str().to_owned(), self.slug.normalized(self.case_sensitive))
    }
}

impl Store {
    /// Creates each draft on its own: results come in the drafts' order, and one that fails leaves the others alone. What
    /// `response` makes of the results is kept under the request id; `None` of it undoes everything.
    pub(crate) async fn create_links(
        &self,
        creation: &Creation<'_>,
        drafts: &[Result<Draft, Error>],
        response: impl FnOnce(&[Result<Link, Error>]) -> Option<Vec<u8>>,
    ) -> Result<Outcome<Vec<Result<Link, Error>>>, Failure> {
        let now_micros = creation.now.as_microsecond();
        let mut transaction = self.database.primary().begin().await?;
        let request = creation.request.as_ref();
        if let Some(response) = self.claim(&mut transaction, request, now_micros).await? {
            return Ok(Outcome::Replayed(response));
        }
        let mut results: Vec<Result<Option<Link>, Error>> =
            drafts.iter().map(|draft| draft.as_ref().map(|_| None).map_err(Clone::clone)).collect();

        let placeable = self.placeable(&mut transaction, creation, drafts, &mut results).await?;
        let created = place(&mut transaction, creation, placeable, &mut results).await?;
        insert(&mut transaction, &created).await?;
        let changes = created
            .iter()
            .map(|(place, link)| directory::change(place, link.version, Some(&link.route())));
        self.outbox.append(&mut transaction, changes.collect()).await?;

        let results: Vec<Result<Link, Error>> = results
            .into_iter()
            .map(|result| result.map(|link| link.expect("what has no error has been placed")))
            .collect();
        let Some(response) = response(&results) else {
            transaction.rollback().await?;
            return Ok(Outcome::Done(results));
        };
        self.complete(&mut transaction, request, || response).await?;
        self.database.observe("create_links", transaction.commit()).await?;
        self.outbox.committed();
        Ok(Outcome::Done(results))
    }

    /// The drafts whose domain the workspace may use and whose destinations are not on link domains.
    async fn placeable<'a>(
        &'a self,
        transaction: &mut PgConnection,
        creation: &Creation<'_>,
        drafts: &'a [Result<Draft, Error>],
        results: &mut [Result<Option<Link>, Error>],
    ) -> Result<Vec<Pending<'a>>, Failure> {
        let valid =
            || drafts.iter().enumerate().filter_map(|(at, draft)| Some((at, draft.as_ref().ok()?)));
        let hosts: HashSet<&Host> =
            valid().map(|(_, draft)| draft.host.as_ref().unwrap_or(&self.shared)).collect();
        let usable = self.usable_domains(transaction, creation.workspace, &hosts).await?;
        let targets: HashSet<&str> = valid()
            .flat_map(|(_, draft)| draft.settings.destinations())
            .map(|(_, destination)| destination.host())
            .collect();
        let link_hosts = link_hosts(transaction, targets).await?;

        let mut random = rand::rng();
        let mut pending = Vec::with_capacity(drafts.len());
        for (index, draft) in valid() {
            let host = draft.host.as_ref().unwrap_or(&self.shared);
            let Some(case_sensitive) = usable.get(host.as_str()) else {
                let workspace = creation.workspace;
                let name = format!("workspaces/{workspace}/domains/{host}");
                results[index] = Err(Error::NotFound(name));
                continue;
            };
            let own =
                draft.settings.destinations().find(|(_, uri)| link_hosts.contains(uri.host()));
            if let Some((field, destination)) = own {
                results[index] = Err(on_link_domain(field, destination.host()).into());
                continue;
            }
            let slug = draft.slug.clone().unwrap_or_else(|| Slug::random(&mut random));
            pending.push(Pending { index, draft, host, case_sensitive: *case_sensitive, slug });
        }
        Ok(pending)
    }

    /// Which of the hosts the workspace may create links under, with their case rules. Its own ones are locked against
    /// deletion; the shared one never goes away, and a lock on it would be one row that everyone writes.
    async fn usable_domains(
        &self,
        transaction: &mut PgConnection,
        workspace: WorkspaceId,
        hosts: &HashSet<&Host>,
    ) -> Result<HashMap<String, bool>, Failure> {
        let names: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
        let statement = if hosts.iter().all(|host| **host == self.shared) {
            "select host, case_sensitive from links.domains
             where host = any($1) and (workspace_id = $2 or workspace_id is null)"
        } else {
            "select host, case_sensitive from links.domains
             where host = any($1) and (workspace_id = $2 or workspace_id is null)
             order by host for key share"
        };
        let rows: Vec<(String, bool)> = sqlx::query_as(statement)
            .bind(names)
            .bind(workspace.uuid())
            .fetch_all(transaction)
            .await?;
        Ok(rows.into_iter().collect())
    }
}

/// Which of the hosts are link domains, whosever.
pub(super) async fn link_hosts(
    connection: &mut PgConnection,
    hosts: HashSet<&str>,
) -> Result<HashSet<String>, Failure> {
    let rows: Vec<(String,)> =
        sqlx::query_as("select host from links.domains where host = any($1)")
            .bind(hosts.into_iter().collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(host,)| host).collect())
}

/// The refusal of a destination that would lead from link to link.
pub(super) fn on_link_domain(field: &'static str, host: &str) -> Violation {
    Violation::new(field, format!("must not be on a link domain, is on `{host}`"))
}

/// Gives each pending draft its place in the directory, or the error that the slug is taken.
async fn place(
    transaction: &mut PgConnection,
    creation: &Creation<'_>,
    mut pending: Vec<Pending<'_>>,
    results: &mut [Result<Option<Link>, Error>],
) -> Result<Vec<(Place, Link)>, Failure> {
    let now = Timestamp::from_microsecond(creation.now.as_microsecond())
        .expect("it came from a timestamp");
    let mut created: Vec<(Place, Link)> = Vec::with_capacity(pending.len());
    let mut held: HashSet<Place> = HashSet::with_capacity(pending.len());
    for draw in 1..=RANDOM_DRAWS_MAX {
        // Sorted by place: the order in which the rows are locked.
        let mut round: BTreeMap<Place, (Pending<'_>, Route)> = BTreeMap::new();
        let mut again = Vec::new();
        for item in pending {
            let place = item.place();
            if held.contains(&place) || round.contains_key(&place) {
                again.push(item);
                continue;
            }
            let route = Route::of(LinkId::new(), creation.workspace, &item.draft.settings);
            round.insert(place, (item, route));
        }
        let (items, routes): (Vec<_>, Vec<_>) =
            round.into_iter().map(|(place, (item, route))| (item, (place, route))).unzip();
        let versions = directory::take(transaction, &routes, now.as_microsecond()).await?;
        for (item, (place, route)) in items.into_iter().zip(routes) {
            let Some(version) = versions.get(&place) else {
                again.push(item);
                continue;
            };
            let link = Link {
                id: route.link,
                workspace: creation.workspace,
                host: item.host.clone(),
                slug: item.slug,
                settings: item.draft.settings.clone(),
                create_time: now,
                update_time: now,
                version: *version,
            };
            results[item.index] = Ok(Some(link.clone()));
            held.insert(place.clone());
            created.push((place, link));
        }
        pending = Vec::new();
        for item in again {
            if item.draft.slug.is_some() || draw == RANDOM_DRAWS_MAX {
                let taken =
                    Error::SlugTaken { host: item.host.to_string(), slug: item.slug.to_string() };
                results[item.index] = Err(taken);
                continue;
            }
            pending.push(Pending { slug: Slug::random(&mut rand::rng()), ..item });
        }
        if pending.is_empty() {
            break;
        }
    }
    Ok(created)
}

/// Writes the rows of links that have their place.
async fn insert(transaction: &mut PgConnection, created: &[(Place, Link)]) -> Result<(), Failure> {
    let column = |text: fn(&Link) -> &str| -> Vec<&str> {
        created.iter().map(|(_, link)| text(link)).collect()
    };
    let settings = || created.iter().map(|(_, link)| &link.settings);
    // An array of arrays would have to be a rectangle. No tag holds a control character.
    let tags: Vec<String> = settings().map(|one| one.tags.as_slice().join("\u{1f}")).collect();
    let expiry = settings().map(|one| one.expire_time.map(Timestamp::as_microsecond));
    let expired = |link: &Link| -> String {
        link.settings
            .expired_destination
            .as_ref()
            .map_or_else(String::new, |uri| uri.as_given().to_owned())
    };
    sqlx::query(
        "insert into links.links (id, workspace_id, domain, slug, normalized_slug, destination_uri,
             redirect_status, enabled, forward_query, utm_source, utm_medium, utm_campaign, utm_term,
             utm_content, tags, expire_micros, expired_destination_uri, display_name, create_micros,
             update_micros, version)
         select id, workspace_id, domain, slug, normalized_slug, destination_uri, redirect_status, enabled,
             forward_query, utm_source, utm_medium, utm_campaign, utm_term, utm_content,
             string_to_array(tags, E'\\x1f'), expire_micros, expired_destination_uri, display_name,
             create_micros, create_micros, version
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
             $7::smallint[], $8::boolean[], $9::boolean[], $10::text[], $11::text[], $12::text[],
             $13::text[], $14::text[], $15::text[], $16::bigint[], $17::text[], $18::text[],
             $19::bigint[], $20::bigint[])
             as added (id, workspace_id, domain, slug, normalized_slug, destination_uri, redirect_status,
                 enabled, forward_query, utm_source, utm_medium, utm_campaign, utm_term, utm_content, tags,
                 expire_micros, expired_destination_uri, display_name, create_micros, version)",
    )
    .bind(created.iter().map(|(_, link)| link.id.uuid()).collect::<Vec<Uuid>>())
    .bind(created.iter().map(|(_, link)| link.workspace.uuid()).collect::<Vec<Uuid>>())
    .bind(column(|link| link.host.as_str()))
    .bind(column(|link| link.slug.as_str()))
    .bind(created.iter().map(|((_, slug), _)| slug.as_str()).collect::<Vec<_>>())
    .bind(column(|link| link.settings.destination.as_given()))
    .bind(settings().map(|one| one.redirect.code().cast_signed()).collect::<Vec<i16>>())
    .bind(settings().map(|one| one.enabled).collect::<Vec<_>>())
    .bind(settings().map(|one| one.forward_query).collect::<Vec<_>>())
    .bind(column(|link| &link.settings.utm.source))
    .bind(column(|link| &link.settings.utm.medium))
    .bind(column(|link| &link.settings.utm.campaign))
    .bind(column(|link| &link.settings.utm.term))
    .bind(column(|link| &link.settings.utm.content))
    .bind(tags)
    .bind(expiry.collect::<Vec<Option<i64>>>())
    .bind(created.iter().map(|(_, link)| expired(link)).collect::<Vec<_>>())
    .bind(column(|link| &link.settings.display_name))
    .bind(created.iter().map(|(_, link)| link.create_time.as_microsecond()).collect::<Vec<_>>())
    .bind(created.iter().map(|(_, link)| link.version).collect::<Vec<_>>())
    .execute(transaction)
    .await?;
    Ok(())
}
