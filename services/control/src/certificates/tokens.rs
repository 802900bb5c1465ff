//! Join tokens: made for an operator, shown by a process that joins, remembered as a hash.
//!
//! A use is noted with the key that joined, in one step with the check whether there is one left: of two processes with one use
//! between them one joins, and a process that asks again with its key has not used another.

use jiff::Timestamp;
use mesh::identity::Fingerprint;
use mesh::identity::JoinToken;
use mesh::registry::JoinTokenEntry;
use mesh::registry::JoinTokenStore;
use proto::common::v1::ErrorReason;
use rpc::Error;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tonic::Code;

/// How long a token is taken: the least, the most, and unless someone says otherwise.
const LIFE_MIN: Duration = Duration::from_secs(60);
const LIFE_MAX: Duration = Duration::from_hours(7 * 24);
const LIFE_DEFAULT: Duration = Duration::from_hours(1);
/// How many keys may join by one.
const USES_MAX: u32 = 100;
/// How many services one may name.
const SERVICES_MAX: usize = 16;
/// How long a note may be.
const NOTE_CHARACTERS_MAX: usize = 200;
/// How often a use is noted anew because another was noted meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// The tokens in the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    store: Arc<dyn JoinTokenStore>,
}

/// What an operator wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) services: Vec<String>,
    pub(super) life: Option<Duration>,
    pub(super) uses_max: u32,
    pub(super) note: String,
}

/// What is remembered of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The secret's SHA-256.
    hash: String,
    pub(super) services: Vec<String>,
    #[serde(with = "seconds")]
    pub(super) create_time: Timestamp,
    #[serde(with = "seconds")]
    pub(super) expire_time: Timestamp,
    pub(super) uses_max: u32,
    /// The keys that joined, each by its SHA-256.
    pub(super) used_by: Vec<String>,
    pub(super) note: String,
}

impl Tokens {
    pub(crate) fn new(store: Arc<dyn JoinTokenStore>) -> Self {
        Self { store }
    }

    /// Makes one that pins `roots`.
    pub(super) async fn create(
        &self,
        wanted: Wanted,
        roots: Vec<Fingerprint>,
        now: Timestamp,
    ) -> Result<(JoinToken, Record), Error> {
        let life = wanted.checked_life()?;
        let token = JoinToken::generate(roots);
        // What is remembered are whole seconds.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let record = Record {
            hash: Fingerprint::of(&token.secret).to_string(),
            services: wanted.services,
            create_time: now,
            expire_time: now + life,
            uses_max: wanted.uses_max.max(1),
            used_by: Vec::new(),
            note: wanted.note,
        };
        let value = serde_json::to_vec(&record).map_err(|error| Error::internal(&error))?;
        let created = self.store.create(&token.id, value, life).await.map_err(unreachable)?;
        if !created {
            // 64 random bits: never.
            return Err(Error::internal(&"a new token's id is taken"));
        }
        Ok((token, record))
    }

    /// Those that are taken now, the newest first.
    pub(super) async fn list(&self, now: Timestamp) -> Result<Vec<(String, Record)>, Error> {
        let entries = self.store.list().await.map_err(unreachable)?;
        let mut records: Vec<_> = entries
            .into_iter()
            // What someone else has written there is no token.
            .filter_map(|entry| {
                let record: Record = serde_json::from_slice(&entry.value).ok()?;
                Some((entry.id, record))
            })
            .filter(|(_, record)| now < record.expire_time)
            .collect();
        records.sort_by_key(|(_, record)| std::cmp::Reverse(record.create_time));
        Ok(records)
    }

    /// Ends one.
    pub(super) async fn revoke(&self, id: &str) -> Result<(), Error> {
        if self.store.delete(id).await.map_err(unreachable)? {
            return Ok(());
        }
        Err(Error::not_found(format!("join token {id}")))
    }

    /// Whether a process with this key may join as `service` by the token `text`; notes the use.
    pub(super) async fn take(
        &self,
        text: &str,
        service: &str,
        key: Fingerprint,
        now: Timestamp,
    ) -> Result<(), Error> {
        let token = JoinToken::parse(text).map_err(|_| invalid("the join token is malformed"))?;
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.store.get(&token.id).await.map_err(unreachable)?;
            // Who does not have the secret is not told whether there is such a token.
            let unknown = || {
                invalid("control knows no such join token: it was revoked, ran out, or never was")
            };
            let entry = entry.ok_or_else(unknown)?;
            let mut record: Record =
                serde_json::from_slice(&entry.value).map_err(|error| Error::internal(&error))?;
            let hash = Fingerprint::of(&token.secret).to_string();
            if !bool::from(hash.as_bytes().ct_eq(record.hash.as_bytes())) {
                return Err(unknown());
            }
            if !record.admits(service, key, now)? {
                return Ok(());
            }
            record.used_by.push(key.to_string());
            let value = serde_json::to_vec(&record).map_err(|error| Error::internal(&error))?;
            let noted = JoinTokenEntry { value, ..entry };
            if self.store.replace(noted).await.map_err(unreachable)? {
                return Ok(());
            }
        }
        Err(Error::overloaded("too many processes join by this token at once", LIFE_MIN / 60))
    }
}

