//! Signing in by an OpenID provider: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0, RFC 7636, RFC 9700).
//!
//! What must stay true: nothing of an ID token is believed before its signature holds under a key that the issuer itself
//! publishes, for an algorithm that fits the key; and a provider that is slow or down costs its own sign-ins alone.

mod http;
mod id_token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use self::http::Http;
use crate::config::ProviderConfig;
use crate::domain::{Email, Error};

/// How long a discovery document and a key set are used before they are read again.
const FRESH: Duration = Duration::from_mins(5);
/// How often an unknown key makes the set be read again.
const REREAD_EVERY: Duration = Duration::from_secs(5);
/// The most keys of a set.
const KEYS_MAX: usize = 64;
/// Random bytes of state and nonce each, and of a code verifier (RFC 7636, section 4.1, wants 32).
const RANDOM_BYTES: usize = 32;

/// The providers that are configured. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Providers(Arc<BTreeMap<String, Provider>>);

/// One of them, with what is known of it.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    http: Http,
    discovered: Mutex<Option<(Instant, Discovered)>>,
    /// Held while they are read: whoever asks meanwhile waits for the same answer.
    keys: Mutex<Option<(Instant, JwkSet)>>,
}

/// What a discovery document says, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// What is kept of a sign-in while its browser is away.
#[derive(Deserialize, Serialize)]
pub(crate) struct Secrets {
    state: String,
    nonce: String,
    verifier: String,
}

/// Whom a provider has proved.
#[derive(Debug)]
pub(crate) struct Proved {
    pub issuer: String,
    pub subject: String,
    /// The address, if the provider says that it has verified it.
    pub email: Option<Email>,
    pub display_name: Option<String>,
}

impl Providers {
    /// Contacts nobody.
    ///
    /// # Errors
    /// The roots that TLS needs can't be used.
    pub(crate) fn new(configs: BTreeMap<String, ProviderConfig>) -> anyhow::Result<Self> {
        let http = Http::new()?;
        let provider = |config| Provider {
            config,
            http: http.clone(),
            discovered: Mutex::default(),
            keys: Mutex::default(),
        };
        let named = configs.into_iter().map(|(name, config)| (name, provider(config)));
        Ok(Self(Arc::new(named.collect())))
    }

    /// The provider of a name.
    pub(crate) fn find(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Provider)> {
        self.0.iter().map(|(name, provider)| (name.as_str(), provider))
    }
}

