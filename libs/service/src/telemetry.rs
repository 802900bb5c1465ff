//! Logs and spans of a process: JSON lines for machines, text for a terminal, and W3C traces over OTLP when told where to.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::Sampler;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;
use crate::config::ProcessConfig;

/// How long one batch of spans may take to be handed over.
const EXPORT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the last spans may take to be handed over at the stop.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(3);

/// The telemetry of this process, from its start to its end. Logs go to standard error.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and tracing if there is an endpoint (which is not contacted yet). Must be called within a tokio runtime,
    /// once in a process.
    ///
    /// # Errors
    /// If the endpoint is no URL, or telemetry was started before.
    pub fn start(config: &ProcessConfig, version: &str) -> anyhow::Result<Telemetry> {
        let filter: EnvFilter = config.log.parse().context("host.log is no filter")?;
        let traces = match &config.traces_endpoint {
            Some(endpoint) => Some(provider(endpoint, config, version)?),
            None => None,
        };
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer().with_tracer(provider.tracer("linkmesh"))
        });
        if traces.is_some() {
            global::set_text_map_propagator(TraceContextPropagator::new());
        }
        tracing_subscriber::registry()
            .with(lines(config.log_format))
            .with(spans)
            .with(filter)
            .try_init()
            .context("telemetry was started before")?;
        Ok(Telemetry { traces })
    }

    /// Hands over the last spans, waiting up to 3 s for that.
    pub async fn stop(self) {
        let Some(provider) = self.traces else { return };
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WAIT_MAX))
                .await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans were not handed over");
        }
    }
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let is_terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let is_json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    if is_json {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.with_ansi(is_terminal).with_target(false).boxed()
    }
}

fn provider(
    endpoint: &str,
    config: &ProcessConfig,
    version: &str,
) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_WAIT_MAX)
        .build()
        .with_context(|| format!("host.traces_endpoint {endpoint:?} can't be used"))?;
    let mut attributes = vec![
        KeyValue::new("service.version", version.to_owned()),
        KeyValue::new("cloud.region", config.region.clone()),
        KeyValue::new("cloud.availability_zone", config.zone.clone()),
    ];
    attributes.extend(config.instance.clone().map(|id| KeyValue::new("service.instance.id", id)));
    let resource =
        Resource::builder().with_service_name("linkmesh").with_attributes(attributes).build();
    // A caller that has decided to trace a call is followed; the ratio is for calls that begin here.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.traces_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build())
}
