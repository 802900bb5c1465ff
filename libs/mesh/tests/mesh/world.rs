//! What a test stands on: an authority, a registry, a folder; and how it waits.

use jiff::Timestamp;
use mesh::Identity;
use mesh::LocalAuthority;
use mesh::Mesh;
use mesh::MeshOptions;
use mesh::PeerIdentity;
use mesh::Registration;
use mesh::Registry;
use mesh::identity::Credentials;
use mesh::identity::LEAF_LIFE_DEFAULT;
use mesh::registry::PolicyAppend;
use prometheus_client::registry::Registry as Metrics;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take that is awaited; ten times what is promised.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) authority: LocalAuthority,
    pub(crate) registry: Arc<dyn Registry>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_registry("memory:")
    }

    pub(crate) fn with_registry(uri: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(&folder.path().join("authority")).unwrap();
        Self { authority, registry: mesh::registry::open(uri).unwrap(), folder }
    }

    /// Another mesh under the same authority.
    pub(crate) fn beside(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(&self.file("authority")).unwrap();
        Self { authority, registry: mesh::registry::open("memory:").unwrap(), folder }
    }

    pub(crate) fn identity(&self, service: &str) -> Identity {
        self.authority.issue(service).unwrap()
    }

    /// What proves a service, for a client that is not the mesh.
    pub(crate) fn credentials(&self, service: &str) -> Credentials {
        let peer = PeerIdentity::service(service).unwrap();
        self.authority.issue_to(&peer, LEAF_LIFE_DEFAULT, Timestamp::now()).unwrap()
    }

    /// The channel of a service that calls.
    pub(crate) fn mesh(&self, service: &str) -> Mesh {
        self.mesh_with(self.identity(service), None, &mut Metrics::default())
    }

    /// The channel of a service that finds others in another registry, or by another way to the same.
    pub(crate) fn mesh_at(&self, registry: &Arc<dyn Registry>, service: &str) -> Mesh {
        let identity = self.identity(service);
        start(registry, identity, None, &mut Metrics::default())
    }

    pub(crate) fn mesh_with(
        &self,
        identity: Identity,
        snapshot: Option<PathBuf>,
        metrics: &mut Metrics,
    ) -> Mesh {
        start(&self.registry, identity, snapshot, metrics)
    }

    /// Puts a policy of `links` in force, given as JSON.
    pub(crate) async fn apply(&self, policy: &str) {
        let policies = self.registry.policy_store();
        let after = policies.head("links").await.unwrap().revision;
        let revision = after + 1;
        let value = format!(
            r#"{{"service": "links", "policy": {policy}, "revision": "{revision}", "apply_time": "2026-01-02T03:04:05Z"}}"#
        );
        let change = PolicyAppend {
            service: "links".to_owned(),
            after,
            revision,
            value: value.into_bytes(),
            in_force: true,
        };
        assert!(policies.append(change).await.unwrap(), "nobody else changes it");
    }

    /// Puts a policy of `links` in force, given as JSON without the service, and waits until a mesh that knows an instance obeys
    /// it.
    pub(crate) async fn obey(&self, mesh: &Mesh, policy: &str) {
        let rest = policy.trim().strip_prefix('{').expect("an object");
        self.apply(&format!(r#"{{"service": "links", {rest}"#)).await;
        let revision = self.registry.policy_store().head("links").await.unwrap().revision;
        eventually("the policy", || async {
            let routes = mesh.routes();
            routes.iter().any(|route| route.service == "links" && route.revision == revision)
        })
        .await;
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn start(
    registry: &Arc<dyn Registry>,
    identity: Identity,
    snapshot: Option<PathBuf>,
    metrics: &mut Metrics,
) -> Mesh {
    let options = MeshOptions {
        registry: Arc::clone(registry),
        identity,
        zone: "a".to_owned(),
        region: "eu".to_owned(),
        snapshot,
    };
    Mesh::start(options, metrics).unwrap()
}

pub(crate) fn registration(instance: &str, address: &str, grpc_services: &[&str]) -> Registration {
    Registration {
        instance: instance.to_owned(),
        service: "links".to_owned(),
        address: address.to_owned(),
        zone: "a".to_owned(),
        region: "eu".to_owned(),
        version: "1".to_owned(),
        weight: 100,
        grpc_services: grpc_services.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The reason in a status's ErrorInfo.
pub(crate) fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
