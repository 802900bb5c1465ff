//! A database and a log of one test's own, clicks to put into it, and the aggregator over both.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use analytics::consume::aggregator::Aggregator;
use analytics::consume::folder::Ended;
use analytics::consume::folder::Folder;
use analytics::consume::folder::Shared;
use analytics::consume::folder::TOPIC;
use analytics::domain::agent::Agents;
use analytics::domain::click::Window;
use analytics::domain::counts::Counts;
use analytics::domain::quarter::Quarter;
use analytics::metrics::Metrics;
use analytics::store::Store;
use analytics::store::fold::Epoch;
use analytics::store::queries::Scope;
use bus::Bus;
use bus::Record;
use bus::TopicSpec;
use bus::clicks::ClickRecord;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use prost::Message as _;
use proto::events::v1::Click;
use proto::events::v1::ClickMethod;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Ten times what anything here should take.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

pub(crate) const FIREFOX: &[u8] =
    b"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
/// In the tests, few partitions are as good as many.
pub(crate) const PARTITIONS: u32 = 4;

static AGENTS: LazyLock<Arc<Agents>> =
    LazyLock::new(|| Arc::new(Agents::compile().expect("the shipped rules compile")));

pub(crate) struct Harness {
    _database: Option<stack::TestDatabase>,
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) workspace: Uuid,
    pub(crate) now: Timestamp,
    _folder: TempDir,
}

impl Harness {
    pub(crate) async fn new() -> Harness {
        let schemas = [(analytics::NAME, &analytics::MIGRATIONS)];
        let database = stack::TestDatabase::migrated(&schemas).await.unwrap();
        let opened = database.open();
        Harness { _database: Some(database), ..Harness::over(opened).await }
    }

    /// Over a migrated database that the test brings.
    pub(crate) async fn over(database: pg::Database) -> Harness {
        let store = Store::new(database);
        let now = Timestamp::now();
        store.keep_months(now, window().retention).await.unwrap();
        let folder = TempDir::new().unwrap();
        let bus = open_bus(folder.path()).await;
        store.know_partitions(PARTITIONS).await.unwrap();
        let workspace = Uuid::now_v7();
        Harness { _database: None, store, bus, workspace, now, _folder: folder }
    }

    /// The same store over another log, as if the topic had been made anew.
    pub(crate) async fn with_another_log(self) -> Harness {
        let folder = TempDir::new().unwrap();
        let bus = open_bus(folder.path()).await;
        Harness { bus, _folder: folder, ..self }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared_with(&mut Registry::default())
    }

    pub(crate) fn shared_with(&self, registry: &mut Registry) -> Arc<Shared> {
        Arc::new(Shared {
            store: self.store.clone(),
            bus: self.bus.clone(),
            agents: Arc::clone(&AGENTS),
            window: window(),
            metrics: Metrics::register(registry),
            in_flight: Semaphore::new(4),
            hot_bytes_max: 1 << 20,
        })
    }

    pub(crate) fn agents(&self) -> Arc<Agents> {
        Arc::clone(&AGENTS)
    }

    /// A person's click on a link, now.
    pub(crate) fn click(&self, link: Uuid) -> Click {
        self.click_at(link, self.now)
    }

    pub(crate) fn click_at(&self, link: Uuid, at: Timestamp) -> Click {
        Click {
            workspace_id: self.workspace.as_bytes().to_vec(),
            link_id: link.as_bytes().to_vec(),
            time_unix_micros: u64::try_from(at.as_microsecond()).unwrap(),
            method: ClickMethod::Get.into(),
            country: "SE".to_owned(),
            city: "Linköping".to_owned(),
            visitor_hash: vec![7; 8],
            user_agent: FIREFOX.to_vec(),
            ..Default::default()
        }
    }

    /// Puts a record into a partition: clicks `first` and following of an incarnation.
    pub(crate) async fn produce(
        &self,
        partition: u32,
        incarnation: Uuid,
        first: u64,
        clicks: &[Click],
    ) {
        let clicks = clicks.iter().map(|click| click.encode_to_vec().into()).collect();
        let record = bus::clicks::encode(&ClickRecord { incarnation, first, clicks });
        self.produce_raw(partition, record).await;
    }

    pub(crate) async fn produce_raw(&self, partition: u32, record: Record) {
        self.bus.produce(TOPIC, partition, record).await.unwrap();
    }

    /// Starts an aggregator; it folds until it is told to stop.
    pub(crate) fn aggregate(&self, instance: &str) -> Running {
        Running::spawn(|stop| Aggregator::new(self.shared(), instance).run(stop))
    }

    /// Takes one partition under a fresh epoch, whoever holds it: leases of no length are over at once.
    pub(crate) async fn take(&self, partition: u32) -> Epoch {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let taken = self.store.take("test", Uuid::now_v7(), Duration::ZERO, 100).await.unwrap();
            // A row that a fold has locked at this moment is left out.
            if let Some((_, epoch)) = taken.into_iter().find(|(taken, _)| *taken == partition) {
                return epoch;
            }
        }
        panic!("partition {partition} can't be taken")
    }

    pub(crate) async fn folder(&self, partition: u32) -> Folder {
        let epoch = self.take(partition).await;
        Folder::new(self.shared(), partition, epoch, Arc::new(Notify::new()))
    }

    /// Folds one partition until all that is in its log now is folded.
    pub(crate) async fn fold_all(&self, partition: u32) {
        let end = self.bus.end_offset(TOPIC, partition).await.unwrap();
        let folder = self.folder(partition).await;
        let stop = CancellationToken::new();
        let folding = tokio::spawn(folder.run(stop.clone()));
        until("everything is folded", async || self.next_offset(partition).await >= end).await;
        stop.cancel();
        assert_eq!(folding.await.unwrap(), Ended::Stopped);
    }

    pub(crate) async fn next_offset(&self, partition: u32) -> i64 {
        let views = self.store.partitions().await.unwrap();
        views.iter().find(|view| view.partition == partition).unwrap().next_offset
    }

    /// Waits until every partition is folded to its end.
    pub(crate) async fn all_folded(&self) {
        until("all partitions are folded", async || {
            for view in self.store.partitions().await.unwrap() {
                if self.bus.end_offset(TOPIC, view.partition).await.unwrap() > view.next_offset {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// What is counted for a link, or with the nil UUID for the workspace, ever.
    pub(crate) async fn counted(&self, link: Uuid) -> Counts {
        let quarters = 0..Quarter::of(i64::MAX / 2).0.min(40_000_000);
        let scope = Scope { workspace: self.workspace, links: vec![link], quarters };
        let mut total = Counts::default();
        for (_, counts) in self.store.quarter_counts(&scope).await.unwrap() {
            total.add(counts);
        }
        total
    }
}

/// Something that runs until it is told to stop.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn spawn<F>(work: impl FnOnce(CancellationToken) -> F) -> Running
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(work(stop.clone()));
        Running { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As SIGKILL would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // Cancelled, or done already.
        drop(self.task.await);
    }
}

pub(crate) fn window() -> Window {
    Window { retention: Duration::from_secs(400 * 24 * 3600) }
}

/// Polls until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Drops a future the `polls`th time it would have been polled: a crash between two of its steps.
pub(crate) async fn crash_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future: Pin<Box<F>> = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn open_bus(folder: &Path) -> Bus {
    let bus = Bus::open(&format!("file:{}", folder.display()), &mut Registry::default()).unwrap();
    let topic = TopicSpec { partitions: PARTITIONS, ..bus::topics::LINK_EVENTS };
    bus.ensure_topic(&topic).await.unwrap();
    bus
}
