//! What an operator sees of a running cluster by `linkmesh mesh …`, and what draining an instance does to its callers.

use crate::client::Api;
use crate::cluster::Cluster;
use crate::counted::create;
use crate::counted::eventually;
use crate::traffic::Traffic;
use anyhow::Context as _;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use proto::links::v1::links_service_server;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;

/// Ten times what a change in the registry takes to be everywhere.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// How long until a call of a method is shown, with a tap that is opened meanwhile.
const TAPPED_WITHIN: Duration = Duration::from_secs(60);
const RESOLVE: &str = "linkmesh.links.v1.ResolverService/Resolve";

async fn json_of(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Value> {
    let printed = cluster.mesh(&[arguments, &["-o", "json"]].concat()).await?;
    serde_json::from_str(&printed).with_context(|| format!("{arguments:?} printed {printed}"))
}

/// A click on a link that no cache knows.
async fn fresh_click(cluster: &Cluster, api: &Api) -> anyhow::Result<String> {
    let (_, slug) = create(api, json!({"destinationUri": "https://example.com/seen"})).await?;
    let headers = [("host", cluster.domain()), ("traceparent", TRACEPARENT)];
    let answer = api.http("GET", &format!("/{slug}"), &headers, "").await?;
    assert_eq!(answer.status, 302, "{answer:?}");
    Ok(slug)
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A call that `links` refuses: `analytics` has nothing to ask it for.
async fn denied_call(cluster: &Cluster) -> anyhow::Result<()> {
    let authority = mesh::LocalAuthority::open_or_create(cluster.value("AUTHORITY").as_ref())?;
    let address = format!("127.0.0.1:{}", cluster.value("PORT_LINKS_1"));
    let service = [links_service_server::SERVICE_NAME];
    let mesh = mesh::Mesh::to_one(authority.issue("analytics")?, "links", &address, &service)?;
    let answer = LinksServiceClient::new(mesh.clone()).get_link(GetLinkRequest::default()).await;
    mesh.close().await;
    assert_eq!(answer.map(drop).map_err(|status| status.code()), Err(Code::PermissionDenied));
    Ok(())
}

#[tokio::test]
async fn who_calls_whom_and_how_that_goes_is_seen_and_a_refused_caller_too() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let api = cluster.workspace().await?;
    for _ in 0..5 {
        fresh_click(cluster, &api).await?;
    }
    denied_call(cluster).await?;

    let endpoints = json_of(cluster, &["endpoints", "--service", "links"]).await?;
    let instances: Vec<&str> = endpoints["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["instance"].as_str())
        .collect();
    assert_eq!(instances, ["links-1", "links-2"]);

    let edges = json_of(cluster, &["edges", "--total"]).await?;
    let edge = |caller: &str, callee: &str| {
        let all = edges["edges"].as_array().into_iter().flatten();
        let mut found = all.filter(|it| it["caller"] == caller && it["callee"] == callee);
        found.next().with_context(|| format!("no {caller} → {callee} in {edges:#}")).cloned()
    };
    let clicks = edge("edge", "links")?;
    assert_eq!(clicks["identity"], "spiffe://linkmesh/service/edge");
    assert!(clicks["calls"].as_u64() >= Some(5) && clicks["p99Seconds"].as_f64() > Some(0.0));
    let denied = edge("analytics", "links")?;
    assert!(denied["codes"]["PERMISSION_DENIED"].as_u64() >= Some(1), "{denied:#}");

    let table = cluster.mesh(&["stat", "--by", "caller", "--total"]).await?;
    let row = |words: [&str; 2]| {
        let row = table.lines().find(|line| words.iter().all(|word| line.contains(word)));
        row.with_context(|| format!("no {words:?} in\n{table}"))
    };
    row(["edge ", "ResolverService/Resolve"])?;
    assert!(row(["analytics ", "LinksService/GetLink"])?.contains("PERMISSION_DENIED"));

    let routes = cluster.mesh(&["routes", "--service", "links"]).await?;
    assert!(routes.lines().any(|line| line.starts_with("links") && line.contains("default")));

    let top = async {
        let shown = cluster.mesh(&["top", "--once", "--interval", "2s"]);
        let (shown, clicked) = tokio::join!(shown, async {
            for _ in 0..10 {
                fresh_click(cluster, &api).await?;
            }
            anyhow::Ok(())
        });
        clicked?;
        shown
    };
    let top = top.await?;
    assert!(top.contains("instances"), "{top}");
    Ok(())
}

#[tokio::test]
async fn a_click_is_seen_decoded_on_its_way_with_its_trace() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let api = cluster.workspace().await?;
    let tap =
        ["tap", "--caller", "edge", "--method", RESOLVE, "--header", "traceparent", "--limit", "1"];
    let tap = [&tap[..], &["-o", "json"]].concat();
    let shown = cluster.mesh(&tap);
    tokio::pin!(shown);
    let began = Instant::now();
    // The tap is open at some moment: links are clicked until one was seen.
    let printed = loop {
        tokio::select! {
            printed = &mut shown => break printed?,
            clicked = fresh_click(cluster, &api) => { clicked?; }
        }
        anyhow::ensure!(began.elapsed() < TAPPED_WITHIN, "no click was seen");
    };
    let events: Vec<Value> =
        printed.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(printed)?;
    let part = |name: &str| {
        let part = events.iter().map(|event| &event[name]).find(|part| !part.is_null());
        part.with_context(|| format!("no {name} in {events:#?}"))
    };
    let begin = part("begin")?;
    assert_eq!(begin["caller"], "edge");
    // The processes have no telemetry, and the trace goes on all the same.
    assert_eq!(begin["traceId"], TRACE);
    let request = part("message")?;
    assert_eq!(request["direction"], "request");
    assert_eq!(request["content"]["domain"], cluster.domain());
    let response = events.iter().find(|event| event["message"]["direction"] == "response");
    let response = response.context("no response")?.to_string();
    assert!(response.contains("https://example.com/seen"), "{response}");
    assert_eq!(part("end")?["code"], "OK");
    Ok(())
}

#[tokio::test]
async fn no_credential_is_ever_seen() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let api = cluster.workspace().await?;
    let tap = ["tap", "--service", "identity", "--caller", "edge", "--limit", "6"];
    let shown = cluster.mesh(&tap);
    tokio::pin!(shown);
    let began = Instant::now();
    let mut secrets = vec![api.key.clone()];
    let printed = loop {
        let work = async {
            // A key that is made, and used; one that is wrong.
            let key = json!({"displayName": "seen", "scopes": ["SCOPE_LINKS_READ"]});
            let made = api.rest("POST", "/v1/{w}/apiKeys", Some(key)).await?;
            anyhow::ensure!(made.status == 200, "{made:?}");
            let secret = made.json()["secret"].as_str().context("a secret")?.to_owned();
            let used = api.with_key(secret.clone()).rest("GET", "/v1/{w}/links", None).await?;
            anyhow::ensure!(used.status == 200, "{used:?}");
            Ok(secret)
        };
        tokio::select! {
            printed = &mut shown => break printed?,
            secret = work => secrets.push(secret?),
        }
        anyhow::ensure!(began.elapsed() < TAPPED_WITHIN, "no call was seen");
    };
    assert!(printed.contains("ApiKeysService/CreateApiKey"), "{printed}");
    assert!(printed.contains("AuthenticationService/Authenticate"), "{printed}");
    for secret in secrets {
        // Neither whole nor its part after the key's id.
        let tail = secret.rsplit('_').next().unwrap_or(&secret);
        assert!(!printed.contains(tail), "a secret was shown: {printed}");
    }
    Ok(())
}