impl Wanted {
    fn checked_life(&self) -> Result<Duration, Error> {
        let (count, max) = (self.services.len(), SERVICES_MAX);
        if !(1..=max).contains(&count) {
            return Err(Error::invalid("services", format!("must be 1 to {max}, are {count}")));
        }
        for (index, service) in self.services.iter().enumerate() {
            crate::config::joinable(service).map_err(|error| {
                Error::invalid(format!("services[{index}]"), format!("{error:#}"))
            })?;
        }
        if self.uses_max > USES_MAX {
            let why = format!("must be at most {USES_MAX}, is {}", self.uses_max);
            return Err(Error::invalid("uses_max", why));
        }
        let characters = self.note.chars().count();
        if characters > NOTE_CHARACTERS_MAX {
            let why =
                format!("must have at most {NOTE_CHARACTERS_MAX} characters, has {characters}");
            return Err(Error::invalid("note", why));
        }
        let life = self.life.unwrap_or(LIFE_DEFAULT);
        if !(LIFE_MIN..=LIFE_MAX).contains(&life) {
            let why = format!("must be 1 minute to 7 days, is {} s", life.as_secs());
            return Err(Error::invalid("life", why));
        }
        Ok(life)
    }
}

impl Record {
    /// Whether a use is to be noted; an error if there is none.
    fn admits(&self, service: &str, key: Fingerprint, now: Timestamp) -> Result<bool, Error> {
        if now >= self.expire_time {
            return Err(invalid(format!("the join token ran out at {}", self.expire_time)));
        }
        if !self.services.iter().any(|named| named == service) {
            let message =
                format!("the join token is for {}, not for `{service}`", self.services.join(", "));
            return Err(Error::new(Code::PermissionDenied, ErrorReason::JoinNotAllowed, message));
        }
        if self.used_by.contains(&key.to_string()) {
            return Ok(false);
        }
        if u32::try_from(self.used_by.len()).unwrap_or(u32::MAX) >= self.uses_max {
            return Err(invalid(format!(
                "the join token is used up: {} joined by it; make another",
                self.used_by.len()
            )));
        }
        Ok(true)
    }
}

/// Times as seconds since 1970.
mod seconds {
    use jiff::Timestamp;
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.as_second())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::from_second(i64::deserialize(from)?).map_err(D::Error::custom)
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::unauthenticated(ErrorReason::JoinTokenInvalid, message)
}

