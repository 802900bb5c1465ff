//! The spool's writer under a disk that fails, under many callers, and over midnight.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;
use uuid::Uuid;

use super::disk::SegmentFile;
use super::lanes::Lanes;
use super::ledger::lock;
use super::scan::Scanner;
use super::scan::Step;
use super::*;
use crate::clicks;

/// What the disk does to the next write.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Error,
    /// So many bytes are taken, and the rest is not.
    Short(usize),
    /// Likewise, and the segment can't be cut.
    ShortAndNoCut(usize),
}

/// The local disk with faults, one for each write; none when they are used up.
#[derive(Debug, Default)]
struct FaultyDisk {
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn SegmentFile>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    no_cut: AtomicBool,
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let (file, faults) = (LocalDisk.create(path)?, Arc::clone(&self.faults));
        Ok(Arc::new(FaultyFile { file, faults, no_cut: AtomicBool::new(false) }))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(folder)
    }
}

impl SegmentFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let fault = lock(&self.faults).pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.file.append(bytes),
            Fault::Error => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Fault::Short(taken) => self.file.append(&bytes[..taken]),
            Fault::ShortAndNoCut(taken) => {
                self.no_cut.store(true, std::sync::atomic::Ordering::Relaxed);
                self.file.append(&bytes[..taken])
            }
        }
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        if self.no_cut.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        }
        self.file.cut(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn today() -> Timestamp {
    "2026-03-01T23:59:00Z".parse().unwrap()
}

fn tomorrow() -> Timestamp {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

fn options(folder: &TempDir) -> SpoolOptions {
    // No tick of the machine's clock: the days here are the tests' own.
    let sync_every = Duration::from_secs(3600);
    SpoolOptions { partitions: 4, sync_every, ..SpoolOptions::new(folder.path()) }
}

/// A spool on a disk with these faults. The first write of a segment is its header.
fn spool_with(folder: &TempDir, faults: &[Fault]) -> Spool {
    let disk = FaultyDisk { faults: Arc::new(Mutex::new(faults.iter().copied().collect())) };
    Spool::open_on(Arc::new(disk), options(folder), today(), &mut Registry::default()).unwrap()
}

fn lost(spool: &Spool) -> u64 {
    spool.inner.ledger.metrics.lost.get()
}

/// The numbers and clicks that a shipper would find, by incarnation (in order of appearance) and partition.
fn found(spool: &Spool) -> BTreeMap<(usize, u32), Vec<(u64, String)>> {
    let mut lanes = Lanes::default();
    let mut scanner = Scanner::new(Arc::clone(&spool.inner.ledger));
    while scanner.step(&mut lanes).unwrap() == Step::Advanced {}
    let mut incarnations: Vec<Uuid> = Vec::new();
    let mut found = BTreeMap::new();
    loop {
        let ready = lanes.take_ready();
        if ready.is_empty() {
            return found;
        }
        for shipment in ready {
            lanes.acknowledge(&shipment);
            let record = shipment.record();
            let stored = crate::Stored {
                offset: 0,
                append_time: today(),
                key: None,
                headers: record
                    .headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
                value: record.value,
            };
            let record = clicks::decode(&stored).unwrap();
            let index = incarnations.iter().position(|known| *known == record.incarnation);
            let index = index.unwrap_or_else(|| {
                incarnations.push(record.incarnation);
                incarnations.len() - 1
            });
            let of_lane: &mut Vec<_> = found.entry((index, shipment.partition)).or_default();
            for (click, number) in record.clicks.iter().zip(record.first..) {
                of_lane.push((number, String::from_utf8(click.to_vec()).unwrap()));
            }
        }
    }
}

fn numbered(clicks: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(clicks.iter().map(|click| (*click).to_owned())).collect()
}

#[tokio::test]
async fn clicks_are_numbered_from_one_in_each_partition() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[]);
    for (partition, click) in [(0, "a"), (1, "b"), (0, "c"), (3, "d"), (0, "e")] {
        spool.append(partition, click.as_bytes()).await.unwrap();
    }
    let found = found(&spool);
    assert_eq!(found[&(0, 0)], numbered(&["a", "c", "e"]));
    assert_eq!(found[&(0, 1)], numbered(&["b"]));
    assert_eq!(found[&(0, 3)], numbered(&["d"]));
    assert_eq!(lost(&spool), 0);
}

#[tokio::test]
async fn a_failed_write_is_tried_once_more_in_a_new_segment() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[Fault::None, Fault::None, Fault::Error]);
    for click in ["a", "b", "c"] {
        spool.append(0, click.as_bytes()).await.unwrap();
    }
    assert_eq!(found(&spool)[&(0, 0)], numbered(&["a", "b", "c"]));
    assert_eq!(lost(&spool), 0);
}

#[tokio::test]
async fn a_short_write_is_cut_off_and_leaves_no_trace() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[Fault::None, Fault::None, Fault::Short(7)]);
    for click in ["a", "b", "c"] {
        spool.append(0, click.as_bytes()).await.unwrap();
    }
    assert_eq!(found(&spool)[&(0, 0)], numbered(&["a", "b", "c"]));
    let first = std::fs::metadata(folder.path().join(journal::segment_name(0))).unwrap();
    let whole = frame::SEGMENT_HEAD_BYTES + frame::frame_bytes(1);
    assert_eq!(first.len(), whole as u64);
}

