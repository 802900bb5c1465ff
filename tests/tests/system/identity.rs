//! Certificates of a whole Linkmesh: they rotate under traffic, outlive control, and operators have their own.

use crate::clients::grpcurl_with;
use crate::cluster::Cluster;
use crate::counted::eventually;
use crate::traffic::Traffic;
use anyhow::Context as _;
use serde_json::Value;
use std::time::Duration;

/// How long certificates live here: each is replaced every 12 to 14 seconds.
const LIFE: &str = "20s";
/// How long a certificate outlives that, for clocks that differ.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// How often each member has replaced its certificate, and whether all of it is well.
async fn rotations(cluster: &Cluster) -> anyhow::Result<Vec<(String, u64)>> {
    let status: Value = serde_json::from_str(&cluster.cert(&["status", "-o", "json"]).await?)?;
    let instances = status["instances"].as_array().context("a list")?;
    let rotations = instances.iter().map(|instance| {
        let name = instance["instance"].as_str().unwrap_or_default().to_owned();
        (name, instance["rotations"].as_u64().unwrap_or_default())
    });
    Ok(rotations.collect())
}

async fn everyone_rotated(cluster: &Cluster, times: u64) -> anyhow::Result<()> {
    eventually(&true, SETTLE_MAX, || async {
        let rotations = rotations(cluster).await?;
        Ok(rotations.len() == 10 && rotations.iter().all(|(_, rotated)| *rotated >= times))
    })
    .await
}

#[tokio::test]
async fn certificates_rotate_under_traffic_and_control_may_be_killed_meanwhile()
-> anyhow::Result<()> {
    let cluster = Cluster::start_with_certificates(LIFE).await?;
    let api = cluster.api();
    let traffic = Traffic::start(&cluster, &api).await?;
    everyone_rotated(&cluster, 2).await?;

    // Without control everything goes on, restarts included: a process has what it needs.
    let controls = ["control-1", "control-2"];
    cluster.kill(&controls).await?;
    cluster.restart(&["links-2"]).await?;
    traffic.for_requests(200).await?;
    cluster.restart(&controls).await?;
    everyone_rotated(&cluster, 1).await?;

    // Another root, while all that goes on.
    let rotated = cluster.cert(&["rotate-root", "--wait", "2m"]).await?;
    assert!(rotated.contains("finished"), "{rotated}");
    traffic.for_requests(200).await?;

    let (failures, created) = traffic.end().await;
    assert!(
        failures.is_empty(),
        "{} failed: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    assert!(created > 0);
    Ok(())
}

#[tokio::test]
async fn an_operator_calls_with_grpcurl_and_a_viewer_changes_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let folder = tempfile::tempdir()?;
    let address = format!("127.0.0.1:{}", cluster.value("PORT_LINKS_1"));
    for (role, may_change) in [("viewer", false), ("admin", true)] {
        let out = folder.path().join(role);
        let out_text = out.display().to_string();
        let printed = cluster.cert(&["operator", "--out", &out_text, "--role", role]).await?;
        assert!(printed.contains("grpcurl -cacert"), "{printed}");
        let file = |name: &str| out.join(name).display().to_string();
        let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        let tls =
            ["-cacert", &ca, "-cert", &cert, "-key", &key, "-authority", "links.linkmesh.internal"];
        let listed = grpcurl_with(&tls, &address, &["list"]).await?;
        assert!(listed.contains("linkmesh.mesh.v1.MeshService"), "{listed}");
        let mesh = |method: &str| format!("linkmesh.mesh.v1.MeshService/{method}");
        let endpoints = grpcurl_with(&tls, &address, &[&mesh("ListEndpoints")]).await?;
        assert!(endpoints.contains("links-2"), "{endpoints}");
        let undrained = grpcurl_with(&tls, &address, &[&mesh("Undrain")]).await;
        assert_eq!(undrained.is_ok(), may_change, "{undrained:?}");
        if let Err(error) = undrained {
            let error = format!("{error:#}");
            assert!(error.contains("PermissionDenied") && error.contains("viewer"), "{error}");
        }
        // A certificate in hand is enough for another, as far as its role goes.
        let next = folder.path().join(format!("{role}-next")).display().to_string();
        let renewed = ["operator", "--out", &next, "--identity", &out_text];
        let renewed = cluster.cert_without_authority(&renewed).await;
        assert_eq!(renewed.is_ok(), may_change, "{renewed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_join_token_is_made_listed_and_revoked() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let made = ["join-token", "create", "--service", "links", "--note", "a test", "-o", "json"];
    let made: Value = serde_json::from_str(&cluster.cert(&made).await?)?;
    let id = made["token"]["id"].as_str().context("an id")?;
    let list = || async { cluster.cert(&["join-token", "list"]).await };
    assert!(list().await?.contains(id));
    assert!(!list().await?.contains(made["text"].as_str().context("a text")?));
    cluster.cert(&["join-token", "revoke", id]).await?;
    assert!(!list().await?.contains(id));
    Ok(())
}
