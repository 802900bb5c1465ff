//! Damage: what a client with a fault, or with bad intent, makes of a good message.

use crate::generate::Entropy;
use serde_json::Value;

/// Values that stand where others should.
const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1.0",
    "1e2",
    "-0",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "9007199254740993.0",
    "1e400",
    "\"\"",
    "\"x\"",
    "\"1\"",
    "\"-1\"",
    "\"1.5\"",
    "\"01\"",
    "\"+1\"",
    "\"NaN\"",
    "\"nan\"",
    "\"Infinity\"",
    "\"inf\"",
    "\"1e2\"",
    "\"true\"",
    "\"AA==\"",
    "\"-_8\"",
    "\"A\"",
    "\"1s\"",
    "\"1.5s\"",
    "\"-0.5s\"",
    "\"+1s\"",
    "\".5s\"",
    "\"2026-01-01T00:00:00Z\"",
    "\"2026-01-01T23:59:60Z\"",
    "\"2026-01-01T00:00:00.0000000001Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"a,bC.d\"",
    "\"a_b\"",
    "[]",
    "[null]",
    "[[]]",
    "[1,\"2\"]",
    "{}",
    "{\"a\":1}",
    "{\"1\":{}}",
    "{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"1s\"}",
    "{\"value\":\"1s\",\"@type\":\"x/google.protobuf.Duration\"}",
    "{\"@type\":\"google.protobuf.Duration\",\"value\":\"1s\"}",
    "{\"@type\":\"x/google.protobuf.Empty\",\"value\":{}}",
];

pub(crate) fn json(json: &[u8], entropy: &mut Entropy<'_>) -> Vec<u8> {
    if entropy.below(3) == 0 {
        let mut bytes = json.to_vec();
        wire(&mut bytes, entropy);
        return bytes;
    }
    let mut value: Value = serde_json::from_slice(json).expect("the oracle wrote it");
    let replacement = *entropy.pick(VALUES);
    let mut choice = Choice { left: entropy.below(64), action: entropy.below(4), replacement };
    while choice.left > 0 && !value.is_null() && choice.visit(&mut value) {}
    // Markers become what no tree of values can hold: a number as it is written, or a key twice.
    let text = value.to_string();
    let text = text.replace(&format!("\"{MARK}\""), replacement);
    text.replace(TWICE, "").into_bytes()
}

const MARK: &str = "(the replacement)";
const TWICE: &str = "(twice)";

struct Choice<'r> {
    left: usize,
    action: usize,
    replacement: &'r str,
}

impl Choice<'_> {
    /// Walks over the values until the chosen one; whether there was any to walk over.
    fn visit(&mut self, value: &mut Value) -> bool {
        let mut was_any = false;
        match value {
            Value::Object(object) => {
                for (_, inner) in object.iter_mut() {
                    was_any = true;
                    if self.left == 0 {
                        return true;
                    }
                    self.left -= 1;
                    if self.left == 0 {
                        break;
                    }
                    self.visit(inner);
                }
                if was_any && self.left == 0 && !self.replacement.is_empty() {
                    let at = object.len() / 2;
                    let key = object.keys().nth(at).expect("it is not empty").clone();
                    match self.action {
                        0 => drop(object.insert(key, MARK.into())),
                        1 => drop(object.insert("unknown".to_owned(), MARK.into())),
                        2 => drop(object.insert(format!("{TWICE}{key}"), MARK.into())),
                        _ => {
                            let inner = object.remove(&key).expect("it is there");
                            object.insert(key.to_uppercase(), inner);
                        }
                    }
                    self.replacement = "";
                }
            }
            Value::Array(items) => {
                for inner in items.iter_mut() {
                    was_any = true;
                    if self.left == 0 {
                        return true;
                    }
                    self.left -= 1;
                    if self.left == 0 && !self.replacement.is_empty() {
                        *inner = MARK.into();
                        self.replacement = "";
                        return true;
                    }
                    self.visit(inner);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        was_any
    }
}

/// Changes a few bytes: flips, inserts, removes, repeats, cuts.
pub(crate) fn wire(bytes: &mut Vec<u8>, entropy: &mut Entropy<'_>) {
    for _ in 0..1 + entropy.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = entropy.below(bytes.len());
        match entropy.below(6) {
            0 => bytes[at] ^= 1 << entropy.below(8),
            1 => bytes[at] = entropy.byte(),
            2 => bytes.insert(at, entropy.byte()),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
        }
    }
}