fn unreachable(error: anyhow::Error) -> Error {
    tracing::warn!(error = format!("{error:#}"), "the registry does not answer");
    Error::unavailable(ErrorReason::StoreUnavailable, "the registry can't be reached; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(mesh::registry::open("memory:").unwrap().join_tokens())
    }

    fn wanted(services: &[&str], uses_max: u32) -> Wanted {
        let services = services.iter().map(|&service| service.to_owned()).collect();
        Wanted { services, uses_max, ..Wanted::default() }
    }

    fn pins() -> Vec<Fingerprint> {
        vec![Fingerprint::of(b"root")]
    }

    fn key(name: &str) -> Fingerprint {
        Fingerprint::of(name.as_bytes())
    }

    async fn made(tokens: &Tokens, wanted: Wanted) -> String {
        tokens.create(wanted, pins(), Timestamp::now()).await.unwrap().0.text()
    }

    #[tokio::test]
    async fn a_use_belongs_to_a_key() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let text = made(&tokens, wanted(&["links"], 0)).await;
        for _ in 0..3 {
            tokens.take(&text, "links", key("first"), now).await.unwrap();
        }
        let error = tokens.take(&text, "links", key("second"), now).await.unwrap_err();
        assert_eq!(error.reason, ErrorReason::JoinTokenInvalid);
        assert!(error.message.contains("used up"), "{}", error.message);
        tokens.take(&text, "links", key("first"), now).await.unwrap();
    }

    #[tokio::test]
    async fn of_many_that_join_at_once_as_many_do_as_may() {
        let tokens = tokens();
        let text = made(&tokens, wanted(&["links"], 3)).await;
        let mut joined = 0;
        for number in 0..10 {
            let key = key(&number.to_string());
            joined += usize::from(tokens.take(&text, "links", key, Timestamp::now()).await.is_ok());
        }
        assert_eq!(joined, 3);
        assert_eq!(tokens.list(Timestamp::now()).await.unwrap()[0].1.used_by.len(), 3);
    }

    #[tokio::test]
    async fn a_token_is_for_the_services_that_it_names() {
        let tokens = tokens();
        let text = made(&tokens, wanted(&["links", "edge"], 0)).await;
        let error = tokens.take(&text, "analytics", key("a"), Timestamp::now()).await.unwrap_err();
        assert_eq!(
            (error.code, error.reason),
            (Code::PermissionDenied, ErrorReason::JoinNotAllowed)
        );
        assert!(error.message.contains("links, edge"), "{}", error.message);
        tokens.take(&text, "edge", key("a"), Timestamp::now()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_expired_revoked_forged_or_unknown_is_refused() {
        let (tokens, now) = (tokens(), Timestamp::now());
        let text = made(&tokens, wanted(&["links"], 0)).await;
        let later = now + LIFE_DEFAULT;
        let expired = tokens.take(&text, "links", key("a"), later).await.unwrap_err();
        assert!(expired.message.contains("ran out"), "{}", expired.message);

        let token = JoinToken::parse(&text).unwrap();
        let mut forged = token.clone();
        forged.secret[0] ^= 1;
        let stranger = JoinToken::generate(pins());
        for text in [forged.text(), stranger.text(), "lmj1".to_owned()] {
            let error = tokens.take(&text, "links", key("a"), now).await.unwrap_err();
            assert_eq!(error.reason, ErrorReason::JoinTokenInvalid);
        }

        tokens.revoke(&token.id).await.unwrap();
        assert!(tokens.take(&text, "links", key("a"), now).await.is_err());
        assert_eq!(tokens.revoke(&token.id).await.unwrap_err().code, Code::NotFound);
        assert!(tokens.list(now).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_secret_is_not_stored() {
        let store = mesh::registry::open("memory:").unwrap().join_tokens();
        let tokens = Tokens::new(Arc::clone(&store));
        let text = made(&tokens, wanted(&["links"], 0)).await;
        let secret = text.split('.').nth(2).unwrap();
        let stored = String::from_utf8(store.list().await.unwrap()[0].value.clone()).unwrap();
        assert!(!stored.contains(secret), "{stored}");
        let hidden = hex::encode(JoinToken::parse(&text).unwrap().secret);
        assert!(!stored.contains(&hidden), "{stored}");
    }

    #[tokio::test]
    async fn what_can_not_be_meant_is_refused_by_field() {
        let tokens = tokens();
        let refused = [
            (Wanted::default(), "services"),
            (wanted(&["links", "control"], 1), "services[1]"),
            (wanted(&["operator"], 1), "services[0]"),
            (wanted(&["Links"], 1), "services[0]"),
            (wanted(&["links"], USES_MAX + 1), "uses_max"),
            (Wanted { note: "x".repeat(201), ..wanted(&["links"], 1) }, "note"),
            (Wanted { life: Some(LIFE_MAX * 2), ..wanted(&["links"], 1) }, "life"),
            (Wanted { life: Some(Duration::ZERO), ..wanted(&["links"], 1) }, "life"),
        ];
        for (wanted, field) in refused {
            let error = tokens.create(wanted, pins(), Timestamp::now()).await.unwrap_err();
            assert_eq!(error.violations[0].field, field);
        }
    }
}
