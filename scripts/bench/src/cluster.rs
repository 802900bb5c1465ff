//! The system under measurement: `linkmesh up` of the same build, in a folder of its own, removed afterwards.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use serde_json::json;
use sqlx::PgPool;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::process::Child;
use tokio::process::Command;
use uuid::Uuid;

/// How long an edge may take to ship what it has once the load is over.
const SHIPPED_WITHIN: Duration = Duration::from_secs(60);
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A link that was made for a bench.
#[derive(Debug)]
pub(crate) struct Link {
    /// `workspaces/…/links/…`.
    pub(crate) name: String,
    /// The last part of its short URI.
    pub(crate) slug: String,
}

/// The running system, and a workspace's way in.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Of edge-1.
    pub(crate) edge_url: String,
    /// Of edge-2.
    pub(crate) edge_url_2: String,
    /// Where links live.
    pub(crate) link_domain: String,
    /// For `bus::Bus::open`.
    pub(crate) bus_uri: String,
    programs: PathBuf,
    folder: PathBuf,
    environment: HashMap<String, String>,
    database: PgPool,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Cluster {
    /// Starts everything.
    pub(crate) async fn start(folder: PathBuf) -> anyhow::Result<Self> {
        let programs =
            std::env::current_exe()?.parent().context("a program lies in a folder")?.to_owned();
        command(&programs, &folder, &["start"]).await?;
        let environment = read_environment(&folder)?;
        let get = |name: &str| {
            environment.get(name).cloned().with_context(|| format!("up.env does not say {name}"))
        };
        Ok(Self {
            edge_url: get("LINKMESH_URL")?,
            edge_url_2: get("LINKMESH_URL_2")?,
            link_domain: get("LINKMESH_LINK_DOMAIN")?,
            bus_uri: get("LINKMESH_KAFKA")?,
            database: PgPool::connect(&get("LINKMESH_POSTGRES")?).await?,
            http: Client::builder(TokioExecutor::new()).build_http(),
            programs,
            folder,
            environment,
        })
    }

    /// Stops everything and removes its data.
    pub(crate) async fn down(self) -> anyhow::Result<()> {
        self.database.close().await;
        command(&self.programs, &self.folder, &["down"]).await
    }

    /// Stops a member.
    pub(crate) async fn stop(&self, member: &str) -> anyhow::Result<()> {
        command(&self.programs, &self.folder, &["stop", member]).await
    }

    /// Starts a member again.
    pub(crate) async fn restart(&self, member: &str) -> anyhow::Result<()> {
        command(&self.programs, &self.folder, &["restart", member]).await
    }

    /// The process of a member.
    pub(crate) async fn pid(&self, member: &str) -> anyhow::Result<u32> {
        let name = format!("LINKMESH_PID_{}", member.to_uppercase().replace('-', "_"));
        let environment = read_environment(&self.folder)?;
        environment
            .get(&name)
            .and_then(|pid| pid.parse().ok())
            .with_context(|| format!("{member} does not run"))
    }

    /// Clicks folded so far, by the counters of the whole workspace.
    pub(crate) async fn folded(&self) -> anyhow::Result<i64> {
        let query = "SELECT COALESCE(SUM(clicks + bot_clicks), 0)::BIGINT FROM analytics.rollups \
                     WHERE link_id = '00000000-0000-0000-0000-000000000000'";
        Ok(sqlx::query_scalar(query).fetch_one(&self.database).await?)
    }

    /// The workspace's id.
    pub(crate) fn workspace_id(&self) -> anyhow::Result<Uuid> {
        let name = self.get("LINKMESH_WORKSPACE")?;
        let digits = name.rsplit('_').next().context("a workspace's name ends with its id")?;
        Ok(Uuid::try_parse(digits)?)
    }

    /// Waits until edge-1 has nothing left to ship.
    pub(crate) async fn wait_until_shipped(&self) -> anyhow::Result<()> {
        let metrics = format!("{}/metrics", self.get("LINKMESH_ADMIN_EDGE_1")?);
        let deadline = Instant::now() + SHIPPED_WITHIN;
        loop {
            let (_, text) = self.http("GET", &metrics, &[], String::new()).await?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let line = text.lines().find(|line| line.starts_with("spool_unshipped_clicks"));
            let left = line
                .and_then(|line| line.rsplit(' ').next())
                .context("the edge publishes its spool")?;
            if left.parse::<f64>()? == 0.0 {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{left} clicks are unshipped after {SHIPPED_WITHIN:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts the load generator on both edges; whoever starts it ends it.
    pub(crate) fn load(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        Command::new(self.programs.join("load"))
            .args(arguments)
            .envs(&self.environment)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("the load generator is built with the bench")
    }

    /// Makes a link with a random slug, which it answers with.
    pub(crate) async fn create_link(&self, destination: &str) -> anyhow::Result<String> {
        Ok(self.create_named_link(destination).await?.slug)
    }

    /// Makes a link.
    pub(crate) async fn create_named_link(&self, destination: &str) -> anyhow::Result<Link> {
        let path = format!("/v1/{}/links", self.get("LINKMESH_WORKSPACE")?);
        let link = self.rest("POST", &path, Some(json!({"destinationUri": destination}))).await?;
        let text = |name: &str| {
            link[name].as_str().map(str::to_owned).context("a link has a name and a slug")
        };
        Ok(Link { name: text("name")?, slug: text("slug")? })
    }

    /// Changes where a link leads.
    pub(crate) async fn change_destination(
        &self,
        name: &str,
        destination: &str,
    ) -> anyhow::Result<()> {
        self.rest("PATCH", &format!("/v1/{name}"), Some(json!({"destinationUri": destination})))
            .await
            .map(drop)
    }

    /// Clicks a link at edge-1 and waits for the answer.
    pub(crate) async fn click(&self, slug: &str) -> anyhow::Result<()> {
        self.location(&self.edge_url, slug).await.map(drop)
    }

    /// Where an edge says that a slug leads.
    pub(crate) async fn location(&self, edge_url: &str, slug: &str) -> anyhow::Result<String> {
        let headers = [("host", self.link_domain.as_str()), ("user-agent", AGENT)];
        let (head, _) =
            self.http("GET", &format!("{edge_url}/{slug}"), &headers, String::new()).await?;
        let location = head.headers.get("location").context("a redirect says where to")?;
        Ok(location.to_str()?.to_owned())
    }

    /// How often people clicked a link.
    pub(crate) async fn count(&self, name: &str) -> anyhow::Result<u64> {
        let path = format!("/v1/{}/clicks:count?links={name}", self.get("LINKMESH_WORKSPACE")?);
        let answer = self.rest("GET", &path, None).await?;
        Ok(answer["counts"]["clicks"].as_str().map_or(Ok(0), str::parse)?)
    }

    async fn rest(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let bearer = format!("Bearer {}", self.get("LINKMESH_API_KEY")?);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (head, text) =
            self.http(method, &format!("{}{path}", self.edge_url), &headers, body).await?;
        anyhow::ensure!(head.status.is_success(), "{method} {path}: {} {:?}", head.status, text);
        Ok(serde_json::from_slice(&text)?)
    }

    async fn http(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<(http::response::Parts, Bytes)> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) =
            self.http.request(request.body(Full::new(body.into()))?).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    fn get(&self, name: &str) -> anyhow::Result<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("up.env does not say {name}"))
    }
}

async fn command(
    programs: &std::path::Path,
    folder: &std::path::Path,
    arguments: &[&str],
) -> anyhow::Result<()> {
    let output = Command::new(programs.join("linkmesh"))
        .args(["up", "--folder"])
        .arg(folder)
        .args(arguments)
        .output()
        .await
        .context("`linkmesh` lies beside the bench")?;
    anyhow::ensure!(
        output.status.success(),
        "linkmesh up {}: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Reads `export NAME='value'` lines.
fn read_environment(folder: &std::path::Path) -> anyhow::Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(folder.join("up.env"))?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    Ok(lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect())
}
