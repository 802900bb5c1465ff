//! Whatever is written is taken or refused, and nothing panics.

use super::*;
use crate::policy::read_yaml;
use crate::policy::record::descriptor;
use crate::policy::write_json;
use crate::policy::write_yaml;
use proptest::prelude::*;
use prost_reflect::DynamicMessage;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// A message with fields as a hostile or clumsy writer may set them, some of them right.
fn scribble(descriptor: &MessageDescriptor, random: &mut StdRng) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if random.random_bool(0.4) {
            continue;
        }
        let value = if field.is_list() {
            let count = [0, 1, 1, 2, 70][random.random_range(0..5)];
            // Deep down, lists stay short.
            let count = if matches!(field.kind(), Kind::Message(_)) { count.min(3) } else { count };
            Value::List((0..count).map(|_| scalar(&field.kind(), random)).collect())
        } else {
            scalar(&field.kind(), random)
        };
        message.set_field(&field, value);
    }
    message
}

#[expect(clippy::wildcard_enum_match_arm, reason = "protobuf has many kinds, a policy few")]
fn scalar(kind: &Kind, random: &mut StdRng) -> Value {
    const TEXTS: [&str; 16] = [
        "",
        "a",
        "b",
        "links",
        "linkmesh.links.v1.LinksService/GetLink",
        "x.Y/*",
        "UNAVAILABLE",
        "OK",
        "*",
        "2.*",
        "x-header",
        "x-bin",
        "\u{0}",
        "ß/ü",
        "a/b/c",
        "Über allen Gipfeln ist Ruh, in allen Wipfeln spürest du kaum einen Hauch",
    ];
    const NUMBERS: [u32; 8] = [0, 1, 2, 5, 50, 100, 1_000, u32::MAX];
    const FLOATS: [f64; 8] = [0.0, -0.0, 1.0, 50.0, 99.9, 100.1, f64::NAN, f64::NEG_INFINITY];
    const SECONDS: [i64; 7] = [0, 1, 30, 300, -1, i64::MIN, i64::MAX];
    const NANOS: [i32; 5] = [0, 25_000_000, -1, 1_000_000_000, i32::MIN];
    match kind {
        Kind::Message(below) if below.full_name() == "google.protobuf.Duration" => {
            let mut duration = DynamicMessage::new(below.clone());
            let seconds = SECONDS[random.random_range(0..SECONDS.len())];
            let nanos = NANOS[random.random_range(0..NANOS.len())];
            duration.set_field_by_name("seconds", Value::I64(seconds));
            duration.set_field_by_name("nanos", Value::I32(nanos));
            Value::Message(duration)
        }
        Kind::Message(below) => Value::Message(scribble(below, random)),
        Kind::Enum(_) => Value::EnumNumber(random.random_range(-1..6)),
        Kind::String => Value::String(TEXTS[random.random_range(0..TEXTS.len())].to_owned()),
        Kind::Bool => Value::Bool(random.random()),
        Kind::Uint32 => Value::U32(NUMBERS[random.random_range(0..NUMBERS.len())]),
        Kind::Double => Value::F64(FLOATS[random.random_range(0..FLOATS.len())]),
        _ => panic!("policy.proto has no such field"),
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_taken_or_refused_by_field_and_never_panics(seed: u64) {
        let message = scribble(&descriptor("ServicePolicy"), &mut StdRng::seed_from_u64(seed));
        let policy: ServicePolicy = message.transcode_to().unwrap();
        match Policy::compile(&policy, 1) {
            Ok(compiled) => {
                let again = read_yaml(&write_yaml(&policy)).unwrap();
                prop_assert_eq!(Policy::compile(&again, 1).unwrap(), compiled);
            }
            Err(violations) => {
                prop_assert!((1..=100).contains(&violations.len()));
                prop_assert!(violations.iter().all(|it| !it.field.is_empty() && !it.description.is_empty()));
            }
        }
        // People are shown also what is refused.
        prop_assert!(!write_yaml(&policy).is_empty());
        prop_assert!(!write_json(&policy).is_null());
    }

    #[test]
    fn whatever_text_is_read_is_taken_or_refused_and_never_panics(text in "[a-z:\\[\\]{}\\- \n\"&*!0-9.]{0,60}") {
        let whole = format!("service: links\nroutes: {text}");
        for text in [&text, &whole] {
            if let Err(error) = read_yaml(text) {
                prop_assert!(!error.problems.is_empty());
            }
        }
    }
}
