//! How often a key may ask, whichever edge it asks.

use crate::client::Answer;
use crate::client::Api;
use anyhow::ensure;
use std::time::Instant;
use tokio::task::JoinSet;

/// Requests a minute of the tier, which the cluster's own limits leave as they are.
const PREMIUM: f64 = 1_000.0;
/// Requests at once.
const CALLERS: usize = 16;

/// Asks both edges in turn until a request is refused, with a key of the tier `premium` that nobody has used before.
pub async fn a_key_has_the_limit_of_its_tier_at_all_edges_together(
    edges: &[Api],
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let edges = edges.to_vec();
        callers.spawn(async move {
            for (let_in, turn) in (caller..).enumerate() {
                let answer = ask(&edges[turn % edges.len()]).await?;
                if answer.status == 429 {
                    return Ok((u32::try_from(let_in)?, answer));
                }
                ensure!(answer.status == 200, "{answer:?}");
                let limit = answer.header("x-ratelimit-limit");
                ensure!(limit == "1000", "{limit}: {answer:?}");
            }
            unreachable!("there is no last number")
        });
    }
    let mut let_in = 0;
    while let Some(ended) = callers.join_next().await {
        let (of_one, refused) = ended??;
        let_in += of_one;
        let problem = refused.json();
        assert_eq!((&problem["reason"], &problem["status"]), (&"RATE_LIMITED".into(), &429.into()));
        assert_eq!(problem["metadata"]["limit"], "premium");
        assert_eq!(refused.header("retry-after"), refused.header("x-ratelimit-reset"));
        assert_eq!(refused.header("x-ratelimit-remaining"), "0");
        assert_eq!(refused.header("cache-control"), "no-store");
    }
    // The whole minute's at once, and what the time since has added: not once for each edge.
    let added = began.elapsed().as_secs_f64() * PREMIUM / 60.0;
    let let_in = f64::from(let_in);
    assert!(let_in >= PREMIUM && let_in <= PREMIUM + added + 1.0, "{let_in}, {added}");
    Ok(())
}

async fn ask(edge: &Api) -> anyhow::Result<Answer> {
    edge.rest("GET", "/v1/{w}", None).await
}
