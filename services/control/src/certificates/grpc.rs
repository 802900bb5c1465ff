//! The three certificate services, as they are called.

use super::Authority;
use super::Kubernetes;
use super::Metrics;
use super::Tokens;
use super::tokens::Record;
use super::tokens::Wanted;
use crate::config::joinable;
use jiff::Timestamp;
use mesh::PeerIdentity;
use mesh::identity::CertificateRequest;
use mesh::identity::Fingerprint;
use mesh::identity::Role;
use proto::common::v1::ErrorReason;
use proto::mesh::v1::CreateJoinTokenRequest;
use proto::mesh::v1::CreateJoinTokenResponse;
use proto::mesh::v1::GetTrustBundleRequest;
use proto::mesh::v1::GetTrustBundleResponse;
use proto::mesh::v1::IssueOperatorCertificateRequest;
use proto::mesh::v1::IssueOperatorCertificateResponse;
use proto::mesh::v1::IssuedCertificate;
use proto::mesh::v1::JoinRequest;
use proto::mesh::v1::JoinResponse;
use proto::mesh::v1::JoinToken;
use proto::mesh::v1::ListJoinTokensRequest;
use proto::mesh::v1::ListJoinTokensResponse;
use proto::mesh::v1::OperatorRole;
use proto::mesh::v1::RenewCertificateRequest;
use proto::mesh::v1::RenewCertificateResponse;
use proto::mesh::v1::RevokeJoinTokenRequest;
use proto::mesh::v1::RevokeJoinTokenResponse;
use proto::mesh::v1::certificate_admin_service_server::CertificateAdminService;
use proto::mesh::v1::certificate_service_server::CertificateService;
use proto::mesh::v1::join_request::Credential;
use proto::mesh::v1::join_service_server::JoinService;
use rpc::Error;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// How long an operator's certificate is valid: the least, the most, and unless someone says otherwise.
const OPERATOR_LIFE_MIN: Duration = Duration::from_secs(60);
const OPERATOR_LIFE_MAX: Duration = Duration::from_hours(7 * 24);
const OPERATOR_LIFE_DEFAULT: Duration = Duration::from_hours(8);

/// What all of them issue with.
#[derive(Debug)]
pub(crate) struct Issuance {
    pub(crate) authority: Arc<Authority>,
    /// How long a service's certificate is valid.
    pub(crate) life: Duration,
    pub(crate) metrics: Metrics,
}

impl Issuance {
    fn issue(
        &self,
        proof: &'static str,
        key: &CertificateRequest,
        peer: &PeerIdentity,
        life: Duration,
    ) -> Result<IssuedCertificate, Error> {
        let issued = self.authority.issue(key, peer, life, Timestamp::now());
        let issued = issued.map_err(|error| Error::internal(&format!("{error:#}")))?;
        self.metrics.issued(proof);
        tracing::info!(%peer, proof, "a certificate was issued");
        Ok(issued)
    }

    fn refused(&self, proof: &'static str, peer: &str, error: Error) -> Status {
        self.metrics.refused(proof);
        tracing::warn!(peer, proof, reason = error.reason_text(), error.message, "refused");
        error.into()
    }
}

fn key(request: &[u8]) -> Result<CertificateRequest, Error> {
    CertificateRequest::parse(request)
        .map_err(|error| Error::invalid("certificate_request", format!("{error:#}")))
}

/// Whatever a policy lets in: who may make identities is not for a policy to say.
fn only<T>(request: &Request<T>, roles: &[Role]) -> Result<(), Error> {
    let peer = caller(request)?;
    if roles.contains(&peer.role) {
        return Ok(());
    }
    Err(Error::peer_not_allowed(peer.service.as_str()))
}

fn caller<T>(request: &Request<T>) -> Result<PeerIdentity, Error> {
    let peer = request.extensions().get::<PeerIdentity>().cloned();
    peer.ok_or_else(|| Error::internal(&"the mesh says who calls"))
}

fn life(
    said: Option<prost_types::Duration>,
    (min, default, max): (Duration, Duration, Duration),
) -> Result<Duration, Error> {
    let Some(said) = said else { return Ok(default) };
    let life = Duration::try_from(said).ok().filter(|life| (min..=max).contains(life));
    life.ok_or_else(|| Error::invalid("life", "must be 1 minute to 7 days"))
}

/// `JoinService`.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) issuance: Arc<Issuance>,
    pub(crate) tokens: Tokens,
    pub(crate) kubernetes: Option<Kubernetes>,
}

