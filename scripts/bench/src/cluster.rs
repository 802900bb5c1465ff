//! Release processes of every service with real servers, started by `linkmesh up` in a folder of the bench's own.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use proto::analytics::v1::CountClicksRequest;
use proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use proto::common::v1::Scope;
use proto::identity::v1::ApiKey;
use proto::identity::v1::CreateApiKeyRequest;
use proto::identity::v1::RevokeApiKeyRequest;
use proto::identity::v1::api_keys_service_client::ApiKeysServiceClient;
use proto::links::v1::CreateLinkRequest;
use proto::links::v1::Link;
use proto::links::v1::UpdateLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tokio::process::Command;
use tonic::Request;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use uuid::Uuid;

/// How long the spool may take to be shipped after a run.
const SHIPPED_WITHIN: Duration = Duration::from_secs(120);
/// How long one call or request may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Sent with every click: a person's.
pub(crate) const BROWSER: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36";

/// A running cluster and a workspace in it.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    /// The first edge, `http://host:port`.
    pub(crate) edge_url: String,
    /// The second.
    pub(crate) edge_url_2: String,
    /// The host of its links.
    pub(crate) link_domain: String,
    /// `kafka://…`.
    pub(crate) bus_uri: String,
    workspace: String,
    api_key: String,
    channel: Channel,
    http: Client<HttpConnector, Empty<Bytes>>,
}

