//! Where the compiled side differs from prost-reflect on purpose, each with its reason.

use prost_reflect::MessageDescriptor;
use serde::de::Deserialize as _;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;

/// Why the two may differ on a JSON text; none if they may not.
pub(crate) fn for_json(json: &[u8]) -> Option<&'static str> {
    let mut found = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let searched = Search { found: &mut found, depth: 0 }.deserialize(&mut deserializer);
    // What serde_json does not read, it does not read for the oracle either.
    found.filter(|_| searched.is_ok() && deserializer.end().is_ok())
}

/// Why only the oracle may write a message that is refused here with `error`; none if it may not.
pub(crate) fn for_refusal(error: &str) -> Option<&'static str> {
    let reasons = [
        (
            "out of its range",
            "out of range is an error, and not made to fit by carrying nanoseconds",
        ),
        (
            "out of the years",
            "out of range is an error, and not made to fit by carrying nanoseconds",
        ),
        ("can't be in camelCase", "names in a FieldMask come back from camelCase"),
    ];
    reasons.iter().find(|(text, _)| error.contains(text)).map(|(_, reason)| *reason)
}

/// Why bytes may be a message to the oracle alone, which are refused here with `error`; none if they may not.
pub(crate) fn for_no_message(descriptor: &MessageDescriptor, error: &str) -> Option<&'static str> {
    let is_type = error.contains("another wire type than its own");
    (is_type && reaches_map(descriptor, &mut HashSet::new()))
        .then_some("prost-reflect reads a map's entry whatever its wire type is")
}

fn reaches_map(descriptor: &MessageDescriptor, seen: &mut HashSet<String>) -> bool {
    seen.insert(descriptor.full_name().to_owned())
        && descriptor.fields().any(|field| {
            field.is_map()
                || field.kind().as_message().is_some_and(|inner| reaches_map(inner, seen))
        })
}

/// Whether the two wrote the same. prost-reflect writes null for the NaN or the infinity of a wrapper, ProtoJSON has text.
pub(crate) fn is_same(ours: &Value, oracle: &Value) -> bool {
    match (ours, oracle) {
        (Value::Array(ours), Value::Array(oracle)) => {
            ours.len() == oracle.len() && ours.iter().zip(oracle).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(ours), Value::Object(oracle)) => {
            ours.len() == oracle.len()
                && ours.iter().all(|(key, a)| oracle.get(key).is_some_and(|b| is_same(a, b)))
        }
        (Value::String(text), Value::Null) => {
            ["NaN", "Infinity", "-Infinity"].contains(&text.as_str())
        }
        _ => ours == oracle,
    }
}

fn for_string(text: &str) -> Option<&'static str> {
    let is_number = serde_json::from_str::<serde_json::Number>(text).is_ok();
    if text.parse::<f64>().is_ok() && !is_number {
        return Some("Rust's number forms (`+1`, `01`, `1.`, `inf`) are not JSON's");
    }
    if is_number && text.contains(['.', 'e', 'E']) {
        return Some("ProtoJSON takes exponents and zero fractions in quotes too");
    }
    if is_number && text.parse::<f64>().is_ok_and(f64::is_infinite) {
        return Some("a float that is too large is an error, in quotes too");
    }
    if text.contains(":60") {
        return Some("Timestamps have no leap seconds");
    }
    let fraction = text.split('.').nth(1).unwrap_or_default();
    if fraction.bytes().take_while(u8::is_ascii_digit).count() > 9 {
        return Some("Timestamps and Durations have nine digits at most, others would be lost");
    }
    if text.ends_with('s') && (text.contains("+") || text.contains("-.") || text.starts_with('.')) {
        return Some("Durations begin with a digit behind their sign");
    }
    if text.split(',').any(|path| path.ends_with('_') || path.contains("_.")) {
        return Some("names in a FieldMask come back from camelCase");
    }
    None
}

fn for_float(value: f64) -> Option<&'static str> {
    if value.fract() == 0.0 && value.abs() <= f64::from(u32::MAX) {
        return Some("an enum's number, too, may be written as any integer, `1.0` or `1e0`");
    }
    (value.abs() >= 9_007_199_254_740_992.0)
        .then_some("integers are read exactly, not through a double, whatever their form")
}

struct Search<'f> {
    found: &'f mut Option<&'static str>,
    depth: usize,
}

impl Search<'_> {
    fn note(&mut self, found: Option<&'static str>) {
        if self.found.is_none() {
            *self.found = found;
        }
    }

    fn deeper(&mut self) -> Search<'_> {
        if self.depth == 100 {
            self.note(Some("nesting is bounded at 100, not at 128"));
        }
        Search { found: self.found, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.note(for_float(value));
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.note(for_string(text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.deeper())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.note(for_string(&key));
            // A field has two names, which are equal without underscores.
            if !seen.insert(key.replace('_', "").to_lowercase()) {
                self.note(Some("a key that is given twice is refused, not overwritten"));
            }
            entries.next_value_seed(self.deeper())?;
        }
        if seen.is_empty() {
            self.note(Some("an empty object is an empty Any"));
        }
        Ok(())
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}