impl Join {
    async fn joined(
        &self,
        request: JoinRequest,
        proof: &'static str,
    ) -> Result<IssuedCertificate, Error> {
        let peer = joinable(&request.service)
            .map_err(|error| Error::invalid("service", format!("{error:#}")))?;
        let key = key(&request.certificate_request)?;
        let now = Timestamp::now();
        match request.credential {
            Some(Credential::JoinToken(token)) => {
                self.tokens.take(&token, &request.service, key.key_fingerprint(), now).await?;
            }
            Some(Credential::KubernetesToken(token)) => {
                let kubernetes = self.kubernetes.as_ref().ok_or_else(|| {
                    let message =
                        "this control takes no Kubernetes tokens: control.kubernetes is not set";
                    Error::new(Code::FailedPrecondition, ErrorReason::NotConfigured, message)
                })?;
                kubernetes.check(&token, &request.service, now).await?;
            }
            None => {
                return Err(Error::unauthenticated(
                    ErrorReason::CredentialsMissing,
                    "a join token or a Kubernetes token is needed",
                ));
            }
        }
        self.issuance.issue(proof, &key, &peer, self.issuance.life)
    }
}

#[tonic::async_trait]
impl JoinService for Join {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let proof = match &request.credential {
            Some(Credential::JoinToken(_)) => "join_token",
            Some(Credential::KubernetesToken(_)) => "kubernetes",
            None => "none",
        };
        let service = request.service.clone();
        let joined = self.joined(request, proof).await;
        let certificate = joined.map_err(|error| self.issuance.refused(proof, &service, error))?;
        Ok(Response::new(JoinResponse { certificate: Some(certificate) }))
    }
}

/// `CertificateService`.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) issuance: Arc<Issuance>,
}

#[tonic::async_trait]
impl CertificateService for Renewal {
    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        let peer = caller(&request)?;
        let renewed = (|| {
            if peer.role != Role::Service {
                let mut error = Error::peer_not_allowed(peer.service.as_str());
                error.message = format!("the certificate of `{peer}` is not renewed: ask for one");
                return Err(error);
            }
            let key = key(&request.get_ref().certificate_request)?;
            self.issuance.issue("renewal", &key, &peer, self.issuance.life)
        })();
        let certificate = renewed
            .map_err(|error| self.issuance.refused("renewal", peer.service.as_str(), error))?;
        Ok(Response::new(RenewCertificateResponse { certificate: Some(certificate) }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        let trust = Some(self.issuance.authority.trust());
        Ok(Response::new(GetTrustBundleResponse { trust }))
    }
}

/// `CertificateAdminService`.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) issuance: Arc<Issuance>,
    pub(crate) tokens: Tokens,
}

#[tonic::async_trait]
impl CertificateAdminService for Admin {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        only(&request, &[Role::Admin])?;
        let CreateJoinTokenRequest { services, life, uses_max, note } = request.into_inner();
        let life = life.map(Duration::try_from).transpose();
        let life = life.map_err(|_| Error::invalid("life", "must be 1 minute to 7 days"))?;
        let roots = self.issuance.authority.trust().roots;
        let pins = roots.iter().map(|root| Fingerprint::of(root)).collect();
        let wanted = Wanted { services, life, uses_max, note };
        let (token, record) = self.tokens.create(wanted, pins, Timestamp::now()).await?;
        let services = record.services.join(",");
        tracing::info!(
            id = token.id,
            services,
            uses_max = record.uses_max,
            "a join token was made"
        );
        Ok(Response::new(CreateJoinTokenResponse {
            text: token.text(),
            token: Some(shown(token.id, record)),
        }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        only(&request, &[Role::Admin, Role::Viewer])?;
        let tokens = self.tokens.list(Timestamp::now()).await?;
        let tokens = tokens.into_iter().map(|(id, record)| shown(id, record)).collect();
        Ok(Response::new(ListJoinTokensResponse { tokens }))
    }

    async fn revoke_join_token(
        &self,
        request: Request<RevokeJoinTokenRequest>,
    ) -> Result<Response<RevokeJoinTokenResponse>, Status> {
        only(&request, &[Role::Admin])?;
        let id = request.into_inner().id;
        self.tokens.revoke(&id).await?;
        tracing::info!(id, "a join token was revoked");
        Ok(Response::new(RevokeJoinTokenResponse {}))
    }

    async fn issue_operator_certificate(
        &self,
        request: Request<IssueOperatorCertificateRequest>,
    ) -> Result<Response<IssueOperatorCertificateResponse>, Status> {
        only(&request, &[Role::Admin])?;
        let request = request.into_inner();
        let role = match request.role() {
            OperatorRole::Admin => Role::Admin,
            OperatorRole::Viewer | OperatorRole::Unspecified => Role::Viewer,
        };
        let bounds = (OPERATOR_LIFE_MIN, OPERATOR_LIFE_DEFAULT, OPERATOR_LIFE_MAX);
        let life = life(request.life, bounds)?;
        let key = key(&request.certificate_request)?;
        let peer = PeerIdentity::operator(role);
        let certificate = Some(self.issuance.issue("operator", &key, &peer, life)?);
        Ok(Response::new(IssueOperatorCertificateResponse { certificate }))
    }
}

fn shown(id: String, record: Record) -> JoinToken {
    JoinToken {
        id,
        services: record.services,
        create_time: Some(rpc::time::to_proto(record.create_time)),
        expire_time: Some(rpc::time::to_proto(record.expire_time)),
        uses_max: record.uses_max,
        uses: u32::try_from(record.used_by.len()).unwrap_or(u32::MAX),
        note: record.note,
    }
}
