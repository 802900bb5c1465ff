//! How control is asked: to let this process join, for a new certificate, for the roots.

use super::Credentials;
use super::Fingerprint;
use super::Identity;
use super::NewKey;
use super::issuer::Credential;
use super::issuer::Root;
use super::issuer::proof;
use crate::Mesh;
use crate::MeshOptions;
use crate::registry;
use crate::registry::Lease;
use crate::registry::Registration;
use crate::registry::Registry;
use anyhow::Context as _;
use prometheus_client::registry::Registry as MetricsRegistry;
use proto::mesh::v1::GetTrustBundleRequest;
use proto::mesh::v1::IssuedCertificate;
use proto::mesh::v1::JoinRequest;
use proto::mesh::v1::RenewCertificateRequest;
use proto::mesh::v1::TrustBundle;
use proto::mesh::v1::certificate_service_client::CertificateServiceClient;
use proto::mesh::v1::certificate_service_server;
use proto::mesh::v1::join_service_client::JoinServiceClient;
use proto::mesh::v1::join_service_server;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::Status;

/// The service that issues.
pub(super) const CONTROL: &str = "control";
/// How long one answer of control may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// The roots to be trusted, and the one that issues.
pub(super) struct Trust {
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) issuing_root: Fingerprint,
}

/// Where control is.
#[derive(Debug)]
pub(super) struct ControlPlace {
    pub(super) registry: Arc<dyn Registry>,
    /// What it takes to find control without the cluster's registry.
    _leases: Vec<Box<dyn Lease>>,
}

impl ControlPlace {
    /// At these addresses, or, if there are none, where `registry` says.
    pub(super) fn new(addresses: &[String], registry: Arc<dyn Registry>) -> anyhow::Result<Self> {
        if addresses.is_empty() {
            return Ok(Self { registry, _leases: Vec::new() });
        }
        let registry = registry::open("memory:")?;
        let served = [join_service_server::SERVICE_NAME, certificate_service_server::SERVICE_NAME];
        let leases = addresses.iter().map(|address| {
            registry.register(Registration {
                instance: address.clone(),
                service: CONTROL.to_owned(),
                address: address.clone(),
                zone: String::new(),
                region: String::new(),
                version: String::new(),
                weight: registry::WEIGHT_DEFAULT,
                grpc_services: served.map(str::to_owned).to_vec(),
            })
        });
        let _leases = leases.collect();
        Ok(Self { registry, _leases })
    }

    /// A channel to control under `identity`; to be closed.
    pub(super) fn channel(&self, identity: Identity) -> anyhow::Result<Mesh> {
        let options = MeshOptions {
            registry: Arc::clone(&self.registry),
            identity,
            zone: String::new(),
            region: String::new(),
            snapshot: None,
        };
        // A few calls, whose outcome the identity's own metrics tell.
        Mesh::start(options, &mut MetricsRegistry::default())
    }
}

/// Asks for the first certificate.
pub(super) async fn join(
    place: &ControlPlace,
    service: &str,
    credential: &Credential,
    root: Option<&Root>,
    key: &NewKey,
) -> anyhow::Result<(Credentials, Fingerprint)> {
    let proof = proof(credential, root)?;
    let request = JoinRequest {
        service: service.to_owned(),
        certificate_request: key.request.clone(),
        credential: Some(proof.credential),
    };
    let mesh = place.channel(Identity::anonymous(&proof.pins)?)?;
    let answer = JoinServiceClient::new(mesh.clone()).join(within(request)).await;
    mesh.close().await;
    let answer = answer.map_err(|status| refused("joining", status))?;
    issued(key, answer.into_inner().certificate)
}

/// Asks for a certificate in place of the one that the channel's identity has.
pub(super) async fn renew(mesh: &Mesh) -> anyhow::Result<(Credentials, Fingerprint)> {
    let key = NewKey::generate()?;
    let request = RenewCertificateRequest { certificate_request: key.request.clone() };
    let answer =
        CertificateServiceClient::new(mesh.clone()).renew_certificate(within(request)).await;
    let answer = answer.map_err(|status| refused("renewing the certificate", status))?;
    issued(&key, answer.into_inner().certificate)
}

/// Asks what is to be trusted.
pub(super) async fn trust(mesh: &Mesh) -> anyhow::Result<Trust> {
    let request = within(GetTrustBundleRequest {});
    let answer = CertificateServiceClient::new(mesh.clone()).get_trust_bundle(request).await;
    let answer = answer.map_err(|status| refused("asking for the roots", status))?;
    parsed(answer.into_inner().trust)
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_WAIT_MAX);
    request
}

/// The status stays reachable: whether it was an answer decides what is tried next.
fn refused(doing: &'static str, status: Status) -> anyhow::Error {
    anyhow::Error::new(status).context(doing)
}

/// Whether control has answered, and the answer was no.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    use tonic::Code;
    error.downcast_ref::<Status>().is_some_and(|status| {
        !matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
        )
    })
}

fn issued(
    key: &NewKey,
    certificate: Option<IssuedCertificate>,
) -> anyhow::Result<(Credentials, Fingerprint)> {
    let certificate = certificate.context("the answer has no certificate")?;
    let trust = parsed(certificate.trust)?;
    let chain = certificate.chain.into_iter().map(CertificateDer::from).collect();
    Ok((Credentials::new(key.key.clone_key(), chain, trust.roots)?, trust.issuing_root))
}

fn parsed(trust: Option<TrustBundle>) -> anyhow::Result<Trust> {
    let trust = trust.context("the answer has no roots")?;
    Ok(Trust {
        issuing_root: Fingerprint::parse(&trust.issuing_root)?,
        roots: trust.roots.into_iter().map(CertificateDer::from).collect(),
    })
}
