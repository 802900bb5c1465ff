//! `linkmesh up` as an operator uses it.

use crate::client::Api;
use crate::cluster::Cluster;

#[tokio::test]
async fn whatever_was_killed_is_started_again_by_name_and_down_leaves_nothing() -> anyhow::Result<()>
{
    let cluster = Cluster::start().await?;
    let members = ["links-2", "redis", "replica", "edge-1"];
    let before: Vec<u32> =
        members.iter().map(|name| cluster.pid(name)).collect::<Result<_, _>>()?;
    cluster.kill(&members).await?;
    let status = cluster.status().await?;
    for name in members {
        let line = status.lines().find(|line| line.starts_with(name)).expect("it is listed");
        assert!(line.contains("stopped"), "{line}");
    }
    cluster.restart(&members).await?;
    for (name, before) in members.iter().zip(before) {
        assert_ne!(cluster.pid(name)?, before, "{name}");
    }
    // Same address, same workspace.
    assert_eq!(cluster.api().rest("GET", "/v1/{w}", None).await?.status, 200);
    let again = cluster.up(["start"]).await?;
    assert!(!again.contains("ready after"), "everything ran already: {again}");

    let pids: Vec<u32> = ["etcd", "kafka", "postgres", "analytics-1"]
        .iter()
        .chain(&members)
        .map(|name| cluster.pid(name))
        .collect::<Result<_, _>>()?;
    cluster.up(["down"]).await?;
    for pid in pids {
        assert!(
            stack::ProcessId::of(pid).is_ok_and(|p| !p.is_running())
                || stack::ProcessId::of(pid).is_err()
        );
    }
    assert!(!cluster.folder().exists());
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_refused_with_the_names_there_are() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let error = cluster.restart(&["links-7"]).await.expect_err("there are two").to_string();
    assert!(error.contains("links-7") && error.contains("links-2"), "{error}");
    Ok(())
}

#[tokio::test]
async fn every_process_says_that_it_is_ready_at_its_admin_port() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    for service in ["IDENTITY", "LINKS", "ANALYTICS", "EDGE"] {
        for number in [1, 2] {
            let admin = Api::new(cluster.value(&format!("ADMIN_{service}_{number}")), "", "");
            for path in ["/livez", "/readyz", "/metrics"] {
                let answer = admin.http("GET", path, &[], "").await?;
                assert_eq!(answer.status, 200, "{service} {number} {path}: {answer:?}");
            }
        }
    }
    Ok(())
}
