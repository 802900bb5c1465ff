//! What users do while operators work: links are created, read and clicked without pause, through every edge that says that
//! it is ready, as a load balancer would choose.

use crate::client::Answer;
use crate::client::Api;
use crate::cluster::Cluster;
use crate::counted::create;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;

/// How often a load balancer asks an edge whether it is ready.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two requests of one caller: the machine has other things to do too.
const PAUSE: Duration = Duration::from_millis(5);
/// How many callers there are of each kind.
const CALLERS: usize = 3;
/// How long a number of requests may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// By which the links that are created are found again.
const TAG: &str = "traffic";

/// What a caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// POST: done twice, there would be two.
    Create,
    /// GET, over REST.
    Read,
    /// A click.
    Redirect,
}

/// A request that was not answered as it should be.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    /// What was answered; what went wrong otherwise.
    answer: anyhow::Result<Answer>,
}

impl Failure {
    /// Whether it is a request that may have had an effect, and the answer says so.
    pub fn is_known_to_be_unknown(&self) -> bool {
        let Ok(answer) = &self.answer else { return false };
        let body = answer.body.to_vec();
        self.kind == Kind::Create
            && answer.status == 503
            && String::from_utf8_lossy(&body).contains("OUTCOME_UNKNOWN")
    }
}

struct Edge {
    api: Api,
    admin: Api,
    ready: AtomicBool,
}

struct Shared {
    edges: Vec<Edge>,
    domain: String,
    link: String,
    slug: String,
    stop: AtomicBool,
    turn: AtomicUsize,
    created: AtomicU64,
    requests: AtomicU64,
}

/// Callers that run until they are told to stop.
pub struct Traffic {
    shared: Arc<Shared>,
    callers: JoinSet<Vec<Failure>>,
    balancer: JoinSet<()>,
}

impl Traffic {
    /// Begins, in a workspace of its own.
    pub async fn start(cluster: &Cluster, api: &Api) -> anyhow::Result<Self> {
        let (link, slug) = create(api, json!({"destinationUri": "https://example.com/"})).await?;
        let edges = cluster.edges(api).into_iter().zip(["EDGE_1", "EDGE_2"]);
        let edges = edges.map(|(api, name)| Edge {
            api,
            admin: Api::new(cluster.value(&format!("ADMIN_{name}")), "", ""),
            ready: AtomicBool::new(true),
        });
        let shared = Arc::new(Shared {
            edges: edges.collect(),
            domain: cluster.domain().to_owned(),
            link,
            slug,
            stop: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        let mut balancer = JoinSet::new();
        for at in 0..shared.edges.len() {
            balancer.spawn(watch_readiness(Arc::clone(&shared), at));
        }
        let mut callers = JoinSet::new();
        for kind in [Kind::Create, Kind::Read, Kind::Redirect] {
            for _ in 0..CALLERS {
                callers.spawn(call_on(Arc::clone(&shared), kind));
            }
        }
        Ok(Self { shared, callers, balancer })
    }

    /// Waits until so many requests more were answered.
    pub async fn for_requests(&self, requests: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        let target = self.shared.requests.load(Ordering::Relaxed) + requests;
        while self.shared.requests.load(Ordering::Relaxed) < target {
            anyhow::ensure!(started.elapsed() < PATIENCE, "the traffic stands still");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends it; what failed, and how many links were created by what was answered well.
    pub async fn end(mut self) -> (Vec<Failure>, u64) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let failures = self.callers.join_all().await.into_iter().flatten().collect();
        self.balancer.shutdown().await;
        (failures, self.shared.created.load(Ordering::Relaxed))
    }
}

async fn watch_readiness(shared: Arc<Shared>, at: usize) {
    let edge = &shared.edges[at];
    loop {
        let answer = edge.admin.http("GET", "/readyz", &[], "").await;
        edge.ready.store(answer.is_ok_and(|answer| answer.status == 200), Ordering::Relaxed);
        tokio::time::sleep(READY_POLL_INTERVAL).await;
    }
}

async fn call_on(shared: Arc<Shared>, kind: Kind) -> Vec<Failure> {
    let mut failures = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
        let ready: Vec<_> =
            shared.edges.iter().filter(|edge| edge.ready.load(Ordering::Relaxed)).collect();
        // A load balancer without a ready target tries one all the same.
        let edge = if ready.is_empty() { &shared.edges[0] } else { ready[turn % ready.len()] };
        let (answer, wanted) = match kind {
            Kind::Create => {
                let link = json!({"destinationUri": "https://example.com/", "tags": [TAG]});
                (edge.api.rest("POST", "/v1/{w}/links", Some(link)).await, 200)
            }
            Kind::Read => (edge.api.rest("GET", &format!("/v1/{}", shared.link), None).await, 200),
            Kind::Redirect => (edge.api.click(&shared.domain, &shared.slug).await, 302),
        };
        shared.requests.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) if answer.status == wanted => {
                shared.created.fetch_add(u64::from(kind == Kind::Create), Ordering::Relaxed);
            }
            answer => failures.push(Failure { kind, answer }),
        }
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

/// How many links there are of those that traffic created.
pub async fn created_links(api: &Api) -> anyhow::Result<u64> {
    let (mut links, mut token) = (0, String::new());
    loop {
        let filter = format!("filter=tag%20%3D%20%22{TAG}%22");
        let path = format!("/v1/{{w}}/links?pageSize=1000&{filter}&pageToken={token}");
        let answer = api.rest("GET", &path, None).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        let page = answer.json();
        links += page["links"].as_array().map_or(0, Vec::len) as u64;
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Ok(links);
        }
    }
}
