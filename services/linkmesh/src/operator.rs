//! How an operator's command reaches a running Linkmesh: by one process whose address is known, under the identity `operator`.
//!
//! Any process knows the others; etcd is never asked, so the commands work the same however Linkmesh is run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use clap::Args;
use mesh::Identity;
use mesh::LocalAuthority;
use mesh::Mesh;
use mesh::identity::Credentials;
use mesh::identity::CredentialsPem;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::Request;
use tonic::Status;

use crate::config::Configuration;
use crate::config::ServiceName;
use crate::dev::environment;

/// How long one process may take to say what it knows, connecting included.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a call may take.
const CALL_WAIT_MAX: Duration = Duration::from_secs(15);
/// What an operator's certificate is written to, in a folder: its chain, its key, and the roots.
pub(crate) const CERTIFICATE_FILE: &str = "cert.pem";
pub(crate) const KEY_FILE: &str = "key.pem";
pub(crate) const ROOTS_FILE: &str = "ca.pem";
/// Where `linkmesh dev` and `linkmesh up` say where they are, by default.
const ENVIRONMENT_FILES: [&str; 2] = [".data/dev.env", ".data/up/up.env"];

/// Where to find a running Linkmesh. The same for all operator's commands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where Linkmesh runs")]
pub(crate) struct Place {
    /// The mesh listener of any process, host:port or SERVICE=host:port; default: what .data/dev.env, else
    /// .data/up/up.env, else --config says
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The folder of the certificate authority that the processes use; default: as for the address
    #[arg(long, value_name = "DIR", conflicts_with = "identity")]
    authority: Option<PathBuf>,
    /// The folder with the certificate to show instead, as `linkmesh mesh cert operator` writes it
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// The configuration of a process that runs on this machine
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// By what an operator is believed.
#[derive(Debug)]
pub(crate) enum Vouching {
    /// The folder of the authority itself.
    Authority(PathBuf),
    /// The folder with an operator's certificate.
    Identity(PathBuf),
}

impl Place {
    /// By what the operator is believed.
    pub(crate) fn vouching(&self) -> anyhow::Result<Vouching> {
        if let Some(folder) = &self.identity {
            return Ok(Vouching::Identity(folder.clone()));
        }
        let folder = match (&self.authority, &self.config) {
            (Some(folder), _) => Some(folder.clone()),
            (None, Some(file)) => {
                let host = Configuration::load(Some(file), &[])?.host;
                Some(host.mesh.authority_folder(&host.host.data))
            }
            (None, None) => ENVIRONMENT_FILES.iter().find_map(|file| {
                let values = environment::read(Path::new(file))?;
                values.get("LINKMESH_AUTHORITY").map(PathBuf::from)
            }),
        };
        let folder = folder.context(
            "whose certificates are to be trusted? Name the authority's folder with --authority, or your own certificate with --identity",
        )?;
        anyhow::ensure!(
            folder.exists(),
            "there is no certificate authority in {}: name its folder with --authority",
            folder.display()
        );
        Ok(Vouching::Authority(folder))
    }
}

impl Vouching {
    fn identity(&self) -> anyhow::Result<Identity> {
        let folder = match self {
            Vouching::Authority(folder) => {
                return LocalAuthority::open_or_create(folder)?.issue(mesh::identity::OPERATOR);
            }
            Vouching::Identity(folder) => folder,
        };
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let pem = CredentialsPem {
            key: read(KEY_FILE)?,
            chain: read(CERTIFICATE_FILE)?,
            roots: read(ROOTS_FILE)?,
        };
        Identity::new(Credentials::from_pem(&pem)?)
            .with_context(|| format!("the certificate in {}", folder.display()))
    }
}

/// An operator, who knows a process or several to begin with.
#[derive(Debug)]
pub(crate) struct Operator {
    identity: Identity,
    /// By the service that must answer there.
    processes: Vec<(ServiceName, String)>,
}

impl Operator {
    /// Finds out where Linkmesh runs; contacts nothing yet.
    pub(crate) fn find(place: &Place) -> anyhow::Result<Operator> {
        let mut processes = Vec::new();
        if let Some(address) = &place.address {
            processes = named(address)?;
        }
        if let Some(file) = &place.config {
            if place.address.is_none() {
                processes = configured_processes(&Configuration::load(Some(file), &[])?);
            }
        } else if place.address.is_none() {
            let announced = ENVIRONMENT_FILES.iter().find_map(|file| {
                let processes = announced_processes(&environment::read(Path::new(file))?);
                (!processes.is_empty()).then_some(processes)
            });
            processes = announced.unwrap_or_default();
        }
        if processes.is_empty() {
            bail!(
                "no running Linkmesh is known here: there is neither .data/dev.env nor .data/up/up.env; start one with \
                 `linkmesh dev` or `linkmesh up`, or name a process with --address or --config"
            );
        }
        Ok(Operator { identity: place.vouching()?.identity()?, processes })
    }