#[tokio::test]
async fn a_click_that_can_not_be_written_is_counted_and_leaves_no_hole() {
    let folder = TempDir::new().unwrap();
    let faults = [Fault::None, Fault::None, Fault::Error, Fault::None, Fault::Error];
    let spool = spool_with(&folder, &faults);
    spool.append(0, b"a").await.unwrap();
    assert!(matches!(spool.append(0, b"lost").await, Err(AppendError::Failed(_))));
    spool.append(0, b"b").await.unwrap();
    assert_eq!(found(&spool)[&(0, 0)], numbered(&["a", "b"]));
    assert_eq!(lost(&spool), 1);
}

#[tokio::test]
async fn a_segment_that_can_not_even_be_begun_loses_the_click() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[Fault::Error, Fault::Short(3)]);
    assert!(matches!(spool.append(0, b"lost").await, Err(AppendError::Failed(_))));
    spool.append(0, b"a").await.unwrap();
    assert_eq!(found(&spool)[&(0, 0)], numbered(&["a"]));
    assert_eq!(lost(&spool), 1);
}

#[tokio::test]
async fn a_segment_that_can_not_be_cut_ends_its_incarnation() {
    let folder = TempDir::new().unwrap();
    let whole = frame::frame_bytes(1);
    let faults = [Fault::None, Fault::None, Fault::ShortAndNoCut(whole - 1)];
    let spool = spool_with(&folder, &faults);
    for click in ["a", "b", "c"] {
        spool.append(0, click.as_bytes()).await.unwrap();
    }
    let found = found(&spool);
    assert_eq!(found[&(0, 0)], numbered(&["a"]));
    assert_eq!(found[&(1, 0)], numbered(&["b", "c"]));
    assert_eq!(lost(&spool), 0);
}

#[tokio::test]
async fn a_new_day_begins_a_new_incarnation_and_numbers_begin_again() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[]);
    spool.append(0, b"a").await.unwrap();
    spool.roll_day(today());
    spool.append(0, b"b").await.unwrap();
    spool.roll_day(tomorrow());
    spool.append(0, b"c").await.unwrap();
    let found = found(&spool);
    assert_eq!(found[&(0, 0)], numbered(&["a", "b"]));
    assert_eq!(found[&(1, 0)], numbered(&["c"]));
    let opened = spool.inner.ledger.segment_after(Some(0)).unwrap().incarnation;
    assert_eq!(clicks::opened(opened), Some(tomorrow()));
}

#[tokio::test]
async fn what_is_too_long_or_has_no_partition_is_refused_and_counted() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[]);
    let long = vec![0; CLICK_BYTES_MAX + 1];
    assert!(matches!(spool.append(0, &long).await, Err(AppendError::Refused(_))));
    assert!(matches!(spool.append(4, b"a").await, Err(AppendError::Refused(_))));
    assert_eq!(lost(&spool), 2);
    spool.append(0, &long[1..]).await.unwrap();
}

#[tokio::test]
async fn a_full_spool_loses_clicks_until_there_is_room() {
    let folder = TempDir::new().unwrap();
    let room = frame::SEGMENT_HEAD_BYTES + 3 * frame::frame_bytes(1);
    let options = SpoolOptions { bytes_max: room as u64, ..options(&folder) };
    let spool = Spool::open(options, today(), &mut Registry::default()).unwrap();
    for click in ["a", "b", "c"] {
        spool.append(0, click.as_bytes()).await.unwrap();
    }
    assert_eq!(spool.append(0, b"d").await, Err(AppendError::Full));
    assert_eq!(lost(&spool), 1);
    let written = spool.inner.ledger.segment_after(None).unwrap().written();
    assert_eq!(written, room as u64);
    assert!(spool.inner.commit.close_if_at(0, written));
    spool.inner.ledger.remove(0);
    spool.append(0, b"e").await.unwrap();
    assert_eq!(found(&spool)[&(0, 0)], [(4, "e".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_are_all_written_each_once_and_in_order() {
    const CALLERS: usize = 64;
    const CLICKS: usize = 200;
    let folder = TempDir::new().unwrap();
    let options = SpoolOptions { segment_bytes_max: 16 * 1024, ..options(&folder) };
    let spool = Spool::open(options, today(), &mut Registry::default()).unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let spool = spool.clone();
        callers.spawn(async move {
            for click in 0..CLICKS {
                spool.append(1, format!("{caller:02} {click:03}").as_bytes()).await.unwrap();
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let found = found(&spool).remove(&(0, 1)).unwrap();
    assert!(found.iter().map(|(number, _)| *number).eq(1..=(CALLERS * CLICKS) as u64));
    for caller in 0..CALLERS {
        let prefix = format!("{caller:02} ");
        let own = found.iter().filter_map(|(_, click)| click.strip_prefix(&prefix));
        assert!(own.map(str::to_owned).eq((0..CLICKS).map(|click| format!("{click:03}"))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_go_away_keep_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[]);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let spool = spool.clone();
        let handle = callers.spawn(async move {
            loop {
                spool.append(0, b"click").await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        drop(handle);
    }
    for _ in 0..100 {
        spool.append(1, b"stays").await.unwrap();
        tokio::task::yield_now().await;
    }
    callers.shutdown().await;
    // Whoever led last has handed over or put the journal back: this would wait for ever otherwise.
    tokio::time::timeout(Duration::from_secs(20), spool.append(2, b"last")).await.unwrap().unwrap();
    assert_eq!(found(&spool)[&(0, 2)], numbered(&["last"]));
    assert_eq!(lost(&spool), 0);
}

#[test]
fn a_folder_is_one_processes() {
    let folder = TempDir::new().unwrap();
    let spool = spool_with(&folder, &[]);
    let again = Spool::open(options(&folder), today(), &mut Registry::default());
    assert!(again.unwrap_err().to_string().contains("in use"));
    drop(spool);
    Spool::open(options(&folder), today(), &mut Registry::default()).unwrap();
}
