//! The callers that are compared: the mesh, and tonic's channels.

use super::callee::CALLEE;
use super::callee::CALLER;
use super::callee::GRPC_SERVICE;
use super::callee::PAYLOAD_BYTES;
use super::certificates;
use mesh::Mesh;
use mesh::Registration;
use mesh::identity::Identity;
use mesh::identity::LocalAuthority;
use mesh::registry;
use mesh::registry::Lease;
use mesh::registry::Registry;
use proto::links::v1::ResolveRequest;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;

/// Any other balancer, behind one allocation for each call.
pub(super) type Other = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    Status,
>;

/// One of the callers, by value rather than behind a pointer: none is to pay for the comparison.
#[derive(Debug, Clone)]
pub(super) enum Client {
    Mesh(ResolverServiceClient<Mesh>),
    Bare(ResolverServiceClient<Channel>),
    Other(ResolverServiceClient<Other>),
}

impl Client {
    pub(super) fn bare(channel: Channel) -> Self {
        Self::Bare(ResolverServiceClient::new(channel))
    }

    pub(super) fn other(other: Other) -> Self {
        Self::Other(ResolverServiceClient::new(other))
    }

    /// One call.
    pub(super) async fn call(&mut self, slug: &str) -> Result<(), Status> {
        self.call_within(slug, None).await
    }

    /// One call that is given up after a while.
    pub(super) async fn call_within(
        &mut self,
        slug: &str,
        within: Option<Duration>,
    ) -> Result<(), Status> {
        let request = ResolveRequest { domain: "go.example".into(), slug: slug.to_owned() };
        let mut request = Request::new(request);
        if let Some(within) = within {
            request.set_timeout(within);
        }
        match self {
            Self::Mesh(client) => client.resolve(request).await.map(drop),
            Self::Bare(client) => client.resolve(request).await.map(drop),
            Self::Other(client) => client.resolve(request).await.map(drop),
        }
    }
}

/// As much as a request carries.
pub(super) fn payload() -> String {
    "x".repeat(PAYLOAD_BYTES)
}

/// A mesh that knows a number of instances.
#[derive(Debug)]
pub(super) struct Meshed {
    pub(super) mesh: Mesh,
    pub(super) registry: Arc<dyn Registry>,
    /// Registrations last as long as these.
    pub(super) leases: Vec<Box<dyn Lease>>,
}

impl Meshed {
    /// A mesh to instances at these addresses, with all that a service's mesh has on.
    pub(super) fn to(identity: Identity, addresses: &[String]) -> anyhow::Result<Self> {
        let registry = registry::open("memory:")?;
        let register = |address: &String| registry.register(registration(address, address));
        let leases = addresses.iter().map(register).collect();
        let options = mesh::MeshOptions {
            registry: Arc::clone(&registry),
            identity,
            zone: String::new(),
            region: String::new(),
            snapshot: None,
        };
        let mut metrics = prometheus_client::registry::Registry::default();
        Ok(Self { mesh: Mesh::start(options, &mut metrics)?, registry, leases })
    }

    pub(super) fn client(&self) -> Client {
        Client::Mesh(ResolverServiceClient::new(self.mesh.clone()))
    }
}

/// What an instance of the callee registers.
pub(super) fn registration(instance: &str, address: &str) -> Registration {
    Registration {
        instance: instance.to_owned(),
        service: CALLEE.to_owned(),
        address: address.to_owned(),
        zone: String::new(),
        region: String::new(),
        version: String::new(),
        weight: registry::WEIGHT_DEFAULT,
        grpc_services: vec![GRPC_SERVICE.to_owned()],
    }
}

/// Who calls, without certificates: a peer is then taken for a service of the same name.
pub(super) fn nobody() -> anyhow::Result<Identity> {
    Identity::plaintext_for_bench(CALLEE)
}

/// Who calls, with them.
pub(super) fn caller(authority: &Path) -> anyhow::Result<Identity> {
    LocalAuthority::open_or_create(authority)?.issue(CALLER)
}

/// tonic's endpoint as it comes.
pub(super) fn bare(address: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?)
}

/// The same with mutual TLS.
pub(super) fn bare_mtls(address: &str, authority: &Path) -> anyhow::Result<Endpoint> {
    let pem = certificates::issue(authority, CALLER)?;
    let tls = ClientTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(pem.certificate, pem.key))
        .ca_certificate(tonic::transport::Certificate::from_pem(pem.root))
        .domain_name(certificates::dns_name(CALLEE));
    Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?)
}
