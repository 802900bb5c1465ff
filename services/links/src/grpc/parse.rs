//! From messages to domain types that can't be wrong.

use proto::links::v1 as api;
use rpc::time;

use crate::domain::{
    Change, Destination, Draft, Host, Redirect, Settings, Slug, Tags, Utm, Violation, display_name,
    expiry,
};

/// The fields of a link that an update may change, as in its mask.
const CHANGEABLE: [&str; 14] = [
    "destination_uri",
    "enabled",
    "redirect_status",
    "forward_query",
    "utm",
    "utm.source",
    "utm.medium",
    "utm.campaign",
    "utm.term",
    "utm.content",
    "tags",
    "expire_time",
    "expired_destination_uri",
    "display_name",
];

/// A link that is to be created.
pub(super) fn draft(link: api::Link) -> Result<Draft, Violation> {
    let host = match link.domain.as_str() {
        "" => None,
        text => Some(Host::parse_any("domain", text)?),
    };
    let slug = match link.slug.as_str() {
        "" => None,
        text => Some(Slug::parse(text)?),
    };
    let settings = Settings {
        destination: Destination::parse("destination_uri", &link.destination_uri)?,
        enabled: link.enabled.unwrap_or(true),
        redirect: redirect(link.redirect_status)?,
        forward_query: link.forward_query,
        utm: utm(link.utm)?,
        tags: Tags::parse(link.tags)?,
        expire_time: expire_time(link.expire_time.as_ref())?,
        expired_destination: expired_destination(&link.expired_destination_uri)?,
        display_name: display_name(link.display_name)?,
    };
    Ok(Draft { host, slug, settings })
}

/// The changes that an update asks for, by its mask or, without one, by what is set.
pub(super) fn changes(
    link: &api::Link,
    mask: Option<&prost_types::FieldMask>,
) -> Result<Vec<Change>, rpc::Error> {
    let mut changes = Vec::new();
    for field in rpc::mask::fields(mask, &CHANGEABLE, &populated(link))? {
        changes.push(change(link, field).map_err(|violation| super::invalid("link", &violation))?);
    }
    Ok(changes)
}

fn populated(link: &api::Link) -> Vec<&'static str> {
    [
        ("destination_uri", !link.destination_uri.is_empty()),
        ("enabled", link.enabled.is_some()),
        ("redirect_status", link.redirect_status != 0),
        ("forward_query", link.forward_query),
        ("utm", link.utm.is_some()),
        ("tags", !link.tags.is_empty()),
        ("expire_time", link.expire_time.is_some()),
        ("expired_destination_uri", !link.expired_destination_uri.is_empty()),
        ("display_name", !link.display_name.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, is_set)| is_set.then_some(field))
    .collect()
}

fn change(link: &api::Link, field: &str) -> Result<Change, Violation> {
    let utm = || utm(link.utm.clone());
    Ok(match field {
        "destination_uri" => {
            Change::Destination(Destination::parse("destination_uri", &link.destination_uri)?)
        }
        "enabled" => Change::Enabled(link.enabled.unwrap_or(true)),
        "redirect_status" => Change::Redirect(redirect(link.redirect_status)?),
        "forward_query" => Change::ForwardQuery(link.forward_query),
        "utm" => Change::Utm(utm()?),
        "utm.source" => Change::UtmSource(utm()?.source),
        "utm.medium" => Change::UtmMedium(utm()?.medium),
        "utm.campaign" => Change::UtmCampaign(utm()?.campaign),
        "utm.term" => Change::UtmTerm(utm()?.term),
        "utm.content" => Change::UtmContent(utm()?.content),
        "tags" => Change::Tags(Tags::parse(link.tags.clone())?),
        "expire_time" => Change::ExpireTime(expire_time(link.expire_time.as_ref())?),
        "expired_destination_uri" => {
            Change::ExpiredDestination(expired_destination(&link.expired_destination_uri)?)
        }
        "display_name" => Change::DisplayName(display_name(link.display_name.clone())?),
        other => unreachable!("`{other}` is not in CHANGEABLE"),
    })
}

