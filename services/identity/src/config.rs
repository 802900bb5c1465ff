//! Section `[identity]` of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use service::ConfigError;

/// The shortest and the longest life of an access token: what is promised of the end of a session hangs on it.
const ACCESS_TOKEN_LIFE: std::ops::RangeInclusive<Duration> =
    Duration::from_mins(5)..=Duration::from_mins(10);
/// The shortest and the longest life of a signing key.
const SIGNING_KEY_LIFE: std::ops::RangeInclusive<Duration> =
    Duration::from_hours(2)..=Duration::from_hours(90 * 24);
/// Passwords that are hashed at once: 64 take 1.2 GiB.
const PASSWORDS_AT_ONCE: std::ops::RangeInclusive<usize> = 1..=64;
/// The longest name of a provider.
const PROVIDER_NAME_BYTES_MAX: usize = 32;

/// What the service needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's Postgres.
    pub postgres: pg::Config,
    /// The file with the keys that personal data is sealed with: see [`seal::Keyring::parse`]. The same for all instances.
    pub keyring: PathBuf,
    /// Passwords that are hashed at once, 1 to 64, each in 19 MiB and on a core.
    #[serde(default = "passwords_at_once")]
    pub passwords_at_once: usize,
    /// Mails.
    #[serde(default)]
    pub mail: MailConfig,
    /// Access tokens.
    #[serde(default)]
    pub tokens: TokenConfig,
    /// OpenID providers, by the name that they have in `providers/{provider}`.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// Section `[identity.mail]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailConfig {
    /// Where the default mailer writes mails, as `.eml` files. Absent: `mails` in the service's data folder.
    pub folder: Option<PathBuf>,
    /// Whom mails come from.
    pub from: String,
    /// What the links in mails begin with, such as `https://app.example`. Absent: mails have tokens and no links.
    pub link_base: Option<String>,
}

/// Section `[identity.tokens]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenConfig {
    /// `iss` of access tokens; the edges' `edge.tokens.issuer`.
    pub issuer: String,
    /// `aud` of access tokens; the edges' `edge.tokens.audience`.
    pub audience: String,
    /// How long they live, 5 m to 10 m.
    #[serde(with = "service::duration")]
    pub access_token_life: Duration,
    /// How long a key signs them, 2 h to 90 d.
    #[serde(with = "service::duration")]
    pub signing_key_life: Duration,
}

/// One of `[identity.providers.NAME]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// What people know it as.
    pub display_name: String,
    /// Its issuer, `https://…`; its discovery document is below `/.well-known/openid-configuration`. `http://` only to loopback.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: String,
    /// Where browsers may come back to.
    pub redirect_uris: Vec<String>,
}

impl std::fmt::Debug for ProviderConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ProviderConfig")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Default for MailConfig {
    fn default() -> Self {
        Self { folder: None, from: "no-reply@linkmesh.example".to_owned(), link_base: None }
    }
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            issuer: "linkmesh".to_owned(),
            audience: "linkmesh".to_owned(),
            access_token_life: Duration::from_mins(10),
            signing_key_life: Duration::from_hours(30 * 24),
        }
    }
}

fn passwords_at_once() -> usize {
    2
}

impl Config {
    /// The defaults, with what has none.
    pub fn new(postgres: pg::Config, keyring: impl Into<PathBuf>) -> Self {
        Self {
            postgres,
            keyring: keyring.into(),
            passwords_at_once: passwords_at_once(),
            mail: MailConfig::default(),
            tokens: TokenConfig::default(),
            providers: BTreeMap::new(),
        }
    }

    /// Whether it can be used; contacts nothing.
    ///
    /// # Errors
    /// The key that is refused, and what it takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refused = |error| ConfigError::new("identity.postgres", format!("{error:#}"));
        self.postgres.check().map_err(refused)?;
        let checks = [
            (
                "identity.passwords_at_once",
                PASSWORDS_AT_ONCE.contains(&self.passwords_at_once),
                "must be 1 to 64",
            ),
            (
                "identity.tokens.access_token_life",
                ACCESS_TOKEN_LIFE.contains(&self.tokens.access_token_life),
                "must be 5m to 10m",
            ),
            (
                "identity.tokens.signing_key_life",
                SIGNING_KEY_LIFE.contains(&self.tokens.signing_key_life),
                "must be 2h to 90d",
            ),
            ("identity.tokens.issuer", !self.tokens.issuer.is_empty(), "must not be empty"),
            ("identity.tokens.audience", !self.tokens.audience.is_empty(), "must not be empty"),
            (
                "identity.mail.from",
                crate::domain::Email::parse(&self.mail.from).is_ok(),
                "must be an e-mail address without a name",
            ),
            (
                "identity.mail.link_base",
                self.mail.link_base.as_deref().is_none_or(is_web),
                "must begin with http:// or https:// and have no line end",
            ),
        ];
        for (key, is_good, why) in checks {
            if !is_good {
                return Err(ConfigError::new(key, why));
            }
        }
        for (name, provider) in &self.providers {
            provider.check(name)?;
        }
        Ok(())
    }
}

