//! Proves API keys, once for each call at this edge; services are told the principal.
//!
//! What `identity` says of a key is remembered for 30 s from its read on the primary, that it is no key too, and dropped when
//! the key changes. The memory is keyed by the whole key's digest: a wrong secret never meets a right one's entry.

use std::time::Duration;

use auth::ApiKey;
use cache::Filled;
use cache::Versioned;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use proto::common::v1::ErrorReason;
use proto::common::v1::Tier;
use proto::identity::v1::AuthenticateRequest;
use proto::identity::v1::authentication_service_client::AuthenticationServiceClient;
use rpc::ApiKeyId;
use rpc::Caller;
use rpc::Error;
use rpc::Principal;
use tonic::Status;
use tonic::metadata::BinaryMetadataValue;

use crate::proved::Proved;
use crate::proved::Who;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// How long `identity` may take.
const AUTHENTICATE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of `identity` is fresh, from its read on the primary.
const TTL: Duration = Duration::from_secs(30);
/// How old an answer may get while `identity` can't answer. A revocation is still heard of meanwhile.
const STALE_MAX: Duration = Duration::from_secs(5 * 60);
/// Keys that an edge remembers, those that are none included.
const KEYS_MAX: usize = 200_000;
/// Bytes of the public prefix: what changes are announced under.
const PREFIX_BYTES: usize = 12;

/// The keys that are known here. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    known: Versioned<Known, Status>,
    client: AuthenticationServiceClient<mesh::Mesh>,
}

/// A key that a request presents.
#[derive(Debug)]
pub(crate) struct Presented {
    key: ApiKey,
    /// Its prefix and its digest.
    cache_key: Vec<u8>,
}

/// A key that is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// The principal as services get it.
    metadata: HeaderValue,
    id: ApiKeyId,
    tier: Tier,
    /// When the key expires, in microseconds since 1970; `i64::MAX`: never.
    expire_micros: i64,
}

impl Known {
    /// Whoever has the key, if it has not expired.
    fn proved(&self, now_micros: i64) -> Option<Proved> {
        let Self { metadata, id, tier, expire_micros } = self;
        let proved = Proved { metadata: metadata.clone(), who: Who::Key(*id), tier: *tier };
        (now_micros < *expire_micros).then_some(proved)
    }
}

impl Keys {
    pub(crate) fn new(metrics: &cache::Metrics, mesh: mesh::Mesh) -> Self {
        let options = cache::Options {
            name: "keys",
            ttl: TTL,
            stale_max: STALE_MAX,
            entries_max: KEYS_MAX,
            scope_bytes: Some(PREFIX_BYTES),
        };
        // Principals stay in the process: Redis is no place for what a key is worth.
        Self {
            known: Versioned::new(options, None, metrics),
            client: AuthenticationServiceClient::new(mesh),
        }
    }

    /// Whether a key is known here, and good as far as that needs no proof: nobody's guess.
    pub(crate) fn knows(&self, key: &Presented, now_micros: i64) -> bool {
        let held = self.known.held(&key.cache_key);
        let known = held.as_ref().and_then(|entry| entry.value.as_ref());
        known.is_some_and(|known| now_micros < known.expire_micros)
    }

    /// Whoever sent this key.
    ///
    /// # Errors
    /// API_KEY_INVALID, or what `identity` fails with.
    pub(crate) async fn proved(&self, key: &Presented, now_micros: i64) -> Result<Proved, Status> {
        let (client, sent) = (self.client.clone(), key.key.clone());
        let read = move || authenticate(client.clone(), sent.clone(), now_micros);
        let entry = self.known.get(&key.cache_key, now_micros, read).await?;
        let known = entry.value.as_ref().and_then(|known| known.proved(now_micros));
        known.ok_or_else(|| invalid("the API key is unknown, revoked or expired").into())
    }

    /// The same, if nobody need be asked and the key is good.
    pub(crate) fn peek(&self, key: &Presented, now_micros: i64) -> Option<Proved> {
        self.known.peek(&key.cache_key, now_micros)?.value.as_ref()?.proved(now_micros)
    }

