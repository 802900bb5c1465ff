//! Redirects of a cached link, click recorded, beside nginx's bare `return 302`: CPU a request and requests a second.
//!
//! Both are driven by wrk with the same connections, one after the other in every run. The edge's CPU is that of its
//! whole process from the run's first request until its spool is shipped; the shipper's share is told by thread name.

use crate::cluster::Cluster;
use crate::listening;
use crate::procfs::CpuMicros;
use crate::report::Figure;
use anyhow::Context as _;
use std::path::Path;
use tokio::process::Child;
use tokio::process::Command;

/// Connections that are kept open.
const CONNECTIONS: &str = "32";
/// What one run drives each side for.
const SECONDS: u64 = 6;

/// A visitor with a place, so that the look-up costs what it costs.
const ADDRESS: &str = "X-Forwarded-For: 81.2.69.160";

/// Runs the bench `runs` times.
pub(crate) async fn run(cluster: &Cluster, runs: usize) -> anyhow::Result<Vec<Figure>> {
    let nginx = Nginx::start().await?;
    let link = cluster.create_link("https://example.com/landing").await?;
    let edge_url = format!("{}/{}", cluster.edge_url, link.slug);
    let edge_pid = cluster.pid("edge-1")?;
    let is_shipper = |name: &str| name.starts_with("spool") || name.starts_with("rdk:");

    // The first requests fill the cache and the pools; nobody counts them.
    wrk(&edge_url, &cluster.link_domain, 1).await?;
    cluster.wait_until_shipped("edge-1").await?;

    let (mut cpu, mut rate) = (Vec::new(), Vec::new());
    let (mut request_path, mut shipper) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let recorded = Recorded::of(cluster).await?;
        let before = CpuMicros::of(edge_pid)?;
        let ours = wrk(&edge_url, &cluster.link_domain, SECONDS).await?;
        cluster.wait_until_shipped("edge-1").await?;
        let after = CpuMicros::of(edge_pid)?;
        recorded.check(cluster, ours.requests).await?;
        let requests = ours.requests;
        let whole = after.since(&before, |_| true) / requests;
        let shipped = after.since(&before, is_shipper) / requests;

        let before = CpuMicros::of_all(&nginx.pids)?;
        let peers = wrk(&nginx.url, "localhost", SECONDS).await?;
        let after = CpuMicros::of_all(&nginx.pids)?;
        let bare = after.since(&before, |_| true) / peers.requests;

        cpu.push((whole, bare));
        rate.push((ours.per_second, peers.per_second));
        request_path.push(whole - shipped);
        shipper.push(shipped);
    }
    Ok(vec![
        Figure::beside(
            "redirect, whole edge process",
            "CPU µs/request",
            "nginx",
            &cpu,
            Some("ratio <= 1.5"),
        ),
        Figure::alone("  of which the request path", "CPU µs/request", request_path, None),
        Figure::alone("  of which the shipper", "CPU µs/request", shipper, None),
        Figure::beside("redirects", "requests/s", "nginx", &rate, None),
    ])
}

/// What edge-1 had shipped and lost before a run: a redirect only counts as one if its click was recorded.
struct Recorded {
    shipped: f64,
    lost: f64,
}

impl Recorded {
    async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let shipped = cluster.metric("edge-1", "spool_shipped_clicks_total").await?;
        let lost = cluster.metric("edge-1", "spool_lost_clicks_total").await?;
        Ok(Self { shipped, lost })
    }

    async fn check(self, cluster: &Cluster, requests: f64) -> anyhow::Result<()> {
        let now = Self::of(cluster).await?;
        let (shipped, lost) = (now.shipped - self.shipped, now.lost - self.lost);
        anyhow::ensure!(lost == 0.0, "{lost} clicks were lost");
        anyhow::ensure!(shipped >= requests, "{requests} were answered and {shipped} recorded");
        Ok(())
    }
}

/// What wrk counted.
struct Driven {
    requests: f64,
    per_second: f64,
}

/// Headers begin with capitals: wrk adds its own `Host` beside one that is written otherwise.
async fn wrk(url: &str, host: &str, seconds: u64) -> anyhow::Result<Driven> {
    let agent =
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s")])
        .args(["-H", &format!("Host: {host}"), "-H", agent, "-H", ADDRESS, url])
        .output()
        .await
        .context("wrk does not start; install it with `scripts/setup.sh bench`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success() && !text.contains("Non-2xx or 3xx"),
        "wrk on {url}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let number = |before: &str, after: &str| -> anyhow::Result<f64> {
        let line = text.lines().find(|line| line.contains(before) && line.contains(after));
        let words =
            line.with_context(|| format!("wrk printed no {before}: {text}"))?.split_whitespace();
        words.flat_map(str::parse::<f64>).next().context("the line has a number")
    };
    let requests = number("requests in", "read")?;
    Ok(Driven { requests, per_second: number("Requests/sec", "")? })
}

/// nginx that answers everything with a bare 302, keeps connections and logs nothing.
struct Nginx {
    url: String,
    pids: Vec<u32>,
    _folder: tempfile::TempDir,
    _process: Child,
}

impl Nginx {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = stack::port::free()?;
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, configuration(folder.path(), port))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config).arg("-p").arg(folder.path());
        let process = listening::start(command, folder.path(), "nginx", port).await?;
        let url = format!("http://127.0.0.1:{port}/");
        // One process serves, as `master_process off` says: its own id is the only one.
        let pids = vec![process.id().context("nginx was just started")?];
        Ok(Self { url, pids, _folder: folder, _process: process })
    }
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/a;\n\
         proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
         server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 302 https://example.com/landing; }} }} }}\n"
    )
}
