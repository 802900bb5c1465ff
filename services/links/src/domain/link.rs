//! Links: what can be set, what can be changed, and what a redirect needs of it all.

use jiff::Timestamp;
use rpc::{LinkId, WorkspaceId};

use super::{Destination, Host, Slug, Utm, Violation};

const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 50;
const DISPLAY_NAME_CHARS_MAX: usize = 200;

/// The HTTP status that a link redirects with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Redirect {
    #[default]
    Found,
    Temporary,
    MovedPermanently,
    Permanent,
}

impl Redirect {
    /// As on the status line, and as stored.
    pub(crate) fn code(self) -> u16 {
        match self {
            Redirect::Found => 302,
            Redirect::Temporary => 307,
            Redirect::MovedPermanently => 301,
            Redirect::Permanent => 308,
        }
    }

    /// The redirect that is stored as this code.
    pub(crate) fn from_code(code: i16) -> Option<Self> {
        match code {
            302 => Some(Redirect::Found),
            307 => Some(Redirect::Temporary),
            301 => Some(Redirect::MovedPermanently),
            308 => Some(Redirect::Permanent),
            _ => None,
        }
    }
}

/// Tags in the order given, without doubles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags(Vec<String>);

impl Tags {
    /// Checks what a caller sent.
    pub(crate) fn parse(given: Vec<String>) -> Result<Self, Violation> {
        if given.len() > TAGS_MAX {
            let count = given.len();
            return Err(Violation::new("tags", format!("must be at most {TAGS_MAX}, are {count}")));
        }
        let mut tags: Vec<String> = Vec::with_capacity(given.len());
        for tag in given {
            if tag.is_empty() {
                return Err(Violation::new(
                    "tags",
                    format!("must each have 1 to {TAG_CHARS_MAX} characters, one has none"),
                ));
            }
            super::at_most_chars("tags", &tag, TAG_CHARS_MAX)?;
            super::without_control("tags", &tag)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Self(tags))
    }

    /// Tags as the store holds them.
    pub(crate) fn stored(tags: Vec<String>) -> Self {
        Self(tags)
    }

    /// The tags.
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// Checks a link's display name.
pub(crate) fn display_name(text: String) -> Result<String, Violation> {
    super::at_most_chars("display_name", &text, DISPLAY_NAME_CHARS_MAX)?;
    super::without_control("display_name", &text)?;
    Ok(text)
}

/// Checks a link's time of expiry, and cuts it to the microseconds that are kept. It may lie in the past: links are
/// imported from elsewhere.
pub(crate) fn expiry(time: Timestamp) -> Result<Timestamp, Violation> {
    match Timestamp::from_microsecond(time.as_microsecond()) {
        // 0 means "never" where a route is encoded.
        Ok(time) if time > Timestamp::UNIX_EPOCH => Ok(time),
        _ => Err(Violation::new("expire_time", "must be after 1970-01-01T00:00:00Z")),
    }
}

/// All of a link that its owner may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub destination: Destination,
    pub enabled: bool,
    pub redirect: Redirect,
    pub forward_query: bool,
    pub utm: Utm,
    pub tags: Tags,
    pub expire_time: Option<Timestamp>,
    pub expired_destination: Option<Destination>,
    pub display_name: String,
}

/// One field of [`Settings`] set anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Destination(Destination),
    Enabled(bool),
    Redirect(Redirect),
    ForwardQuery(bool),
    Utm(Utm),
    UtmSource(String),
    UtmMedium(String),
    UtmCampaign(String),
    UtmTerm(String),
    UtmContent(String),
    Tags(Tags),
    ExpireTime(Option<Timestamp>),
    ExpiredDestination(Option<Destination>),
    DisplayName(String),
}

impl Change {
    /// The destination that the change brings, which the store must compare with the link domains.
    pub(crate) fn destination(&self) -> Option<(&'static str, &Destination)> {
        match self {
            Change::Destination(destination) => Some(("destination_uri", destination)),
            Change::ExpiredDestination(Some(destination)) => {
                Some(("expired_destination_uri", destination))
            }
            Change::ExpiredDestination(None)
            | Change::Enabled(_)
            | Change::Redirect(_)
            | Change::ForwardQuery(_)
            | Change::Utm(_)
            | Change::UtmSource(_)
            | Change::UtmMedium(_)
            | Change::UtmCampaign(_)
            | Change::UtmTerm(_)
            | Change::UtmContent(_)
            | Change::Tags(_)
            | Change::ExpireTime(_)
            | Change::DisplayName(_) => None,
        }
    }
}

impl Settings {
    /// Makes a change.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Destination(destination) => self.destination = destination,
            Change::Enabled(enabled) => self.enabled = enabled,
            Change::Redirect(redirect) => self.redirect = redirect,
            Change::ForwardQuery(forward) => self.forward_query = forward,
            Change::Utm(utm) => self.utm = utm,
            Change::UtmSource(source) => self.utm.source = source,
            Change::UtmMedium(medium) => self.utm.medium = medium,
            Change::UtmCampaign(campaign) => self.utm.campaign = campaign,
            Change::UtmTerm(term) => self.utm.term = term,
            Change::UtmContent(content) => self.utm.content = content,
            Change::Tags(tags) => self.tags = tags,
            Change::ExpireTime(time) => self.expire_time = time,
            Change::ExpiredDestination(destination) => self.expired_destination = destination,
            Change::DisplayName(name) => self.display_name = name,
        }
    }

    /// Both destinations, under their fields' names.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = (&'static str, &Destination)> {
        let expired = self.expired_destination.as_ref().map(|uri| ("expired_destination_uri", uri));
        [("destination_uri", &self.destination)].into_iter().chain(expired)
    }
}

