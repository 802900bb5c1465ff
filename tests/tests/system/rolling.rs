//! Operators restart everything, one half after the other: nobody notices.

use crate::cluster::Cluster;
use crate::traffic::Traffic;
use crate::traffic::created_links;

/// Enough for every caller to have been through both edges.
const REQUESTS_BETWEEN: u64 = 200;

#[tokio::test]
async fn a_rolling_restart_of_every_service_fails_no_request() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let api = cluster.api();
    let traffic = Traffic::start(&cluster, &api).await?;
    traffic.for_requests(REQUESTS_BETWEEN).await?;
    // Half of everything at once: what each calls stops under it too.
    for number in ["1", "2"] {
        let half: Vec<String> =
            cluster.services().into_iter().filter(|member| member.ends_with(number)).collect();
        let half: Vec<&str> = half.iter().map(String::as_str).collect();
        let pids = || half.iter().map(|member| cluster.pid(member)).collect::<Result<Vec<_>, _>>();
        let before = pids()?;
        cluster.stop(&half).await?;
        traffic.for_requests(REQUESTS_BETWEEN).await?;
        cluster.restart(&half).await?;
        assert!(pids()?.iter().zip(&before).all(|(after, before)| after != before));
        traffic.for_requests(REQUESTS_BETWEEN).await?;
    }
    let (failures, created) = traffic.end().await;
    assert!(
        failures.is_empty(),
        "{} failed: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    assert!(created > 0);
    assert_eq!(created_links(&api).await?, created, "each was created once");
    Ok(())
}
