//! Metrics over OTLP, for who collects and does not scrape: every few seconds what `/metrics` shows, under the same names.

mod otlp;
mod page;

use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::config::ProcessConfig;
use crate::metrics;
use crate::metrics::MetricsRegistry;
use crate::supervisor::Failures;
use crate::supervisor::Running;

/// How often metrics are sent: the OTLP exporters' usual interval is 60 s, scrapers' is 10 to 15 s.
const EVERY: Duration = Duration::from_secs(10);
/// How long the collector may take for one of them; at the stop it is waited for as long.
const EXPORT_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long the last export delays the stop of the host, at the most.
const STOP_WITHIN: Duration = Duration::from_secs(4);

const _: () = assert!(EXPORT_WAIT_MAX.as_millis() < STOP_WITHIN.as_millis());

/// Starts sending, if there is somewhere to send to.
///
/// # Errors
/// If the endpoint is no URL.
pub(crate) fn start(
    config: &ProcessConfig,
    version: &str,
    registries: Vec<MetricsRegistry>,
    failures: Failures,
) -> anyhow::Result<Option<Running>> {
    let Some(endpoint) = &config.metrics_endpoint else { return Ok(None) };
    let export = MetricsExport::new(endpoint, config, version, registries)?;
    let stop = CancellationToken::new();
    let work = export.run(stop.clone());
    let name = "metrics export";
    Ok(Some(Running::supervise("host", name, STOP_WITHIN, stop, work, failures)))
}

/// Sends the metrics of a process.
struct MetricsExport {
    client: MetricsServiceClient<Channel>,
    registries: Vec<MetricsRegistry>,
    resource: Vec<(&'static str, String)>,
    started: Timestamp,
}

impl MetricsExport {
    /// To the collector at `endpoint`, which is not contacted yet.
    fn new(
        endpoint: &str,
        config: &ProcessConfig,
        version: &str,
        registries: Vec<MetricsRegistry>,
    ) -> anyhow::Result<MetricsExport> {
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .with_context(|| format!("host.metrics_endpoint {endpoint:?} can't be used"))?
            .timeout(EXPORT_WAIT_MAX)
            .connect_timeout(EXPORT_WAIT_MAX)
            .connect_lazy();
        let mut resource = vec![
            ("service.name", "linkmesh".to_owned()),
            ("service.version", version.to_owned()),
            ("cloud.region", config.region.clone()),
            ("cloud.availability_zone", config.zone.clone()),
        ];
        resource.extend(config.instance.clone().map(|id| ("service.instance.id", id)));
        let client = MetricsServiceClient::new(channel);
        Ok(MetricsExport { client, registries, resource, started: Timestamp::now() })
    }

    /// Sends until `stop`, and a last time then.
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut away = false;
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            match self.export().await {
                Ok(()) => away = false,
                // That it is still so is no news.
                Err(_) if away => {}
                Err(error) => {
                    away = true;
                    tracing::warn!(error = format!("{error:#}"), "the collector takes no metrics");
                }
            }
            if stopping {
                return Ok(());
            }
        }
    }

    async fn export(&mut self) -> anyhow::Result<()> {
        let families = page::parse(&metrics::page(&self.registries));
        let times = otlp::Times { started: nanos(self.started), now: nanos(Timestamp::now()) };
        let resource_metrics = vec![otlp::resource_metrics(&self.resource, families, times)];
        let request = Request::new(ExportMetricsServiceRequest { resource_metrics });
        let exported = tokio::time::timeout(EXPORT_WAIT_MAX, self.client.export(request)).await;
        let response = exported.context("it does not answer in time")??.into_inner();
        if let Some(partial) = response.partial_success.filter(|it| it.rejected_data_points > 0) {
            let (refused, why) = (partial.rejected_data_points, partial.error_message);
            anyhow::bail!("{refused} of them are refused: {why}");
        }
        Ok(())
    }
}

/// Since 1970, as OTLP counts.
fn nanos(time: Timestamp) -> u64 {
    let since = SystemTime::from(time).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
