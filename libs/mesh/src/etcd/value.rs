//! What is stored under a key: etcd's gRPC naming format, with ours in its metadata.

use super::watch::Kind;
use crate::identity::ServiceName;
use crate::registry::Change;
use crate::registry::Entry;
use crate::registry::Instance;
use crate::registry::WEIGHT_DEFAULT;
use crate::registry::WEIGHT_MAX;
use crate::registry::timestamp_text;
use anyhow::Context as _;
use anyhow::ensure;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// What every key begins with.
const PREFIX: &str = "linkmesh/endpoints/";
/// The longest gRPC service name or instance id that is accepted, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// etcd's operation for an endpoint that is there.
const OP_ADD: u8 = 0;

/// `naming/endpoints/internal.Update` of etcd's Go client.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    #[serde(rename = "Op", default)]
    op: u8,
    #[serde(rename = "Addr")]
    address: String,
    /// As text that is JSON. Go's resolver passes on what it finds, and grpc-go compares it with `==`: a map there ends the
    /// caller's process (etcd#19700, grpc-go#8225), and a string does not. Others may write an object.
    #[serde(rename = "Metadata", with = "metadata_text")]
    metadata: Metadata,
}

/// Fields may be added: an older version ignores what it doesn't know.
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    service: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    version: String,
    #[serde(default = "weight_default")]
    weight: u32,
    #[serde(default)]
    draining: bool,
    #[serde(with = "timestamp_text")]
    register_time: Timestamp,
}

/// Metadata as text on the way out, as text or an object on the way in.
mod metadata_text {
    use super::Metadata;
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;
    use serde::ser::Error as _;

    pub(super) fn serialize<S: Serializer>(
        metadata: &Metadata,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(metadata).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Metadata, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let metadata = match value.as_str() {
            Some(text) => serde_json::from_str(text),
            None => serde_json::from_value(value),
        };
        metadata.map_err(D::Error::custom)
    }
}

/// The instances.
pub(super) struct Endpoints;

impl Kind for Endpoints {
    const PREFIX: &'static str = PREFIX;
    const WHAT: &'static str = "endpoints";
    type Entry = Entry;
    type Change = Change;

    fn entry(key: &[u8], value: &[u8]) -> anyhow::Result<Entry> {
        parse(key, value)
    }

    fn put(entry: Entry) -> Change {
        Change::Put(entry)
    }

    fn delete(key: &[u8]) -> anyhow::Result<Change> {
        let (grpc_service, instance) = parse_key(key)?;
        Ok(Change::Delete { grpc_service, instance })
    }
}

fn weight_default() -> u32 {
    WEIGHT_DEFAULT
}

pub(super) fn key(grpc_service: &str, instance: &str) -> String {
    format!("{PREFIX}{grpc_service}/{instance}")
}

pub(super) fn encode(instance: &Instance) -> Vec<u8> {
    let value = Value {
        op: OP_ADD,
        address: instance.address.clone(),
        metadata: Metadata {
            service: instance.service.clone(),
            zone: instance.zone.clone(),
            region: instance.region.clone(),
            version: instance.version.clone(),
            weight: instance.weight,
            draining: instance.draining,
            register_time: instance.register_time,
        },
    };
    serde_json::to_vec(&value).expect("strings and numbers have a JSON form")
}

/// The gRPC service and the instance that a key names.
///
/// # Errors
/// If it is not one of ours.
fn parse_key(key: &[u8]) -> anyhow::Result<(String, String)> {
    let key = std::str::from_utf8(key).context("it is not UTF-8")?;
    let rest = key.strip_prefix(PREFIX).context("it has another prefix")?;
    let (grpc_service, instance) = rest.split_once('/').context("it names no instance")?;
    for part in [grpc_service, instance] {
        ensure!(
            !part.is_empty() && part.len() <= NAME_BYTES_MAX && !part.contains('/'),
            "a part must be 1 to {NAME_BYTES_MAX} bytes without a slash"
        );
    }
    Ok((grpc_service.to_owned(), instance.to_owned()))
}

/// # Errors
/// If key or value is malformed; one that is must not keep the others from being seen.
fn parse(key: &[u8], value: &[u8]) -> anyhow::Result<Entry> {
    let (grpc_service, instance) = parse_key(key)?;
    let value: Value = serde_json::from_slice(value)?;
    ensure!(value.op == OP_ADD, "its operation is {}, not {OP_ADD}", value.op);
    let metadata = value.metadata;
    ServiceName::parse(&metadata.service)?;
    let instance = Instance {
        instance,
        service: metadata.service,
        address: value.address,
        zone: metadata.zone,
        region: metadata.region,
        version: metadata.version,
        weight: metadata.weight.clamp(1, WEIGHT_MAX),
        draining: metadata.draining,
        register_time: metadata.register_time,
    };
    Ok(Entry { grpc_service, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_etcds_format_and_reads_back() {
        let instance = Instance {
            instance: "links-2".to_owned(),
            service: "links".to_owned(),
            address: "127.0.0.1:4001".to_owned(),
            zone: "a".to_owned(),
            region: "eu".to_owned(),
            version: "1".to_owned(),
            weight: 100,
            draining: true,
            register_time: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let key = key("linkmesh.links.v1.LinksService", "links-2");
        assert_eq!(key, "linkmesh/endpoints/linkmesh.links.v1.LinksService/links-2");
        let value = encode(&instance);
        assert_eq!(
            String::from_utf8(value.clone()).unwrap(),
            r#"{"Op":0,"Addr":"127.0.0.1:4001","Metadata":"{\"service\":\"links\",\"zone\":\"a\",\"region\":\"eu\",\"version\":\"1\",\"weight\":100,\"draining\":true,\"register_time\":\"2026-01-02T03:04:05Z\"}"}"#
        );
        let entry = parse(key.as_bytes(), &value).unwrap();
        assert_eq!(entry.instance, instance);
        assert_eq!(entry.grpc_service, "linkmesh.links.v1.LinksService");
    }

    #[test]
    fn malformed_keys_and_values_are_errors() {
        let good = br#"{"Op":0,"Addr":"h:1","Metadata":{"service":"links","register_time":"2026-01-02T03:04:05Z"}}"#;
        assert_eq!(parse(b"linkmesh/endpoints/a.B/i", good).unwrap().instance.weight, 100);
        for key in
            [&b"other/a.B/i"[..], b"linkmesh/endpoints/a.B", b"linkmesh/endpoints//i", b"\xff"]
        {
            assert!(parse(key, good).is_err());
        }
        for value in [&b""[..], b"{}", b"null", br#"{"Op":1,"Addr":"h:1","Metadata":null}"#] {
            assert!(parse(b"linkmesh/endpoints/a.B/i", value).is_err());
        }
    }
}
