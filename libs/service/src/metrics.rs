//! Metrics: one registry for each service of a process, shown as one page in which every family appears once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of the page: OpenMetrics 1.0.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency buckets, in seconds: from a cached redirect to the longest deadline.
const LATENCY_BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The metrics of one service (or of the process itself). Cheap to clone; all clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct MetricsRegistry(Arc<Mutex<Registry>>);

impl MetricsRegistry {
    /// The registry of a service: everything in it is labelled `service=<name>`.
    pub fn new(service: &'static str) -> MetricsRegistry {
        let label = (Cow::Borrowed("service"), Cow::Borrowed(service));
        MetricsRegistry(Arc::new(Mutex::new(Registry::with_labels(std::iter::once(label)))))
    }

    /// The registry itself, to register metrics in. Hold it for no longer than that: the page waits meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic while registering leaves the registry usable: it only ever grows.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all registries as one OpenMetrics page.
///
/// Registries of services in one process have families in common, and a page that shows a family twice is refused by
/// scrapers: families of one name are put together, under the first one's HELP and TYPE.
pub(crate) fn page<'a>(registries: impl IntoIterator<Item = &'a MetricsRegistry>) -> String {
    let mut families = Families::default();
    for registry in registries {
        let mut text = String::new();
        text::encode_registry(&mut text, &registry.lock())
            .expect("a String takes all that is written");
        families.add(&text);
    }
    families.into_page()
}

/// The families seen so far, in the order in which they were first seen.
#[derive(Default)]
struct Families {
    positions: HashMap<String, usize>,
    families: Vec<FamilyText>,
}

/// The lines that describe a family, and its samples.
#[derive(Default)]
struct FamilyText {
    head: String,
    samples: String,
}

impl Families {
    fn add(&mut self, text: &str) {
        let mut current = None;
        let mut head_wanted = false;
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# ") {
                let mut words = described.splitn(3, ' ');
                let (keyword, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                // HELP opens a family; TYPE and UNIT follow it and belong to it.
                if keyword == "HELP" {
                    let next = self.families.len();
                    let position = *self.positions.entry(name.to_owned()).or_insert(next);
                    head_wanted = position == next;
                    if head_wanted {
                        self.families.push(FamilyText::default());
                    }
                    current = Some(position);
                }
                if head_wanted && let Some(position) = current {
                    push_line(&mut self.families[position].head, line);
                }
            } else if let Some(position) = current {
                push_line(&mut self.families[position].samples, line);
            }
        }
    }

    fn into_page(self) -> String {
        let mut page = String::new();
        for family in self.families {
            page.push_str(&family.head);
            page.push_str(&family.samples);
        }
        text::encode_eof(&mut page).expect("a String takes all that is written");
        page
    }
}

fn push_line(into: &mut String, line: &str) {
    writeln!(into, "{line}").expect("a String takes all that is written");
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    code: u16,
    grpc_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    method: &'static str,
    route: &'static str,
}

/// `http_requests_total` and `http_request_duration_seconds`: requests answered, whatever the protocol.
///
/// Labels are `'static` so that nothing a client sends can become one: a route is a pattern such as `/{slug}` or a gRPC
/// method's path, never a request's path.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    latency: Family<LatencyLabels, Histogram>,
}

impl HttpMetrics {
    /// Registers both families.
    pub fn register(registry: &mut Registry) -> HttpMetrics {
        let metrics = HttpMetrics {
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
        };
        registry.register("http_requests", "Requests answered", metrics.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            metrics.latency.clone(),
        );
        metrics
    }

    /// Counts one request. `code` is the HTTP status; for gRPC the one that its code stands for, and `grpc_code` that code's
    /// name (`NOT_FOUND`), empty for everything else.
    pub fn observe(
        &self,
        method: &'static str,
        route: &'static str,
        code: u16,
        grpc_code: &'static str,
        took: Duration,
    ) {
        self.requests.get_or_create(&RequestLabels { method, route, code, grpc_code }).inc();
        self.latency.get_or_create(&LatencyLabels { method, route }).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn a_family_that_two_services_have_appears_once() {
        let (links, identity) = (MetricsRegistry::new("links"), MetricsRegistry::new("identity"));
        for (registry, value) in [(&links, 1), (&identity, 2)] {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.lock().register("db_connections_active", "Connections in use", gauge);
            let http = HttpMetrics::register(&mut registry.lock());
            http.observe("POST", "/a.B/C", 200, "OK", Duration::from_millis(3));
        }
        let page = page([&links, &identity]);
        assert_eq!(page.matches("# HELP db_connections_active ").count(), 1, "{page}");
        assert_eq!(page.matches("# TYPE db_connections_active gauge").count(), 1, "{page}");
        assert_eq!(page.matches("# TYPE http_requests counter").count(), 1, "{page}");
        assert!(page.contains(
            "db_connections_active{service=\"links\"} 1\ndb_connections_active{service=\"identity\"} 2\n"
        ));
        assert!(page.contains("http_requests_total{service=\"identity\",method=\"POST\",route=\"/a.B/C\",code=\"200\",grpc_code=\"OK\"} 1"));
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn a_family_registered_twice_in_one_registry_appears_once_too() {
        let registry = MetricsRegistry::default();
        let first = HttpMetrics::register(&mut registry.lock());
        let second = HttpMetrics::register(&mut registry.lock());
        first.observe("GET", "/{slug}", 302, "", Duration::from_micros(80));
        second.observe("POST", "/a.B/C", 404, "NOT_FOUND", Duration::from_millis(1));
        let page = page([&registry]);
        assert_eq!(page.matches("# HELP http_requests ").count(), 1, "{page}");
        assert_eq!(page.lines().filter(|line| line.starts_with("http_requests_total{")).count(), 2);
    }
}
