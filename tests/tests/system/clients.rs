//! Clients that are not ours: generated Python and Node code, gRPC-Web, and grpcurl, each against a running system.

use crate::accounts::WITHIN;
use crate::accounts::signed_in;
use crate::accounts::text;
use crate::client::Api;
use crate::counted::eventually;
use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long one client may take, code generation included.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for thousands of requests that are made of the OpenAPI document: on two idle cores they take less than a minute.
const OPENAPI_TIMEOUT: Duration = Duration::from_secs(300);
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
const LINKS: &str = "linkmesh.links.v1.LinksService";
const ANALYTICS: &str = "linkmesh.analytics.v1.AnalyticsService";

/// A generated Python client creates a link, clicks it and reads the count, over gRPC.
pub async fn python_creates_clicks_and_reads(api: &Api) -> anyhow::Result<()> {
    run_client(api, "python/run.sh", &["client"]).await
}

/// A Node client with @grpc/grpc-js does, and watches the click arrive.
pub async fn node_creates_clicks_watches_and_reads(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["grpc"]).await
}

/// Code that protobuf-ts generated for browsers does, over gRPC-Web, binary and text.
pub async fn grpc_web_creates_clicks_and_reads(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["grpc_web"]).await
}

/// The official grpc-web client does, binary and text.
pub async fn official_grpc_web_creates_and_reads(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["grpc_web_official"]).await
}

/// nice-grpc-web does, and watches the click arrive.
pub async fn nice_grpc_web_creates_clicks_and_watches(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["nice"]).await
}

/// Connect's own clients do, over each protocol that they speak, GET included.
pub async fn connect_creates_clicks_and_watches(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["connect"]).await
}

/// connect-web does in headless Chromium, on a page of another origin.
pub async fn a_browser_creates_clicks_and_watches(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["browser"]).await
}

/// The page that shows the OpenAPI document works in headless Chromium under its own policy, without a complaint.
pub async fn the_docs_page_works_under_its_own_policy(api: &Api) -> anyhow::Result<()> {
    run_client(api, "node/run.sh", &["docs"]).await
}

/// The edge's OpenAPI document is a good one by redocly, and schemathesis finds no answer that it does not describe, to a key and to a
/// person. `mails` is where the cluster writes mails.
pub async fn the_openapi_document_is_what_the_edge_does(
    api: &Api,
    mails: &Path,
) -> anyhow::Result<()> {
    // Attempts are counted by network, and the other tests are on another one.
    let api = api.at_address(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 7, 7, 8)));
    let email = format!("openapi-{}@example.com", uuid::Uuid::new_v4().simple());
    let person = signed_in(&api, mails, &email).await?;
    let path = format!("/v1/workspaces?requestId={}", uuid::Uuid::new_v4());
    let created = person.rest("POST", &path, Some(json!({"displayName": "Throwaway"}))).await?;
    let workspace = text(&created.json()["name"])?.to_owned();
    let path = |collection: &str| format!("/v1/{workspace}/{collection}");
    let link = json!({"destinationUri": "https://example.com/"});
    // The edge hears of the new owner.
    let mut made = person.rest("POST", &path("links"), Some(link.clone())).await?;
    let deadline = std::time::Instant::now() + WITHIN;
    while made.status != 200 {
        anyhow::ensure!(std::time::Instant::now() < deadline, "the owner is none: {made:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        made = person.rest("POST", &path("links"), Some(link.clone())).await?;
    }
    let scopes: Vec<&str> = rpc::Permissions::ALL.names().collect();
    let key = json!({"displayName": "schemathesis", "scopes": scopes});
    let key = person.rest("POST", &path("apiKeys"), Some(key)).await?.json();
    let environment = [
        ("LINKMESH_URL", api.url.clone()),
        ("LINKMESH_WORKSPACE", workspace.clone()),
        ("LINKMESH_LINK", text(&made.json()["name"])?.to_owned()),
        ("LINKMESH_API_KEY", text(&key["secret"])?.to_owned()),
        ("LINKMESH_ACCESS_TOKEN", person.key.clone()),
    ];
    run_within("openapi/run.sh", &[], environment, OPENAPI_TIMEOUT).await
}

