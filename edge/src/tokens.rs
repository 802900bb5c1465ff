//! Proves access tokens: who is signed in, by the keys that `identity` publishes and without asking it.
//!
//! What must stay true: a key is trusted only from `identity`; what can't be checked is not called wrong (503, not 401); and
//! keys that are good are used until they are older than [`KEYS_AGE_MAX`], whatever happens to their source meanwhile. The
//! set is read again in the background, by one at a time, and for an unknown key at most once in [`UNKNOWN_KEY_COOLDOWN`]. Where
//! that fails, it has failed for all who came meanwhile: nobody waits for more than one read.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::access_token::Claims;
use auth::access_token::Expected;
use auth::access_token::SKEW_SECONDS;
use auth::access_token::TokenError;
use auth::access_token::TrustedKeys;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use proto::events::v1::SessionEnded;
use proto::identity::v1::GetJsonWebKeysRequest;
use proto::identity::v1::JsonWebKey;
use proto::identity::v1::json_web_keys_service_client::JsonWebKeysServiceClient;
use rpc::Error;
use rpc::SessionId;
use rpc::UserId;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often the set is read. A key is published an hour before it signs.
const REFRESH: Duration = Duration::from_mins(5);
/// How long until the next attempt after one that failed, in seconds.
const RETRY_SECONDS: i64 = 2;
/// How old a set may get while it can't be read, in seconds: six times as long as any token that it proves lives.
const KEYS_AGE_MAX: i64 = 3_600;
/// How long `identity` may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an unknown key makes the set be read again, in seconds: tokens that somebody made up cost no more.
const UNKNOWN_KEY_COOLDOWN: i64 = 30;
/// How long a token that was proved is not proved again, in seconds.
const VERIFIED_TTL: i64 = 60;
/// Tokens that are remembered so.
const VERIFIED_MAX: u64 = 200_000;
/// Tokens that are remembered to be no guess, until they expire: those of one edge's users, for ten minutes.
const MET_MAX: u64 = 1_000_000;
/// Ended sessions that are remembered.
const ENDED_MAX: u64 = 1_000_000;
/// How long what is said of a token or its session matters: longer than any token lives, clocks included.
const TOKEN_LIFE_MAX: Duration = Duration::from_mins(15);

/// What is known of tokens here. Cheap to clone. Times are seconds since 1970, and come from the caller.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Inner>);

type Fetched = Pin<Box<dyn Future<Output = Result<Vec<JsonWebKey>, Status>> + Send>>;

struct Inner {
    expected: Expected,
    /// Reads the set where it is published.
    source: Box<dyn Fn() -> Fetched + Send + Sync>,
    keys: ArcSwap<KeySet>,
    /// Held by whoever reads the set.
    fetching: Mutex<Attempts>,
    /// By the hash of the whole token: one with another signature is another token.
    verified: moka::sync::Cache<[u8; 32], Verified>,
    /// What was proved here once, by the same hash.
    met: moka::sync::Cache<[u8; 32], Met>,
    ended: moka::sync::Cache<[u8; 16], ()>,
}

/// The keys, as they were read.
#[derive(Default)]
struct KeySet {
    trusted: TrustedKeys,
    /// None: never.
    read: Option<i64>,
}

/// How reading the set went lately. Clocks that are set make nothing of this hold for longer than it should.
#[derive(Debug, Default)]
struct Attempts {
    /// When it last failed, if it has not succeeded since.
    failed: Option<i64>,
    /// When it was last tried for the sake of an unknown key.
    for_unknown_key: Option<i64>,
}

impl Attempts {
    /// Whether reading it has just failed, for whoever came while it was read too.
    fn have_just_failed(&self, now_seconds: i64) -> bool {
        is_recent(self.failed, now_seconds, RETRY_SECONDS)
    }
}

/// Whether less than so much time lies between the two, whichever was first.
fn is_recent(then: Option<i64>, now_seconds: i64, seconds: i64) -> bool {
    then.is_some_and(|then| now_seconds.abs_diff(then) < seconds.unsigned_abs())
}

impl KeySet {
    fn is_usable(&self, now_seconds: i64) -> bool {
        self.read.is_some_and(|read| now_seconds < read + KEYS_AGE_MAX)
    }
}

/// A token that was proved.
#[derive(Debug, Clone)]
struct Verified {
    who: SignedIn,
    /// Until when it need not be proved again.
    until: i64,
    kid: String,
}

/// A token that was proved here once, and need not have been lately.
#[derive(Debug, Clone, Copy)]
struct Met {
    session: SessionId,
    /// When it expires, clocks included.
    expire: i64,
}

