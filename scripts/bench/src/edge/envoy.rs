//! One Envoy with a port for each thing that the edge is measured at: transcoding, gRPC-Web, and plain proxying. Each has the
//! filter that it needs, and no other.

use super::Side;
use crate::mesh::certificates::Pem;
use crate::mesh::envoy::address;
use crate::mesh::envoy::cluster;
use crate::mesh::envoy::start;
use crate::mesh::envoy::upstream;
use anyhow::Context as _;
use prost_reflect::DynamicMessage;
use prost_reflect::Value as ProtoValue;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use tokio::process::Child;

const HTTP_MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TRANSCODER: &str =
    "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder";
const GRPC_WEB: &str = "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";

/// An Envoy that runs; it ends when dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    pub(super) transcoder: Side,
    pub(super) grpc_web: Side,
    pub(super) plain: Side,
    _process: Child,
}

impl Envoy {
    /// Starts it before an instance of `links`, with a header for each call that says for whom it is.
    pub(super) async fn start(
        folder: &Path,
        pem: &Pem,
        to: u16,
        principal: &str,
    ) -> anyhow::Result<Self> {
        let descriptors = folder.join("descriptors.bin");
        std::fs::write(&descriptors, without_response_bodies()?)?;

        let ports = [stack::port::free()?, stack::port::free()?, stack::port::free()?];
        let transcoder = json!({
            "@type": TRANSCODER,
            "proto_descriptor": descriptors,
            "services": ["linkmesh.links.v1.LinksService"],
            "convert_grpc_status": true,
        });
        let filters = [
            vec![filter("envoy.filters.http.grpc_json_transcoder", transcoder)],
            vec![filter("envoy.filters.http.grpc_web", json!({"@type": GRPC_WEB}))],
            vec![],
        ];
        let listeners: Vec<Value> =
            ports.iter().zip(filters).map(|(port, filters)| listener(*port, filters)).collect();
        let config = json!({"static_resources": {
            "listeners": listeners,
            "clusters": [cluster(to, Some(upstream(pem)))],
        }});
        let [_, _, last] = ports;
        let process = start(folder, "edge", last, &config).await?;
        let pid = process.id().context("Envoy has ended")?;
        let [transcoder, grpc_web, plain] =
            ports.map(|port| Side::peer("Envoy", port, principal, pid));
        Ok(Self { transcoder, grpc_web, plain, _process: process })
    }
}

fn filter(name: &str, config: Value) -> Value {
    json!({"name": name, "typed_config": config})
}

fn listener(port: u16, mut filters: Vec<Value>) -> Value {
    filters.push(filter("envoy.filters.http.router", json!({"@type": ROUTER})));
    let manager = json!({
        "@type": HTTP_MANAGER,
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next"}}],
        }]},
        "http_filters": filters,
    });
    let chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }]});
    json!({"name": format!("in-{port}"), "address": address(port), "filter_chains": [chain]})
}

/// Our descriptors, without `response_body`, which Envoy refuses: it then answers with a little more than the edge.
fn without_response_bodies() -> anyhow::Result<Vec<u8>> {
    let pool = &*proto::DESCRIPTORS;
    let set = pool
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .context("the descriptors describe themselves")?;
    let http = pool.get_extension_by_name("google.api.http").context("google.api.http is known")?;
    let mut set = DynamicMessage::decode(set, proto::DESCRIPTOR_SET)?;
    let strip = |rule: &mut ProtoValue| {
        if let Some(rule) = rule.as_message_mut() {
            rule.clear_field_by_name("response_body");
        }
    };
    for file in items(&mut set, "file") {
        for service in items(file, "service") {
            for method in items(service, "method") {
                let Some(ProtoValue::Message(options)) = method.get_field_by_name_mut("options")
                else {
                    continue;
                };
                if options.has_extension(&http) {
                    strip(options.get_extension_mut(&http));
                }
            }
        }
    }
    Ok(prost::Message::encode_to_vec(&set))
}

/// The messages in a repeated field.
fn items<'a>(
    message: &'a mut DynamicMessage,
    field: &str,
) -> impl Iterator<Item = &'a mut DynamicMessage> {
    let list = message.get_field_by_name_mut(field).and_then(ProtoValue::as_list_mut);
    list.into_iter().flatten().filter_map(ProtoValue::as_message_mut)
}
