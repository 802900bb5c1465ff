//! What analytics tells Prometheus. No label holds a link, a workspace or anything else without a bound.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;

use crate::domain::letter::Reason;

/// `kind="human"` or `kind="bot"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// A dead letter's reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The metrics of one instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    clicks: Family<KindLabel, Counter>,
    dead_letters: Family<ReasonLabel, Counter>,
    /// Clicks lost by gaps in their numbers.
    pub lost: Counter,
    /// Clicks of which nobody knows any more whether they were folded: dead letters `expired`.
    pub possible_loss: Counter,
    /// Clicks that came again and were skipped.
    pub skipped: Counter,
    /// Records between what is folded and the ends of this instance's partitions.
    pub lag: Gauge,
    /// Partitions that this instance holds.
    pub partitions: Gauge,
    /// Of those, the halted ones.
    pub halted: Gauge,
    /// Seconds from the first statement of a fold to its commit.
    pub fold_seconds: Histogram,
    /// Clicks in a fold.
    pub fold_clicks: Histogram,
    /// Watchers of live clicks.
    pub watchers: Gauge,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            clicks: Family::default(),
            dead_letters: Family::default(),
            lost: Counter::default(),
            possible_loss: Counter::default(),
            skipped: Counter::default(),
            lag: Gauge::default(),
            partitions: Gauge::default(),
            halted: Gauge::default(),
            fold_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            fold_clicks: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            watchers: Gauge::default(),
        };
        // A counter that is not there until its first increment hides that increment from `rate`.
        for kind in ["human", "bot"] {
            metrics.clicks.get_or_create(&KindLabel { kind }).inc_by(0);
        }
        for reason in Reason::ALL {
            metrics.dead_letters.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(0);
        }
        let Metrics { clicks, dead_letters, lost, possible_loss, skipped, .. } = metrics.clone();
        registry.register("link_clicks", "Clicks counted, by kind", clicks);
        registry.register("analytics_dead_letters", "Clicks not counted, by reason", dead_letters);
        registry.register("analytics_lost_clicks", "Clicks lost, by gaps in their numbers", lost);
        registry.register(
            "analytics_possibly_lost_clicks",
            "Clicks that came too late to know whether they were counted before",
            possible_loss,
        );
        registry.register("analytics_skipped_clicks", "Clicks that came again", skipped);
        let Metrics { lag, partitions, halted, fold_seconds, fold_clicks, watchers, .. } =
            metrics.clone();
        registry.register("kafka_consumer_lag_sum", "Records not folded yet", lag);
        registry.register("analytics_partitions", "Partitions held", partitions);
        registry.register("analytics_partitions_halted", "Partitions held and halted", halted);
        registry.register("analytics_fold_seconds", "Duration of folds", fold_seconds);
        registry.register("analytics_fold_clicks", "Clicks in a fold", fold_clicks);
        registry.register("analytics_watchers", "Watchers of live clicks", watchers);
        metrics
    }

    /// Clicks were counted.
    pub fn counted(&self, humans: u64, bots: u64) {
        self.clicks.get_or_create(&KindLabel { kind: "human" }).inc_by(humans);
        self.clicks.get_or_create(&KindLabel { kind: "bot" }).inc_by(bots);
    }

    /// A click was not.
    pub fn dead_letter(&self, reason: Reason) {
        self.dead_letters.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
        if reason == Reason::Expired {
            self.possible_loss.inc();
        }
    }
}
