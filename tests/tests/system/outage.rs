//! etcd away, for as long as a test has patience, while processes die and come back.

use crate::cluster::Cluster;
use crate::counted::eventually;
use crate::traffic::Failure;
use crate::traffic::Traffic;
use crate::traffic::created_links;
use std::time::Duration;
use std::time::Instant;

/// Ten times the promised 2 s.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// etcd is away for `away`. Meanwhile an instance is killed and one comes back that nobody can find; nothing fails that was safe
/// to repeat or never sent, and what may have had an effect says so. `meanwhile` looks on.
pub async fn without_etcd_no_call_fails_and_processes_come_and_go(
    away: Duration,
    meanwhile: impl AsyncFnOnce(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.api();
    let traffic = Traffic::start(&cluster, &api).await?;
    traffic.for_requests(200).await?;

    cluster.stop(&["identity-2"]).await?;
    cluster.kill(&["etcd"]).await?;
    let began = Instant::now();
    cluster.kill(&["links-2"]).await?;
    // Comes up from its snapshot and serves, though nobody can find it yet.
    cluster.restart(&["identity-2"]).await?;
    meanwhile(&cluster).await?;
    tokio::time::sleep(away.saturating_sub(began.elapsed())).await;
    cluster.restart(&["etcd"]).await?;
    eventually(&true, FOUND_WITHIN, || async {
        let listed = cluster.endpoints().await?;
        Ok(listed.contains("identity-2") && !listed.contains("links-2"))
    })
    .await?;
    cluster.restart(&["links-2"]).await?;
    eventually(&true, FOUND_WITHIN, || async {
        Ok(cluster.endpoints().await?.contains("links-2"))
    })
    .await?;
    traffic.for_requests(200).await?;

    let (failures, created) = traffic.end().await;
    let failed: Vec<_> =
        failures.iter().filter(|failure| !failure.is_known_to_be_unknown()).collect();
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    let unknown =
        u64::try_from(failures.iter().filter(|it| Failure::is_known_to_be_unknown(it)).count())?;
    let links = created_links(&api).await?;
    assert!(
        (created..=created + unknown).contains(&links),
        "{links} links, {created} created for certain and {unknown} perhaps"
    );
    Ok(())
}
