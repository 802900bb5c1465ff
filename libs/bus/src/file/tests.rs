//! The log on disk: what a crash or damage leaves, and what is forgotten.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

const KEPT: TopicSpec = TopicSpec {
    name: "kept",
    partitions: 2,
    retention: Retention::Delete(Duration::from_secs(3600)),
};
const LATEST: TopicSpec =
    TopicSpec { name: "latest", partitions: 1, retention: Retention::Compact };
const SMALL: u64 = 1024;

fn open(folder: &TempDir) -> anyhow::Result<FileLog> {
    FileLog::open_folder(folder.path(), SMALL, Timestamp::now())
}

fn record(key: &str, value: &str) -> Record {
    Record {
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        headers: Vec::new(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

async fn append(log: &FileLog, topic: &str, count: usize) {
    for index in 0..count {
        let offset = log.produce(topic, 0, record("key", &format!("value {index}"))).await.unwrap();
        assert_eq!(offset, index as i64);
    }
}

async fn read_all(log: &FileLog, topic: &str) -> Result<Vec<(i64, String)>, ReadError> {
    let (_, end) = log.offsets(topic, 0).unwrap();
    let mut reader = log.reader(topic, 0, Start::Beginning).unwrap();
    let mut values = Vec::new();
    while reader.position() < end {
        for stored in reader.next(7, Duration::ZERO).await? {
            values.push((stored.offset, String::from_utf8(stored.value.to_vec()).unwrap()));
        }
    }
    Ok(values)
}

fn segments(folder: &TempDir, topic: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join(topic).join("00000")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_every_cut_of_the_tail() {
    let folder = TempDir::new().unwrap();
    let log = FileLog::open_folder(folder.path(), 1 << 20, Timestamp::now()).unwrap();
    log.ensure_topic(&KEPT).await.unwrap();
    append(&log, "kept", 3).await;
    let path = segments(&folder, "kept").pop().unwrap();
    let three = std::fs::read(&path).unwrap();
    append_more(&log).await;
    drop(log);
    let four = std::fs::read(&path).unwrap();
    for length in three.len()..four.len() {
        std::fs::write(&path, &four[..length]).unwrap();
        let log = open(&folder).unwrap();
        assert_eq!(log.offsets("kept", 0), Ok((0, 3)), "cut to {length}");
        assert_eq!(read_all(&log, "kept").await.unwrap().len(), 3);
        assert_eq!(log.produce("kept", 0, record("key", "again")).await, Ok(3));
    }
}

async fn append_more(log: &FileLog) {
    assert_eq!(log.produce("kept", 0, record("key", "the last")).await, Ok(3));
}

#[tokio::test]
async fn damage_before_whole_records_is_reported_at_open_and_nothing_is_cut() {
    let folder = TempDir::new().unwrap();
    let log = FileLog::open_folder(folder.path(), 1 << 20, Timestamp::now()).unwrap();
    log.ensure_topic(&KEPT).await.unwrap();
    append(&log, "kept", 5).await;
    drop(log);
    let path = segments(&folder, "kept").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = format!("{:#}", open(&folder).unwrap_err());
    assert!(error.contains("damaged at byte 20") && error.contains("00000.log"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn damage_in_a_closed_segment_stops_the_reader_there() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    log.ensure_topic(&KEPT).await.unwrap();
    append(&log, "kept", 100).await;
    drop(log);
    let first = segments(&folder, "kept").remove(0);
    let whole = std::fs::read(&first).unwrap();
    let mut turned = whole.clone();
    *turned.last_mut().unwrap() ^= 1;
    std::fs::write(&first, turned).unwrap();
    let log = open(&folder).unwrap();
    assert!(matches!(read_all(&log, "kept").await, Err(ReadError::Damaged(_))));
    drop(log);
    // A segment that lost its tail is no better: the next one does not begin where it ends.
    let frame_bytes =
        (whole.len() - 20) / whole.windows(6).filter(|bytes| *bytes == b"value ").count();
    std::fs::write(&first, &whole[..whole.len() - frame_bytes]).unwrap();
    let log = open(&folder).unwrap();
    assert!(matches!(read_all(&log, "kept").await, Err(ReadError::Damaged(_))));
}

#[tokio::test]
async fn segments_roll_and_everything_is_read_across_them() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    log.ensure_topic(&KEPT).await.unwrap();
    append(&log, "kept", 200).await;
    assert!(segments(&folder, "kept").len() > 5);
    let expected: Vec<_> = (0..200).map(|index| (index, format!("value {index}"))).collect();
    assert_eq!(read_all(&log, "kept").await.unwrap(), expected);
    drop(log);
    assert_eq!(read_all(&open(&folder).unwrap(), "kept").await.unwrap(), expected);
}

#[tokio::test]
async fn old_segments_are_forgotten_and_a_reader_in_them_is_told() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    log.ensure_topic(&KEPT).await.unwrap();
    append(&log, "kept", 100).await;
    drop(log);
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let log = FileLog::open_folder(folder.path(), SMALL, later).unwrap();
    let (low, high) = log.offsets("kept", 0).unwrap();
    assert!(low > 50 && high == 100, "{low} to {high}");
    let mut reader = log.reader("kept", 0, Start::Offset(0)).unwrap();
    assert_eq!(reader.next(1, Duration::ZERO).await, Err(ReadError::OutOfRange { low, high }));
    assert_eq!(read_all(&log, "kept").await.unwrap()[0].0, low);
}

#[tokio::test]
async fn compaction_keeps_the_last_record_of_each_key_under_its_offset() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    log.ensure_topic(&LATEST).await.unwrap();
    let mut early = log.reader("latest", 0, Start::Beginning).unwrap();
    early.next(1, Duration::ZERO).await.unwrap();
    log.produce("latest", 0, record("stays", "the only one")).await.unwrap();
    for index in 0..500 {
        log.produce("latest", 0, record(&format!("key {}", index % 5), &index.to_string()))
            .await
            .unwrap();
    }
    let (again, _copy) = open_copy(&folder);
    for log in [log, again] {
        let values = read_all(&log, "latest").await.unwrap();
        assert!(values.len() < 120, "{} records are left", values.len());
        assert_eq!(values[0], (0, "the only one".to_owned()));
        assert!(values.windows(2).all(|two| two[0].0 < two[1].0));
        let last: Vec<_> =
            values[values.len() - 5..].iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(last, ["495", "496", "497", "498", "499"]);
        // In a gap, and not lost.
        let mut reader = log.reader("latest", 0, Start::Offset(1)).unwrap();
        assert!(reader.next(1, Duration::ZERO).await.unwrap()[0].offset > 1);
    }
}

/// The same log once more, from a copy of its files.
fn open_copy(folder: &TempDir) -> (FileLog, TempDir) {
    let copy = TempDir::new().unwrap();
    let target = copy.path().join("latest").join("00000");
    std::fs::create_dir_all(&target).unwrap();
    let source = folder.path().join("latest");
    std::fs::copy(source.join("topic"), copy.path().join("latest").join("topic")).unwrap();
    for path in segments(folder, "latest") {
        std::fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
    }
    (open(&copy).unwrap(), copy)
}

#[tokio::test]
async fn a_reader_follows_while_the_segments_it_has_read_are_compacted() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    log.ensure_topic(&LATEST).await.unwrap();
    let mut reader = log.reader("latest", 0, Start::Beginning).unwrap();
    let mut latest = String::new();
    for index in 0..300 {
        log.produce("latest", 0, record("key", &index.to_string())).await.unwrap();
        if index % 50 == 0 {
            for stored in reader.next(3, Duration::ZERO).await.unwrap() {
                latest = String::from_utf8(stored.value.to_vec()).unwrap();
            }
        }
    }
    while reader.position() < 300 {
        for stored in reader.next(3, Duration::ZERO).await.unwrap() {
            latest = String::from_utf8(stored.value.to_vec()).unwrap();
        }
    }
    assert_eq!(latest, "299");
}

#[tokio::test]
async fn a_log_is_one_processes() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder).unwrap();
    assert!(open(&folder).unwrap_err().to_string().contains("in use"));
    drop(log);
    open(&folder).unwrap();
}

#[test]
fn what_is_wrong_with_a_uri_is_said() {
    let refusal = |uri: &str| FileLog::open(uri).unwrap_err().to_string();
    assert!(refusal("file:").contains("names a folder"));
    assert!(refusal("file:/tmp/x?sync=no").contains("sync is unknown"));
    assert!(refusal("file:/tmp/x?segment_bytes=7").contains("1024"));
}
