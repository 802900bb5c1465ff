//! Descriptors from a file, which is read again when it changes.

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use service::ConfigError;
use tokio_util::sync::CancellationToken;

use super::Contract;
use super::Contracts;
use super::Refusal;
use crate::watched::WatchedFile;

/// The key that names the file.
const KEY: &str = "edge.descriptors_file";
/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of the file: fifty times what `proto/` has.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The file that a contract is made of.
#[derive(Debug)]
pub(crate) struct ContractFile {
    file: WatchedFile,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
struct Metrics {
    reloads: Family<Reload, Counter>,
    methods: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
    reason: &'static str,
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let (reloads, methods) = (Family::default(), Gauge::default());
        let help = "Changed files of descriptors, by what became of them and why";
        registry.register("edge_descriptors_reloads", help, Family::clone(&reloads));
        let help = "Methods of services that clients may call";
        registry.register("edge_descriptors_methods", help, Gauge::clone(&methods));
        Self { reloads, methods }
    }

    fn count(&self, result: &'static str, reason: &'static str) {
        self.reloads.get_or_create(&Reload { result, reason }).inc();
    }

    fn show(&self, contract: &Contract) {
        self.methods.set(i64::try_from(contract.method_count()).unwrap_or(i64::MAX));
    }
}

impl Contracts {
    /// By the file at a path, or else by `proto/`.
    ///
    /// # Errors
    /// A file that can't be used, by the key of the configuration.
    pub(crate) fn open(
        path: Option<&Path>,
        registry: &mut Registry,
    ) -> Result<(Self, Option<ContractFile>), ConfigError> {
        let metrics = Metrics::register(registry);
        let Some(path) = path else {
            let contract = Arc::clone(Contract::built_in());
            metrics.show(&contract);
            return Ok((Self::new(contract), None));
        };
        let refused = |refusal: Refusal| {
            ConfigError::new(KEY, format!("{} can't be used: {refusal}", path.display()))
        };
        let opened = WatchedFile::open(path, FILE_BYTES_MAX).map_err(Refusal::Unreadable);
        let (file, bytes) = opened.map_err(refused)?;
        let contract = Contract::read(&bytes).map_err(refused)?;
        metrics.show(&contract);
        Ok((Self::new(Arc::new(contract)), Some(ContractFile { file, metrics })))
    }

    /// Has the mesh know who serves what, before anyone is called.
    pub(crate) async fn tell(&self, mesh: &mesh::Mesh) {
        mesh.serve_by(self.current().owners.clone()).await;
    }

    /// Follows the file until `stop`. Calls that begin after a change go by the new descriptors; those under way keep theirs.
    pub(crate) async fn follow(
        self,
        mut file: ContractFile,
        mesh: mesh::Mesh,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        // Those that requests may still go by.
        let mut old = Vec::new();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            // Megabytes are read, made into tables and let go, for as long as some requests take: no worker of theirs waits for that.
            let looking = tokio::task::spawn_blocking(move || {
                old.retain(|contract| Arc::strong_count(contract) > 1);
                let looked = file.look();
                (file, old, looked)
            });
            let looked;
            (file, old, looked) = looking.await?;
            if let Some(contract) = looked {
                old.push(self.current());
                self.replace(contract, &mesh).await;
            }
        }
        Ok(())
    }

    /// Has another contract hold. Nobody is called by it before the mesh knows who serves what.
    async fn replace(&self, contract: Contract, mesh: &mesh::Mesh) {
        let mut owners = self.current().owners.clone();
        owners.extend(contract.owners.clone());
        mesh.serve_by(owners).await;
        let methods = contract.method_count();
        self.set(contract);
        tracing::info!(methods, "new descriptors hold");
    }
}

impl ContractFile {
    /// What the file has become, if it has changed and can be used.
    fn look(&mut self) -> Option<Contract> {
        let read = self.file.look()?.map_err(Refusal::Unreadable);
        match read.and_then(|bytes| made(&bytes)) {
            Ok(contract) => {
                self.metrics.count("used", "");
                self.metrics.show(&contract);
                Some(contract)
            }
            Err(refusal) => {
                let (reason, error) = (refusal.reason(), refusal.to_string());
                self.metrics.count("refused", reason);
                let what = "the new descriptors can't be used; the old ones hold";
                tracing::error!(reason, error, "{what}");
                None
            }
        }
    }
}

/// The contract that a file holds; what nobody foresaw in it ends no edge that runs.
fn made(bytes: &[u8]) -> Result<Contract, Refusal> {
    let made = catch_unwind(|| Contract::read(bytes));
    made.unwrap_or_else(|_| Err(Refusal::Malformed("it can't be read".to_owned())))
}
