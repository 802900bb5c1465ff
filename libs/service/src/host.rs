//! The host: assembles services, serves them, and stops them in order.
//!
//! Start: backends → all assembles → bind → serve → tasks → ready → register in the mesh. Stop: the front first, then the
//! services: withdraw → watchers notice → NOT_SERVING → GOAWAY → what is in flight → tasks in order. A registry that
//! can't be reached delays neither.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use mesh::identity::Issuer;
use prometheus_client::metrics::info::Info;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::admin;
use crate::admin::Admin;
use crate::assembly::Assembly;
use crate::assembly::Context;
use crate::config::HostConfig;
use crate::metrics::MetricsRegistry;
use crate::metrics_export;
use crate::readiness::Conditions;
use crate::readiness::Phase;
use crate::readiness::Readiness;
use crate::running::Addresses;
use crate::served::Assembled;
use crate::served::Served;
use crate::settings::ConfigError;
use crate::supervisor::Failures;
use crate::supervisor::Running;

/// How long watchers of the registry get to notice that an instance is leaving, before it says GOAWAY.
const WITHDRAW_NOTICE: Duration = Duration::from_millis(250);
/// How long the admin listener may take to stop.
const ADMIN_STOP_WITHIN: Duration = Duration::from_secs(1);
/// Where the policies of the registry `memory:` are, in the data folder.
const POLICIES_FILE: &str = "policies.json";
/// Where a service's folder keeps the key and the certificate that control has issued.
const KEPT_IDENTITY: &str = "identity.json";
/// The kernel's name for this machine: the default instance id.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

type Assembling = Pin<Box<dyn Future<Output = anyhow::Result<Assembly>> + Send>>;

/// A service that was added and is not assembled yet.
struct Addition {
    name: &'static str,
    listen: SocketAddr,
    role: Role,
    assemble: Box<dyn FnOnce(Context) -> Assembling + Send>,
}

/// When a service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes calls from outside: stops first, and its tasks (listener, then what ships its data) before everything else.
    Front,
    /// Takes calls from the mesh.
    Service,
}

/// Runs services in this process.
pub struct Host {
    config: HostConfig,
    version: String,
    additions: Vec<Addition>,
    ready: Option<oneshot::Sender<Addresses>>,
    registry: Option<Arc<dyn mesh::Registry>>,
    /// By service, where it differs from what the configuration says.
    issuers: BTreeMap<&'static str, Issuer>,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.additions.iter().map(|addition| addition.name).collect();
        formatter.debug_struct("Host").field("services", &names).finish_non_exhaustive()
    }
}

impl Host {
    /// A host without services. `version` is the program's.
    pub fn new(config: HostConfig, version: &str) -> Host {
        let version = version.to_owned();
        Host {
            config,
            version,
            additions: Vec::new(),
            ready: None,
            registry: None,
            issuers: BTreeMap::new(),
        }
    }

