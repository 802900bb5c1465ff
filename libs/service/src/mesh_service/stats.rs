//! What an instance has counted.

use proto::mesh::v1::CallStats;
use proto::mesh::v1::CodeCount;
use proto::mesh::v1::EventCount;
use proto::mesh::v1::Latency;
use proto::mesh::v1::LatencyBucket;
use proto::mesh::v1::Stats;

use super::Node;

/// Until now.
pub(super) fn of(node: &Node) -> Stats {
    Stats {
        service: node.identity.service().to_owned(),
        instance: node.instance.clone(),
        spiffe_id: node.certified_id(),
        uptime: node.started.elapsed().try_into().ok(),
        inbound: node.answered.calls().into_iter().map(calls).collect(),
        outbound: node.mesh.stats().into_iter().map(calls).collect(),
    }
}

fn calls(stats: mesh::CallStats) -> CallStats {
    let mesh::CallStats { caller, callee, method, codes, events, latency } = stats;
    let codes = codes.into_iter().map(|(code, count)| {
        let code = u32::try_from(i32::from(code)).expect("a gRPC code is 0 to 16");
        CodeCount { code, count }
    });
    let events = events
        .into_iter()
        .map(|(event, count)| EventCount { event: event.to_owned(), count })
        .collect();
    let latency = Some(histogram(&latency));
    CallStats { caller, callee, method, codes: codes.collect(), events, latency }
}

fn histogram(latency: &mesh::Latency) -> Latency {
    let micros = |duration: std::time::Duration| {
        u64::try_from(duration.as_micros()).expect("a bucket's bound is a few minutes at the most")
    };
    let bucket = |bucket: &mesh::LatencyBucket| LatencyBucket {
        from_micros: micros(bucket.from),
        to_micros: bucket.to.map_or(0, micros),
        count: bucket.count,
    };
    Latency {
        buckets: latency.buckets.iter().map(bucket).collect(),
        sum: latency.sum.try_into().ok(),
    }
}
