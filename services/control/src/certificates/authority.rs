//! What this control issues with: an intermediate of its own, under the root whose key is in a folder.
//!
//! The intermediate's key is nowhere but in this process. The folder is looked at again and again, since a root is replaced by
//! changing it; what can't be used changes nothing.

use super::Metrics;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use mesh::LocalAuthority;
use mesh::PeerIdentity;
use mesh::identity::CertificateRequest;
use mesh::identity::Fingerprint;
use mesh::identity::Signer;
use proto::mesh::v1::IssuedCertificate;
use proto::mesh::v1::TrustBundle;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an intermediate is valid. Another is made at half of that, so it outlives every certificate that it issues: those have
/// 72 h at most.
const INTERMEDIATE_LIFE: Duration = Duration::from_hours(7 * 24);
/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What issues.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    state: ArcSwap<State>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    signer: Signer,
    trust: TrustBundle,
    /// Of the folder.
    fingerprint: Fingerprint,
}

impl State {
    fn read(folder: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let authority = LocalAuthority::open(folder)?;
        let fingerprint = authority.fingerprint();
        let trust = TrustBundle {
            roots: authority.roots().iter().map(|root| root.to_vec()).collect(),
            issuing_root: authority.signer().root().to_string(),
        };
        let own = authority.into_signer();
        // A given intermediate may be one that has none below it: then it issues itself.
        let signer = match own.is_root() || own.may_delegate() {
            true => own.delegate(now, INTERMEDIATE_LIFE).with_context(|| {
                format!("the root in {}: make a new authority, and join anew", folder.display())
            })?,
            false => own,
        };
        Ok(Self { signer, trust, fingerprint })
    }
}

impl Authority {
    /// Opens the folder's authority, and makes one if there is none.
    pub(crate) fn open(folder: PathBuf, metrics: Metrics) -> anyhow::Result<Self> {
        LocalAuthority::open_or_create(&folder)?;
        let state = State::read(&folder, Timestamp::now())?;
        metrics.issuing_until(state.signer.not_after().as_second());
        Ok(Self { folder, state: ArcSwap::from_pointee(state), metrics })
    }

    /// Issues a certificate.
    pub(super) fn issue(
        &self,
        request: &CertificateRequest,
        peer: &PeerIdentity,
        life: Duration,
        now: Timestamp,
    ) -> anyhow::Result<IssuedCertificate> {
        let state = self.state.load();
        let chain = state.signer.sign(request, peer, life, now)?;
        Ok(IssuedCertificate {
            chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            trust: Some(state.trust.clone()),
        })
    }

    /// The roots.
    pub(super) fn trust(&self) -> TrustBundle {
        self.state.load().trust.clone()
    }

    /// Follows what happens to the folder, until `stop`.
    pub(crate) async fn follow(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.look(Timestamp::now()) {
                Ok(()) => failing = false,
                Err(error) => {
                    self.metrics.not_reloaded();
                    // That it is so is news; that it still is isn't.
                    if !failing {
                        let error = format!("{error:#}");
                        tracing::error!(error, "the authority can't be read again; going on");
                    }
                    failing = true;
                }
            }
        }
    }

    fn look(&self, now: Timestamp) -> anyhow::Result<()> {
        let (fingerprint, not_after) = {
            let state = self.state.load();
            (state.fingerprint, state.signer.not_after())
        };
        let is_same = LocalAuthority::open(&self.folder)?.fingerprint() == fingerprint;
        if is_same && now + INTERMEDIATE_LIFE / 2 < not_after {
            return Ok(());
        }
        let state = State::read(&self.folder, now)?;
        let unchanged = state.signer.not_after() <= not_after;
        if is_same && unchanged {
            // A given intermediate that nothing here can renew.
            return Ok(());
        }
        let (roots, root) = (state.trust.roots.len(), state.signer.root());
        tracing::info!(roots, issuing_root = %root, "the authority has changed");
        self.metrics.issuing_until(state.signer.not_after().as_second());
        self.state.store(Arc::new(state));
        Ok(())
    }
}