    /// What the first process that answers knows of the mesh. `service` empty: of all services.
    pub(crate) async fn endpoints(&self, service: &str) -> anyhow::Result<ListEndpointsResponse> {
        // All at once: each one that is away costs the seconds after which the mesh gives up on it.
        let mut asked = JoinSet::new();
        for (name, address) in &self.processes {
            let grpc_service = mesh_service_server::SERVICE_NAME;
            let mesh =
                Mesh::to_one(self.identity.clone(), name.as_str(), address, &[grpc_service])?;
            let request = ListEndpointsRequest { service: service.to_owned() };
            let place = format!("{name} at {address}");
            asked.spawn(async move {
                let mut client = MeshServiceClient::new(mesh.clone());
                let answer = client.list_endpoints(within(request, LOOK_WAIT_MAX)).await;
                mesh.close().await;
                answer.map_err(|status| format!("{place}: {}", status.message()))
            });
        }
        let mut failures = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer? {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(failure) => failures.push(failure),
            }
        }
        failures.sort();
        bail!(
            "no process answered: is Linkmesh running, and is this its certificate authority?\n  {}",
            failures.join("\n  ")
        )
    }

    /// A channel to an instance that serves `grpc_service`; close it when done.
    pub(crate) async fn channel(&self, grpc_service: &str) -> anyhow::Result<Mesh> {
        let known = self.endpoints("").await?.endpoints;
        let endpoint = best(&known, grpc_service).with_context(|| {
            format!("no instance of {grpc_service} is in the mesh: see `linkmesh mesh endpoints`")
        })?;
        self.channel_to(endpoint, grpc_service)
    }

    /// The instance of this id.
    pub(crate) async fn instance(&self, instance: &str) -> anyhow::Result<Endpoint> {
        let known = self.endpoints("").await?.endpoints;
        if let Some(found) = known.iter().find(|endpoint| endpoint.instance == instance) {
            return Ok(found.clone());
        }
        let names: Vec<_> = known.iter().map(|endpoint| endpoint.instance.as_str()).collect();
        bail!("no instance `{instance}` is in the mesh; there are {}", names.join(", "))
    }

    /// A channel to one instance; close it when done.
    pub(crate) fn channel_to(
        &self,
        endpoint: &Endpoint,
        grpc_service: &str,
    ) -> anyhow::Result<Mesh> {
        let identity = self.identity.clone();
        Mesh::to_one(identity, &endpoint.service, &endpoint.address, &[grpc_service])
    }

    /// Who asks.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The processes that are known to begin with: the service that must answer, and where.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.processes.iter().map(|(service, address)| (service.as_str(), address.as_str()))
    }
}

/// One that stays and that the asked process has found well, if there is such a one.
fn best<'a>(endpoints: &'a [Endpoint], grpc_service: &str) -> Option<&'a Endpoint> {
    endpoints
        .iter()
        .filter(|endpoint| endpoint.grpc_services.iter().any(|served| served == grpc_service))
        .min_by_key(|endpoint| (endpoint.draining, endpoint.suspect))
}

/// A request with the deadline of an operator's call.
pub(crate) fn call<T>(message: T) -> Request<T> {
    within(message, CALL_WAIT_MAX)
}

fn within<T>(message: T, wait_max: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(wait_max);
    request
}