/// A token that a request presents.
#[derive(Debug)]
pub(crate) struct Presented<'h> {
    text: &'h str,
    hash: [u8; 32],
}

/// Who is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokens").field("expected", &self.0.expected).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Trusts the keys that `identity` publishes.
    pub(crate) fn new(expected: Expected, mesh: mesh::Mesh) -> Self {
        let client = JsonWebKeysServiceClient::new(mesh);
        Self::reading(expected, move || Box::pin(published(client.clone())))
    }

    fn reading(expected: Expected, source: impl Fn() -> Fetched + Send + Sync + 'static) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(VERIFIED_MAX)
            .time_to_live(Duration::from_secs(VERIFIED_TTL.unsigned_abs()))
            .build();
        let met = moka::sync::Cache::builder().max_capacity(MET_MAX).time_to_live(TOKEN_LIFE_MAX);
        let ended =
            moka::sync::Cache::builder().max_capacity(ENDED_MAX).time_to_live(TOKEN_LIFE_MAX);
        Self(Arc::new(Inner {
            expected,
            source: Box::new(source),
            keys: ArcSwap::default(),
            fetching: Mutex::default(),
            verified,
            met: met.build(),
            ended: ended.build(),
        }))
    }

    /// Whether a token was proved here before, and is not known to be over: nobody's guess.
    pub(crate) fn knows(&self, token: &Presented<'_>, now_seconds: i64) -> bool {
        let met = self.0.met.get(&token.hash);
        met.is_some_and(|met| now_seconds < met.expire && !self.has_ended(met.session))
    }

    /// Who is signed in by a token.
    ///
    /// # Errors
    /// ACCESS_TOKEN_INVALID; SIGNING_KEYS_UNAVAILABLE if that can't be told.
    pub(crate) async fn signed_in(
        &self,
        token: &Presented<'_>,
        now_seconds: i64,
    ) -> Result<SignedIn, Status> {
        let who = match self.remembered(&token.hash, now_seconds) {
            Some(who) => who,
            None => {
                let (verified, met) = self.verified(token.text, now_seconds).await?;
                let who = verified.who;
                self.0.verified.insert(token.hash, verified);
                self.0.met.insert(token.hash, met);
                who
            }
        };
        if self.has_ended(who.session) {
            return Err(invalid("the session of the access token has ended").into());
        }
        Ok(who)
    }

    fn has_ended(&self, session: SessionId) -> bool {
        self.0.ended.contains_key(session.as_bytes())
    }

    /// What is remembered of a token whose time is not over and whose key is still trusted.
    fn remembered(&self, hash: &[u8; 32], now_seconds: i64) -> Option<SignedIn> {
        let known = self.0.verified.get(hash)?;
        let keys = self.0.keys.load();
        let holds = now_seconds < known.until && keys.is_usable(now_seconds);
        (holds && keys.trusted.contains(&known.kid)).then_some(known.who)
    }

    async fn verified(&self, token: &str, now_seconds: i64) -> Result<(Verified, Met), Status> {
        let is_usable = self.0.keys.load().is_usable(now_seconds);
        if !is_usable && self.fetch_unless_usable(now_seconds).await.is_err() {
            return Err(unavailable().into());
        }
        let verify = |keys: &KeySet| keys.trusted.verify(token, &self.0.expected, now_seconds);
        let keys = self.0.keys.load_full();
        let proved = match verify(&keys) {
            Err(TokenError::KeyUnknown(_)) => {
                self.fetch_for_unknown_key(&keys, now_seconds).await?;
                verify(&self.0.keys.load())
            }
            proved => proved,
        };
        let (claims, kid) = proved.map_err(|error| invalid(&error.to_string()))?;
        let who =
            who(&claims).ok_or_else(|| invalid("the access token names no user or session"))?;
        let expire = claims.exp + SKEW_SECONDS;
        let until = expire.min(now_seconds + VERIFIED_TTL);
        Ok((Verified { who, until, kid }, Met { session: who.session, expire }))
    }

    /// Reads the set if nobody else has meanwhile, or has tried.
    async fn fetch_unless_usable(&self, now_seconds: i64) -> Result<(), Status> {
        let mut attempts = self.0.fetching.lock().await;
        if self.0.keys.load().is_usable(now_seconds) {
            return Ok(());
        }
        self.fetch_unless_failed(&mut attempts, now_seconds).await
    }

    /// Reads the set again, unless that was done since `seen`, or tried a moment ago.
    async fn fetch_for_unknown_key(
        &self,
        seen: &Arc<KeySet>,
        now_seconds: i64,
    ) -> Result<(), Status> {
        let mut attempts = self.0.fetching.lock().await;
        if !Arc::ptr_eq(seen, &self.0.keys.load_full()) {
            return Ok(());
        }
        // The key may be a new one that can't be read: until it can, nobody can say that the token is wrong.
        if attempts.failed.is_none()
            && is_recent(attempts.for_unknown_key, now_seconds, UNKNOWN_KEY_COOLDOWN)
        {
            return Ok(());
        }
        attempts.for_unknown_key = Some(now_seconds);
        self.fetch_unless_failed(&mut attempts, now_seconds).await
    }

    async fn fetch_unless_failed(
        &self,
        attempts: &mut Attempts,
        now_seconds: i64,
    ) -> Result<(), Status> {
        if attempts.have_just_failed(now_seconds) {
            return Err(unavailable().into());
        }
        self.fetch(attempts, now_seconds).await.map_err(|_| unavailable().into())
    }

    /// Reads the set. What can't be read, or is empty, changes nothing.
    async fn fetch(&self, attempts: &mut Attempts, now_seconds: i64) -> Result<(), Status> {
        let read = self.read(now_seconds).await;
        attempts.failed = read.is_err().then_some(now_seconds);
        self.0.keys.store(Arc::new(read?));
        Ok(())
    }

    async fn read(&self, now_seconds: i64) -> Result<KeySet, Status> {
        let mut trusted = TrustedKeys::default();
        for key in (self.0.source)().await? {
            // What is meant for another algorithm is not for us.
            let is_ours = key.kty == "OKP" && key.crv == "Ed25519" && key.alg == "EdDSA";
            if let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(&key.x)
                && is_ours
            {
                trusted.insert(key.kid, &bytes);
            }
        }
        if trusted.is_empty() {
            return Err(unavailable().into());
        }
        Ok(KeySet { trusted, read: Some(now_seconds) })
    }

    /// Refuses the tokens of a session that has ended.
    pub(crate) fn end(&self, ended: &SessionEnded, now_micros: i64) {
        let Ok(session) = SessionId::from_slice(&ended.session_id) else { return };
        if ended.tokens_expire_unix_micros > now_micros.unsigned_abs() {
            self.0.ended.insert(*session.as_bytes(), ());
        }
    }

    /// Keeps the set fresh until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut said = false;
        loop {
            let fetched = async {
                let mut attempts = self.0.fetching.lock().await;
                self.fetch(&mut attempts, Timestamp::now().as_second()).await
            };
            let Some(fetched) = stop.run_until_cancelled(fetched).await else { return Ok(()) };
            let wait = match fetched {
                Ok(()) => {
                    said = false;
                    REFRESH
                }
                Err(status) => {
                    // Once an outage: it is tried again every other second.
                    if !said {
                        tracing::warn!(status = %status, "the keys of access tokens can't be read");
                    }
                    said = true;
                    Duration::from_secs(RETRY_SECONDS.unsigned_abs())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// The access token in `authorization: Bearer …`, if what stands there has the form of one: an API key has no dots.
pub(crate) fn presented(headers: &HeaderMap) -> Option<Presented<'_>> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let text = text.trim();
    let is_token = text.bytes().filter(|byte| *byte == b'.').count() == 2;
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then(|| Presented::new(text))
}

impl<'h> Presented<'h> {
    fn new(text: &'h str) -> Self {
        Self { text, hash: hash(text) }
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

async fn published(
    mut client: JsonWebKeysServiceClient<mesh::Mesh>,
) -> Result<Vec<JsonWebKey>, Status> {
    let mut request = tonic::Request::new(GetJsonWebKeysRequest {});
    request.set_timeout(FETCH_TIMEOUT);
    let answer = tokio::time::timeout(FETCH_TIMEOUT, client.get_json_web_keys(request)).await;
    Ok(answer.map_err(|_| Status::from(Error::deadline_exceeded()))??.into_inner().keys)
}

fn who(claims: &Claims) -> Option<SignedIn> {
    let (user, session) = (UserId::parse(&claims.sub).ok()?, SessionId::parse(&claims.sid).ok()?);
    Some(SignedIn { user, session })
}

fn invalid(message: &str) -> Error {
    Error::unauthenticated(ErrorReason::AccessTokenInvalid, message)
}

fn unavailable() -> Error {
    let why = "the keys of access tokens can't be read at the moment; try again";
    Error::unavailable(ErrorReason::SigningKeysUnavailable, why)
}

#[cfg(test)]
mod tests;