impl Provider {
    /// Where to send a browser, and what to keep until it comes back.
    pub(crate) async fn begin(&self, redirect_uri: &str) -> Result<(String, Secrets), Error> {
        let secrets = Secrets { state: random()?, nonce: random()?, verifier: random()? };
        let discovered = self.discovered().await?;
        let mut uri = endpoint(&discovered.authorization_endpoint, "authorization_endpoint")?;
        let hash = digest::digest(&digest::SHA256, secrets.verifier.as_bytes());
        uri.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", "openid email profile")
            .append_pair("state", &secrets.state)
            .append_pair("nonce", &secrets.nonce)
            .append_pair("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref()))
            .append_pair("code_challenge_method", "S256");
        Ok((uri.into(), secrets))
    }

    /// Whom the provider has proved to whoever came back with this code.
    pub(crate) async fn finish(
        &self,
        redirect_uri: &str,
        code: &str,
        secrets: &Secrets,
    ) -> Result<Proved, Error> {
        #[derive(Deserialize)]
        struct Answer {
            id_token: String,
        }
        let discovered = self.discovered().await?;
        let uri = endpoint(&discovered.token_endpoint, "token_endpoint")?;
        let ProviderConfig { client_id, client_secret, .. } = &self.config;
        // Without a list, it takes Basic (OpenID Connect Discovery 1.0, section 3).
        let methods = &discovered.token_endpoint_auth_methods_supported;
        let takes_basic =
            methods.is_empty() || methods.iter().any(|one| one == "client_secret_basic");
        let basic = takes_basic.then_some((client_id.as_str(), client_secret.as_str()));
        let form = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "authorization_code")
                .append_pair("code", code)
                .append_pair("redirect_uri", redirect_uri)
                .append_pair("code_verifier", &secrets.verifier);
            if !takes_basic {
                form.append_pair("client_id", client_id)
                    .append_pair("client_secret", client_secret);
            }
            Zeroizing::new(form.finish())
        };
        let (status, body) = self.http.post_form(&uri, &form, basic).await.map_err(unavailable)?;
        if status.is_server_error() {
            return Err(unavailable(format!("its token endpoint answers {status}")));
        }
        if !status.is_success() {
            return Err(refused(format!("its token endpoint answers {status}")));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| refused("its token endpoint answers without an ID token".to_owned()))?;
        let header = id_token::header(&answer.id_token).map_err(refused)?;
        let key = self.key(&discovered, header.kid.as_deref()).await?;
        let expected =
            id_token::Expected { issuer: &self.config.issuer, client_id, nonce: &secrets.nonce };
        let claims =
            id_token::verify(&answer.id_token, &header, &key, &expected).map_err(refused)?;
        let email = claims.email.filter(|_| claims.email_verified).and_then(|text| {
            // An address that we could not send mail to is none for us.
            Email::parse(&text).ok()
        });
        Ok(Proved { issuer: claims.iss, subject: claims.sub, email, display_name: claims.name })
    }

    async fn discovered(&self) -> Result<Discovered, Error> {
        let mut known = self.discovered.lock().await;
        if let Some((at, discovered)) = &*known
            && at.elapsed() < FRESH
        {
            return Ok(discovered.clone());
        }
        let issuer = &self.config.issuer;
        let uri = endpoint(&format!("{issuer}/.well-known/openid-configuration"), "issuer")?;
        let bytes = self.http.get(&uri).await.map_err(unavailable)?;
        let discovered: Discovered = serde_json::from_slice(&bytes)
            .map_err(|_| unavailable("its discovery document is none".to_owned()))?;
        // OpenID Connect Discovery 1.0, section 4.3: to the letter.
        if discovered.issuer != *issuer {
            return Err(refused("its discovery document is of another issuer".to_owned()));
        }
        *known = Some((Instant::now(), discovered.clone()));
        Ok(discovered)
    }

    /// The key of an id; without one, the only key there is.
    async fn key(&self, discovered: &Discovered, kid: Option<&str>) -> Result<Jwk, Error> {
        let find = |keys: &JwkSet| match kid {
            Some(kid) => keys.find(kid).cloned(),
            None if keys.keys.len() == 1 => keys.keys.first().cloned(),
            None => None,
        };
        let mut known = self.keys.lock().await;
        if let Some((at, keys)) = &*known {
            match find(keys) {
                Some(key) if at.elapsed() < FRESH => return Ok(key),
                None if at.elapsed() < REREAD_EVERY => {
                    return Err(refused("its ID token is signed with an unknown key".to_owned()));
                }
                Some(_) | None => {}
            }
        }
        let uri = endpoint(&discovered.jwks_uri, "jwks_uri")?;
        let bytes = self.http.get(&uri).await.map_err(unavailable)?;
        let keys: JwkSet = serde_json::from_slice(&bytes)
            .map_err(|_| unavailable("its key set is none".to_owned()))?;
        if keys.keys.len() > KEYS_MAX {
            return Err(unavailable(format!("its key set has more than {KEYS_MAX} keys")));
        }
        let found = find(&keys);
        *known = Some((Instant::now(), keys));
        found.ok_or_else(|| refused("its ID token is signed with an unknown key".to_owned()))
    }
}

impl Secrets {
    /// Whether a browser came back with the state that it left with.
    pub(crate) fn is_state(&self, presented: &str) -> bool {
        self.state.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

/// An address of a provider: encrypted, or on this machine.
fn endpoint(text: &str, what: &str) -> Result<Url, Error> {
    let wrong = || refused(format!("its {what} is no https URL"));
    let uri = Url::parse(text).map_err(|_| wrong())?;
    let is_here = match uri.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match uri.scheme() {
        "https" => Ok(uri),
        "http" if is_here => Ok(uri),
        _ => Err(wrong()),
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; RANDOM_BYTES];
    let unable = |_| Error::ProviderUnavailable("there are no random bytes here".to_owned());
    SysRng.try_fill_bytes(&mut bytes).map_err(unable)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn refused(why: impl Into<String>) -> Error {
    Error::ProviderRefused(why.into())
}

fn unavailable(why: impl std::fmt::Display) -> Error {
    Error::ProviderUnavailable(format!("the provider can't be asked: {why}"))
}
