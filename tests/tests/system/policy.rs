//! A policy applied by an operator's command takes hold in running processes, and is taken back.

use crate::cluster::Cluster;
use crate::cluster::LINKMESH;
use anyhow::Context as _;
use mesh::Mesh;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tonic::Code;
use tonic::Request;

/// How long a change may take to be everywhere; many times what it takes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The header that only this test sends.
const HEADER: &str = "x-linkmesh-test-policy";

/// Fails the calls of this test, and nobody else's.
fn policy(code: &str) -> String {
    format!(
        "service: links\nroutes:\n  - name: of-a-test\n    matches:\n      - headers: [{{name: {HEADER}}}]\n    fault:\n      \
         abort: {{code: {code}, percent: 100}}\n"
    )
}

/// Runs `linkmesh mesh policy …`.
async fn command(cluster: &Cluster, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
    let address = format!("identity=127.0.0.1:{}", cluster.value("PORT_IDENTITY_1"));
    let mut command = Command::new(LINKMESH);
    command.args(["mesh", "policy"]).args(arguments);
    if arguments[0] != "validate" {
        command.args(["--address", &address, "--authority", cluster.value("AUTHORITY")]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    child.stdin.take().context("it was asked for")?.write_all(input.as_bytes()).await?;
    Ok(tokio::time::timeout(PATIENCE, child.wait_with_output()).await??)
}

/// The same, which must go well; what it printed.
async fn done(cluster: &Cluster, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let output = command(cluster, arguments, input).await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn call(mesh: &Mesh, header: bool) -> Code {
    let mut request = Request::new(GetLinkRequest { name: "a test's".to_owned() });
    if header {
        request.metadata_mut().insert(HEADER, "1".parse().unwrap());
    }
    match LinksServiceClient::new(mesh.clone()).get_link(request).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

async fn until_calls_answer(mesh: &Mesh, code: Code) {
    let started = Instant::now();
    loop {
        let answered = call(mesh, true).await;
        if answered == code {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "still {answered:?}, not {code:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_policy_that_is_applied_holds_everywhere_until_it_is_taken_back() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let authority = mesh::LocalAuthority::open_or_create(cluster.value("AUTHORITY").as_ref())?;
    let options = mesh::MeshOptions {
        registry: mesh::registry::open(cluster.value("ETCD"))?,
        identity: authority.issue(linkmesh::OPERATOR)?,
        zone: String::new(),
        region: String::new(),
        snapshot: None,
    };
    let mesh = Mesh::start(options, &mut prometheus_client::registry::Registry::default())?;
    // What `links` itself says to who asks like this; it is no matter what.
    let usual = call(&mesh, false).await;

    let wrong = policy("DATA_LSS");
    let refused = command(cluster, &["apply", "-f", "-"], &wrong).await?;
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8(refused.stderr)?;
    let place = "standard input:7: routes[0].fault.abort.code: must be one of CANCELLED";
    assert!(complaint.starts_with(place), "{complaint}");

    let wanted = policy("DATA_LOSS");
    assert_eq!(done(cluster, &["validate", "-f", "-"], &wanted).await?, "links: valid\n");
    let differs = command(cluster, &["diff", "-f", "-"], &wanted).await?;
    assert_eq!(differs.status.code(), Some(1));
    let difference = String::from_utf8(differs.stdout)?;
    assert!(difference.contains("+      code: DATA_LOSS\n"), "{difference}");
    let applied = done(cluster, &["apply", "-f", "-", "--note", "a test"], &wanted).await?;
    assert!(applied.starts_with("links: applied (revision "), "{applied}");
    until_calls_answer(&mesh, Code::DataLoss).await;
    assert_eq!(call(&mesh, false).await, usual, "without the header nothing changed");
    for edge in ["edge-1", "edge-2"] {
        let started = Instant::now();
        while cluster.metric(edge, "mesh_policy_revision").await?.unwrap_or(0.0) < 1.0 {
            assert!(started.elapsed() < PATIENCE, "{edge} does not know of it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    assert_eq!(done(cluster, &["diff", "-f", "-"], &wanted).await?, "");
    let again = done(cluster, &["apply", "-f", "-"], &wanted).await?;
    assert!(again.starts_with("links: unchanged"), "{again}");
    done(cluster, &["apply", "-f", "-"], &policy("ABORTED")).await?;
    until_calls_answer(&mesh, Code::Aborted).await;
    done(cluster, &["rollback", "links"], "").await?;
    until_calls_answer(&mesh, Code::DataLoss).await;
    let shown = done(cluster, &["get", "links"], "").await?;
    assert_eq!(done(cluster, &["diff", "-f", "-"], &shown).await?, "", "{shown}");
    let history = done(cluster, &["history", "links"], "").await?;
    assert!(history.contains("operator") && history.contains("a test"), "{history}");

    done(cluster, &["delete", "links"], "").await?;
    until_calls_answer(&mesh, usual).await;
    mesh.close().await;
    Ok(())
}
