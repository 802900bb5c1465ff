//! Clicks from a spool to a log: in order, without a hole, through kills of either side.

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use bus::Bus;
use bus::spool::AppendError;
use bus::spool::Shipper;
use bus::spool::Spool;
use bus::spool::SpoolOptions;
use bus::topics::LINK_EVENTS;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::broker;
use crate::support::counted;
use crate::support::eventually;
use crate::support::file_log;
use crate::support::metric;
use crate::support::open;

const TOPIC: &str = LINK_EVENTS.name;

/// Set for the process that is killed: the folder of its spool.
const VICTIM: &str = "BUS_TEST_SPOOL";

/// A spool and, while it runs, its shipper.
struct Edge {
    spool: Spool,
    metrics: Registry,
    stop: CancellationToken,
    shipping: JoinHandle<anyhow::Result<()>>,
}

impl Edge {
    fn start(options: SpoolOptions, bus: &Bus) -> Self {
        let mut metrics = Registry::default();
        let spool = Spool::open(options, Timestamp::now(), &mut metrics).unwrap();
        let stop = CancellationToken::new();
        let running = Shipper::run(spool.clone(), bus.clone(), TOPIC, stop.clone());
        #[expect(clippy::disallowed_methods, reason = "joined by `stop`")]
        let shipping = tokio::spawn(running);
        Self { spool, metrics, stop, shipping }
    }

    fn metric(&self, name: &str) -> i64 {
        metric(&self.metrics, name)
    }

    async fn shipped_all(&self) {
        eventually("all is shipped", async || self.metric("spool_unshipped_clicks") == 0).await;
    }

    async fn stop(self) -> Registry {
        self.stop.cancel();
        self.shipping.await.unwrap().unwrap();
        self.metrics
    }
}

fn small(folder: &Path) -> SpoolOptions {
    SpoolOptions { segment_bytes_max: 8 * 1024, ..SpoolOptions::new(folder) }
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "spool")).collect();
    segments.sort();
    segments
}

async fn append(spool: &Spool, clicks: std::ops::Range<usize>) {
    for index in clicks {
        let partition = u32::try_from(index % 24).unwrap();
        spool.append(partition, format!("click {index}").as_bytes()).await.unwrap();
    }
}