fn redirect(status: i32) -> Result<Redirect, Violation> {
    match api::RedirectStatus::try_from(status) {
        Ok(api::RedirectStatus::Unspecified | api::RedirectStatus::Found) => Ok(Redirect::Found),
        Ok(api::RedirectStatus::TemporaryRedirect) => Ok(Redirect::Temporary),
        Ok(api::RedirectStatus::MovedPermanently) => Ok(Redirect::MovedPermanently),
        Ok(api::RedirectStatus::PermanentRedirect) => Ok(Redirect::Permanent),
        Err(_) => Err(Violation::new(
            "redirect_status",
            format!("must be one of 302, 307, 301 and 308 by its name; {status} is not known"),
        )),
    }
}

fn utm(given: Option<api::UtmParameters>) -> Result<Utm, Violation> {
    let Some(given) = given else { return Ok(Utm::default()) };
    let utm = Utm {
        source: given.source,
        medium: given.medium,
        campaign: given.campaign,
        term: given.term,
        content: given.content,
    };
    utm.checked()
}

fn expire_time(
    given: Option<&prost_types::Timestamp>,
) -> Result<Option<jiff::Timestamp>, Violation> {
    let Some(given) = given else { return Ok(None) };
    let time = time::from_proto("expire_time", given)
        .map_err(|_| Violation::new("expire_time", "must lie between the years 1 and 9999"))?;
    expiry(time).map(Some)
}

fn expired_destination(given: &str) -> Result<Option<Destination>, Violation> {
    match given {
        "" => Ok(None),
        text => Destination::parse("expired_destination_uri", text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> api::Link {
        api::Link { destination_uri: "https://e.com/".to_owned(), ..api::Link::default() }
    }

    fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    }

    #[test]
    fn a_draft_has_the_defaults_of_the_api() {
        let draft = draft(link()).unwrap();
        assert_eq!((draft.host, draft.slug), (None, None));
        assert!(draft.settings.enabled);
        assert_eq!(draft.settings.redirect, Redirect::Found);
    }

    #[test]
    fn each_field_of_a_draft_is_checked_under_its_name() {
        let cases: [(&str, api::Link); 9] = [
            ("domain", api::Link { domain: "a b".to_owned(), ..link() }),
            ("slug", api::Link { slug: "a/b".to_owned(), ..link() }),
            ("destination_uri", api::Link { destination_uri: String::new(), ..link() }),
            ("redirect_status", api::Link { redirect_status: 99, ..link() }),
            ("tags", api::Link { tags: vec![String::new()], ..link() }),
            ("display_name", api::Link { display_name: "x".repeat(201), ..link() }),
            (
                "expired_destination_uri",
                api::Link { expired_destination_uri: "x".to_owned(), ..link() },
            ),
            (
                "expire_time",
                api::Link {
                    expire_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                    ..link()
                },
            ),
            (
                "utm.term",
                api::Link {
                    utm: Some(api::UtmParameters { term: "x".repeat(129), ..Default::default() }),
                    ..link()
                },
            ),
        ];
        for (field, link) in cases {
            assert_eq!(draft(link).unwrap_err().field, field);
        }
    }

    #[test]
    fn without_a_mask_only_what_is_set_changes() {
        let found = changes(&link(), None).unwrap();
        assert!(matches!(found.as_slice(), [Change::Destination(_)]));
        let found =
            changes(&api::Link { enabled: Some(false), ..Default::default() }, None).unwrap();
        assert_eq!(found, [Change::Enabled(false)]);
    }

    #[test]
    fn a_mask_clears_what_it_names_and_the_message_leaves_out() {
        let found = changes(&link(), mask(&["tags", "expire_time", "enabled"]).as_ref()).unwrap();
        let cleared =
            [Change::Enabled(true), Change::Tags(Tags::default()), Change::ExpireTime(None)];
        assert_eq!(found, cleared);
    }

    #[test]
    fn a_mask_of_everything_names_every_field_and_each_can_be_read() {
        assert_eq!(changes(&link(), mask(&["*"]).as_ref()).unwrap().len(), CHANGEABLE.len());
        let error = changes(&link(), mask(&["slug"]).as_ref()).unwrap_err();
        assert_eq!(error.violations[0].field, "update_mask");
        assert!(changes(&api::Link::default(), mask(&["destination_uri"]).as_ref()).is_err());
    }
}