/// A refusal in words for an operator. The service has said what is wrong; here it is said what was tried.
pub(crate) fn refused(doing: &str) -> impl Fn(Status) -> anyhow::Error {
    move |status| {
        let code = status.code();
        let hint = if matches!(code, Code::Unavailable | Code::DeadlineExceeded) {
            "; see `linkmesh mesh endpoints` for who is there, and try again"
        } else if matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
            "; is --authority the one that the processes use?"
        } else {
            ""
        };
        anyhow::anyhow!("{doing}: {}{hint}", status.message())
    }
}

/// Reads `--address`: of a bare host:port it is unknown which service is there, so each is tried.
fn named(address: &str) -> anyhow::Result<Vec<(ServiceName, String)>> {
    if let Some((service, address)) = address.split_once('=') {
        let service = service_name(service).with_context(|| {
            format!(
                "--address: no service {service:?}; control, identity, links, analytics or edge"
            )
        })?;
        return Ok(vec![(service, address.to_owned())]);
    }
    anyhow::ensure!(
        address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
        "--address: {address:?} is no host:port"
    );
    Ok(ServiceName::ALL.map(|service| (service, address.to_owned())).to_vec())
}

fn service_name(text: &str) -> Option<ServiceName> {
    ServiceName::ALL.into_iter().find(|service| service.as_str() == text)
}

/// The mesh listeners that a configuration file fixes; one on all addresses is reached by loopback.
fn configured_processes(configuration: &Configuration) -> Vec<(ServiceName, String)> {
    let fixed = configuration.mesh_listeners().into_iter().filter(|(_, listen)| listen.port() != 0);
    fixed
        .map(|(service, listen)| {
            let ip = if listen.ip().is_unspecified() { [127, 0, 0, 1].into() } else { listen.ip() };
            (service, SocketAddr::new(ip, listen.port()).to_string())
        })
        .collect()
}

/// The mesh listeners that an environment file names: `LINKMESH_PORT_LINKS` or `LINKMESH_PORT_LINKS_2`. The edge's is for
/// clients.
fn announced_processes(values: &BTreeMap<String, String>) -> Vec<(ServiceName, String)> {
    let processes = values.iter().filter_map(|(name, port)| {
        let member = name.strip_prefix("LINKMESH_PORT_")?.to_lowercase();
        let service = service_name(member.split('_').next()?)?;
        let port: u16 = port.parse().ok()?;
        (service != ServiceName::Edge).then(|| (service, format!("127.0.0.1:{port}")))
    });
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_may_be_any_service() {
        assert_eq!(named("127.0.0.1:7001").unwrap().len(), 5);
        let links = vec![(ServiceName::Links, "127.0.0.1:7002".to_owned())];
        assert_eq!(named("links=127.0.0.1:7002").unwrap(), links);
        assert!(named("lnks=127.0.0.1:7002").is_err());
        assert!(named("127.0.0.1").is_err());
    }

    #[test]
    fn both_environment_files_name_the_mesh_listeners() {
        let values = [
            ("LINKMESH_PORT_IDENTITY", "4001"),
            ("LINKMESH_PORT_LINKS_2", "4002"),
            ("LINKMESH_PORT_EDGE_1", "8080"),
            ("LINKMESH_PORT_KAFKA", "9092"),
            ("LINKMESH_PORT_ANALYTICS_1", ""),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let processes = [
            (ServiceName::Identity, "127.0.0.1:4001".to_owned()),
            (ServiceName::Links, "127.0.0.1:4002".to_owned()),
        ];
        assert_eq!(announced_processes(&values), processes);
    }

    #[test]
    fn an_instance_that_leaves_is_the_last_choice() {
        let endpoint = |instance: &str, draining| Endpoint {
            instance: instance.to_owned(),
            draining,
            grpc_services: vec!["a.A".to_owned()],
            ..Endpoint::default()
        };
        let endpoints = [endpoint("a-1", true), endpoint("a-2", false)];
        assert_eq!(best(&endpoints, "a.A").unwrap().instance, "a-2");
        assert_eq!(best(&endpoints[..1], "a.A").unwrap().instance, "a-1");
        assert!(best(&endpoints, "b.B").is_none());
    }
}