/// Every click from 0 to `clicks` is in the log, numbered without a hole in each incarnation and partition.
async fn assert_counted(bus: &Bus, clicks: usize) {
    let counted = counted(bus, TOPIC).await;
    let mut found: Vec<usize> = counted
        .into_values()
        .flatten()
        .map(|click| std::str::from_utf8(&click).unwrap()["click ".len()..].parse().unwrap())
        .collect();
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..clicks), "{} of {clicks} clicks", found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn clicks_are_shipped_once_and_the_spool_is_empty_after_a_stop() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let spool_folder = folder.path().join("spool");
    let edge = Edge::start(small(&spool_folder), &bus);
    append(&edge.spool, 0..3000).await;
    let metrics = edge.stop().await;
    assert_eq!(segments(&spool_folder), Vec::<std::path::PathBuf>::new());
    assert_counted(&bus, 3000).await;
    for (name, value) in [
        ("spool_bytes", 0),
        ("spool_unshipped_clicks", 0),
        ("spool_lost_clicks_total", 0),
        ("spool_shipped_clicks_total", 3000),
    ] {
        assert_eq!(metric(&metrics, name), value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_is_shipped_soon_and_many_share_a_record() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let edge = Edge::start(SpoolOptions::new(folder.path().join("spool")), &bus);
    append(&edge.spool, 0..1).await;
    let begun = Instant::now();
    edge.shipped_all().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a click waited {:?}", begun.elapsed());
    append(&edge.spool, 1..20_000).await;
    edge.shipped_all().await;
    let records = edge.metric("spool_shipped_records_total");
    assert!(records < 10_000, "{records} records for 20000 clicks");
    edge.stop().await;
    assert_counted(&bus, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_spool_has_one_shipper() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let edge = Edge::start(SpoolOptions::new(folder.path().join("spool")), &bus);
    append(&edge.spool, 0..1).await;
    edge.shipped_all().await;
    let second = Shipper::run(edge.spool.clone(), bus.clone(), TOPIC, CancellationToken::new());
    assert!(second.await.unwrap_err().to_string().contains("shipper already"));
    edge.stop().await;
    assert_counted(&bus, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_under_load_costs_no_click_and_no_append_notices() {
    let (kafka, folder) = broker().await;
    let bus = open(&kafka.url());
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let edge = Edge::start(small(&folder.path().join("spool")), &bus);
    append(&edge.spool, 0..5000).await;
    kafka.kill().await;
    let begun = Instant::now();
    append(&edge.spool, 5000..25_000).await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "appends waited for Kafka: {:?}",
        begun.elapsed()
    );
    assert!(edge.metric("spool_unshipped_clicks") >= 20_000);
    kafka.restart().await.unwrap();
    append(&edge.spool, 25_000..30_000).await;
    edge.shipped_all().await;
    let metrics = edge.stop().await;
    assert_eq!(metric(&metrics, "spool_lost_clicks_total"), 0);
    assert_counted(&bus, 30_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_click_that_it_answered() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return append_until_killed(Path::new(&folder)).await;
    }
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let spool_folder = folder.path().join("spool");
    let mut answered = 0;
    for _ in 0..3 {
        let name = "shipping::a_killed_process_loses_no_click_that_it_answered";
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(VICTIM, &spool_folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut clicks = 0;
        for line in lines.map_while(Result::ok).filter(|line| line.starts_with("answered")) {
            clicks += 1;
            assert!(line.ends_with(&(clicks - 1).to_string()), "{line}");
            if clicks == 2000 {
                victim.kill().unwrap();
            }
        }
        victim.wait().unwrap();
        answered += clicks;
    }
    let edge = Edge::start(small(&spool_folder), &bus);
    let metrics = edge.stop().await;
    assert_eq!(metric(&metrics, "spool_lost_clicks_total"), 0);
    let counted = counted(&bus, TOPIC).await;
    let incarnations: std::collections::BTreeSet<_> =
        counted.keys().map(|(incarnation, _)| incarnation).collect();
    assert_eq!(incarnations.len(), 3);
    let clicks: usize = counted.values().map(Vec::len).sum();
    // Each life may have written one more click than it lived to answer.
    assert!((answered..=answered + 3).contains(&clicks), "{answered} answered, {clicks} counted");
}

/// The other process of the test above: it says which clicks it has answered, and never ends by itself.
#[expect(clippy::print_stdout, reason = "this is how the process speaks to the test")]
async fn append_until_killed(folder: &Path) {
    let spool = Spool::open(small(folder), Timestamp::now(), &mut Registry::default()).unwrap();
    for index in 0.. {
        append(&spool, index..index + 1).await;
        println!("answered {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_copied_in_the_middle_of_writing_is_whole_up_to_its_torn_tail() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let (original, copy) = (folder.path().join("spool"), folder.path().join("copy"));
    let spool = Spool::open(small(&original), Timestamp::now(), &mut Registry::default()).unwrap();
    append(&spool, 0..1000).await;
    let last = segments(&original).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    for missing in [1, 10, 25] {
        std::fs::create_dir_all(&copy).unwrap();
        for segment in segments(&original) {
            std::fs::copy(&segment, copy.join(segment.file_name().unwrap())).unwrap();
        }
        let torn = copy.join(last.file_name().unwrap());
        std::fs::write(&torn, &whole[..whole.len() - missing]).unwrap();
        let edge = Edge::start(small(&copy), &bus);
        let metrics = edge.stop().await;
        assert_eq!(metric(&metrics, "spool_lost_clicks_total"), 0);
        assert_counted(&bus, 999).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_frame_costs_its_own_click_and_is_counted() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let spool_folder = folder.path().join("spool");
    let spool =
        Spool::open(small(&spool_folder), Timestamp::now(), &mut Registry::default()).unwrap();
    for index in 0..1000 {
        spool.append(0, format!("click {index}").as_bytes()).await.unwrap();
    }
    drop(spool);
    // A payload in the first segment, a length in the second, and the header of the third.
    let paths = segments(&spool_folder);
    for (path, at) in [(&paths[0], 36 + 22), (&paths[1], 36 + 5), (&paths[2], 10)] {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 0x20;
        std::fs::write(path, bytes).unwrap();
    }
    let edge = Edge::start(small(&spool_folder), &bus);
    let metrics = edge.stop().await;
    let lost = metric(&metrics, "spool_lost_clicks_total");
    let shipped = metric(&metrics, "spool_shipped_clicks_total");
    // The third segment's clicks are whole but nobody can say whose: counted when it is put aside, and as a jump.
    let put_aside = 1000 - 2 - shipped;
    assert!(put_aside > 100, "{put_aside}");
    assert!(lost >= 2 + put_aside, "{lost} lost, {shipped} shipped");
    let aside = std::fs::read_dir(&spool_folder).unwrap();
    let aside = aside.filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "damaged")
    });
    assert_eq!(aside.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_answers_at_once_and_takes_clicks_again_when_it_was_shipped() {
    let (bus, folder) = file_log();
    let options = SpoolOptions { bytes_max: 64 * 1024, ..small(&folder.path().join("spool")) };
    let edge = Edge::start(options, &bus);
    let mut written = 0;
    let full = loop {
        match edge.spool.append(0, format!("click {written}").as_bytes()).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::Full);
    assert_eq!(edge.metric("spool_lost_clicks_total"), 1);
    assert!(edge.metric("spool_bytes") <= 64 * 1024);
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    edge.shipped_all().await;
    edge.spool.append(0, format!("click {written}").as_bytes()).await.unwrap();
    edge.stop().await;
    assert_counted(&bus, written + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_folder_begins_anew_and_is_counted() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let spool_folder = folder.path().join("spool");
    let edge = Edge::start(small(&spool_folder), &bus);
    append(&edge.spool, 0..100).await;
    edge.shipped_all().await;
    edge.stop().await;
    std::fs::remove_dir_all(&spool_folder).unwrap();
    let edge = Edge::start(small(&spool_folder), &bus);
    append(&edge.spool, 100..200).await;
    edge.stop().await;
    assert_counted(&bus, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_and_a_new_day_under_way_keep_every_number() {
    let (bus, folder) = file_log();
    bus.ensure_topic(&LINK_EVENTS).await.unwrap();
    let edge = Edge::start(small(&folder.path().join("spool")), &bus);
    let mut callers = JoinSet::new();
    for caller in 0..20 {
        let spool = edge.spool.clone();
        callers.spawn(async move { append(&spool, caller * 500..(caller + 1) * 500).await });
    }
    let tomorrow = Timestamp::now() + jiff::SignedDuration::from_hours(24);
    edge.spool.roll_day(tomorrow);
    callers.join_all().await;
    edge.stop().await;
    assert_counted(&bus, 10_000).await;
}