    /// Takes notice of a change of the key with this prefix.
    pub(crate) fn outdate(&self, prefix: &str, version: i64, now_micros: i64) {
        if prefix.len() == PREFIX_BYTES {
            self.known.outdate(prefix.as_bytes(), version, now_micros);
        }
    }

    /// Trusts nothing that was read before now: changes since then may have been missed.
    pub(crate) fn doubt(&self, now_micros: i64) {
        self.known.doubt(now_micros);
    }
}

fn invalid(message: &str) -> Error {
    Error::unauthenticated(ErrorReason::ApiKeyInvalid, message)
}

/// The key in `authorization: Bearer …`, or else in `x-api-key`.
///
/// # Errors
/// CREDENTIALS_MISSING, and API_KEY_INVALID for what has not the form of one.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Presented, Error> {
    let text = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let value = value.to_str().map_err(|_| invalid("`authorization` is not text"))?;
            let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(invalid("`authorization` must be `Bearer` and an API key"));
            }
            key.trim()
        }
        None => {
            let missing = || {
                Error::unauthenticated(
                    ErrorReason::CredentialsMissing,
                    "nobody is named; send an API key or an access token as `authorization: Bearer …`",
                )
            };
            let value = headers.get(API_KEY).ok_or_else(missing)?;
            value.to_str().map_err(|_| invalid("`x-api-key` is not text"))?.trim()
        }
    };
    let key = ApiKey::parse(text).map_err(|error| invalid(&error.to_string()))?;
    Ok(Presented { cache_key: [key.prefix().as_bytes(), key.digest().as_bytes()].concat(), key })
}

async fn authenticate(
    mut client: AuthenticationServiceClient<mesh::Mesh>,
    key: ApiKey,
    now_micros: i64,
) -> Result<Filled<Known>, Status> {
    let mut request = tonic::Request::new(AuthenticateRequest { api_key: key.reveal().to_owned() });
    request.set_timeout(AUTHENTICATE_TIMEOUT);
    let answer = tokio::time::timeout(AUTHENTICATE_TIMEOUT, client.authenticate(request)).await;
    let answer = answer.map_err(|_| Status::from(Error::deadline_exceeded()))??.into_inner();
    let micros = |time: &prost_types::Timestamp| {
        rpc::time::from_proto("time", time).ok().map(jiff::Timestamp::as_microsecond)
    };
    let value = match &answer.principal {
        None => None,
        Some(principal) => {
            let principal = Principal::try_from(principal)
                .map_err(|error| Status::from(Error::internal(&error)))?;
            let Caller::ApiKey { key: id, .. } = principal.caller else {
                return Err(Error::internal(&"a key's principal is another's").into());
            };
            let encoded = BinaryMetadataValue::from_bytes(&principal.encode());
            Some(Known {
                metadata: HeaderValue::from_bytes(encoded.as_encoded_bytes())
                    .map_err(|error| Status::from(Error::internal(&error)))?,
                id,
                tier: principal.tier,
                // A time that can't be read must not make a key live for ever.
                expire_micros: match &answer.expire_time {
                    None => i64::MAX,
                    Some(time) => micros(time).unwrap_or(0),
                },
            })
        }
    };
    Ok(Filled {
        version: answer.version,
        read_micros: answer.read_time.as_ref().and_then(micros).unwrap_or(now_micros),
        value,
    })
}

impl cache::Stored for Known {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.expire_micros.to_be_bytes());
        into.extend_from_slice(&i32::from(self.tier).to_be_bytes());
        into.extend_from_slice(self.id.as_bytes());
        into.extend_from_slice(self.metadata.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (expire_micros, bytes) = bytes.split_first_chunk()?;
        let (tier, bytes) = bytes.split_first_chunk()?;
        let (id, metadata) = bytes.split_first_chunk::<16>()?;
        Some(Self {
            metadata: HeaderValue::from_bytes(metadata).ok()?,
            id: ApiKeyId::from_slice(id).ok()?,
            tier: Tier::try_from(i32::from_be_bytes(*tier)).ok()?,
            expire_micros: i64::from_be_bytes(*expire_micros),
        })
    }
}
