//! Values of a field at its limits, and just beyond them.

use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::Value;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::Timestamp;
use transcode::Limits;
use transcode::TextFormat;

/// What only a service makes: any other text is refused, however long it is.
const OPAQUE: [&str; 2] = ["page_token", "resume_token"];
/// A moment that is in the future for as long as anyone tests this.
const FUTURE_SECONDS: i64 = 7_258_118_400;
const UNDECLARED: i32 = 9_999;

/// What a refusal has to name the field for. `given` is what the request has there otherwise.
pub(super) fn beyond(
    field: &FieldDescriptor,
    limits: &Limits,
    given: Option<&Value>,
    is_required: bool,
) -> Vec<Value> {
    if field.is_list() {
        let mut lists = Vec::new();
        if let Some(most) = limits.items_max {
            lists.push(Value::List(items(field, most + 1)));
        }
        if limits.items_min.is_some() || is_required {
            lists.push(Value::List(Vec::new()));
        }
        if let Some(of_items) = &limits.items {
            let first = given.and_then(Value::as_list).and_then(<[Value]>::first).cloned();
            let wrong = of_one(field, of_items, first.as_ref(), true);
            lists.extend(wrong.into_iter().map(|item| Value::List(vec![item])));
        }
        return lists;
    }
    of_one(field, limits, given, is_required)
}

fn of_one(
    field: &FieldDescriptor,
    limits: &Limits,
    given: Option<&Value>,
    is_required: bool,
) -> Vec<Value> {
    match field.kind() {
        Kind::String => {
            let given = given.and_then(Value::as_str).unwrap_or_default();
            let texts = texts_beyond(field.name(), limits, given, is_required);
            texts.into_iter().map(Value::String).collect()
        }
        Kind::Enum(_) => {
            let undeclared = limits.is_declared.then_some(UNDECLARED);
            let zero = is_required.then_some(0);
            let numbers = limits.refused_numbers.iter().copied().chain(undeclared).chain(zero);
            numbers.map(Value::EnumNumber).collect()
        }
        Kind::Int32 => {
            let below = limits.min.and_then(|least| i32::try_from(least - 1).ok());
            below.map(Value::I32).into_iter().collect()
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => {
                let below = limits.seconds_min.map(|least| least - 1);
                let above = limits.seconds_max.map(|most| most + 1);
                below.into_iter().chain(above).map(|seconds| timed(field, seconds)).collect()
            }
            "google.protobuf.Timestamp" => {
                let past = limits.is_future.then_some(1);
                limits.after.into_iter().chain(past).map(|at| timed(field, at)).collect()
            }
            "google.protobuf.FieldMask" => vec![mask(field, "nope")],
            other => panic!("{other} has limits that no test knows"),
        },
        other @ (Kind::Double
        | Kind::Float
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bool
        | Kind::Bytes) => panic!("{other:?} has limits that no test knows"),
    }
}

/// What a refusal may not name the field for.
pub(super) fn within(
    field: &FieldDescriptor,
    limits: &Limits,
    given: Option<&Value>,
) -> Vec<Value> {
    let mut values: Vec<Value> = given.cloned().into_iter().collect();
    if field.is_list() {
        values.extend(limits.items_max.map(|most| Value::List(items(field, most))));
        if field.kind() == Kind::String
            && let Some(of_items) = &limits.items
        {
            let items = texts_within(field.name(), of_items);
            values.extend(items.into_iter().map(|text| Value::List(vec![Value::String(text)])));
        }
        return values;
    }
    match field.kind() {
        Kind::String if OPAQUE.contains(&field.name()) => values.clear(),
        Kind::String => {
            values.extend(texts_within(field.name(), limits).into_iter().map(Value::String));
        }
        Kind::Enum(descriptor) => {
            let numbers = descriptor.values().map(|value| value.number());
            let taken = numbers.filter(|number| *number != 0);
            values.extend(taken.map(Value::EnumNumber));
        }
        Kind::Int32 => {
            let least = limits.min.and_then(|least| i32::try_from(least).ok());
            values.extend(least.map(Value::I32));
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => {
                let ends = limits.seconds_min.into_iter().chain(limits.seconds_max);
                values.extend(ends.map(|seconds| timed(field, seconds)));
            }
            "google.protobuf.Timestamp" => {
                let future = limits.is_future.then_some(FUTURE_SECONDS);
                let ends = limits.after.map(|after| after + 1).into_iter().chain(future);
                values.extend(ends.map(|seconds| timed(field, seconds)));
            }
            "google.protobuf.FieldMask" => {
                values.extend(limits.paths.iter().map(|path| mask(field, path)));
            }
            other => panic!("{other} has limits that no test knows"),
        },
        other @ (Kind::Double
        | Kind::Float
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bool
        | Kind::Bytes) => panic!("{other:?} has limits that no test knows"),
    }
    values
}

/// A value for people: what is long is cut.
pub(super) fn shown(value: &Value) -> String {
    let text = format!("{value:?}");
    let cut: String = text.chars().take(80).collect();
    format!("{cut} ({} characters)", text.chars().count())
}

