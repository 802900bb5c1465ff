//! Both directions beside prost-reflect, which reads and writes the same JSON by reflection: random messages of every type that
//! Linkmesh has, of the well-known types and of protobuf's conformance tests, whole and damaged.
//!
//! Where the two differ on purpose, `excuses.rs` says why.

#[path = "differential/excuses.rs"]
mod excuses;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/mutate.rs"]
mod mutate;
#[path = "differential/oracle.rs"]
mod oracle;

use generate::Entropy;
use oracle::Side;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;
use transcode::ReadOptions;
use transcode::Schema;
use transcode::WriteOptions;

/// Every message there is, with the schema that it is compiled in.
static SIDES: LazyLock<Vec<Side>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (protos, tests) = (root.join("../../proto"), root.join("tests/protos"));
    let third_party = protos.join("third_party");
    let linkmesh = compile(&[&protos, &third_party], &[protos.join("linkmesh")]);
    let test = compile(&[&tests, &third_party], std::slice::from_ref(&tests));
    let mut sides = Vec::new();
    for pool in [linkmesh, test] {
        let schema = std::sync::Arc::new(Schema::new(&pool));
        let messages = pool.all_messages().filter(|message| !message.is_map_entry());
        sides.extend(messages.map(|descriptor| Side::new(&schema, descriptor)));
    }
    sides
});

fn compile(roots: &[&Path], folders: &[PathBuf]) -> DescriptorPool {
    let mut files = Vec::new();
    for folder in folders {
        collect(folder, &mut files);
    }
    files.sort();
    let mut compiler = protox::Compiler::new(roots).expect("the folders exist");
    compiler.include_imports(true).open_files(files).expect("the protos compile");
    // What no file imports is still what an Any may hold, and a type that everybody has.
    for name in ["google/rpc/error_details.proto", "google/protobuf/wrappers.proto"] {
        compiler.open_file(name).expect("protox has it, or the folder");
    }
    DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).expect("protox encoded it")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of protos") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
}

fn options(bits: u8) -> WriteOptions {
    WriteOptions {
        emits_defaults: bits & 1 > 0,
        uses_proto_names: bits & 2 > 0,
        uses_enum_numbers: bits & 4 > 0,
        is_pretty: bits & 8 > 0,
        ..WriteOptions::default()
    }
}

/// How often each type is tried.
const ROUNDS: u32 = if cfg!(debug_assertions) { 12 } else { 400 };

/// Bytes that a random message is made of.
fn entropy() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..400)
}

/// Tries every type with random messages.
fn on_every_type(
    name: &'static str,
    check: impl Fn(&Side, &[u8], u8) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig {
        cases: ROUNDS,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    for side in SIDES.iter() {
        let mut runner = proptest::test_runner::TestRunner::new(config.clone());
        let outcome =
            runner.run(&(entropy(), any::<u8>()), |(bytes, more)| check(side, &bytes, more));
        if let Err(failure) = outcome {
            panic!("{name}: {}: {failure}", side.descriptor.full_name());
        }
    }
}

fn random(descriptor: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    generate::message(descriptor, &mut Entropy::new(bytes), 0)
}

#[test]
fn there_are_many_types() {
    assert!(SIDES.len() > 200, "{}", SIDES.len());
}

/// What random messages found.
#[test]
fn r17_aliases_and_defaults_that_stand_in_the_bytes_are_written_as_they_should_be() {
    let name = "protobuf_test_messages.proto3.TestAllTypesProto3";
    let side = SIDES.iter().find(|side| side.descriptor.full_name() == name).expect("compiled");
    let write = |wire: &[u8], options| {
        String::from_utf8(side.json(wire, options).expect("a message")).expect("UTF-8")
    };
    let aliased = write(&[0xb8, 1, 2], WriteOptions::default());
    assert_eq!(aliased, r#"{"optionalAliasedEnum":"ALIAS_BAZ"}"#, "the first name is written");
    assert_eq!(write(&[8, 0], WriteOptions::default()), "{}");
    let all = WriteOptions { emits_defaults: true, ..WriteOptions::default() };
    assert!(write(&[8, 0], all).starts_with(r#"{"optionalInt32":0,"#));
}

#[test]
fn r17_to_r21_wire_becomes_the_json_that_reflection_writes() {
    on_every_type("wire to JSON", |side, bytes, bits| {
        let wire = random(&side.descriptor, bytes).encode_to_vec();
        side.compare_json(&wire, options(bits))
    });
}

#[test]
fn wire_in_pieces_becomes_the_message_that_the_pieces_are_together() {
    on_every_type("merging", |side, bytes, bits| {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut wire = random(&side.descriptor, first).encode_to_vec();
        random(&side.descriptor, second).encode(&mut wire).expect("a vector grows");
        side.compare_json(&wire, options(bits))
    });
}

#[test]
fn r17_to_r21_json_becomes_the_message_that_reflection_reads() {
    on_every_type("JSON to wire", |side, bytes, bits| {
        let message = random(&side.descriptor, bytes);
        let Some(json) = side.oracle_json(&message, options(bits)) else { return Ok(()) };
        side.compare_wire(&json)
    });
}

#[test]
fn the_same_message_is_the_same_text_and_comes_back() {
    on_every_type("round trip", |side, bytes, bits| {
        let wire = random(&side.descriptor, bytes).encode_to_vec();
        let Ok(json) = side.json(&wire, options(bits)) else { return Ok(()) };
        let again = side.wire(&json, ReadOptions::default());
        let again = again.map_err(|error| TestCaseError::fail(format!("{error}: {json:?}")))?;
        prop_assert_eq!(side.json(&again, options(bits)).expect("it was read"), json);
        prop_assert!(side.is_message(&again));
        Ok(())
    });
}

#[test]
fn r18_damaged_json_is_taken_or_refused_as_reflection_does() {
    on_every_type("damaged JSON", |side, bytes, bits| {
        let message = random(&side.descriptor, bytes);
        let Some(json) = side.oracle_json(&message, options(bits & 7)) else { return Ok(()) };
        let damaged = mutate::json(&json, &mut Entropy::new(bytes.get(5..).unwrap_or_default()));
        side.compare_wire(&damaged)
    });
}

#[test]
fn damaged_wire_is_taken_or_refused_as_reflection_does_and_never_panics() {
    on_every_type("damaged wire", |side, bytes, bits| {
        let mut wire = random(&side.descriptor, bytes).encode_to_vec();
        mutate::wire(&mut wire, &mut Entropy::new(bytes.get(3..).unwrap_or_default()));
        side.compare_json(&wire, options(bits & 7))
    });
}

#[test]
fn any_bytes_are_taken_or_refused_as_reflection_does_and_never_panic() {
    on_every_type("any bytes", |side, bytes, _| {
        side.compare_json(bytes, WriteOptions::default())?;
        side.compare_wire(bytes)
    });
}
