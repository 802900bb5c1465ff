//! A whole Linkmesh on this machine, started by `linkmesh up` itself: etcd, Redis, Kafka, Postgres with a replica, and two
//! processes of every service. What a test breaks, it breaks as an operator would: by name.

use crate::client::Api;
use anyhow::Context as _;
use anyhow::ensure;
use stack::TemporaryFolder;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

/// The program under test.
pub const LINKMESH: &str = env!("CARGO_BIN_EXE_linkmesh-tested");
/// The longest that one `linkmesh up …` may take: a first start, on a machine that is busy with other tests.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(240);

/// A cluster of its own is 15 processes: one at a time, beside the shared one.
static OWN: Semaphore = Semaphore::const_new(1);
static SHARED: OnceCell<Cluster> = OnceCell::const_new();

/// A running cluster. When it is dropped, or this process ends in whatever way, everything in it ends.
#[derive(Debug)]
pub struct Cluster {
    environment: BTreeMap<String, String>,
    folder: TemporaryFolder,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Cluster {
    /// The cluster that all tests share that break nothing: a test sees only workspaces of its own.
    pub async fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get_or_try_init(|| Self::start_with(None, &["start"])).await
    }

    /// A cluster for a test that breaks something.
    pub async fn start() -> anyhow::Result<Self> {
        let turn = OWN.acquire().await.context("nobody closes it")?;
        Self::start_with(Some(turn), &["start"]).await
    }

    /// The same with certificates that live so long, such as `60s`.
    pub async fn start_with_certificates(life: &str) -> anyhow::Result<Self> {
        let turn = OWN.acquire().await.context("nobody closes it")?;
        Self::start_with(Some(turn), &["start", "--certificate-life", life]).await
    }

    async fn start_with(
        turn: Option<SemaphorePermit<'static>>,
        start: &[&str],
    ) -> anyhow::Result<Self> {
        // The processes outlive whoever started them, so the folder's janitor stops them.
        let folder = TemporaryFolder::with_farewell(|folder| {
            let up = folder.join("up");
            [LINKMESH, "up", "--folder"]
                .into_iter()
                .map(Into::into)
                .chain([up.into_os_string(), "down".into(), "--now".into()])
                .collect()
        })?;
        let mut cluster = Self { environment: BTreeMap::new(), folder, _turn: turn };
        cluster.up(start).await?;
        cluster.environment = cluster.read_environment()?;
        Ok(cluster)
    }

