//! Gets a service its identity and keeps it valid: renewed at 70 % of its life, the roots followed, both kept on disk.
//!
//! Whoever issues may be away: what is there goes on being used until it runs out, and the asking goes on.

use super::Credentials;
use super::Fingerprint;
use super::Identity;
use super::LocalAuthority;
use super::PeerIdentity;
use super::control;
use super::control::ControlPlace;
use super::control::Trust;
use super::issuer::Issuer;
use super::kept::Kept;
use super::request::NewKey;
use super::schedule::Schedule;
use crate::Mesh;
use crate::backoff::Backoff;
use crate::registry::Registry;
use anyhow::Context as _;
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The same while there is none at all, and a process waits to start.
const FIRST_RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// After how many failures in a row a process that can join does that instead of renewing.
const FAILURES_BEFORE_JOINING: u32 = 5;
/// How long after a renewal the next one is at the earliest, however short a life the issuer gave.
const RENEW_EVERY_MIN: Duration = Duration::from_secs(1);

/// What issues one service's identity.
#[derive(Debug)]
pub struct Issuing {
    issuer: Issuer,
    place: Option<ControlPlace>,
    peer: PeerIdentity,
    /// Only what control issued: from a folder another is made at once.
    kept: Option<Kept>,
    /// The key that asks to join.
    joining: tokio::sync::Mutex<Option<NewKey>>,
}

/// Who has a certificate already.
struct Present<'a> {
    mesh: &'a Mesh,
    identity: &'a Identity,
    /// How often renewing has failed in a row.
    failures: u32,
}

impl Issuing {
    pub(super) fn new(
        issuer: Issuer,
        service: &str,
        registry: Arc<dyn Registry>,
        kept: PathBuf,
    ) -> anyhow::Result<Self> {
        let peer = PeerIdentity::service(service)?;
        let (place, kept) = match &issuer {
            Issuer::File { .. } => (None, None),
            Issuer::Control { addresses, .. } => {
                (Some(ControlPlace::new(addresses, registry)?), Some(Kept::new(kept)))
            }
        };
        Ok(Self { issuer, place, peer, kept, joining: tokio::sync::Mutex::default() })
    }

    /// The identity: the one that was kept, or a new one. Asks control for as long as it takes.
    ///
    /// # Errors
    /// If the authority's folder can't be used, or nothing is kept and there is nothing to join by.
    pub async fn first(&self) -> anyhow::Result<Identity> {
        let kept = self.kept.as_ref().and_then(|kept| kept.load(&self.peer, Timestamp::now()));
        if let Some(credentials) = kept {
            let identity = Identity::new(credentials)?;
            identity.issued_by(&self.issuer);
            return Ok(identity);
        }
        let mut backoff = Backoff::new(FIRST_RETRY_WAIT.0, FIRST_RETRY_WAIT.1);
        let mut said = String::new();
        let credentials = loop {
            let error = match self.issue(None).await {
                Ok((credentials, _)) => break credentials,
                Err(error) => error,
            };
            if matches!(self.issuer, Issuer::File { .. }) || !self.can_join() {
                return Err(error);
            }
            // The first is news, and whatever else it is afterwards.
            let text = format!("{error:#}");
            if text != said {
                tracing::warn!(service = %self.peer, error = text, "no certificate yet; trying on");
                said = text;
            }
            tokio::time::sleep(backoff.next()).await;
        };
        self.keep(&credentials);
        let identity = Identity::new(credentials)?;
        identity.issued_by(&self.issuer);
        Ok(identity)
    }

