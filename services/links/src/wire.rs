//! What this service's types are on the wire.

use prost::Message as _;
use proto::events::v1::LinkChanged;
use proto::links::v1 as api;
use rpc::time;

use crate::domain::{Domain, Link, Redirect, Route, Utm};

/// The encoded value of a change; without a route, of a deletion.
pub(crate) fn link_changed(domain: &str, slug: &str, version: i64, to: Option<&Route>) -> Vec<u8> {
    let changed = LinkChanged {
        domain: domain.to_owned(),
        slug: slug.to_owned(),
        version,
        route: to.map(route),
    };
    changed.encode_to_vec()
}

/// A route.
pub(crate) fn route(route: &Route) -> api::Route {
    api::Route {
        link_id: route.link.as_bytes().to_vec(),
        workspace_id: route.workspace.as_bytes().to_vec(),
        destination_uri: route.destination_uri.clone(),
        status: u32::from(route.redirect.code()),
        enabled: route.enabled,
        forward_query: route.forward_query,
        expire_unix_micros: route.expire_unix_micros,
        expired_destination_uri: route.expired_destination_uri.clone(),
        utm: utm(&route.utm),
    }
}

/// A link; `origin` says how its domain is written in front of its slug.
pub(crate) fn link(link: &Link, origin: &Origin) -> api::Link {
    let settings = &link.settings;
    let expired = settings.expired_destination.as_ref();
    api::Link {
        name: link.name(),
        domain: link.host.to_string(),
        slug: link.slug.to_string(),
        destination_uri: settings.destination.as_given().to_owned(),
        short_uri: origin.short_uri(link),
        enabled: Some(settings.enabled),
        redirect_status: i32::from(redirect(settings.redirect)),
        forward_query: settings.forward_query,
        utm: utm(&settings.utm),
        tags: settings.tags.as_slice().to_vec(),
        expire_time: settings.expire_time.map(time::to_proto),
        expired_destination_uri: expired.map_or_else(String::new, |uri| uri.as_given().to_owned()),
        display_name: settings.display_name.clone(),
        create_time: Some(time::to_proto(link.create_time)),
        update_time: Some(time::to_proto(link.update_time)),
        etag: link.etag(),
    }
}

/// A domain of a workspace.
pub(crate) fn domain(domain: &Domain) -> api::Domain {
    let parent =
        domain.workspace.map_or_else(String::new, |workspace| format!("workspaces/{workspace}/"));
    api::Domain {
        name: format!("{parent}domains/{}", domain.host),
        host: domain.host.to_string(),
        case_sensitive: domain.case_sensitive,
        create_time: Some(time::to_proto(domain.create_time)),
    }
}

/// Scheme and port of what people click.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub scheme: &'static str,
    /// `None`: the scheme's own.
    pub port: Option<u16>,
}

impl Origin {
    fn short_uri(&self, link: &Link) -> String {
        let Self { scheme, port } = self;
        match port {
            Some(port) => format!("{scheme}://{}:{port}/{}", link.host, link.slug),
            None => format!("{scheme}://{}/{}", link.host, link.slug),
        }
    }
}

fn utm(utm: &Utm) -> Option<api::UtmParameters> {
    let parameters = api::UtmParameters {
        source: utm.source.clone(),
        medium: utm.medium.clone(),
        campaign: utm.campaign.clone(),
        term: utm.term.clone(),
        content: utm.content.clone(),
    };
    (*utm != Utm::default()).then_some(parameters)
}

fn redirect(redirect: Redirect) -> api::RedirectStatus {
    match redirect {
        Redirect::Found => api::RedirectStatus::Found,
        Redirect::Temporary => api::RedirectStatus::TemporaryRedirect,
        Redirect::MovedPermanently => api::RedirectStatus::MovedPermanently,
        Redirect::Permanent => api::RedirectStatus::PermanentRedirect,
    }
}