#[tokio::test]
async fn of_a_mesh_that_is_well_the_check_says_so() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let printed = cluster.mesh(&["check"]).await?;
    assert!(printed.contains("✓ etcd at") && !printed.contains('×'), "{printed}");
    let json = json_of(cluster, &["check"]).await?;
    assert_eq!(json["healthy"], true);
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_drained_gets_no_calls_and_none_fails() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let api = cluster.workspace().await?;
    let traffic = Traffic::start(cluster, &api).await?;
    traffic.for_requests(200).await?;
    let state = async || {
        let endpoints = json_of(cluster, &["endpoints", "--service", "links"]).await?;
        Ok(endpoints["endpoints"][1]["state"].as_str().unwrap_or_default().to_owned())
    };

    let printed = cluster.mesh(&["drain", "links-2"]).await?;
    assert!(printed.starts_with("links-2 is out of rotation"), "{printed}");
    eventually(&"draining".to_owned(), SEEN_WITHIN, &state).await?;
    let check = cluster.mesh(&["check"]).await?;
    assert!(check.contains("! links-2 was taken out of rotation"), "{check}");
    traffic.for_requests(100).await?;
    let stat = ["stat", "--by", "instance", "--service", "links", "--window", "3s"];
    let calls = json_of(cluster, &stat).await?;
    let instances: Vec<_> = calls["rows"].as_array().into_iter().flatten().collect();
    assert!(instances.iter().any(|row| row["instance"] == "links-1"), "{calls:#}");
    assert!(instances.iter().all(|row| row["instance"] != "links-2"), "{calls:#}");

    let printed = cluster.mesh(&["undrain", "links-2"]).await?;
    assert!(printed.starts_with("links-2 is back in rotation"), "{printed}");
    let is_called = async || {
        let calls = json_of(cluster, &stat).await?;
        let mut rows = calls["rows"].as_array().into_iter().flatten();
        Ok(rows.any(|row| row["instance"] == "links-2"))
    };
    eventually(&true, SEEN_WITHIN, is_called).await?;
    traffic.for_requests(100).await?;
    let (failures, _) = traffic.end().await;
    assert!(failures.is_empty(), "{} failed: {:#?}", failures.len(), failures.first());
    Ok(())
}

/// `check` on a cluster in which these are down: it fails, and names each.
pub async fn what_is_down_is_named_with_what_to_do(
    cluster: &Cluster,
    down: &[&str],
) -> anyhow::Result<()> {
    let output = cluster.ask(&["check"]).await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for name in down {
        let finding =
            printed.lines().skip_while(|line| !(line.contains('×') && line.contains(name)));
        let finding: Vec<_> = finding.take(2).collect();
        assert!(finding.len() == 2 && finding[1].contains('→'), "nothing of {name} in\n{printed}");
    }
    Ok(())
}