    /// Renews `identity` until `stop`, asking through `mesh`, which has that identity.
    ///
    /// # Errors
    /// If there is nothing to ask with, which only malformed options can cause.
    pub async fn renew(
        self,
        identity: Identity,
        mesh: Mesh,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mesh = match (&self.issuer, &self.place) {
            (Issuer::Control { addresses, .. }, Some(place)) if !addresses.is_empty() => {
                place.channel(identity.clone())?
            }
            _ => mesh,
        };
        let renewing = async {
            let mut schedule = Schedule::new(identity.validity(), Timestamp::now());
            loop {
                schedule.wait(Timestamp::now()).await;
                self.look(&identity, &mesh, &mut schedule).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = renewing => Ok(()),
        }
    }

    /// Does what is due.
    async fn look(&self, identity: &Identity, mesh: &Mesh, schedule: &mut Schedule) {
        schedule.see(Timestamp::now());
        if schedule.trust_at <= Timestamp::now() {
            match self.trust(mesh).await {
                Ok(trust) => self.follow(identity, trust, schedule),
                // What is trusted stays as it is.
                Err(error) => tracing::debug!(error = format!("{error:#}"), "no word of the roots"),
            }
            schedule.trust_looked(Timestamp::now());
        }
        if Timestamp::now() < schedule.renew_at {
            return;
        }
        let present = Present { mesh, identity, failures: schedule.failures };
        let replaced = match self.issue(Some(present)).await {
            Ok((credentials, _)) => self.adopt(identity, credentials),
            Err(error) => Err(error),
        };
        match replaced {
            Ok(()) => {
                let validity = identity.validity();
                tracing::info!(not_after = %validity.not_after, "certificate renewed");
                let now = Timestamp::now();
                schedule.renewed(validity, now);
                schedule.renew_at = schedule.renew_at.max(now + RENEW_EVERY_MIN);
            }
            Err(error) => {
                identity.failed(&error);
                schedule.failed(Timestamp::now());
            }
        }
    }

    /// Uses credentials from now on, and keeps them only then: what was kept before is known to be good.
    fn adopt(&self, identity: &Identity, credentials: Credentials) -> anyhow::Result<()> {
        identity.replace(credentials.with_roots(credentials.roots.clone())?)?;
        self.keep(&credentials);
        Ok(())
    }

    /// Trusts what is to be trusted; and renews soon if the certificate is of a root that issues no more.
    fn follow(&self, identity: &Identity, trust: Trust, schedule: &mut Schedule) {
        match identity.trust(trust.roots) {
            Ok(Some(credentials)) => {
                tracing::info!(roots = credentials.roots.len(), "the trusted roots changed");
                self.keep(&credentials);
            }
            Ok(None) => {}
            Err(error) => identity.failed(&error.context("the roots can't be trusted")),
        }
        if identity.root() != Some(trust.issuing_root) {
            schedule.reissue(Timestamp::now());
        }
    }

    /// A new certificate: for who has one by that, else by joining.
    async fn issue(
        &self,
        present: Option<Present<'_>>,
    ) -> anyhow::Result<(Credentials, Fingerprint)> {
        let now = Timestamp::now();
        let (credential, root) = match &self.issuer {
            Issuer::File { folder, life } => {
                // Another root in place of one that is not there right now would be trusted by nobody.
                let authority = match present {
                    None => LocalAuthority::open_or_create(folder)?,
                    Some(_) => LocalAuthority::open(folder)?,
                };
                let credentials = authority.issue_to(&self.peer, *life, now)?;
                return Ok((credentials, authority.signer().root()));
            }
            Issuer::Control { credential, root, .. } => (credential.as_ref(), root.as_ref()),
        };
        let place = self.place.as_ref().context("control has a place")?;
        if let Some(Present { mesh, identity, failures }) = present {
            let outcome = control::renew(mesh).await;
            // Also after failures in a row: control may trust the root no more that ours is of, and then no call reaches it.
            let is_over =
                identity.validity().not_after <= now || failures >= FAILURES_BEFORE_JOINING;
            match outcome {
                // An answer that is no, or a certificate that nobody takes any more: what let it join may let it join again.
                Err(error) if credential.is_some() && (is_over || control::is_refusal(&error)) => {
                    tracing::info!(error = format!("{error:#}"), "not renewed; joining again");
                }
                outcome => return outcome,
            }
        }
        let credential = credential.context(
            "there is no certificate, and nothing to join by: mesh.join_token or mesh.join_kubernetes",
        )?;
        // One key until there is an answer: a token's use belongs to the key, so a lost answer costs none.
        let mut joining = self.joining.lock().await;
        let key = match &*joining {
            Some(key) => key,
            None => joining.insert(NewKey::generate()?),
        };
        let joined =
            control::join(place, self.peer.service.as_str(), credential, root, key).await?;
        *joining = None;
        Ok(joined)
    }

    async fn trust(&self, mesh: &Mesh) -> anyhow::Result<Trust> {
        match &self.issuer {
            Issuer::Control { .. } => control::trust(mesh).await,
            Issuer::File { folder, .. } => {
                let authority = LocalAuthority::open(folder)?;
                Ok(Trust {
                    roots: authority.roots().to_vec(),
                    issuing_root: authority.signer().root(),
                })
            }
        }
    }

    fn can_join(&self) -> bool {
        matches!(&self.issuer, Issuer::Control { credential: Some(_), .. })
    }

    /// A full disk costs the next restart a join, and nothing now.
    fn keep(&self, credentials: &Credentials) {
        let Some(kept) = &self.kept else { return };
        if let Err(error) = kept.store(credentials) {
            tracing::warn!(error = format!("{error:#}"), "credentials are not kept");
        }
    }
}
