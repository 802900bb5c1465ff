//! Control: what the mesh as a whole is told. It issues certificates and takes policies.
//!
//! It keeps nothing but what is in the registry, so any instance answers any call; and nothing waits for it while a call
//! is made: without control the mesh goes on with what it was told last.

mod certificates;
mod config;
mod policies;

use anyhow::Context as _;
use certificates::Admin;
use certificates::Authority;
use certificates::Issuance;
use certificates::Join;
use certificates::Kubernetes;
use certificates::Metrics;
use certificates::Renewal;
use certificates::Tokens;
use proto::mesh::v1::certificate_admin_service_server;
use proto::mesh::v1::certificate_admin_service_server::CertificateAdminServiceServer;
use proto::mesh::v1::certificate_service_server;
use proto::mesh::v1::certificate_service_server::CertificateServiceServer;
use proto::mesh::v1::join_service_server;
use proto::mesh::v1::join_service_server::JoinServiceServer;
use proto::mesh::v1::policy_service_server;
use proto::mesh::v1::policy_service_server::PolicyServiceServer;
use service::Assembly;
use service::Context;
use service::Task;
use std::sync::Arc;

pub use config::Config;
pub use config::KubernetesConfig;

/// The service's name: of its identity and its configuration section.
pub const NAME: &str = "control";

/// The largest message that any of its certificate services takes: a request for a certificate, and a token.
const CERTIFICATE_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Opens what the service needs. The registry may be away.
pub async fn assemble(config: Config, cx: Context) -> anyhow::Result<Assembly> {
    config.check()?;
    let folder = config.authority.context("the authority's folder is known")?;
    let metrics = Metrics::register(&mut cx.metrics.lock());
    let authority = Arc::new(Authority::open(folder, metrics.clone())?);
    let tokens = Tokens::new(cx.registry.join_tokens());
    let kubernetes = config.kubernetes.map(Kubernetes::new).transpose()?;
    let issuance = Arc::new(Issuance {
        authority: Arc::clone(&authority),
        life: config.certificate_life,
        metrics,
    });

    let join = Join { issuance: Arc::clone(&issuance), tokens: tokens.clone(), kubernetes };
    let renewal = Renewal { issuance: Arc::clone(&issuance) };
    let admin = Admin { issuance, tokens };
    let routes = tonic::service::Routes::new(
        JoinServiceServer::new(join).max_decoding_message_size(CERTIFICATE_MESSAGE_BYTES_MAX),
    )
    .add_service(
        CertificateServiceServer::new(renewal)
            .max_decoding_message_size(CERTIFICATE_MESSAGE_BYTES_MAX),
    )
    .add_service(
        CertificateAdminServiceServer::new(admin)
            .max_decoding_message_size(CERTIFICATE_MESSAGE_BYTES_MAX),
    );
    let policies = policies::Api { policies: mesh::policy::Policies::of(&*cx.registry) };
    let routes = routes.add_service(PolicyServiceServer::new(policies));
    let access = mesh::Access::new()
        .allow(policy_service_server::SERVICE_NAME, &[mesh::identity::OPERATOR])
        .allow(join_service_server::SERVICE_NAME, &[mesh::identity::ANONYMOUS])
        .allow_any_peer(certificate_service_server::SERVICE_NAME)
        .allow(certificate_admin_service_server::SERVICE_NAME, &[mesh::identity::OPERATOR]);
    Ok(Assembly {
        routes,
        grpc_services: vec![
            policy_service_server::SERVICE_NAME,
            join_service_server::SERVICE_NAME,
            certificate_service_server::SERVICE_NAME,
            certificate_admin_service_server::SERVICE_NAME,
        ],
        access,
        tasks: vec![Task::new("control-authority", move |stop| async move {
            authority.follow(stop).await;
            Ok(())
        })],
        ready: Vec::new(),
    })
}
