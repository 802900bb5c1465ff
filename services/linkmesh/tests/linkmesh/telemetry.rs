//! What a collector is sent over OTLP: a trace that a caller began, whole, and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use stack::TemporaryFolder;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::program::Dev;
use crate::program::poll;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    /// The last of each name.
    metrics: Arc<Mutex<BTreeMap<String, Metric>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        let named = metrics.map(|metric| (metric.name.clone(), metric));
        self.metrics.lock().unwrap().extend(named);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[test]
fn a_caller_s_trace_and_what_was_counted_reach_a_collector() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    // It ends with the runtime, which this test owns.
    drop(runtime.spawn(server));

    let folder = TemporaryFolder::new().unwrap();
    let settings = [
        ("LINKMESH__HOST__TRACES_ENDPOINT", endpoint.as_str()),
        ("LINKMESH__HOST__METRICS_ENDPOINT", endpoint.as_str()),
        ("LINKMESH__HOST__LOG", "info"),
    ];
    let dev = Dev::start_set(folder.path(), &settings);
    let links = format!("/v1/{}/links", dev.value("WORKSPACE"));
    let traceparent = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let (status, answer) = dev.http_with("GET", &links, &traceparent, "");
    assert_eq!(status, 200, "{answer}");

    // The last spans are handed over at the stop.
    dev.signal("TERM");
    assert_eq!(dev.ended().code(), Some(0));
    let spans = poll("the spans arrive", || {
        let spans = collector.spans.lock().unwrap();
        let ours: Vec<Span> =
            spans.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect();
        (ours.len() >= 2).then_some(ours)
    });
    let first = spans.iter().find(|span| hex(&span.parent_span_id) == CALLER);
    let first = first.unwrap_or_else(|| panic!("nobody continues the caller's span: {spans:?}"));
    let called =
        spans.iter().any(|span| span.name == "call" && span.parent_span_id == first.span_id);
    assert!(called, "the service's span is no child of the edge's: {spans:?}");

    let metrics = collector.metrics.lock().unwrap();
    let requests = metrics.get("mesh_requests_total").and_then(|metric| metric.data.as_ref());
    let Some(Data::Sum(requests)) = requests else { panic!("no calls: {:?}", metrics.keys()) };
    assert!(requests.is_monotonic);
    let durations = metrics.get("mesh_request_duration_seconds");
    let durations = durations.and_then(|metric| metric.data.as_ref());
    let Some(Data::Histogram(durations)) = durations else { panic!("{:?}", metrics.keys()) };
    let counted = durations.data_points.iter().all(|point| {
        point.count == point.bucket_counts.iter().sum::<u64>() && !point.explicit_bounds.is_empty()
    });
    assert!(counted, "{durations:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
