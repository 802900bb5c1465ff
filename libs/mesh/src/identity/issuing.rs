//! Gets a service its identity and keeps it valid: renewed at 70 % of its life, the roots followed, both kept on disk.
//!
//! Whoever issues may be away: what is there goes on being used until it runs out, and the asking goes on.

use super::Credentials;
use super::Fingerprint;
use super::Identity;
use super::LocalAuthority;
use super::PeerIdentity;
use super::Validity;
use super::authority::CLOCK_SKEW_MAX;
use super::control;
use super::control::ControlPlace;
use super::control::Trust;
use super::issuer::Issuer;
use super::kept::Kept;
use crate::Mesh;
use crate::backoff::Backoff;
use crate::registry::Registry;
use anyhow::Context as _;
use jiff::Timestamp;
use rand::RngExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// When a certificate is renewed: after this share of its life, as Linkerd does, or a little earlier, so that processes that
/// started together do not renew together.
const RENEW_AT: f64 = 0.7;
const RENEW_JITTER: f64 = 0.1;
/// The waits between two attempts to get a certificate.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The same while there is none at all, and a process waits to start.
const FIRST_RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often the roots are looked at: so many times in a certificate's life, within bounds.
const TRUST_LOOKS: u32 = 20;
const TRUST_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// In how long, at most, certificates of a root that issues no more are replaced: a share of their life.
const REISSUE_SHARE: f64 = 0.1;
const REISSUE_WITHIN_MAX: Duration = Duration::from_secs(300);
/// How long a wait lasts before the clock is read again: clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What issues one service's identity.
#[derive(Debug)]
pub struct Issuing {
    issuer: Issuer,
    place: Option<ControlPlace>,
    peer: PeerIdentity,
    /// Only what control issued: from a folder another is made at once.
    kept: Option<Kept>,
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
        Ok(Self { issuer, place, peer, kept })
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
        let replaced = match self.issue(Some((mesh, identity))).await {
            Ok((credentials, _)) => {
                self.keep(&credentials);
                identity.replace(credentials)
            }
            Err(error) => Err(error),
        };
        match replaced {
            Ok(()) => {
                let validity = identity.validity();
                tracing::info!(not_after = %validity.not_after, "certificate renewed");
                schedule.renewed(validity, Timestamp::now());
            }
            Err(error) => {
                identity.failed(&error);
                schedule.failed(Timestamp::now());
            }
        }
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
        present: Option<(&Mesh, &Identity)>,
    ) -> anyhow::Result<(Credentials, Fingerprint)> {
        let now = Timestamp::now();
        let (credential, root) = match &self.issuer {
            Issuer::File { folder, life } => {
                let authority = LocalAuthority::open_or_create(folder)?;
                let credentials = authority.issue_to(&self.peer, *life, now)?;
                return Ok((credentials, authority.signer().root()));
            }
            Issuer::Control { credential, root, .. } => (credential.as_ref(), root.as_ref()),
        };
        let place = self.place.as_ref().context("control has a place")?;
        if let Some((mesh, identity)) = present {
            let outcome = control::renew(mesh).await;
            let is_over = identity.validity().not_after <= now;
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
        control::join(place, self.peer.service.as_str(), credential, root).await
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

/// When what is due.
#[derive(Debug)]
struct Schedule {
    renew_at: Timestamp,
    trust_at: Timestamp,
    /// How long the certificate is meant to be used.
    life: Duration,
    backoff: Backoff,
}

impl Schedule {
    fn new(validity: Validity, now: Timestamp) -> Self {
        let mut schedule = Self {
            renew_at: now,
            trust_at: now,
            life: Duration::ZERO,
            backoff: Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1),
        };
        schedule.renewed(validity, now);
        schedule.trust_looked(now);
        schedule
    }

    fn renewed(&mut self, validity: Validity, now: Timestamp) {
        // The issuer has added the skew at both ends.
        let issued = validity.not_before + CLOCK_SKEW_MAX;
        let end = validity.not_after - CLOCK_SKEW_MAX;
        self.life = Duration::try_from(end.duration_since(issued)).unwrap_or_default();
        let share = RENEW_AT - rand::rng().random_range(0.0..RENEW_JITTER);
        // A clock that is behind the issuer's must not make it wait longer.
        self.renew_at = issued.min(now) + self.life.mul_f64(share);
        self.backoff.reset();
    }

    fn failed(&mut self, now: Timestamp) {
        self.renew_at = now + self.backoff.next();
    }

    fn trust_looked(&mut self, now: Timestamp) {
        let every = (self.life / TRUST_LOOKS).clamp(TRUST_EVERY.0, TRUST_EVERY.1);
        self.trust_at = now + every.mul_f64(rand::rng().random_range(0.8..1.2));
    }

    fn reissue(&mut self, now: Timestamp) {
        let within = self.life.mul_f64(REISSUE_SHARE).min(REISSUE_WITHIN_MAX);
        let at = now + within.mul_f64(rand::rng().random_range(0.0..1.0));
        self.renew_at = self.renew_at.min(at);
    }

    async fn wait(&self, now: Timestamp) {
        let next = self.renew_at.min(self.trust_at);
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        tokio::time::sleep(wait.min(LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(now: Timestamp, life: Duration) -> Validity {
        Validity { not_before: now - CLOCK_SKEW_MAX, not_after: now + life + CLOCK_SKEW_MAX }
    }

    #[test]
    fn a_certificate_is_renewed_at_about_seven_tenths_of_its_life() {
        let now = Timestamp::now();
        for life in [60, 3600, 24 * 3600].map(Duration::from_secs) {
            for _ in 0..50 {
                let schedule = Schedule::new(validity(now, life), now);
                let share =
                    schedule.renew_at.duration_since(now).as_secs_f64() / life.as_secs_f64();
                assert!((0.6..=0.7).contains(&share), "{share}");
            }
        }
    }

    #[test]
    fn what_was_kept_for_long_is_renewed_at_once() {
        let now = Timestamp::now();
        let day = Duration::from_secs(24 * 3600);
        let schedule = Schedule::new(validity(now - day, day), now);
        assert!(schedule.renew_at <= now);
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_then_less_often() {
        let now = Timestamp::now();
        let mut schedule = Schedule::new(validity(now, Duration::from_secs(60)), now);
        schedule.failed(now);
        assert_eq!(schedule.renew_at, now + RETRY_WAIT.0);
        for _ in 0..20 {
            schedule.failed(now);
            assert!(schedule.renew_at <= now + RETRY_WAIT.1);
        }
    }

    #[test]
    fn a_certificate_of_a_root_that_issues_no_more_is_replaced_soon() {
        let now = Timestamp::now();
        let mut schedule = Schedule::new(validity(now, Duration::from_secs(24 * 3600)), now);
        schedule.reissue(now);
        assert!(schedule.renew_at <= now + REISSUE_WITHIN_MAX);
        let earlier = schedule.renew_at;
        schedule.reissue(now + REISSUE_WITHIN_MAX);
        assert_eq!(schedule.renew_at, earlier, "it is not put off");
    }
}
