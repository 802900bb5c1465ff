//! Clicks folded by one aggregator from Kafka into Postgres: 10,000 links, Zipf 1.0, all dimensions varying.
//!
//! The clicks are written to `link-events` while no aggregator runs, as the edges' shippers would write them; then one is
//! started, and the time is taken from its first fold to its last.

use crate::cluster::Cluster;
use crate::report::Figure;
use bus::Bus;
use bus::clicks::ClickRecord;
use bytes::Bytes;
use prost::Message as _;
use proto::events::v1::Click;
use proto::events::v1::ClickMethod;
use rand::Rng as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;
use uuid::Uuid;

const LINKS: usize = 10_000;
/// Clicks of one run: enough for half a minute at the first bar.
const CLICKS: usize = 3_000_000;
/// What a shipper groups into a record at this rate.
const CLICKS_A_RECORD: usize = 500;
const FOLDED_WITHIN: Duration = Duration::from_secs(300);

/// Between two looks at how much is folded.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The aggregator that is measured, and the one that stands still meanwhile.
const MEASURED: &str = "analytics-1";
const OTHER: &str = "analytics-2";

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut metrics = prometheus_client::registry::Registry::default();
    let bus = Bus::open(&cluster.bus_uri, &mut metrics)?;
    for edge in ["edge-1", "edge-2"] {
        cluster.wait_until_shipped(edge).await?;
    }
    cluster.stop(OTHER).await?;
    let mut rates = Vec::new();
    for run in 0..runs {
        cluster.stop(MEASURED).await?;
        write(&bus, run as u64, cluster.workspace_id()?).await?;
        let (restarted, rate) = tokio::join!(cluster.restart(MEASURED), folded_a_second(cluster));
        restarted?;
        rates.push(rate?);
    }
    cluster.restart(OTHER).await?;
    let goal = Some("value >= 100000");
    Ok(vec![Figure::alone("clicks folded by one aggregator", "clicks/s", rates, goal)])
}

/// From the first look that finds clicks folded to the one that finds all; a fresh process counts from zero.
async fn folded_a_second(cluster: &Cluster) -> anyhow::Result<f64> {
    let deadline = Instant::now() + FOLDED_WITHIN;
    let mut first: Option<(Instant, f64)> = None;
    loop {
        let folded = cluster.metric(MEASURED, "link_clicks_total").await.unwrap_or(0.0);
        let now = Instant::now();
        anyhow::ensure!(
            now < deadline,
            "{folded} of {CLICKS} clicks are folded after {FOLDED_WITHIN:?}"
        );
        match first {
            None if folded > 0.0 => first = Some((now, folded)),
            Some((since, at)) if folded >= CLICKS as f64 => {
                return Ok((folded - at) / (now - since).as_secs_f64());
            }
            None | Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Writes the clicks to all partitions, by link, under an incarnation of this run's own.
async fn write(bus: &Bus, seed: u64, workspace: Uuid) -> anyhow::Result<()> {
    let topic = bus::topics::LINK_EVENTS;
    let partitions = bus.partitions(topic.name).await?;
    let incarnation = Uuid::now_v7();
    let links: Vec<Uuid> = (0..LINKS).map(|_| Uuid::now_v7()).collect();
    let mut random = SmallRng::seed_from_u64(seed);
    let weights = zipf(LINKS);
    let now = u64::try_from(jiff::Timestamp::now().as_microsecond())?;

    let mut queues: Vec<Vec<Bytes>> = vec![Vec::new(); partitions as usize];
    for _ in 0..CLICKS {
        let at = random.random::<f64>();
        let rank = weights.partition_point(|sum| *sum < at).min(LINKS - 1);
        let click = click(&mut random, workspace, links[rank], now);
        queues[rank % partitions as usize].push(click.encode_to_vec().into());
    }
    let mut writers = JoinSet::new();
    for (partition, clicks) in (0_u32..).zip(queues) {
        let bus = bus.clone();
        writers.spawn(async move {
            let mut first = 1;
            for chunk in clicks.chunks(CLICKS_A_RECORD) {
                let record = ClickRecord { incarnation, first, clicks: chunk.to_vec() };
                bus.produce(topic.name, partition, bus::clicks::encode(&record)).await?;
                first += chunk.len() as u64;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

fn click(random: &mut SmallRng, workspace: Uuid, link: Uuid, now: u64) -> Click {
    let among = |random: &mut SmallRng, prefix: &str, n: u32| -> Vec<u8> {
        format!("{prefix}{}", random.random_range(0..n)).into_bytes()
    };
    let mut visitor = [0; 8];
    random.fill_bytes(&mut visitor);
    let country = COUNTRIES[random.random_range(0..COUNTRIES.len())];
    Click {
        workspace_id: workspace.as_bytes().to_vec(),
        link_id: link.as_bytes().to_vec(),
        time_unix_micros: now - random.random_range(0..60_000_000),
        method: ClickMethod::Get.into(),
        country: country.to_owned(),
        city: format!("City {}", random.random_range(0..20)),
        visitor_hash: visitor.to_vec(),
        user_agent: user_agent(random),
        referrer_host: among(random, "referrer.example", 40),
        utm_source: among(random, "source", 10),
        utm_medium: among(random, "medium", 5),
        utm_campaign: among(random, "campaign", 20),
        utm_term: among(random, "term", 20),
        utm_content: among(random, "content", 5),
    }
}

/// One of some thousand browsers.
fn user_agent(random: &mut SmallRng) -> Vec<u8> {
    let (major, build) = (random.random_range(90..141), random.random_range(0..40));
    let system = [
        "Windows NT 10.0; Win64; x64",
        "Macintosh; Intel Mac OS X 10_15_7",
        "X11; Linux x86_64",
        "Linux; Android 14; Pixel 8",
    ];
    let system = system[random.random_range(0..system.len())];
    format!("Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.{build}.0 Safari/537.36")
        .into_bytes()
}

const COUNTRIES: [&str; 30] = [
    "US", "GB", "DE", "FR", "ES", "IT", "NL", "SE", "NO", "FI", "DK", "PL", "CZ", "AT", "CH", "BE",
    "PT", "IE", "CA", "MX", "BR", "AR", "IN", "JP", "KR", "AU", "NZ", "ZA", "NG", "EG",
];

/// The running sums of Zipf weights with exponent 1, up to 1.
fn zipf(n: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = (1..=n)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    for value in &mut sums {
        *value /= sum;
    }
    sums
}