    /// Where the cluster keeps everything.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("up")
    }

    /// A value of `up.env` as it was after the start, without its `LINKMESH_`: `URL`, `KAFKA`, `ADMIN_EDGE_1`, …
    pub fn value(&self, name: &str) -> &str {
        self.environment.get(name).map_or_else(|| panic!("up.env has no {name}"), String::as_str)
    }

    /// The process id of a member, now.
    pub fn pid(&self, member: &str) -> anyhow::Result<u32> {
        let name = format!("PID_{}", member.to_uppercase().replace('-', "_"));
        let environment = self.read_environment()?;
        let pid = environment.get(&name).with_context(|| format!("no {name} in up.env"))?;
        pid.parse().with_context(|| format!("{member} does not run"))
    }

    /// Every process of every service, callees before callers.
    pub fn services(&self) -> Vec<String> {
        let running = ["control", "identity", "links", "analytics", "edge"].into_iter();
        let members =
            running.flat_map(|service| [1, 2].map(|number| format!("{service}-{number}")));
        let is_there = |member: &String| {
            let name = member.to_uppercase().replace('-', "_");
            self.environment.contains_key(&format!("PID_{name}"))
        };
        members.filter(is_there).collect()
    }

    /// The domain of links that name none.
    pub fn domain(&self) -> &str {
        self.value("LINK_DOMAIN")
    }

    /// The first workspace, at the first edge.
    pub fn api(&self) -> Api {
        Api::new(self.value("URL"), self.value("API_KEY"), self.value("WORKSPACE"))
    }

    /// The same caller at both edges.
    pub fn edges(&self, api: &Api) -> [Api; 2] {
        [api.at(self.value("URL")), api.at(self.value("URL_2"))]
    }

    /// A new workspace with a key of every scope, at the first edge.
    pub async fn workspace(&self) -> anyhow::Result<Api> {
        let authority = mesh::LocalAuthority::open_or_create(self.value("AUTHORITY").as_ref())?;
        let options = mesh::MeshOptions {
            registry: mesh::registry::open(self.value("ETCD"))?,
            identity: authority.issue(linkmesh::OPERATOR)?,
            zone: String::new(),
            region: String::new(),
            snapshot: None,
        };
        let mesh =
            mesh::Mesh::start(options, &mut prometheus_client::registry::Registry::default())?;
        let seed = linkmesh::seed(&mesh, "A test's own").await;
        mesh.close().await;
        let seed = seed?;
        Ok(Api::new(self.value("URL"), seed.api_key, seed.workspace))
    }

    /// Ends members without a word.
    pub async fn kill(&self, members: &[&str]) -> anyhow::Result<()> {
        self.up(["kill"].iter().chain(members)).await.map(drop)
    }

    /// Asks members to stop, and waits until they have.
    pub async fn stop(&self, members: &[&str]) -> anyhow::Result<()> {
        self.up(["stop"].iter().chain(members)).await.map(drop)
    }

    /// Starts members again, on the same ports and data, and waits until they are ready.
    pub async fn restart(&self, members: &[&str]) -> anyhow::Result<()> {
        self.up(["restart"].iter().chain(members)).await.map(drop)
    }

    /// What `linkmesh up status` prints.
    pub async fn status(&self) -> anyhow::Result<String> {
        self.up(["status"]).await
    }

    /// What `linkmesh mesh endpoints` prints when it asks identity-1.
    pub async fn endpoints(&self) -> anyhow::Result<String> {
        self.mesh(&["endpoints"]).await
    }

    /// What `linkmesh mesh …` prints when it asks identity-1 first; it must succeed.
    pub async fn mesh(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.ask(arguments).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "linkmesh mesh {arguments:?}: {printed}\n{complaint}");
        Ok(printed)
    }

    /// Has a workspace pay for a tier.
    pub async fn set_tier(&self, workspace: &str, tier: &str) -> anyhow::Result<()> {
        let arguments = ["set-tier", "--workspace", workspace, tier];
        let output = self.operate("workspace", &arguments).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "set-tier: {complaint}");
        Ok(())
    }

    /// Runs `linkmesh mesh …`, however it ends.
    pub async fn ask(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.operate("mesh", arguments).await
    }

    /// Runs a command of operators, however it ends.
    async fn operate(&self, what: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let address = format!("identity=127.0.0.1:{}", self.value("PORT_IDENTITY_1"));
        let mut command = Command::new(LINKMESH);
        command.arg(what).args(arguments).args(["--address", &address]);
        command.args(["--authority", self.value("AUTHORITY")]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await??)
    }

    /// What `linkmesh mesh cert …` prints to who has the authority.
    pub async fn cert(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let authority = ["--authority", self.value("AUTHORITY")];
        self.cert_without_authority(&[arguments, &authority].concat()).await
    }

    /// The same to who has not.
    pub async fn cert_without_authority(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let address = format!("identity=127.0.0.1:{}", self.value("PORT_IDENTITY_1"));
        let mut command = Command::new(LINKMESH);
        command.args(["mesh", "cert"]).args(arguments).args(["--address", &address]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await??;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {complaint}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A sum over the samples of a metric at a member's admin port, labels ignored; none if there is no such metric.
    pub async fn metric(&self, member: &str, metric: &str) -> anyhow::Result<Option<f64>> {
        let admin = self.value(&format!("ADMIN_{}", member.to_uppercase().replace('-', "_")));
        let answer = Api::new(admin, "", "").http("GET", "/metrics", &[], "").await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(metric)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split(' ').next()?.parse::<f64>().ok()
        });
        Ok(samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }

    /// Runs `linkmesh up …` on this cluster; answers with what it printed.
    pub async fn up<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<String> {
        let mut command = Command::new(LINKMESH);
        command.args(["up", "--folder"]).arg(self.folder()).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output())
            .await
            .with_context(|| format!("{command:?} took longer than {COMMAND_TIMEOUT:?}"))??;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        ensure!(status.success(), "{command:?} ({status}): {printed}\n{complaint}");
        Ok(printed)
    }

    fn read_environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(self.folder().join("up.env")).context("no up.env")?;
        let value = |line: &str| {
            let (name, value) = line.strip_prefix("export LINKMESH_")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        Ok(text.lines().filter_map(value).collect())
    }
}
