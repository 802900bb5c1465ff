//! Signs access tokens with the key whose time it is, and keeps keys coming.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::access_token::{Claims, SigningKey};
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::{SignedDuration, Timestamp};
use proto::common::v1::ErrorReason;
use rpc::{SessionId, UserId};
use service::Task;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::TokenConfig;
use crate::domain::signing::{self, KeyTimes};
use crate::store::{Failure, NewKeyPair, Store, StoredKey};

/// How often it is looked whether a key is due, and what others have made.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(60);
/// The same while there is none.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// The keys of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    keys: Arc<ArcSwap<Vec<(SigningKey, KeyTimes)>>>,
    config: TokenConfig,
}

impl Signer {
    pub(crate) fn new(config: TokenConfig) -> Self {
        Self { keys: Arc::default(), config }
    }

    /// An access token of a session, and when it expires.
    pub(crate) fn sign(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(String, Timestamp), rpc::Error> {
        let unavailable = || {
            let why = "no key signs access tokens at the moment; try again";
            rpc::Error::unavailable(ErrorReason::SigningKeysUnavailable, why)
        };
        let keys = self.keys.load();
        let times: Vec<KeyTimes> = keys.iter().map(|(_, times)| *times).collect();
        let (key, _) = &keys[signing::signs_now(&times, now).ok_or_else(unavailable)?];
        let now_seconds = now.as_second();
        let expire_seconds = now_seconds + self.config.access_token_life().as_secs();
        let claims = Claims {
            iss: self.config.issuer.clone(),
            aud: self.config.audience.clone(),
            sub: user.to_string(),
            sid: session.to_string(),
            iat: now_seconds,
            nbf: now_seconds,
            exp: expire_seconds,
            jti: Uuid::new_v4().simple().to_string(),
        };
        let token = key.sign(&claims).map_err(|error| rpc::Error::internal(&error))?;
        let expire_time = Timestamp::from_second(expire_seconds);
        Ok((token, expire_time.map_err(|error| rpc::Error::internal(&error))?))
    }

    async fn maintain(&self, store: &Store, now: Timestamp) -> Result<(), Failure> {
        let life = self.config.signing_key_life();
        let keys = store.maintain_signing_keys(life, now, key_pair).await?;
        let signing =
            |key: StoredKey| (SigningKey::from_pkcs8(key.kid, &key.private_key), key.times);
        self.keys.store(Arc::new(keys.into_iter().map(signing).collect()));
        Ok(())
    }

    /// The task that keeps keys coming.
    pub(crate) fn task(self, store: Store) -> Task {
        Task::new("identity-signing-keys", move |stop| async move {
            let mut said = false;
            loop {
                let wait = match self.maintain(&store, Timestamp::now()).await {
                    Ok(()) => {
                        said = false;
                        MAINTAIN_INTERVAL
                    }
                    Err(failure) => {
                        // Once an outage: it is tried again several times a second while there is none.
                        if !said {
                            tracing::warn!(failure = ?failure, "signing keys not maintained");
                        }
                        said = true;
                        RETRY_INTERVAL
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(wait) => {}
                }
            }
        })
    }
}

fn key_pair() -> anyhow::Result<NewKeyPair> {
    let failed = |_| anyhow::anyhow!("no key could be made");
    // Version 1 of PKCS#8: jsonwebtoken makes nothing of version 2.
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(failed)?;
    let private_key = Zeroizing::new(pkcs8.as_ref().to_vec());
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private_key)
        .map_err(|error| anyhow::anyhow!("the key that was made is refused: {error}"))?;
    let public_key = pair.public_key().as_ref().to_vec();
    let hash = digest::digest(&digest::SHA256, &public_key);
    let kid = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(NewKeyPair { kid, private_key, public_key })
}

impl TokenConfig {
    /// How long an access token lives.
    pub(crate) fn access_token_life(&self) -> SignedDuration {
        SignedDuration::try_from(self.access_token_life).unwrap_or(SignedDuration::MAX)
    }

    fn signing_key_life(&self) -> SignedDuration {
        SignedDuration::try_from(self.signing_key_life).unwrap_or(SignedDuration::MAX)
    }
}
