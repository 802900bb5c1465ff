//! Ten thousand connections that do nothing and a thousand open streams: what each takes, and what the others notice of them.

use crate::cluster::Cluster;
use crate::procfs::resident_kib;
use crate::report::Figure;
use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use prost::Message as _;
use proto::analytics::v1::WatchClicksRequest;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const IDLE: usize = 10_000;
const STREAMS: usize = 1_000;
/// How many streams share a connection.
const STREAMS_EACH: usize = 50;
/// Requests whose time counts, one after the other, in each of the rounds.
const REQUESTS: usize = 400;
const ROUNDS: usize = 5;
/// How long one of them may take.
const WAIT_MAX: Duration = Duration::from_secs(10);

struct Client {
    requests: SendRequest<Bytes>,
    authority: String,
    bearer: String,
}

impl Client {
    async fn connect(cluster: &Cluster, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let authority = cluster.edge_url.trim_start_matches("http://").to_owned();
        let socket = TcpStream::connect(&authority).await?;
        socket.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(socket).await?;
        tasks.spawn(async move { connection.await.unwrap_or(()) });
        let bearer = format!("Bearer {}", cluster.api_key());
        Ok(Self { requests: requests.ready().await?, authority, bearer })
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header("authorization", &self.bearer)
    }

    /// How long an answer takes.
    async fn get(&mut self, path: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let (response, _) =
            self.requests.send_request(self.request("GET", path).body(())?, true)?;
        let response = response.await?;
        anyhow::ensure!(response.status() == http::StatusCode::OK, "{}", response.status());
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        Ok(begun.elapsed())
    }

    /// Opens a stream that goes on; it ends when what is returned is dropped.
    fn watch(&mut self, parent: &str) -> anyhow::Result<impl Sized + use<>> {
        let request = self
            .request("POST", "/linkmesh.analytics.v1.AnalyticsService/WatchClicks")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        let message =
            WatchClicksRequest { parent: parent.to_owned(), ..Default::default() }.encode_to_vec();
        let length = u32::try_from(message.len())?.to_be_bytes();
        stream.send_data([&[0][..], &length, &message].concat().into(), true)?;
        Ok((response, stream))
    }
}

pub(super) async fn run(cluster: &Cluster, link: &str) -> anyhow::Result<Vec<Figure>> {
    let edge = cluster.pid("edge-1")?;
    let path = format!("/v1/{link}");
    let mut tasks = JoinSet::new();
    let mut client = Client::connect(cluster, &mut tasks).await?;
    p99(&mut client, &path).await?;
    let mut alone = Vec::new();
    for _ in 0..ROUNDS {
        alone.push(p99(&mut client, &path).await?);
    }

    let before = resident_kib(edge)?;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let opened = used(cluster, &path, &mut tasks).await;
        idle.push(opened.with_context(|| format!("connection {} of {IDLE}", idle.len()))?);
    }
    p99(&mut client, &path).await?;
    let with_idle = resident_kib(edge)?;

    let mut streams = Vec::with_capacity(STREAMS);
    for client in &mut idle[..STREAMS / STREAMS_EACH] {
        for _ in 0..STREAMS_EACH {
            streams.push(client.watch(cluster.workspace())?);
        }
    }
    let mut beside = Vec::new();
    for _ in 0..ROUNDS {
        beside.push(p99(&mut client, &path).await?);
    }
    let with_streams = resident_kib(edge)?;
    let pairs: Vec<(f64, f64)> = beside.into_iter().zip(alone).collect();
    Ok(vec![
        Figure::alone(
            format!("memory of each of {IDLE} idle HTTP/2 connections"),
            "KiB",
            vec![(with_idle - before) / IDLE as f64],
            None,
        ),
        Figure::alone(
            format!("memory of each of {STREAMS} open streams"),
            "KiB",
            vec![(with_streams - with_idle) / STREAMS as f64],
            None,
        ),
        Figure::beside("p99 of others beside all these", "µs", "alone", &pairs, None),
    ])
}

/// A connection that has asked something: one that never does is soon closed.
async fn used(cluster: &Cluster, path: &str, tasks: &mut JoinSet<()>) -> anyhow::Result<Client> {
    let mut client = Client::connect(cluster, tasks).await?;
    tokio::time::timeout(WAIT_MAX, client.get(path)).await??;
    Ok(client)
}

/// In microseconds, of requests one after the other.
async fn p99(client: &mut Client, path: &str) -> anyhow::Result<f64> {
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..REQUESTS {
        let took = tokio::time::timeout(WAIT_MAX, client.get(path)).await??;
        times.record(u64::try_from(took.as_micros())?)?;
    }
    Ok(times.value_at_quantile(0.99) as f64)
}
