//! A pair of Envoy sidecars, as a mesh of proxies has them: one beside the caller, one beside the callee, HTTP/2 throughout,
//! mutual TLS between them, one worker each.

use super::callee::CALLEE;
use super::callee::CALLER;
use super::certificates;
use super::certificates::Pem;
use crate::listening;
use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use tokio::process::Child;
use tokio::process::Command;

/// Both sidecars; they end when dropped.
#[derive(Debug)]
pub(super) struct Sidecars {
    /// Where the caller's listens, `host:port`, without TLS.
    pub(super) address: String,
    pub(super) pids: Vec<u32>,
    _processes: [Child; 2],
}

impl Sidecars {
    /// Starts a pair in front of a callee that takes calls without TLS.
    pub(super) async fn start(
        folder: &Path,
        authority: &Path,
        callee: &str,
    ) -> anyhow::Result<Self> {
        let (outbound, inbound) = (stack::port::free()?, stack::port::free()?);
        let (caller, peer) =
            (certificates::issue(authority, CALLER)?, certificates::issue(authority, CALLEE)?);
        let (_, app) = callee.rsplit_once(':').context("an address has a port")?;
        let inbound_config = configuration(inbound, app.parse()?, Some(downstream(&peer)), None);
        let outbound_config = configuration(outbound, inbound, None, Some(upstream(&caller)));
        let server = start(folder, "inbound", inbound, &inbound_config).await?;
        let client = start(folder, "outbound", outbound, &outbound_config).await?;
        let pids = [&server, &client].map(|process| process.id().context("Envoy has ended"));
        let pids = pids.into_iter().collect::<anyhow::Result<_>>()?;
        let address = format!("127.0.0.1:{outbound}");
        Ok(Self { address, pids, _processes: [server, client] })
    }
}

pub(crate) async fn start(
    folder: &Path,
    name: &str,
    port: u16,
    config: &Value,
) -> anyhow::Result<Child> {
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(config)?)?;
    let executable = stack::locate::tool("bin/envoy")
        .context("there is no Envoy; install it with `scripts/setup.sh bench`")?;
    let mut command = Command::new(executable);
    command
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"])
        .arg("--config-path")
        .arg(&path);
    listening::start(command, folder, &format!("envoy-{name}"), port).await
}

/// One listener and one cluster, HTTP/2 on both sides, nothing else on.
fn configuration(port: u16, to: u16, downstream: Option<Value>, upstream: Option<Value>) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mesh",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let mut chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }]});
    if let Some(socket) = downstream {
        chain["transport_socket"] = socket;
    }
    json!({"static_resources": {
        "listeners": [{"name": "in", "address": address(port), "filter_chains": [chain]}],
        "clusters": [cluster(to, upstream)],
    }})
}

/// The cluster `next`: one server on this machine, by HTTP/2.
pub(crate) fn cluster(to: u16, upstream: Option<Value>) -> Value {
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}],
        },
    });
    if let Some(socket) = upstream {
        cluster["transport_socket"] = socket;
    }
    cluster
}

pub(crate) fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn downstream(pem: &Pem) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": common(pem, CALLER),
    }})
}

pub(crate) fn upstream(pem: &Pem) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": certificates::dns_name(CALLEE),
        "common_tls_context": common(pem, CALLEE),
    }})
}

/// TLS 1.3 as in the mesh; the peer must be the one that is expected.
fn common(pem: &Pem, peer: &str) -> Value {
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            // A client's maximum is 1.2 unless it says otherwise.
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{
            "certificate_chain": {"inline_string": pem.certificate},
            "private_key": {"inline_string": pem.key},
        }],
        "validation_context": {
            "trusted_ca": {"inline_string": pem.root},
            "match_typed_subject_alt_names": [{
                "san_type": "DNS",
                "matcher": {"exact": certificates::dns_name(peer)},
            }],
        },
    })
}