fn texts_beyond(name: &str, limits: &Limits, given: &str, is_required: bool) -> Vec<String> {
    let count = |length: u64| usize::try_from(length).expect("a limit that memory has");
    let mut texts = limits.refused_texts.clone();
    if let Some(least) = limits.chars_min.filter(|least| *least > 1) {
        texts.push(fill(name, count(least) - 1, 'ä'));
    }
    if let Some(most) = limits.chars_max {
        texts.push(fill(name, count(most) + 1, 'x'));
    }
    if let Some(most) = limits.bytes_max {
        texts.push(fill(name, count(most) + 1, 'x'));
    }
    if let Some(pattern) = &limits.pattern {
        let pattern = regex::Regex::new(pattern).expect("a pattern in RE2's syntax");
        assert!(given.is_empty() || pattern.is_match(given), "{name}: {given} is no example");
        let shorter = given.get(1..).unwrap_or_default();
        let misfits = [
            "!".to_owned(),
            "a b".to_owned(),
            "a\u{7}b".to_owned(),
            "a\u{85}b".to_owned(),
            "a/b/c".to_owned(),
            "a".repeat(65),
            shorter.to_owned(),
            given.to_uppercase(),
            format!("{given}/"),
            format!("{given}\n"),
            format!(" {given}"),
        ];
        texts
            .extend(misfits.into_iter().filter(|text| !text.is_empty() && !pattern.is_match(text)));
    }
    let misfits: &[&str] = match limits.format {
        Some(TextFormat::Email) => &["ada", "ada@", "@example.com", "a b@example.com"],
        Some(TextFormat::Uuid) => &["x", "7f3c", "7f3c1e9a-0000-4000-8000-00000000000g"],
        None => &[],
    };
    texts.extend(misfits.iter().map(|text| (*text).to_owned()));
    let is_empty_refused = is_required || limits.chars_min.is_some_and(|least| least > 0);
    texts.extend(is_empty_refused.then(String::new));
    texts
}

fn texts_within(name: &str, limits: &Limits) -> Vec<String> {
    let count = |length: u64| usize::try_from(length).expect("a limit that memory has");
    let pattern =
        limits.pattern.as_ref().map(|text| regex::Regex::new(text).expect("RE2's syntax"));
    // Characters are counted, not bytes.
    let wide = |length: u64| {
        let text = fill(name, count(length), 'ä');
        let is_taken = pattern.as_ref().is_none_or(|pattern| pattern.is_match(&text));
        if is_taken { text } else { fill(name, count(length), 'x') }
    };
    let mut texts: Vec<String> = match limits.format {
        Some(TextFormat::Email) => vec!["ada@example.com".to_owned()],
        Some(TextFormat::Uuid) => vec![uuid::Uuid::new_v4().to_string()],
        None => Vec::new(),
    };
    texts.extend(limits.chars_min.map(wide));
    texts.extend(limits.chars_max.map(wide));
    texts.extend(limits.bytes_max.map(|most| fill(name, count(most), 'x')));
    texts
}

/// A text of this field with so many characters, which are bytes too unless `filler` is more than one.
fn fill(name: &str, length: usize, filler: char) -> String {
    let pad = |start: &str, end: &str| {
        let missing = length.saturating_sub(start.len() + end.len());
        format!("{start}{}{end}", filler.to_string().repeat(missing))
    };
    match name {
        "destination_uri" | "expired_destination_uri" => pad("https://example.com/", ""),
        "filter" => format!("{:<length$}", "slug = \"x\""),
        "host" | "domain" => host(length),
        "email" => {
            let local = "x".repeat(64);
            format!("{local}@{}", host(length.saturating_sub(local.len() + 1)))
        }
        "password" | "old_password" | "new_password" => {
            "abcdefgh".chars().cycle().take(length).collect()
        }
        _ => pad("", ""),
    }
}

/// A host of so many bytes, its labels as long as they may be.
fn host(length: usize) -> String {
    let mut host = "x".repeat(length);
    for at in (63..length.saturating_sub(1)).step_by(64) {
        host.replace_range(at..=at, ".");
    }
    host
}

/// Items of a list that has no limit but their number: of a text one that is taken, of messages empty ones, which are refused one by one.
fn items(field: &FieldDescriptor, count: u64) -> Vec<Value> {
    let workspace_of = |number: u64| match field.name() {
        "links" => format!("workspaces/wsp_{:032x}/links/lnk_{number:032x}", 0),
        _ => format!("item {number}"),
    };
    let item = |number: u64| {
        if let Kind::Message(message) = field.kind() {
            return Value::Message(DynamicMessage::new(message));
        }
        Value::String(workspace_of(number))
    };
    (0..count).map(item).collect()
}

/// A duration or a timestamp: on the wire they are alike.
fn timed(field: &FieldDescriptor, seconds: i64) -> Value {
    let bytes = Timestamp { seconds, nanos: 0 }.encode_to_vec();
    let kind = field.kind();
    let message = kind.as_message().expect("a well-known type").clone();
    Value::Message(DynamicMessage::decode(message, bytes.as_slice()).expect("two numbers"))
}

fn mask(field: &FieldDescriptor, path: &str) -> Value {
    let kind = field.kind();
    let mut mask = DynamicMessage::new(kind.as_message().expect("a mask").clone());
    mask.set_field_by_name("paths", Value::List(vec![Value::String(path.to_owned())]));
    Value::Message(mask)
}
