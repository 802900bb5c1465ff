//! Limits of fields in JSON Schema's words. What it has no word for (a time in the future, bytes of a text) is told by the widest that
//! it has, or by the comment alone: a schema never refuses what a service takes.

use super::schemas::Behavior;
use crate::limits::Limits;
use crate::limits::TextFormat;
use crate::names;
use prost_reflect::EnumDescriptor;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The limits of a field. A rule that nobody knows says nothing: that there is none is for a test to see.
pub(super) fn of(field: &FieldDescriptor) -> Limits {
    Limits::of(field).ok().flatten().unwrap_or_default()
}

/// Adds the limits of one value to its schema.
pub(super) fn constrain_value(
    schema: &mut Value,
    kind: &Kind,
    limits: &Limits,
    behavior: Option<Behavior>,
) {
    let Value::Object(entries) = schema else { return };
    // Proto3 has no text, list or enum that is there and empty.
    let is_required = behavior.is_some_and(|said| said.is_required);
    match kind {
        Kind::String => text(entries, limits, is_required),
        Kind::Enum(descriptor) => {
            let mut refused = limits.refused_numbers.clone();
            if is_required && !refused.contains(&0) {
                refused.push(0);
            }
            enumeration(entries, descriptor, &refused);
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask" => {
            mask(entries, &limits.paths);
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            if limits.seconds_min.is_some_and(|least| least >= 0) {
                entries.insert("pattern".to_owned(), r"^[0-9]{1,12}(\.[0-9]{1,9})?s$".into());
            }
        }
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64 => {
            if let Some(least) = limits.min {
                entries.insert("minimum".to_owned(), least.into());
            }
        }
        Kind::Bool | Kind::Bytes | Kind::Message(_) => {}
    }
}

/// Adds the limits of a list to its schema.
pub(super) fn constrain_list(schema: &mut Value, limits: &Limits, is_required: bool) {
    let least = limits.items_min.or_else(|| is_required.then_some(1));
    for (word, limit) in [("minItems", least), ("maxItems", limits.items_max)] {
        if let Some(limit) = limit {
            schema[word] = limit.into();
        }
    }
}

fn text(schema: &mut Map<String, Value>, limits: &Limits, is_required: bool) {
    let mut rules = Map::new();
    of_text(&mut rules, limits, is_required);
    let refuses_nothing = ["minLength", "pattern", "format", "not"];
    let refuses_nothing = refuses_nothing.iter().any(|word| rules.contains_key(*word));
    if limits.takes_zero && !is_required && refuses_nothing {
        // Which says as much as leaving it out, or that it is to be cleared.
        schema.insert("anyOf".to_owned(), json!([{"const": ""}, rules]));
    } else {
        schema.extend(rules);
    }
}

fn of_text(schema: &mut Map<String, Value>, limits: &Limits, is_required: bool) {
    let least = limits.chars_min.or_else(|| is_required.then_some(1));
    // A text of so many bytes has no more characters.
    let most = match (limits.chars_max, limits.bytes_max) {
        (Some(chars), Some(bytes)) => Some(chars.min(bytes)),
        (chars, bytes) => chars.or(bytes),
    };
    for (word, limit) in [("minLength", least), ("maxLength", most)] {
        if let Some(limit) = limit {
            schema.insert(word.to_owned(), limit.into());
        }
    }
    if let Some(pattern) = &limits.pattern {
        schema.insert("pattern".to_owned(), pattern.as_str().into());
    }
    let format = limits.format.map(|format| match format {
        TextFormat::Email => "email",
        TextFormat::Uuid => "uuid",
    });
    if let Some(format) = format {
        schema.insert("format".to_owned(), format.into());
    }
    if !limits.refused_texts.is_empty() {
        schema.insert("not".to_owned(), json!({"enum": limits.refused_texts}));
    }
}

fn enumeration(schema: &mut Map<String, Value>, descriptor: &EnumDescriptor, refused: &[i32]) {
    let names = refused.iter().filter_map(|number| descriptor.get_value(*number));
    let names: Vec<String> = names.map(|value| value.name().to_owned()).collect();
    if !names.is_empty() {
        schema.insert("not".to_owned(), json!({"enum": names}));
    }
}

/// The paths of a mask in camelCase, joined by commas; `*` stands alone.
fn mask(schema: &mut Map<String, Value>, paths: &[String]) {
    let named = paths.iter().filter(|path| *path != "*").filter_map(|path| {
        let mut camel = String::new();
        names::put_camel(&mut camel, path)?;
        Some(camel)
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        return;
    }
    let path = format!("({})", named.join("|").replace('.', r"\."));
    let all = if paths.iter().any(|path| path == "*") { r"\*|" } else { "" };
    let pattern = format!("^({all}{path}(,{path})*)?$");
    schema.insert("pattern".to_owned(), pattern.into());
}

/// The pattern of one segment of a resource name, of which the whole pattern is known: `^a/b[0-9]{3}$` is `^b[0-9]{3}$` for the second.
/// None if the pattern is no list of segments as long as it has to be.
pub(super) fn of_segment(pattern: &str, at: usize, segments: usize) -> Option<String> {
    let whole = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let parts: Vec<&str> = whole.split('/').collect();
    let is_whole = |part: &&str| {
        let count = |wanted| part.matches(wanted).count();
        count('(') == count(')') && count('[') == count(']') && count('{') == count('}')
    };
    if parts.len() != segments || !parts.iter().all(is_whole) {
        return None;
    }
    Some(format!("^{}$", parts[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_names_pattern_is_told_segment_by_segment_or_not_at_all() {
        let name = "^users/(me|usr_[0-9a-f]{32})/sessions/ses_[0-9a-f]{32}$";
        assert_eq!(of_segment(name, 1, 4).as_deref(), Some("^(me|usr_[0-9a-f]{32})$"));
        assert_eq!(of_segment(name, 3, 4).as_deref(), Some("^ses_[0-9a-f]{32}$"));
        for (pattern, segments) in [(name, 3), ("users/x", 2), ("^(a/b|c)/d$", 3), ("^a/[^/]$", 3)]
        {
            assert_eq!(of_segment(pattern, 0, segments), None, "{pattern}");
        }
    }
}
