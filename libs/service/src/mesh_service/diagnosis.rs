//! What could be wrong with an instance's part of the mesh.

use jiff::Timestamp;
use mesh::registry::Member;
use proto::mesh::v1::CertificateDiagnosis;
use proto::mesh::v1::GetDiagnosisResponse;
use proto::mesh::v1::PolicyProblem;
use proto::mesh::v1::RegistryDiagnosis;
use proto::mesh::v1::RegistryMember;
use proto::mesh::v1::RootDiagnosis;
use proto::mesh::v1::get_diagnosis_response::Registration;

use super::Node;
use crate::announcer::Standing;
use crate::announcer::Wish;

/// Now.
pub(super) async fn of(node: &Node) -> GetDiagnosisResponse {
    let (standing, members) = tokio::join!(node.rotation.ask(Wish::Look), node.registry.diagnose());
    let view = node.mesh.view();
    GetDiagnosisResponse {
        service: node.identity.service().to_owned(),
        instance: node.instance.clone(),
        version: node.version.clone(),
        now: Some(rpc::time::to_proto(Timestamp::now())),
        uptime: node.started.elapsed().try_into().ok(),
        certificate: node.identity.certificate().map(certificate),
        registry: Some(RegistryDiagnosis {
            uri: node.registry.place(),
            revision: view.revision,
            age: view.age.and_then(|age| age.try_into().ok()),
            members: members.into_iter().map(member).collect(),
        }),
        registration: registration(standing).into(),
        policy_problems: policy_problems(&node.mesh.policies()),
    }
}

fn policy_problems(policies: &mesh::policy::PolicySet) -> Vec<PolicyProblem> {
    let problem = |(service, refusal): (&String, &mesh::policy::Refusal)| PolicyProblem {
        service: service.clone(),
        problem: refusal.reason.clone(),
    };
    policies.refused().iter().map(problem).collect()
}

fn registration(standing: Option<Standing>) -> Registration {
    match standing {
        None => Registration::None,
        Some(Standing { reached: false, .. }) => Registration::Pending,
        Some(Standing { drained: true, .. }) => Registration::Drained,
        Some(Standing { drained: false, .. }) => Registration::Serving,
    }
}

fn certificate(view: mesh::identity::CertificateView) -> CertificateDiagnosis {
    let root = |root: mesh::identity::RootView| RootDiagnosis {
        subject: root.subject,
        fingerprint: root.fingerprint,
        not_after: Some(rpc::time::to_proto(root.not_after)),
    };
    CertificateDiagnosis {
        spiffe_id: view.spiffe_id,
        issuer: view.issuer,
        not_before: Some(rpc::time::to_proto(view.validity.not_before)),
        not_after: Some(rpc::time::to_proto(view.validity.not_after)),
        roots: view.roots.into_iter().map(root).collect(),
    }
}

fn member(member: Member) -> RegistryMember {
    let (health, problem) = match member.health {
        Ok(health) if health.led => (Some(health), String::new()),
        Ok(health) => (Some(health), "it knows no leader, and takes no writes".to_owned()),
        Err(problem) => (None, problem),
    };
    RegistryMember {
        address: member.address,
        problem,
        version: health.as_ref().map(|health| health.version.clone()).unwrap_or_default(),
        revision: health.as_ref().map_or(0, |health| health.revision),
        leads: health.is_some_and(|health| health.leads),
        took: member.took.try_into().ok(),
    }
}
