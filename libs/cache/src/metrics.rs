//! How often a level had the answer: counters for rates, and the ratio itself for dashboards.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric as _;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// How much time a published ratio covers at least, so that two scrapers do not take it from each other.
const RATIO_WINDOW: Duration = Duration::from_secs(10);

/// The metrics of all caches of a service: `cache_hit_rate{cache,level}` and `cache_requests_total{cache,level,outcome}`.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Arc<Cells>>>>);

/// One cache's numbers, by level.
#[derive(Debug)]
pub(crate) struct Cells {
    cache: &'static str,
    pub(crate) l1: Level,
    pub(crate) l2: Level,
}

#[derive(Debug, Default)]
pub(crate) struct Level {
    hits: AtomicU64,
    misses: AtomicU64,
    window: Mutex<Option<Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    hits: u64,
    misses: u64,
    ratio: f64,
}

impl Metrics {
    /// Registers the families; every cache of the service adds itself to them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub(crate) fn add(&self, cache: &'static str) -> Arc<Cells> {
        let cells = Arc::new(Cells { cache, l1: Level::default(), l2: Level::default() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&cells));
        cells
    }
}

impl Level {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Hits among requests since the last window, 1 when nothing was asked.
    fn ratio(&self, now: Instant) -> f64 {
        let hits = self.hits.load(Ordering::Relaxed);
        let misses = self.misses.load(Ordering::Relaxed);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let last = window.unwrap_or(Window { since: now, hits: 0, misses: 0, ratio: 1.0 });
        if window.is_some() && now.duration_since(last.since) < RATIO_WINDOW {
            return last.ratio;
        }
        let (hits_since, misses_since) = (hits - last.hits, misses - last.misses);
        let asked = hits_since + misses_since;
        #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
        let ratio = if asked == 0 { last.ratio } else { hits_since as f64 / asked as f64 };
        *window = Some(Window { since: now, hits, misses, ratio });
        ratio
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let caches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rates = encoder.encode_descriptor(
            "cache_hit_rate",
            "Share of requests that the level had the answer to.",
            None,
            MetricType::Gauge,
        )?;
        for cells in caches.iter() {
            for (level, numbers) in [("l1", &cells.l1), ("l2", &cells.l2)] {
                let labels = [("cache", cells.cache), ("level", level)];
                ConstGauge::new(numbers.ratio(Instant::now()))
                    .encode(rates.encode_family(&labels)?)?;
            }
        }
        let mut requests = encoder.encode_descriptor(
            "cache_requests",
            "Requests to the level.",
            None,
            MetricType::Counter,
        )?;
        for cells in caches.iter() {
            for (level, numbers) in [("l1", &cells.l1), ("l2", &cells.l2)] {
                for (outcome, count) in [("hit", &numbers.hits), ("miss", &numbers.misses)] {
                    let labels = [("cache", cells.cache), ("level", level), ("outcome", outcome)];
                    let value = ConstCounter::new(count.load(Ordering::Relaxed));
                    value.encode(requests.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_both_levels_of_every_cache() {
        let mut registry = Registry::default();
        let cells = Metrics::register(&mut registry).add("routes");
        cells.l1.hit();
        cells.l1.hit();
        cells.l1.hit();
        cells.l1.miss();
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("cache_hit_rate{cache=\"routes\",level=\"l1\"} 0.75"), "{page}");
        assert!(
            page.contains("cache_requests_total{cache=\"routes\",level=\"l1\",outcome=\"hit\"} 3")
        );
    }
}
