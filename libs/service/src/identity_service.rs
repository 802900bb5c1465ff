//! `linkmesh.mesh.v1.IdentityService`: what a service proves itself with, for operators.

use proto::mesh::v1::GetIdentityRequest;
use proto::mesh::v1::GetIdentityResponse;
use proto::mesh::v1::identity_service_server::IdentityService;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// Answers for one service's identity.
#[derive(Debug)]
pub(crate) struct IdentityView {
    pub(crate) identity: mesh::Identity,
}

#[tonic::async_trait]
impl IdentityService for IdentityView {
    async fn get_identity(
        &self,
        _: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let spiffe_id = self.identity.peer().spiffe_id().unwrap_or_default();
        let Some(view) = self.identity.certificate() else {
            return Ok(Response::new(GetIdentityResponse { spiffe_id, ..Default::default() }));
        };
        Ok(Response::new(GetIdentityResponse {
            spiffe_id,
            not_before: Some(rpc::time::to_proto(view.validity.not_before)),
            not_after: Some(rpc::time::to_proto(view.validity.not_after)),
            root: view.root.map(|root| root.to_string()).unwrap_or_default(),
            trusted_roots: view.roots.into_iter().map(|root| root.fingerprint).collect(),
            issuer: view.source,
            rotations: view.rotations,
            last_failure: view.last_failure,
        }))
    }
}