/// A link that is to be created: where, under which slug unless a random one, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// `None` for the shared domain.
    pub host: Option<Host>,
    /// `None` for a random one.
    pub slug: Option<Slug>,
    pub settings: Settings,
}

/// A link that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub id: LinkId,
    pub workspace: WorkspaceId,
    pub host: Host,
    pub slug: Slug,
    pub settings: Settings,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// Grows with every change of what is at its (domain, slug).
    pub version: i64,
}

impl Link {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        format!("workspaces/{}/links/{}", self.workspace, self.id)
    }

    /// Changes with every change.
    pub(crate) fn etag(&self) -> String {
        format!("{:x}", self.version)
    }

    /// What a redirect needs of it.
    pub(crate) fn route(&self) -> Route {
        Route::of(self.id, self.workspace, &self.settings)
    }
}

/// What a redirect needs: a row of the directory, and the value of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub link: LinkId,
    pub workspace: WorkspaceId,
    /// With the UTM parameters in its query.
    pub destination_uri: String,
    pub redirect: Redirect,
    pub enabled: bool,
    pub forward_query: bool,
    /// Microseconds since 1970; 0: never.
    pub expire_unix_micros: i64,
    /// Empty: an expired link answers 410.
    pub expired_destination_uri: String,
    pub utm: Utm,
}

impl Route {
    /// The route of a link with these settings.
    pub(crate) fn of(link: LinkId, workspace: WorkspaceId, settings: &Settings) -> Self {
        let expired = settings.expired_destination.as_ref();
        Self {
            link,
            workspace,
            destination_uri: settings.destination.with_utm(&settings.utm),
            redirect: settings.redirect,
            enabled: settings.enabled,
            forward_query: settings.forward_query,
            expire_unix_micros: settings.expire_time.map_or(0, Timestamp::as_microsecond),
            expired_destination_uri: expired
                .map_or_else(String::new, |uri| uri.with_utm(&Utm::default())),
            utm: settings.utm.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            destination: Destination::parse("destination_uri", "https://e.com/a").expect("valid"),
            enabled: true,
            redirect: Redirect::Found,
            forward_query: false,
            utm: Utm::default(),
            tags: Tags::default(),
            expire_time: None,
            expired_destination: None,
            display_name: String::new(),
        }
    }

    #[test]
    fn tags_keep_their_order_and_lose_their_doubles() {
        let given = ["b", "a", "b", "A"].map(str::to_owned).to_vec();
        assert_eq!(Tags::parse(given).expect("valid").as_slice(), ["b", "a", "A"]);
    }

    #[test]
    fn tags_outside_their_limits_are_refused_with_the_limit() {
        let cases = [
            (vec!["x".to_owned(); 21], "at most 20, are 21"),
            (vec![String::new()], "1 to 50 characters"),
            (vec!["x".repeat(51)], "at most 50 characters, has 51"),
            (vec!["a\u{1f}b".to_owned()], "control characters"),
        ];
        for (given, part) in cases {
            let violation = Tags::parse(given).expect_err(part);
            assert_eq!(violation.field, "tags");
            assert!(violation.why.contains(part), "{}", violation.why);
        }
    }

    #[test]
    fn a_display_name_has_at_most_200_characters() {
        assert!(display_name("ü".repeat(200)).is_ok());
        let violation = display_name("x".repeat(201)).expect_err("too long");
        assert!(violation.why.contains("at most 200 characters, has 201"));
    }

    #[test]
    fn an_expiry_is_after_1970_and_kept_to_the_microsecond() {
        let time = Timestamp::new(1_800_000_000, 123_456_789).expect("in range");
        assert_eq!(expiry(time).expect("in range").subsec_nanosecond(), 123_456_000);
        assert!(expiry(Timestamp::UNIX_EPOCH).is_err());
        assert!(expiry(Timestamp::MIN).is_err());
    }

    #[test]
    fn a_change_sets_its_field_and_no_other() {
        let mut changed = settings();
        changed.apply(Change::UtmSource("s".to_owned()));
        changed.apply(Change::Enabled(false));
        let mut expected = settings();
        expected.utm.source = "s".to_owned();
        expected.enabled = false;
        assert_eq!(changed, expected);
        changed.apply(Change::Utm(Utm::default()));
        changed.apply(Change::Enabled(true));
        assert_eq!(changed, settings());
    }

    #[test]
    fn a_route_has_all_that_a_redirect_needs() {
        let mut settings = settings();
        settings.utm.source = "mail".to_owned();
        settings.expire_time =
            Some(Timestamp::from_microsecond(1_800_000_000_000_001).expect("in range"));
        settings.expired_destination = Destination::parse("x", "https://over.example").ok();
        settings.redirect = Redirect::Permanent;
        let (link, workspace) = (LinkId::new(), WorkspaceId::new());
        let route = Route::of(link, workspace, &settings);
        assert_eq!(route.destination_uri, "https://e.com/a?utm_source=mail");
        assert_eq!(route.expired_destination_uri, "https://over.example/");
        assert_eq!(route.expire_unix_micros, 1_800_000_000_000_001);
        assert_eq!(route.redirect.code(), 308);
    }

    #[test]
    fn a_redirect_reads_back_from_its_code() {
        for redirect in
            [Redirect::Found, Redirect::Temporary, Redirect::MovedPermanently, Redirect::Permanent]
        {
            let code = i16::try_from(redirect.code()).expect("three digits");
            assert_eq!(Redirect::from_code(code), Some(redirect));
        }
        assert_eq!(Redirect::from_code(200), None);
    }
}
