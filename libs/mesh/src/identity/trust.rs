//! A peer that was believed when a connection was opened is believed for as long as a new handshake would believe it.

use super::Identity;
use super::Security;
use super::Validity;
use super::tls::Shown;
use jiff::Timestamp;
use rand::RngExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use std::time::Duration;

/// How long a wait for a certificate's end lasts before the clock is read again: clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The share of a certificate's life before its end in which its connections are ended, at a random moment of each: a process
/// has a new certificate by then, and does not lose all its connections at once.
const END_SHARE: f64 = 0.1;

impl Identity {
    /// Returns when a caller that showed `chain` has to prove itself anew: its certificate runs out, or no root that is trusted
    /// now vouches for it.
    pub(crate) async fn caller_outlived(&self, chain: Vec<CertificateDer<'static>>) {
        self.outlived(Shown { chain, server_name: None }).await;
    }

    /// The same of a callee.
    pub(crate) async fn callee_outlived(
        &self,
        chain: Vec<CertificateDer<'static>>,
        server_name: ServerName<'static>,
    ) {
        self.outlived(Shown { chain, server_name: Some(server_name) }).await;
    }

    async fn outlived(&self, shown: Shown) {
        let mut changes = self.0.changed.subscribe();
        let end = end_of(&shown.chain, Timestamp::now());
        loop {
            let now = Timestamp::now();
            if now >= end || !self.trusts(&shown, now) {
                return;
            }
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
                // An error would say that the identity is gone, which is held here.
                _ = changes.changed() => {}
            }
        }
    }

    fn trusts(&self, shown: &Shown, now: Timestamp) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(now.as_second()).unwrap_or_default(),
        ));
        match &**self.0.security.load() {
            Security::Tls(proof) => proof.tls.would_trust(shown, now),
            Security::Joining(_) | Security::Plaintext => true,
        }
    }
}

/// A moment shortly before the first of these certificates runs out, and not before `now`: near its end a certificate must not have
/// connections opened and closed in a circle.
fn end_of(chain: &[CertificateDer<'static>], now: Timestamp) -> Timestamp {
    let validities = chain.iter().filter_map(|der| Validity::of_certificate(der).ok());
    let first = validities.min_by_key(|validity| validity.not_after);
    let Some(Validity { not_before, not_after }) = first else { return Timestamp::MIN };
    let life = Duration::try_from(not_after.duration_since(not_before)).unwrap_or_default();
    let from = (not_after - life.mul_f64(END_SHARE)).max(now);
    let window = Duration::try_from(not_after.duration_since(from)).unwrap_or_default();
    from + window.mul_f64(rand::rng().random_range(0.0..1.0))
}
