//! The main job: a link is created, people click it, and the counts are read back.

use crate::client::Api;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

/// Ten times what the product promises from the click to its count (1 s).
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

/// Polls until `read` gives `wanted`, and says what it gave last if it never does.
pub async fn eventually<T, F>(
    wanted: &T,
    within: Duration,
    mut read: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = anyhow::Result<T>>,
{
    let start = Instant::now();
    loop {
        let found = read().await?;
        if found == *wanted {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < within, "{found:?} is not {wanted:?} after {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The counts of one link as (people, bots).
pub async fn counts(api: &Api, link: &str) -> anyhow::Result<(u64, u64)> {
    let answer = api.rest("GET", &format!("/v1/{{w}}/clicks:count?links={link}"), None).await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    let counts = &answer.json()["counts"];
    let number = |name: &str| counts[name].as_str().map_or(Ok(0), str::parse::<u64>);
    Ok((number("clicks")?, number("botClicks")?))
}

/// Creates a link with a slug of its own; answers with its name and slug.
pub async fn create(api: &Api, link: Value) -> anyhow::Result<(String, String)> {
    let answer = api.rest("POST", "/v1/{w}/links", Some(link)).await?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    let link = answer.json();
    let text = |name: &str| link[name].as_str().unwrap_or_default().to_owned();
    Ok((text("name"), text("slug")))
}

/// A link made over REST is clicked by a person, a crawler and a HEAD; each is counted once, people and bots apart.
pub async fn clicks_are_counted_once_people_and_bots_apart(
    api: &Api,
    domain: &str,
) -> anyhow::Result<()> {
    let (link, slug) = create(api, json!({"destinationUri": "https://example.com/a?b=c"})).await?;
    let clicked = api.click(domain, &slug).await?;
    assert_eq!(clicked.status, 302, "{clicked:?}");
    assert_eq!(clicked.header("location"), "https://example.com/a?b=c");
    assert_eq!(clicked.header("cache-control"), "private, max-age=0");
    let crawler = [
        ("host", domain),
        ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    ];
    assert_eq!(api.http("GET", &format!("/{slug}"), &crawler, "").await?.status, 302);
    let person = [
        ("host", domain),
        (
            "user-agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        ),
    ];
    let head = api.http("HEAD", &format!("/{slug}"), &person, "").await?;
    assert_eq!((head.status, head.header("location")), (302, "https://example.com/a?b=c"));
    eventually(&(1, 2), COUNTED_WITHIN, || counts(api, &link)).await?;

    // The same counts over gRPC.
    let reply = api
        .grpc(
            "linkmesh.analytics.v1.AnalyticsService/CountClicks",
            json!({"parent": api.workspace, "links": [link]}),
        )
        .await?;
    assert_eq!(reply["counts"]["clicks"], "1", "{reply}");
    assert_eq!(reply["counts"]["botClicks"], "2", "{reply}");
    assert_eq!(reply["counts"]["uniqueVisitors"], "1", "{reply}");

    // By bot reason, and as a series of days in a zone of three quarters of an hour.
    let path = format!("/v1/{{w}}/clicks:breakDown?links={link}&dimension=DIMENSION_BOT_REASON");
    let shares = api.rest("GET", &path, None).await?.json();
    let mut reasons: Vec<&str> = shares["shares"]
        .as_array()
        .map(|shares| shares.iter().filter_map(|share| share["value"].as_str()).collect())
        .unwrap_or_default();
    reasons.sort_unstable();
    assert_eq!(reasons, ["head", "user_agent"], "{shares}");
    let path = format!(
        "/v1/{{w}}/clicks:intervals?links={link}&length=INTERVAL_LENGTH_DAY&timeZone=Asia/Kathmandu"
    );
    let days = api.rest("GET", &path, None).await?.json();
    let last =
        days["intervals"].as_array().and_then(|days| days.last()).cloned().unwrap_or_default();
    assert_eq!(last["counts"]["clicks"], "1", "{days}");
    Ok(())
}

/// Expiry, the enabled flag, the status, the query and unknown slugs decide what a redirect answers.
pub async fn a_redirect_follows_the_links_rules(api: &Api, domain: &str) -> anyhow::Result<()> {
    let destination = "https://example.com/x?a=1";
    let (_, slug) = create(
        api,
        json!({"destinationUri": destination, "redirectStatus": "REDIRECT_STATUS_TEMPORARY_REDIRECT",
               "forwardQuery": true, "utm": {"source": "mail"}}),
    )
    .await?;
    let answer = api.click(domain, &format!("{slug}?b=2")).await?;
    assert_eq!(answer.status, 307);
    let location = answer.header("location");
    for part in ["a=1", "b=2", "utm_source=mail"] {
        assert!(
            location.starts_with("https://example.com/x?") && location.contains(part),
            "{location}"
        );
    }
    let expired = json!({"destinationUri": destination, "expireTime": "2020-01-01T00:00:00Z"});
    let (_, slug) = create(api, expired.clone()).await?;
    assert_eq!(api.click(domain, &slug).await?.status, 410);
    let mut elsewhere = expired;
    elsewhere["expiredDestinationUri"] = json!("https://example.com/over");
    let (_, slug) = create(api, elsewhere).await?;
    assert_eq!(api.click(domain, &slug).await?.header("location"), "https://example.com/over");
    let (_, slug) = create(api, json!({"destinationUri": destination, "enabled": false})).await?;
    assert_eq!(api.click(domain, &slug).await?.status, 404);
    assert_eq!(api.click(domain, "never-was-there").await?.status, 404);
    Ok(())
}