impl ProviderConfig {
    fn check(&self, name: &str) -> Result<(), ConfigError> {
        let key = |field: &str| format!("identity.providers.{name}{field}");
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > PROVIDER_NAME_BYTES_MAX || !name.bytes().all(is_name) {
            return Err(ConfigError::new(key(""), "must be named by 1 to 32 of a-z, 0-9 and -"));
        }
        let is_loopback = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"]
            .iter()
            .any(|start| self.issuer.starts_with(start));
        if !(self.issuer.starts_with("https://") || is_loopback) || self.issuer.ends_with('/') {
            let why = "must begin with https:// (http:// only to loopback) and not end with /";
            return Err(ConfigError::new(key(".issuer"), why));
        }
        for (field, text) in
            [(".client_id", &self.client_id), (".client_secret", &self.client_secret)]
        {
            if text.is_empty() {
                return Err(ConfigError::new(key(field), "must not be empty"));
            }
        }
        if self.redirect_uris.is_empty() || !self.redirect_uris.iter().all(|uri| is_web(uri)) {
            let why = "must be a list of one or more addresses with http:// or https://";
            return Err(ConfigError::new(key(".redirect_uris"), why));
        }
        Ok(())
    }
}

fn is_web(text: &str) -> bool {
    let has_scheme = text.starts_with("https://") || text.starts_with("http://");
    has_scheme && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> ProviderConfig {
        ProviderConfig {
            display_name: "Example".to_owned(),
            issuer: "https://id.example".to_owned(),
            client_id: "us".to_owned(),
            client_secret: "secret".to_owned(),
            redirect_uris: vec!["https://app.example/callback".to_owned()],
        }
    }

    fn with(change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        let mut config = Config::new(pg::Config::new("postgres://a/b"), "keyring.toml");
        change(&mut config);
        config.check()
    }

    fn with_provider(
        name: &str,
        change: impl FnOnce(&mut ProviderConfig),
    ) -> Result<(), ConfigError> {
        let mut provider = provider();
        change(&mut provider);
        with(|config| drop(config.providers.insert(name.to_owned(), provider)))
    }

    #[test]
    fn the_defaults_are_taken_and_what_is_out_of_range_is_refused_with_its_key() {
        assert_eq!(with(|_| ()), Ok(()));
        let minutes = Duration::from_mins;
        for (key, refused) in [
            ("identity.passwords_at_once", with(|config| config.passwords_at_once = 0)),
            (
                "identity.tokens.access_token_life",
                with(|c| c.tokens.access_token_life = minutes(11)),
            ),
            ("identity.tokens.signing_key_life", with(|c| c.tokens.signing_key_life = minutes(1))),
            ("identity.tokens.issuer", with(|config| config.tokens.issuer.clear())),
            (
                "identity.mail.from",
                with(|config| config.mail.from = "Us <us@example.com>".to_owned()),
            ),
            (
                "identity.mail.link_base",
                with(|c| c.mail.link_base = Some("app.example".to_owned())),
            ),
        ] {
            assert_eq!(refused.unwrap_err().key, key);
        }
    }

    #[test]
    fn a_provider_is_reached_encrypted_and_named_in_lower_case() {
        assert_eq!(with_provider("example", |_| ()), Ok(()));
        let local =
            |provider: &mut ProviderConfig| provider.issuer = "http://127.0.0.1:1".to_owned();
        assert_eq!(with_provider("local", local), Ok(()));
        for (key, refused) in [
            ("identity.providers.A", with_provider("A", |_| ())),
            (
                "identity.providers.a.issuer",
                with_provider("a", |p| p.issuer = "http://x".to_owned()),
            ),
            ("identity.providers.a.issuer", with_provider("a", |p| p.issuer.push('/'))),
            ("identity.providers.a.client_id", with_provider("a", |p| p.client_id.clear())),
            ("identity.providers.a.client_secret", with_provider("a", |p| p.client_secret.clear())),
            ("identity.providers.a.redirect_uris", with_provider("a", |p| p.redirect_uris.clear())),
        ] {
            assert_eq!(refused.unwrap_err().key, key);
        }
        let shown = format!("{:?}", provider());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
