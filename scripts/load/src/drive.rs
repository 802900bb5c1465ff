//! Sends the clicks: each connection takes the next one, waits until it is due, sends it once and notes what came back.

use crate::Options;
use crate::Target;
use crate::plan::Click;
use crate::plan::Plan;
use crate::tally::Tally;
use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an answer may take before the click counts as lost.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long no edge may take connections before the run is given up.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Between two tries to connect.
const RECONNECT_WAIT: Duration = Duration::from_millis(50);
/// The longest latency that is told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// What the clicks came to.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) tally: Tally,
    /// How often each status was answered.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Connections that broke.
    pub(crate) broken: u64,
    /// From the first click's due time to the last answer.
    pub(crate) elapsed: Duration,
    /// In microseconds, from the due time of the click (at saturation: from sending it).
    pub(crate) latency: Histogram<u64>,
}

struct Shared {
    plan: Arc<Plan>,
    tally: Tally,
    targets: Vec<Target>,
    authorities: Vec<String>,
    next: AtomicU64,
    clicks: u64,
    interval: Option<Duration>,
    start: Instant,
    progress: ProgressBar,
}

/// What one connection's task saw.
struct Seen {
    statuses: BTreeMap<u16, u64>,
    broken: u64,
    latency: Histogram<u64>,
}

type Sender = http1::SendRequest<Empty<Bytes>>;

pub(crate) async fn drive(
    options: &Options,
    plan: Arc<Plan>,
    links: &[Target],
) -> anyhow::Result<Driven> {
    let authorities =
        options.urls.iter().map(|url| authority(url)).collect::<anyhow::Result<_>>()?;
    let shared = Arc::new(Shared {
        plan,
        tally: Tally::new(links.len()),
        targets: links.to_vec(),
        authorities,
        next: AtomicU64::new(0),
        clicks: options.clicks,
        interval: options.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
        start: Instant::now(),
        progress: progress(options),
    });
    let mut workers = JoinSet::new();
    for number in 0..options.connections {
        workers.spawn(work(Arc::clone(&shared), number));
    }
    let mut statuses = BTreeMap::new();
    let mut broken = 0;
    let mut latency = histogram()?;
    while let Some(seen) = workers.join_next().await {
        let seen = seen.context("a connection's task")??;
        for (status, count) in seen.statuses {
            *statuses.entry(status).or_default() += count;
        }
        broken += seen.broken;
        latency.add(&seen.latency)?;
    }
    let elapsed = shared.start.elapsed();
    shared.progress.finish_and_clear();
    let shared = Arc::into_inner(shared).context("every task has been joined")?;
    Ok(Driven { tally: shared.tally, statuses, broken, elapsed, latency })
}

fn authority(url: &str) -> anyhow::Result<String> {
    let parsed = url::Url::parse(url).with_context(|| format!("`{url}` is no URL"))?;
    anyhow::ensure!(parsed.scheme() == "http", "`{url}`: clicks are sent over plain http");
    let host = parsed.host_str().with_context(|| format!("`{url}` names no host"))?;
    Ok(format!("{host}:{}", parsed.port_or_known_default().unwrap_or(80)))
}

fn progress(options: &Options) -> ProgressBar {
    if !options.shows_progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(options.clicks);
    let style = "{bar:40} {human_pos} of {human_len} clicks, {per_sec}, {eta} left";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?)
}

async fn work(shared: Arc<Shared>, number: usize) -> anyhow::Result<Seen> {
    let mut seen = Seen { statuses: BTreeMap::new(), broken: 0, latency: histogram()? };
    // Each edge in turn, each task beginning at another.
    let mut turn = number;
    let mut connections = JoinSet::new();
    let mut sender = None;
    loop {
        // Connected before a click is taken, so that a click never waits for an edge that is away.
        if sender.as_ref().is_none_or(Sender::is_closed) {
            sender = Some(connect(&shared, &mut turn, &mut connections).await?);
        }
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.clicks {
            break;
        }
        let due = wait_until_due(&shared, number).await?;
        let mut ready = match sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => connect(&shared, &mut turn, &mut connections).await?,
        };
        let click = shared.plan.click(number);
        match send(&shared, &mut ready, &click).await {
            Some(status) => {
                *seen.statuses.entry(status.as_u16()).or_default() += 1;
                if status.is_redirection() {
                    shared.tally.answered(click.link, click.kind);
                }
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.latency.saturating_record(micros);
                sender = Some(ready);
            }
            None => {
                shared.tally.lost(click.link, click.kind);
                seen.broken += 1;
            }
        }
        shared.progress.inc(1);
    }
    connections.shutdown().await;
    Ok(seen)
}

/// Waits for the moment that click `number` is meant for.
async fn wait_until_due(shared: &Shared, number: u64) -> anyhow::Result<Instant> {
    let Some(interval) = shared.interval else {
        return Ok(Instant::now());
    };
    let offset = interval.mul_f64(number as f64);
    let due = shared.start + offset;
    tokio::time::sleep_until(due.into()).await;
    Ok(due)
}

async fn connect(
    shared: &Shared,
    turn: &mut usize,
    connections: &mut JoinSet<()>,
) -> anyhow::Result<Sender> {
    let start = Instant::now();
    loop {
        let authority = &shared.authorities[*turn % shared.authorities.len()];
        match tokio::time::timeout(CONNECT_WAIT_MAX, handshake(authority, connections)).await {
            Ok(Ok(sender)) => return Ok(sender),
            Ok(Err(error)) if start.elapsed() > AWAY_MAX => {
                return Err(error.context(format!("no edge took a connection for {AWAY_MAX:?}")));
            }
            Ok(Err(_)) | Err(_) => *turn += 1,
        }
        anyhow::ensure!(start.elapsed() < AWAY_MAX, "no edge took a connection for {AWAY_MAX:?}");
        tokio::time::sleep(RECONNECT_WAIT).await;
    }
}

async fn handshake(authority: &str, connections: &mut JoinSet<()>) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What ends it is seen by the sender.
    connections.spawn(async move { drop(connection.await) });
    while connections.try_join_next().is_some() {}
    Ok(sender)
}

/// Sends a click, once. Nothing: no answer came.
async fn send(shared: &Shared, sender: &mut Sender, click: &Click<'_>) -> Option<http::StatusCode> {
    let target = &shared.targets[click.link];
    let mut request = http::Request::get(format!("/{}{}", target.slug, click.query))
        .header(http::header::HOST, &target.host)
        .header(http::header::USER_AGENT, click.agent)
        .header("x-forwarded-for", click.address.to_string());
    if !click.referrer.is_empty() {
        request = request.header(http::header::REFERER, click.referrer);
    }
    let request = request.body(Empty::new()).ok()?;
    let exchange = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        // The head is the answer; a body cut short is noticed by the next click's connection.
        drop(answer.into_body().collect().await);
        sender.ready().await.ok();
        Some(status)
    };
    tokio::time::timeout(ANSWER_WAIT_MAX, exchange).await.ok().flatten()
}
