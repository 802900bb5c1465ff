//! Programs that are not ours and call a service itself, past the edge, with nothing but certificate files: Go with etcd's stock
//! resolver, and plain grpcio.

use crate::client::Api;
use crate::clients::run;
use crate::cluster::Cluster;
use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use mesh::LocalAuthority;
use mesh::PeerIdentity;
use mesh::identity::Role;
use rpc::ApiKeyId;
use rpc::Permissions;
use rpc::Principal;
use rpc::WorkspaceId;
use std::path::Path;
use std::time::Duration;

const CERTIFICATE_LIFE: Duration = Duration::from_secs(3600);

/// Files of an operator.
struct Files(tempfile::TempDir);

impl Files {
    fn write(cluster: &Cluster, role: Role) -> anyhow::Result<Self> {
        let authority = LocalAuthority::open_or_create(Path::new(cluster.value("AUTHORITY")))?;
        let operator = PeerIdentity::operator(role);
        let pem = authority.issue_to(&operator, CERTIFICATE_LIFE, Timestamp::now())?.pem();
        let folder = tempfile::tempdir()?;
        for (name, text) in [("key", pem.key), ("chain", pem.chain), ("roots", pem.roots)] {
            std::fs::write(folder.path().join(name), text)?;
        }
        Ok(Self(folder))
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        vec![
            ("LINKMESH_CERT", path("chain")),
            ("LINKMESH_KEY", path("key")),
            ("LINKMESH_ROOT", path("roots")),
        ]
    }
}

/// On whose behalf an operator calls.
fn principal(api: &Api) -> anyhow::Result<String> {
    let workspace = api.workspace.strip_prefix("workspaces/").context("a workspace's name")?;
    let workspace = WorkspaceId::parse(workspace)?;
    let principal = Principal::api_key(ApiKeyId::NIL, workspace, Permissions::ALL);
    Ok(BASE64_STANDARD.encode(principal.encode()))
}

/// A Go program finds both instances in etcd, reads their metadata, and calls each.
pub async fn go_finds_instances_by_etcds_resolver_and_calls_them(
    cluster: &Cluster,
    api: &Api,
) -> anyhow::Result<()> {
    let files = Files::write(cluster, Role::Admin)?;
    let mut environment = files.environment();
    environment.extend([
        ("LINKMESH_ETCD", cluster.value("ETCD").trim_start_matches("etcd://").to_owned()),
        ("LINKMESH_WORKSPACE", api.workspace.clone()),
        ("LINKMESH_PRINCIPAL", principal(api)?),
    ]);
    run("go/run.sh", &[], environment).await
}

/// Plain grpcio calls an instance as an operator who may look, is refused what changes something, and as nobody at all.
pub async fn python_calls_a_service_by_certificate(cluster: &Cluster) -> anyhow::Result<()> {
    let files = Files::write(cluster, Role::Viewer)?;
    let mut environment = files.environment();
    let address = format!("127.0.0.1:{}", cluster.value("PORT_LINKS_1"));
    environment.push(("LINKMESH_ADDRESS", address));
    run("python/run.sh", &["mesh"], environment).await
}
