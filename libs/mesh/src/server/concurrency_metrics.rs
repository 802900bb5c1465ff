//! Shows what a server works on and the limits that it has found, whenever metrics are read.

use super::concurrency::Limiter;
use crate::methods::METHODS;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric as _;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Shows `limiter` in `registry`.
pub(super) fn register(limiter: Limiter, registry: &mut Registry) {
    registry.register_collector(Box::new(Shown(limiter)));
}

#[derive(Debug)]
struct Shown(Limiter);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (calls, streams) = self.0.in_flight();
        for (kind, help, count) in [
            ("calls", "Calls that are being worked on", calls),
            ("streams", "Streams that are open", streams),
        ] {
            let name = format!("mesh_server_{kind}_in_flight");
            let gauge = ConstGauge::new(signed(count));
            gauge.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "mesh_server_concurrency_limit",
            "How many calls of a method are worked on at a time, as found from its response times",
            None,
            MetricType::Gauge,
        )?;
        for (method, limit) in self.0.limits() {
            let labels = [("method", METHODS.names()[method].as_str())];
            ConstGauge::new(signed(limit)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Concurrency;
    use crate::policy::Criticality;
    use prometheus_client::encoding::text::encode;
    use std::time::Duration;
    use tonic::Code;

    #[test]
    fn what_is_in_flight_and_the_limits_are_shown() {
        let (limiter, mut registry) = (Limiter::new(), Registry::default());
        register(limiter.clone(), &mut registry);
        let policy = Concurrency { calls_max: 100, adaptive: true, calls_min: 16 };
        let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
        let admit = || limiter.admit(method, Criticality::Normal, &policy).unwrap();
        for second in 1..=20 {
            let took = Duration::from_millis(1);
            admit().finish(Code::Ok, took, Duration::from_secs(second));
        }
        let _held = admit();
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        for line in [
            "mesh_server_calls_in_flight 1",
            "mesh_server_streams_in_flight 0",
            r#"mesh_server_concurrency_limit{method="linkmesh.links.v1.LinksService/GetLink"} 100"#,
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
    }
}
