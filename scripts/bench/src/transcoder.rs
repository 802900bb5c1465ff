//! The transcoder alone: JSON to protobuf and back, beside prost-reflect, which also goes by descriptors, and pbjson, which
//! has code of its own for each message. CPU time of one thread; in the same turns.

use crate::mesh::drive::turns;
use crate::report::Figure;
use anyhow::Context as _;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use std::hint::black_box;
use transcode::MessageType;
use transcode::ReadOptions;
use transcode::Schema;
use transcode::WriteOptions;

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the documentation is in the protos"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/linkmesh.bench.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/linkmesh.bench.v1.serde.rs"));
}

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// JSON that a side handles in a turn, so that turns of large and of small messages take about as long.
const TURN_BYTES: usize = 4 << 20;
const LINKS: usize = 100;
const SAMPLE: &str = r#"{"name":"workspaces/w/links/l","clicks":"9007199254740993","rate":0.125,"state":"STATE_ACTIVE","createTime":"2026-11-30T07:00:00.123456Z","ttl":"3600.500s","labels":{"campaign":"autumn","medium":"mail"},"token":"3q2+7wABAgMEBQYHCAkKCw==","weights":[1,20,300,4000]}"#;

/// One message in both of its forms, and what is known of its type.
struct Case {
    name: &'static str,
    json: Vec<u8>,
    wire: Vec<u8>,
    ours: MessageType,
    descriptor: MessageDescriptor,
}

/// How a side turns one form into the other, and returns how long that is.
type Turn<'a> = &'a dyn Fn() -> anyhow::Result<usize>;

pub(crate) fn run(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let schema = Schema::new(&pool);
    let case = |name, message: &str, json: Vec<u8>| {
        let ours = schema.message(message).context("the schema has it")?;
        let descriptor = pool.get_message_by_name(message).context("the pool has it")?;
        let mut wire = Vec::new();
        schema.to_wire(ours, &json, ReadOptions::default(), &mut wire)?;
        anyhow::Ok(Case { name, json, wire, ours, descriptor })
    };
    let sample = case("sample", "linkmesh.bench.v1.Sample", SAMPLE.as_bytes().to_vec())?;
    let page = case("page of 100 links", "linkmesh.bench.v1.Page", links())?;
    let mut figures = measure::<generated::Sample>(&schema, &sample, pairs)?;
    figures.extend(measure::<generated::Page>(&schema, &page, pairs)?);
    Ok(figures)
}

fn links() -> Vec<u8> {
    let link = r#"{"name":"workspaces/wsp_01a22b66696d763f998b43a01c359ff1/links/lnk_01a22b673ff870f4b15612879c9cbc05","domain":"localhost","slug":"m578","destinationUri":"https://example.com/landing?campaign=autumn","shortUri":"http://localhost/m578","enabled":true,"redirectStatus":"REDIRECT_STATUS_FOUND","createTime":"2026-11-30T07:41:56.598488Z","updateTime":"2026-11-30T07:41:56.598488Z","etag":"661798b51dad8"}"#;
    format!(r#"{{"links":[{}],"nextPageToken":"abc"}}"#, vec![link; LINKS].join(",")).into_bytes()
}

fn measure<T>(schema: &Schema, case: &Case, pairs: usize) -> anyhow::Result<Vec<Figure>>
where
    T: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned,
{
    let Case { name, json, wire, ours, descriptor } = case;
    let to_wire: [Turn<'_>; 3] = [
        &|| {
            let mut out = Vec::new();
            schema.to_wire(*ours, json, ReadOptions::default(), &mut out)?;
            Ok(black_box(out).len())
        },
        &|| {
            let mut json = serde_json::Deserializer::from_slice(json);
            let message = DynamicMessage::deserialize(descriptor.clone(), &mut json)?;
            Ok(black_box(message.encode_to_vec()).len())
        },
        &|| Ok(black_box(serde_json::from_slice::<T>(json)?.encode_to_vec()).len()),
    ];
    let to_json: [Turn<'_>; 3] = [
        &|| {
            let mut out = Vec::new();
            schema.to_json(*ours, wire, WriteOptions::default(), &mut out)?;
            Ok(black_box(out).len())
        },
        &|| {
            let message = DynamicMessage::decode(descriptor.clone(), wire.as_slice())?;
            Ok(black_box(serde_json::to_vec(&message)?).len())
        },
        &|| Ok(black_box(serde_json::to_vec(&T::decode(wire.as_slice())?)?).len()),
    ];
    let sizes = format!("{} B JSON, {} B protobuf", json.len(), wire.len());
    let mut figures = compare(&format!("{name} ({sizes}), to protobuf"), to_wire, json, pairs)?;
    figures.extend(compare(&format!("{name}, to JSON"), to_json, json, pairs)?);
    Ok(figures)
}

fn compare(
    name: &str,
    sides: [Turn<'_>; 3],
    json: &[u8],
    pairs: usize,
) -> anyhow::Result<Vec<Figure>> {
    let messages = TURN_BYTES / json.len();
    let turn = |side: Turn<'_>| {
        let begun = thread_nanos()?;
        for _ in 0..messages {
            side()?;
        }
        anyhow::Ok((thread_nanos()? - begun) / messages as f64 / 1_000.0)
    };
    let (mut reflect, mut pbjson) = (Vec::new(), Vec::new());
    for round in 0..=pairs {
        let mut micros = [0.0; 3];
        for side in turns(round, sides.len()) {
            micros[side] += turn(sides[side])? / 2.0;
        }
        // The first round warms up.
        if round > 0 {
            reflect.push((micros[0], micros[1]));
            pbjson.push((micros[0], micros[2]));
        }
    }
    let goals = [Some("ratio <= 0.333"), Some("ratio <= 1.0")];
    Ok(vec![
        Figure::beside(name, "µs", "prost-reflect", &reflect, goals[0]),
        Figure::beside(name, "µs", "pbjson", &pbjson, goals[1]),
    ])
}

/// CPU that this thread has used, in nanoseconds.
fn thread_nanos() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().context("a schedstat has three numbers")?.parse()?)
}
