//! A source that tests control: what it says, whether it answers, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache::Filled;
use cache::Metrics;
use cache::Options;
use cache::Stored;
use cache::Versioned;
use tokio::sync::Semaphore;

/// A second, in the cache's microseconds.
pub(super) const SECOND: i64 = 1_000_000;

/// What is cached in these tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Stored for Text {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.0.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok().map(Self)
    }
}

pub(super) type Cache = Versioned<Text, &'static str>;

type Given = Result<Filled<Text>, &'static str>;

/// Answers from a list; the last answer is given for ever.
#[derive(Clone)]
pub(super) struct Source {
    answers: Arc<Mutex<VecDeque<Given>>>,
    reads: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Source {
    pub(super) fn new(answers: impl IntoIterator<Item = Given>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            reads: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// The same, giving no answer before [`open`](Self::open).
    pub(super) fn gated(answers: impl IntoIterator<Item = Given>) -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new(answers) }
    }

    pub(super) fn open(&self, answers: usize) {
        self.gate.add_permits(answers);
    }

    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(super) async fn until_read(&self, times: usize) {
        let read = async {
            while self.reads() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is read");
    }

    pub(super) async fn read(self) -> Result<Filled<Text>, &'static str> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("it stays open").forget();
        let mut answers = self.answers.lock().expect("no test panics with it");
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.expect("a source has an answer")
    }

    pub(super) async fn get(
        &self,
        cache: &Cache,
        now: i64,
    ) -> Result<Option<String>, &'static str> {
        let source = self.clone();
        let entry = cache.get(b"key", now, move || source.clone().read()).await?;
        Ok(entry.value.as_ref().map(|text| text.0.clone()))
    }
}

pub(super) fn filled(version: i64, read_micros: i64, text: &str) -> Filled<Text> {
    Filled { version, read_micros, value: Some(Text(text.to_owned())) }
}

pub(super) fn nothing(version: i64, read_micros: i64) -> Filled<Text> {
    Filled { version, read_micros, value: None }
}

pub(super) fn some(text: &str) -> Result<Option<String>, &'static str> {
    Ok(Some(text.to_owned()))
}

pub(super) fn cache() -> Cache {
    cache_over(None, 1_000, None)
}

pub(super) fn cache_over(
    l2: Option<cache::L2>,
    entries_max: usize,
    scope_bytes: Option<usize>,
) -> Cache {
    let options = Options {
        name: "test",
        ttl: Duration::from_secs(30),
        stale_max: Duration::from_secs(600),
        entries_max,
        scope_bytes,
    };
    Versioned::new(options, l2, &Metrics::default())
}
