//! Random messages out of random bytes: fewer or smaller bytes make a simpler message, so that what fails shrinks.

use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MapKey;
use prost_reflect::MessageDescriptor;
use prost_reflect::ReflectMessage as _;
use prost_reflect::Value;

/// Random bytes that run out into zeros.
pub(crate) struct Entropy<'b> {
    bytes: std::slice::Iter<'b, u8>,
}

impl<'b> Entropy<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or_default()
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let wide = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())) % end
    }

    pub(crate) fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }
}

/// How deeply messages nest.
const DEPTH_MAX: usize = 3;

pub(crate) fn message(
    descriptor: &MessageDescriptor,
    entropy: &mut Entropy<'_>,
    depth: usize,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let ends = [-62_135_596_800, 253_402_300_799, 0, 1_767_225_600];
            let seconds = *entropy.pick(&ends) + i64::from(entropy.byte()) * 86_399;
            time(&mut message, seconds, *entropy.pick(&[0, 1, 500_000_000, 999_999_999, 123_000]));
        }
        "google.protobuf.Duration" => {
            let seconds = *entropy.pick(&[0, 1, -1, 315_576_000_000, -90]);
            let nanos = *entropy.pick(&[0, 5, 500_000_000, 1, 20_000]);
            time(&mut message, seconds, if seconds < 0 { -nanos } else { nanos });
        }
        "google.protobuf.FieldMask" => {
            let names = ["a", "foo_bar", "a.b_c", "x1", "fooBar", "foo_1"];
            let paths = (0..entropy.below(4)).map(|_| (*entropy.pick(&names)).to_owned());
            let paths: Vec<Value> = paths.map(Value::String).collect();
            message.set_field_by_name("paths", Value::List(paths));
        }
        "google.protobuf.Any" => any(&mut message, entropy, depth),
        _ => fields(&mut message, entropy, depth),
    }
    message
}

fn time(message: &mut DynamicMessage, seconds: i64, nanos: i32) {
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
}

fn any(message: &mut DynamicMessage, entropy: &mut Entropy<'_>, depth: usize) {
    let pool = message.descriptor().parent_pool().clone();
    let all: Vec<MessageDescriptor> =
        pool.all_messages().filter(|message| !message.is_map_entry()).collect();
    let inner = entropy.pick(&all);
    let content = if depth < DEPTH_MAX {
        self::message(inner, entropy, depth + 1).encode_to_vec()
    } else {
        Vec::new()
    };
    let url = format!("type.googleapis.com/{}", inner.full_name());
    message.set_field_by_name("type_url", Value::String(url));
    message.set_field_by_name("value", Value::Bytes(content.into()));
}

fn fields(message: &mut DynamicMessage, entropy: &mut Entropy<'_>, depth: usize) {
    let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
    if fields.is_empty() {
        return;
    }
    // Few of many fields, so that each gets values of its own.
    for _ in 0..1 + entropy.below(6) {
        let field = entropy.pick(&fields);
        if field.kind().as_message().is_some() && depth >= DEPTH_MAX {
            continue;
        }
        let value = if field.is_map() {
            map(field, entropy, depth)
        } else if field.is_list() {
            let kind = field.kind();
            Value::List((0..entropy.below(4)).map(|_| value(&kind, entropy, depth)).collect())
        } else {
            value(&field.kind(), entropy, depth)
        };
        message.set_field(field, value);
    }
}

fn map(field: &FieldDescriptor, entropy: &mut Entropy<'_>, depth: usize) -> Value {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map has entries");
    let (key_kind, value_kind) =
        (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let entries = (0..entropy.below(4)).map(|_| {
        let key = match value(&key_kind, entropy, depth) {
            Value::Bool(key) => MapKey::Bool(key),
            Value::I32(key) => MapKey::I32(key),
            Value::I64(key) => MapKey::I64(key),
            Value::U32(key) => MapKey::U32(key),
            Value::U64(key) => MapKey::U64(key),
            Value::String(key) => MapKey::String(key),
            Value::F32(_)
            | Value::F64(_)
            | Value::Bytes(_)
            | Value::EnumNumber(_)
            | Value::Message(_)
            | Value::List(_)
            | Value::Map(_) => unreachable!("{key_kind:?} is no kind of keys"),
        };
        (key, value(&value_kind, entropy, depth))
    });
    Value::Map(entries.collect())
}

fn value(kind: &Kind, entropy: &mut Entropy<'_>, depth: usize) -> Value {
    let word = match entropy.below(8) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => 1 << 31,
        4 => 1 << 63,
        5 => u64::from(entropy.byte()),
        6 => i64::MAX.cast_unsigned(),
        _ => entropy.word(),
    };
    let low = u32::try_from(word & u64::from(u32::MAX)).expect("the low bits");
    match kind {
        Kind::Double => Value::F64(*entropy.pick(&[
            0.0,
            -0.0,
            1.5,
            1e300,
            -1e-300,
            0.1,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e21,
            123_456_789.0,
        ])),
        Kind::Float => Value::F32(*entropy.pick(&[
            0.0,
            -0.0,
            1.5,
            0.1,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ])),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(low.cast_signed()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(word.cast_signed()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(low),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(word),
        Kind::Bool => Value::Bool(word & 1 == 1),
        Kind::String => Value::String(text(entropy)),
        Kind::Bytes => {
            let length = entropy.below(12);
            Value::Bytes((0..length).map(|_| entropy.byte()).collect::<Vec<u8>>().into())
        }
        Kind::Enum(descriptor) => {
            let numbers: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
            let number = *entropy.pick(&numbers);
            Value::EnumNumber(if entropy.below(10) == 9 { low.cast_signed() } else { number })
        }
        Kind::Message(inner) => Value::Message(message(inner, entropy, depth + 1)),
    }
}

fn text(entropy: &mut Entropy<'_>) -> String {
    let pieces = [
        "",
        "a",
        "\"",
        "\\",
        "\n",
        "\0",
        "é",
        "😀",
        "longer than eight bytes",
        "\u{7f}",
        "\u{2028}",
        "/",
    ];
    (0..entropy.below(5)).map(|_| *entropy.pick(&pieces)).collect()
}