    /// Adds a service, whose mesh listener is `listen` (port 0: the system chooses).
    pub fn add<A, F>(self, name: &'static str, listen: SocketAddr, assemble: A) -> Host
    where
        A: FnOnce(Context) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<Assembly>> + Send + 'static,
    {
        self.push(name, listen, Role::Service, assemble)
    }

    /// Adds what takes calls from outside: it stops before every service.
    pub fn add_front<A, F>(self, name: &'static str, listen: SocketAddr, assemble: A) -> Host
    where
        A: FnOnce(Context) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<Assembly>> + Send + 'static,
    {
        self.push(name, listen, Role::Front, assemble)
    }

    fn push<A, F>(mut self, name: &'static str, listen: SocketAddr, role: Role, assemble: A) -> Host
    where
        A: FnOnce(Context) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<Assembly>> + Send + 'static,
    {
        let assemble: Box<dyn FnOnce(Context) -> Assembling + Send> =
            Box::new(|context| Box::pin(assemble(context)));
        self.additions.push(Addition { name, listen, role, assemble });
        self
    }

    /// Tells `ready` where everything is, once every service is ready.
    pub fn tell_when_ready(self, ready: oneshot::Sender<Addresses>) -> Host {
        Host { ready: Some(ready), ..self }
    }

    /// Gets this service's identity from `issuer`, whatever the configuration says: for the one that issues the others'.
    pub fn issued_by(mut self, service: &'static str, issuer: Issuer) -> Host {
        self.issuers.insert(service, issuer);
        self
    }

    /// Uses this registry instead of opening the one that the configuration names.
    pub fn with_registry(self, registry: Arc<dyn mesh::Registry>) -> Host {
        Host { registry: Some(registry), ..self }
    }

    /// Runs until `stop` is cancelled, then stops in order.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting that only the start could refuse; anything that kept a service from starting; a task
    /// that failed or panicked (everything else was stopped in order all the same).
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let ready = self.ready.take();
        let started = tokio::select! {
            started = self.start() => started?,
            () = stop.cancelled() => return Ok(()),
        };
        let failures = started.failures.clone();
        let addresses = started.addresses.clone();
        let announced = async {
            started.readiness.all_held().await;
            tracing::info!(admin = %addresses.admin, "ready");
            if let Some(ready) = ready {
                // Whoever wanted to know may have given up.
                drop(ready.send(addresses));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => tracing::info!("stopping"),
            () = failures.any() => {}
            () = announced => {}
        }
        let (unready_notice, fronted) = (self.config.host.unready_notice, started.has_front());
        started.stop(if fronted { unready_notice } else { Duration::ZERO }).await;
        match failures.first() {
            Some(failure) => Err(anyhow::anyhow!("{failure}")),
            None => {
                tracing::info!("stopped");
                Ok(())
            }
        }
    }

    async fn start(&mut self) -> anyhow::Result<Started> {
        let config = &self.config;
        let several = self.additions.len() > 1;
        let process = match self.additions.as_slice() {
            [only] => MetricsRegistry::new(only.name),
            _ => MetricsRegistry::default(),
        };
        let version_info = Info::new([("version", self.version.clone())]);
        process.lock().register("linkmesh_build", "The version that runs", version_info);

        let data = &config.host.data;
        std::fs::create_dir_all(data)
            .with_context(|| format!("creating the data folder {} (host.data)", data.display()))?;
        let registry = match self.registry.take() {
            Some(registry) => registry,
            None => mesh::registry::open_kept(&config.mesh.registry, &data.join(POLICIES_FILE))
                .map_err(|error| ConfigError::new("mesh.registry", format!("{error:#}")))?,
        };
        let configured_issuer = config.mesh.issuer(data)?;
        let uri = config.bus.uri.clone();
        let uri = uri.unwrap_or_else(|| format!("file:{}", data.join("bus").display()));
        let bus = bus::Bus::open(&uri, &mut process.lock()).context("opening the bus (bus.uri)")?;
        let instance = match &config.host.instance {
            Some(instance) => instance.clone(),
            None => host_name()?,
        };

        let mut assembled = Vec::new();
        for addition in std::mem::take(&mut self.additions) {
            let name = addition.name;
            let instance = if several { format!("{name}-{instance}") } else { instance.clone() };
            let metrics = MetricsRegistry::new(name);
            let folder = service_folder(data, name)?;
            let issuer = self.issuers.remove(name).unwrap_or_else(|| configured_issuer.clone());
            let kept = folder.join(KEPT_IDENTITY);
            let issuing = issuer.of_service(name, Arc::clone(&registry), kept)?;
            let identity = issuing
                .first()
                .await
                .with_context(|| format!("getting {name}'s certificate (mesh.issuer)"))?;
            let options = mesh::MeshOptions {
                registry: Arc::clone(&registry),
                identity: identity.clone(),
                zone: config.host.zone.clone(),
                region: config.host.region.clone(),
                snapshot: Some(folder.join("mesh.snapshot")),
            };
            identity.register_metrics(&mut metrics.lock());
            let mesh = mesh::Mesh::start(options, &mut metrics.lock())?;
            let context = Context {
                instance: instance.clone(),
                zone: config.host.zone.clone(),
                region: config.host.region.clone(),
                version: self.version.clone(),
                mesh: mesh.clone(),
                registry: Arc::clone(&registry),
                bus: bus.clone(),
                metrics: metrics.clone(),
                data: folder,
            };
            let span = tracing::info_span!("assemble", service = name);
            let assembly = (addition.assemble)(context.clone())
                .instrument(span)
                .await
                .with_context(|| format!("starting {name}"))?;
            assembled.push(Assembled {
                name,
                role: addition.role,
                listen: addition.listen,
                context,
                identity,
                issuing,
                assembly,
            });
        }

        let admin_listen = config.host.admin_listen;
        let admin_listener = bind(admin_listen, "host.admin_listen").await?;
        let mut bound = Vec::new();
        for service in assembled {
            let listener = bind(service.listen, &format!("{}.listen", service.name)).await?;
            let address = advertised(listener.local_addr()?, config.host.advertise)?;
            bound.push((service, listener, address));
        }
        let addresses = Addresses {
            admin: admin_listener.local_addr()?,
            services: bound.iter().map(|(service, _, address)| (service.name, *address)).collect(),
        };

        let failures = Failures::default();
        let conditions = bound
            .iter()
            .map(|(service, _, _)| (service.name, Conditions::new(service.assembly.ready.clone())));
        let readiness = Readiness::new(conditions.collect());
        let registries = bound.iter().map(|(service, _, _)| service.context.metrics.clone());
        let registries: Vec<_> = std::iter::once(process).chain(registries).collect();
        let metrics_export = metrics_export::start(
            &config.host,
            &self.version,
            registries.clone(),
            failures.clone(),
        )?;
        let admin = Admin { registries, readiness: readiness.clone() };
        let admin_stop = CancellationToken::new();
        let admin_work = admin::serve(admin, admin_listener, admin_stop.clone());
        let admin = Running::supervise(
            "host",
            "admin listener",
            ADMIN_STOP_WITHIN,
            admin_stop,
            async {
                admin_work.await;
                Ok(())
            },
            failures.clone(),
        );
        let mut services = Vec::new();
        for (service, listener, address) in bound {
            let drain_max = config.host.drain_max;
            let served = Served::start(
                service,
                listener,
                address,
                drain_max,
                Arc::clone(&registry),
                failures.clone(),
            );
            services.push(served.await?);
        }
        readiness.enter(Phase::Running);
        Ok(Started { services, admin, metrics_export, readiness, failures, addresses })
    }
}

/// A host whose services all run.
struct Started {
    services: Vec<Served>,
    admin: Running,
    metrics_export: Option<Running>,
    readiness: Readiness,
    failures: Failures,
    addresses: Addresses,
}

impl Started {
    fn has_front(&self) -> bool {
        self.services.iter().any(|service| service.role == Role::Front)
    }

    /// The stop, in the order of DESIGN.md section 3.
    async fn stop(self, unready_notice: Duration) {
        self.readiness.enter(Phase::Stopping);
        // Load balancers before the front notice meanwhile; it still takes calls.
        sleep(unready_notice).await;
        let (mut fronts, mut services): (Vec<_>, Vec<_>) =
            self.services.into_iter().partition(|service| service.role == Role::Front);
        for front in &mut fronts {
            front.stop_tasks().await;
        }
        let mut all: Vec<_> = fronts.iter_mut().chain(services.iter_mut()).collect();
        let leaving = join_all(all.iter_mut().map(|service| service.leave())).await;
        if leaving.contains(&true) {
            sleep(WITHDRAW_NOTICE).await;
        }
        for service in fronts.into_iter().chain(services.into_iter().rev()) {
            service.stop().await;
        }
        // Last, so that what the stop itself counted is seen.
        if let Some(metrics_export) = self.metrics_export {
            metrics_export.stop().await;
        }
        self.admin.stop().await;
    }
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string(HOST_NAME_FILE).map_err(|error| {
        ConfigError::new("host.instance", format!("is needed: the host has no name ({error})"))
    })?;
    Ok(name.trim().to_lowercase())
}

fn service_folder(data: &std::path::Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = data.join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("creating {} (host.data)", folder.display()))?;
    Ok(folder)
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = format!("can't listen on {address}: {error}; choose another port, or 0 for any");
        ConfigError::new(key, why).into()
    })
}

/// The address that peers are told.
fn advertised(bound: SocketAddr, advertise: Option<IpAddr>) -> Result<SocketAddr, ConfigError> {
    match advertise {
        Some(ip) => Ok(SocketAddr::new(ip, bound.port())),
        None if bound.ip().is_unspecified() => Err(ConfigError::new(
            "host.advertise",
            format!("is needed with the unspecified address {}: peers can't call that", bound.ip()),
        )),
        None => Ok(bound),
    }
}