impl Cluster {
    /// Starts everything afresh below `folder`, with the `linkmesh` beside this program.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("linkmesh");
        anyhow::ensure!(program.exists(), "no {}: run `make bench`", program.display());
        let folder = std::path::absolute(folder)?.join("up");
        crate::say("starting the cluster");
        // What an interrupted bench left.
        up(&program, &folder, &["down"]).await?;
        up(&program, &folder, &["start"]).await?;
        let set = environment(&folder)?;
        let get = |name: &str| {
            set.get(name).cloned().with_context(|| format!("up.env does not set {name}"))
        };
        let edge_url = get("LINKMESH_URL")?;
        let channel = Endpoint::from_shared(edge_url.clone())?.timeout(CALL_TIMEOUT).connect_lazy();
        Ok(Self {
            edge_url_2: get("LINKMESH_URL_2")?,
            link_domain: get("LINKMESH_LINK_DOMAIN")?,
            bus_uri: get("LINKMESH_KAFKA")?,
            workspace: get("LINKMESH_WORKSPACE")?,
            api_key: get("LINKMESH_API_KEY")?,
            http: Client::builder(TokioExecutor::new()).build_http(),
            edge_url,
            channel,
            program,
            folder,
        })
    }

    /// Stops everything and removes its data.
    pub(crate) async fn down(self) -> anyhow::Result<()> {
        up(&self.program, &self.folder, &["down"]).await
    }

    /// Stops a member, such as `analytics-1`.
    pub(crate) async fn stop(&self, member: &str) -> anyhow::Result<()> {
        up(&self.program, &self.folder, &["stop", member]).await
    }

    /// Starts it again, and waits until it is ready.
    pub(crate) async fn restart(&self, member: &str) -> anyhow::Result<()> {
        up(&self.program, &self.folder, &["restart", member]).await
    }

    /// A member's process id.
    pub(crate) fn pid(&self, member: &str) -> anyhow::Result<u32> {
        let name = format!("LINKMESH_PID_{}", member.to_uppercase().replace('-', "_"));
        let set = environment(&self.folder)?;
        let pid = set.get(&name).with_context(|| format!("up.env does not set {name}"))?;
        pid.parse().with_context(|| format!("{member} does not run"))
    }

    /// The registry, `etcd://host:port`.
    pub(crate) fn etcd(&self) -> anyhow::Result<String> {
        let set = environment(&self.folder)?;
        set.get("LINKMESH_ETCD").cloned().context("up.env does not set LINKMESH_ETCD")
    }

    /// The folder of the authority that vouches for all members.
    pub(crate) fn authority(&self) -> anyhow::Result<PathBuf> {
        let set = environment(&self.folder)?;
        let folder = set.get("LINKMESH_AUTHORITY");
        Ok(folder.context("up.env does not set LINKMESH_AUTHORITY")?.into())
    }

    /// A key that may do everything in the workspace.
    pub(crate) fn api_key(&self) -> &str {
        &self.api_key
    }

    /// `workspaces/{workspace}`.
    pub(crate) fn workspace(&self) -> &str {
        &self.workspace
    }

    /// The workspace's id.
    pub(crate) fn workspace_id(&self) -> anyhow::Result<Uuid> {
        let (_, hex) =
            self.workspace.rsplit_once('_').context("a workspace's name ends with its id")?;
        Ok(Uuid::try_parse(hex)?)
    }

    /// A new link.
    pub(crate) async fn create_link(&self, destination: &str) -> anyhow::Result<Link> {
        let link = Link { destination_uri: destination.to_owned(), ..Link::default() };
        let request = CreateLinkRequest {
            parent: self.workspace.clone(),
            link: Some(link),
            request_id: String::new(),
        };
        let mut client = LinksServiceClient::new(self.channel.clone());
        let response = client.create_link(self.request(request)?).await?.into_inner();
        response.link.context("a link was created")
    }

    /// Sends a link elsewhere.
    pub(crate) async fn change_destination(&self, name: &str, to: &str) -> anyhow::Result<()> {
        let name = name.to_owned();
        let link = Link { name, destination_uri: to.to_owned(), ..Link::default() };
        let request = UpdateLinkRequest { link: Some(link), ..Default::default() };
        let mut client = LinksServiceClient::new(self.channel.clone());
        client.update_link(self.request(request)?).await?;
        Ok(())
    }

    /// A new key that may read links: its name and its secret.
    pub(crate) async fn create_key(&self) -> anyhow::Result<(String, String)> {
        let api_key = ApiKey {
            display_name: "to be revoked".to_owned(),
            scopes: vec![Scope::LinksRead.into()],
            ..ApiKey::default()
        };
        let parent = self.workspace.clone();
        let request =
            CreateApiKeyRequest { parent, api_key: Some(api_key), request_id: String::new() };
        let mut client = ApiKeysServiceClient::new(self.channel.clone());
        let response = client.create_api_key(self.request(request)?).await?.into_inner();
        Ok((response.api_key.context("a key was created")?.name, response.secret))
    }

    /// Revokes a key.
    pub(crate) async fn revoke_key(&self, name: &str) -> anyhow::Result<()> {
        let request = RevokeApiKeyRequest { name: name.to_owned(), ..Default::default() };
        let mut client = ApiKeysServiceClient::new(self.channel.clone());
        client.revoke_api_key(self.request(request)?).await?;
        Ok(())
    }

    /// Whether an edge takes a key.
    pub(crate) async fn takes_key(&self, edge: &str, secret: &str) -> anyhow::Result<bool> {
        let request = http::Request::get(format!("{edge}/v1/{}/links?pageSize=1", self.workspace))
            .header(http::header::AUTHORIZATION, format!("Bearer {secret}"))
            .body(Empty::new())?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.http.request(request)).await??;
        let status = answer.status();
        answer.into_body().collect().await?;
        match status {
            http::StatusCode::OK => Ok(true),
            http::StatusCode::UNAUTHORIZED => Ok(false),
            other => anyhow::bail!("{edge} answered {other} to a key"),
        }
    }

    /// How many clicks of people on a link are counted.
    pub(crate) async fn count(&self, name: &str) -> anyhow::Result<u64> {
        let request = CountClicksRequest {
            parent: self.workspace.clone(),
            links: vec![name.to_owned()],
            ..CountClicksRequest::default()
        };
        let mut client = AnalyticsServiceClient::new(self.channel.clone());
        let response = client.count_clicks(self.request(request)?).await?.into_inner();
        Ok(u64::try_from(response.counts.unwrap_or_default().clicks)?)
    }

    /// Where an edge sends those who click; a click like any other.
    pub(crate) async fn click(&self, edge: &str, slug: &str) -> anyhow::Result<String> {
        let request = http::Request::get(format!("{edge}/{slug}"))
            .header(http::header::HOST, &self.link_domain)
            .header(http::header::USER_AGENT, BROWSER)
            .body(Empty::new())?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.http.request(request)).await??;
        let status = answer.status();
        let location = answer.headers().get(http::header::LOCATION).cloned();
        answer.into_body().collect().await?;
        let location = location.with_context(|| format!("{edge}/{slug} answered {status}"))?;
        Ok(location.to_str()?.to_owned())
    }

    /// Options for the load generator on both edges, without a comparison.
    pub(crate) fn load(&self, links: usize, rate: f64) -> anyhow::Result<load::Options> {
        let urls = vec![self.edge_url.clone(), self.edge_url_2.clone()];
        let options = load::Options::new(urls, self.api_key.clone(), self.workspace.clone())?;
        Ok(load::Options {
            links,
            clicks: u64::MAX,
            rate: Some(rate),
            comparison: load::Comparison::None,
            ..options
        })
    }

    /// Waits until an edge's spool holds nothing that Kafka has not acknowledged.
    pub(crate) async fn wait_until_shipped(&self, member: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + SHIPPED_WITHIN;
        while self.metric(member, "spool_unshipped_clicks").await? > 0.0 {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the spool is not shipped after {SHIPPED_WITHIN:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// A metric of a member, summed over its labels.
    ///
    /// # Errors
    /// The member does not answer, or has no such metric.
    pub(crate) async fn metric(&self, member: &str, name: &str) -> anyhow::Result<f64> {
        let variable = format!("LINKMESH_ADMIN_{}", member.to_uppercase().replace('-', "_"));
        let set = environment(&self.folder)?;
        let admin =
            set.get(&variable).with_context(|| format!("up.env does not set {variable}"))?;
        let request = http::Request::get(format!("{admin}/metrics")).body(Empty::new())?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.http.request(request)).await??;
        let text = answer.into_body().collect().await?.to_bytes();
        let text = std::str::from_utf8(&text)?;
        let mut values = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .peekable();
        anyhow::ensure!(values.peek().is_some(), "{member} has no metric {name}");
        Ok(values.sum())
    }

    fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.api_key).parse()?;
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
}

async fn up(program: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg("up").arg("--folder").arg(folder).args(arguments);
    let output = command.output().await.with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(())
}

/// What `up.env` sets.
fn environment(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let path = folder.join("up.env");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let pairs = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect())
}
