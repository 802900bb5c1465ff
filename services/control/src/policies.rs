//! `linkmesh.mesh.v1.PolicyService`: what operators say of the mesh, stored.
//!
//! Who may look and who may change is decided here, by the role that the caller's certificate gives it.

use jiff::Timestamp;
use mesh::PeerIdentity;
use mesh::identity::Role;
use mesh::policy::Authorship;
use mesh::policy::Policies;
use mesh::policy::Policy;
use mesh::policy::PolicyRecord;
use mesh::policy::StoredPolicy;
use proto::mesh::v1::ApplyPolicyRequest;
use proto::mesh::v1::ApplyPolicyResponse;
use proto::mesh::v1::DeletePolicyRequest;
use proto::mesh::v1::DeletePolicyResponse;
use proto::mesh::v1::ListPoliciesRequest;
use proto::mesh::v1::ListPoliciesResponse;
use proto::mesh::v1::ListPolicyRevisionsRequest;
use proto::mesh::v1::ListPolicyRevisionsResponse;
use proto::mesh::v1::PolicyRevision;
use proto::mesh::v1::RollbackPolicyRequest;
use proto::mesh::v1::RollbackPolicyResponse;
use proto::mesh::v1::ServicePolicy;
use proto::mesh::v1::ValidatePolicyRequest;
use proto::mesh::v1::ValidatePolicyResponse;
use proto::mesh::v1::policy_service_server::PolicyService;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// The calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) policies: Policies,
}

#[tonic::async_trait]
impl PolicyService for Api {
    async fn apply_policy(
        &self,
        request: Request<ApplyPolicyRequest>,
    ) -> Result<Response<ApplyPolicyResponse>, Status> {
        let author = author(&request)?;
        let ApplyPolicyRequest { policy, expected_revision, note } = request.into_inner();
        let authorship = Authorship { author, note, now: Timestamp::now() };
        let policy = given(policy)?;
        let applied = self.policies.apply(policy, expected_revision, &authorship).await?;
        Ok(Response::new(ApplyPolicyResponse { revision: Some(message(applied)) }))
    }

    async fn validate_policy(
        &self,
        request: Request<ValidatePolicyRequest>,
    ) -> Result<Response<ValidatePolicyResponse>, Status> {
        let policy = given(request.into_inner().policy)?;
        Policy::compile(&policy, 0).map_err(rpc::Error::invalid_fields)?;
        Ok(Response::new(ValidatePolicyResponse {}))
    }

    async fn list_policies(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let wanted = request.into_inner().service;
        let stored = self.policies.list().await?;
        let stored = stored.into_iter().filter(|it| wanted.is_empty() || it.service == wanted);
        Ok(Response::new(ListPoliciesResponse { policies: stored.map(stored_message).collect() }))
    }

    async fn list_policy_revisions(
        &self,
        request: Request<ListPolicyRevisionsRequest>,
    ) -> Result<Response<ListPolicyRevisionsResponse>, Status> {
        let service = named(request.into_inner().service)?;
        let history = self.policies.history(&service).await?;
        let revisions = history.into_iter().map(message).collect();
        Ok(Response::new(ListPolicyRevisionsResponse { revisions }))
    }

    async fn rollback_policy(
        &self,
        request: Request<RollbackPolicyRequest>,
    ) -> Result<Response<RollbackPolicyResponse>, Status> {
        let author = author(&request)?;
        let RollbackPolicyRequest { service, revision, note } = request.into_inner();
        let service = named(service)?;
        let authorship = Authorship { author, note, now: Timestamp::now() };
        let stored = self.policies.roll_back(&service, revision, &authorship).await?;
        Ok(Response::new(RollbackPolicyResponse { revision: Some(message(stored)) }))
    }

    async fn delete_policy(
        &self,
        request: Request<DeletePolicyRequest>,
    ) -> Result<Response<DeletePolicyResponse>, Status> {
        let author = author(&request)?;
        let DeletePolicyRequest { service, note } = request.into_inner();
        let service = named(service)?;
        let authorship = Authorship { author, note, now: Timestamp::now() };
        self.policies.delete(&service, &authorship).await?;
        Ok(Response::new(DeletePolicyResponse {}))
    }
}

/// Who changes something: an operator whose role allows it.
fn author<T>(request: &Request<T>) -> Result<String, rpc::Error> {
    let peer = request.extensions().get::<PeerIdentity>();
    let peer = peer.ok_or_else(|| rpc::Error::internal(&"the mesh named no peer"))?;
    let name = peer.service.as_str();
    match peer.role {
        Role::Admin => Ok(name.to_owned()),
        Role::Viewer => {
            let mut error = rpc::Error::peer_not_allowed(name);
            error.message = "an operator with the role `viewer` may look at policies, not change \
                             them; this takes the role `admin`"
                .to_owned();
            Err(error)
        }
        Role::Service | Role::Anonymous => Err(rpc::Error::peer_not_allowed(name)),
    }
}

fn given(policy: Option<ServicePolicy>) -> Result<ServicePolicy, rpc::Error> {
    policy.ok_or_else(|| rpc::Error::invalid("policy", "must be there"))
}

/// The service that a request names: of one without a policy nothing is stored, whatever its name.
fn named(service: String) -> Result<String, rpc::Error> {
    match mesh::identity::ServiceName::parse(&service) {
        Ok(_) => Ok(service),
        Err(error) => Err(rpc::Error::invalid("service", format!("{error:#}"))),
    }
}

fn message(record: PolicyRecord) -> PolicyRevision {
    let PolicyRecord { policy, revision, apply_time, author, note, service } = record;
    PolicyRevision {
        service,
        policy,
        revision,
        apply_time: Some(rpc::time::to_proto(apply_time)),
        author,
        note,
        problem: String::new(),
    }
}

fn stored_message(stored: StoredPolicy) -> PolicyRevision {
    let StoredPolicy { service, record, problem } = stored;
    let revision = match record {
        Some(record) => message(record),
        None => PolicyRevision { service, ..PolicyRevision::default() },
    };
    PolicyRevision { problem: problem.unwrap_or_default(), ..revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_of(peer: PeerIdentity) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(peer);
        request
    }

    #[test]
    fn only_an_operator_who_may_change_things_is_an_author() {
        assert_eq!(author(&request_of(PeerIdentity::operator(Role::Admin))).unwrap(), "operator");
        let viewer = author(&request_of(PeerIdentity::operator(Role::Viewer))).unwrap_err();
        assert_eq!(viewer.code, tonic::Code::PermissionDenied);
        assert!(viewer.message.contains("admin"), "{viewer}");
        let service = author(&request_of(PeerIdentity::service("links").unwrap())).unwrap_err();
        assert_eq!(service.code, tonic::Code::PermissionDenied);
        assert!(author(&request_of(PeerIdentity::anonymous())).is_err());
    }

    #[test]
    fn a_value_that_is_no_policy_still_names_its_service_and_says_why() {
        let stored = StoredPolicy {
            service: "links".to_owned(),
            record: None,
            problem: Some("it is garbage".to_owned()),
        };
        let message = stored_message(stored);
        assert_eq!(
            (message.service.as_str(), message.problem.as_str()),
            ("links", "it is garbage")
        );
    }
}