/// grpcurl, knowing no proto, lists and describes services and calls them with the key.
pub async fn grpcurl_lists_describes_and_calls(api: &Api, domain: &str) -> anyhow::Result<()> {
    let services = grpcurl(api, &[], &["list"]).await?;
    for service in [
        LINKS,
        ANALYTICS,
        "linkmesh.links.v1.DomainsService",
        "linkmesh.identity.v1.WorkspacesService",
        "linkmesh.identity.v1.ApiKeysService",
    ] {
        anyhow::ensure!(services.lines().any(|line| line == service), "{service} in {services}");
    }
    for hidden in ["AuthenticationService", "ResolverService", "SaltsService", "AggregatorService"]
    {
        anyhow::ensure!(!services.contains(hidden), "{hidden} is not for the world: {services}");
    }
    let described = grpcurl(api, &[], &["describe", &format!("{LINKS}.CreateLink")]).await?;
    anyhow::ensure!(
        described.contains("returns ( .linkmesh.links.v1.CreateLinkResponse )"),
        "{described}"
    );

    let request =
        json!({"parent": api.workspace, "link": {"destinationUri": "https://example.com/grpcurl"}});
    let created = call(api, &format!("{LINKS}/CreateLink"), request).await?;
    let text = |name: &str| created["link"][name].as_str().unwrap_or_default().to_owned();
    let (name, slug) = (text("name"), text("slug"));
    let clicked = api.click(domain, &slug).await?;
    anyhow::ensure!(clicked.status == 302, "{clicked:?}");
    eventually(&"1".to_owned(), COUNTED_WITHIN, || async {
        let request = json!({"parent": api.workspace, "links": [name]});
        let counted = call(api, &format!("{ANALYTICS}/CountClicks"), request).await?;
        Ok(counted["counts"]["clicks"].as_str().unwrap_or("0").to_owned())
    })
    .await?;

    let stranger = api.with_key("");
    let request = json!({"name": name});
    let refused = call(&stranger, &format!("{LINKS}/GetLink"), request).await;
    let error = refused.err().context("a call without a key was answered")?.to_string();
    anyhow::ensure!(error.contains("CREDENTIALS_MISSING"), "{error}");
    Ok(())
}

async fn call(api: &Api, method: &str, request: Value) -> anyhow::Result<Value> {
    let answer = grpcurl(api, &["-d", &request.to_string()], &[method]).await?;
    serde_json::from_str(&answer).with_context(|| format!("grpcurl answered `{answer}`"))
}

/// grpcurl with these options, at an address.
pub async fn grpcurl_with(
    options: &[&str],
    address: &str,
    arguments: &[&str],
) -> anyhow::Result<String> {
    let mut command = grpcurl_command()?;
    command.args(options).arg(address).args(arguments);
    finish(command, CLIENT_TIMEOUT).await
}

fn grpcurl_command() -> anyhow::Result<Command> {
    let own = tools()?.join("bin/grpcurl");
    let program = if own.exists() { own } else { "grpcurl".into() };
    let mut command = Command::new(program);
    command.args(["-max-time", "20"]);
    Ok(command)
}

async fn grpcurl(api: &Api, options: &[&str], arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = grpcurl_command()?;
    command.arg("-plaintext");
    if !api.key.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {}", api.key)]);
    }
    command.args(options).arg(api.url.trim_start_matches("http://")).args(arguments);
    finish(command, CLIENT_TIMEOUT).await
}

async fn run_client(api: &Api, script: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let environment = [
        ("LINKMESH_URL", api.url.clone()),
        ("LINKMESH_API_KEY", api.key.clone()),
        ("LINKMESH_WORKSPACE", api.workspace.clone()),
    ];
    run(script, arguments, environment).await
}

/// Runs a client's script below tests/clients.
pub async fn run(
    script: &str,
    arguments: &[&str],
    environment: impl IntoIterator<Item = (&'static str, String)>,
) -> anyhow::Result<()> {
    run_within(script, arguments, environment, CLIENT_TIMEOUT).await
}

async fn run_within(
    script: &str,
    arguments: &[&str],
    environment: impl IntoIterator<Item = (&'static str, String)>,
    within: Duration,
) -> anyhow::Result<()> {
    let mut command = Command::new(root().join("tests/clients").join(script));
    command.args(arguments).envs(environment);
    finish(command, within).await.map(drop)
}

/// Runs to the end; what it printed, or what it complained about.
async fn finish(mut command: Command, within: Duration) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(within, command.output())
        .await
        .with_context(|| format!("{command:?} took longer than {within:?}"))?
        .with_context(|| {
            format!("{command:?}; `scripts/setup.sh test` installs what tests need")
        })?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}\n{printed}\n{complaint}",
        output.status
    );
    Ok(printed)
}

/// The folder of the programs that scripts/setup.sh installs.
fn tools() -> anyhow::Result<std::path::PathBuf> {
    let output = std::process::Command::new("sh")
        .arg(root().join("scripts/setup.sh"))
        .arg("where")
        .output()
        .context("scripts/setup.sh where")?;
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
