//! A change of a hot link or key reaches every edge, and no edge ever returns to the old state.

use crate::client::Api;
use crate::counted::create;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;

/// Ten times the promised 500 ms.
pub const PROPAGATED_WITHIN: Duration = Duration::from_secs(5);

/// What an edge says of a slug: its status, and where it leads.
async fn seen(api: &Api, domain: &str, slug: &str) -> anyhow::Result<(u16, String)> {
    let answer = api.click(domain, slug).await?;
    Ok((answer.status, answer.header("location").to_owned()))
}

/// Changes, disables, enables, deletes and re-creates one link while both edges serve it without pause.
pub async fn changes_of_a_hot_link_reach_every_edge(
    edges: &[Api],
    domain: &str,
    within: Duration,
) -> anyhow::Result<()> {
    let api = &edges[0];
    let (mut link, slug) = create(api, json!({"destinationUri": "https://example.com/0"})).await?;

    // Load that keeps the entry hot at every edge.
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for edge in edges {
        let (edge, domain, slug) = (edge.clone(), domain.to_owned(), slug.clone());
        let stop = Arc::clone(&stop);
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                seen(&edge, &domain, &slug).await?;
            }
            anyhow::Ok(())
        });
    }

    let to = |n: u32| format!("https://example.com/{n}");
    for round in 0..5 {
        let (n, m) = (2 * round + 1, 2 * round + 2);
        let path = format!("/v1/{link}");
        let patch = |body: Value| api.rest("PATCH", &path, Some(body));
        assert_eq!(patch(json!({"destinationUri": to(n)})).await?.status, 200);
        settles(edges, domain, &slug, &(302, to(n)), within).await?;
        assert_eq!(patch(json!({"enabled": false})).await?.status, 200);
        settles(edges, domain, &slug, &(404, String::new()), within).await?;
        assert_eq!(patch(json!({"enabled": true})).await?.status, 200);
        settles(edges, domain, &slug, &(302, to(n)), within).await?;
        assert_eq!(api.rest("DELETE", &path, None).await?.status, 200);
        settles(edges, domain, &slug, &(404, String::new()), within).await?;
        (link, _) = create(api, json!({"slug": slug, "destinationUri": to(m)})).await?;
        settles(edges, domain, &slug, &(302, to(m)), within).await?;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = load.join_next().await {
        done??;
    }
    Ok(())
}

/// Every edge serves `wanted` in time, and then nothing else.
async fn settles(
    edges: &[Api],
    domain: &str,
    slug: &str,
    wanted: &(u16, String),
    within: Duration,
) -> anyhow::Result<()> {
    /// Answers in a row that must be the new state, once it was seen.
    const STEADY: u32 = 20;
    for edge in edges {
        let start = Instant::now();
        while seen(edge, domain, slug).await? != *wanted {
            anyhow::ensure!(
                start.elapsed() < within,
                "{} did not serve {wanted:?} in {within:?}",
                edge.url
            );
        }
        for _ in 0..STEADY {
            let again = seen(edge, domain, slug).await?;
            anyhow::ensure!(again == *wanted, "{} returned from {wanted:?} to {again:?}", edge.url);
        }
    }
    Ok(())
}

/// A key in constant use stops working at every edge once it is revoked, and never works again.
pub async fn a_revoked_key_stops_working_at_every_edge(
    edges: &[Api],
    within: Duration,
) -> anyhow::Result<()> {
    let owner = &edges[0];
    let body = json!({"displayName": "to be revoked", "scopes": ["SCOPE_LINKS_READ"]});
    let created = owner.rest("POST", "/v1/{w}/apiKeys", Some(body)).await?.json();
    let secret = created["secret"].as_str().expect("a new key shows its secret");
    let name = created["apiKey"]["name"].as_str().expect("a key has a name");
    let users: Vec<Api> =
        edges.iter().map(|edge| Api::new(&edge.url, secret, &edge.workspace)).collect();
    for user in &users {
        assert_eq!(user.rest("GET", "/v1/{w}/links?pageSize=1", None).await?.status, 200);
    }
    let revoked = owner.rest("POST", &format!("/v1/{name}:revoke"), Some(json!({}))).await?;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    for user in &users {
        let start = Instant::now();
        while user.rest("GET", "/v1/{w}/links?pageSize=1", None).await?.status != 401 {
            anyhow::ensure!(start.elapsed() < within, "{} took the key after {within:?}", user.url);
        }
        for _ in 0..20 {
            assert_eq!(user.rest("GET", "/v1/{w}/links?pageSize=1", None).await?.status, 401);
        }
    }
    Ok(())
}
