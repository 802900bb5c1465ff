//! The tables, from descriptors. This is the only place that reads them.

use super::Behavior;
use super::DENSE_END;
use super::Enum;
use super::EnumId;
use super::Field;
use super::Form;
use super::Kind;
use super::Message;
use super::MessageId;
use super::Schema;
use super::Shape;
use crate::to_json::text;
use crate::wire::Tag;
use crate::wire::WireType;
use prost_reflect::Cardinality;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::EnumDescriptor;
use prost_reflect::ExtensionDescriptor;
use prost_reflect::FieldDescriptor;
use prost_reflect::MessageDescriptor;
use prost_reflect::OneofDescriptor;
use prost_reflect::Value;
use std::collections::HashMap;

/// `google.rpc.Status` and the standard details of errors, which no file of an API imports: without them an error's
/// details could not be written. Made of googleapis' protos; a test compares it with them.
const GOOGLE_RPC: &[u8] = include_bytes!("google_rpc.bin");

/// Values of `google.api.FieldBehavior`.
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const IDENTIFIER: i32 = 8;

impl Schema {
    /// Compiles every message of a pool, extensions included, and those of `google.rpc` that it lacks.
    #[must_use]
    pub fn new(pool: &DescriptorPool) -> Self {
        let mut builder = Builder::default();
        builder.add(pool);
        let rpc = DescriptorPool::decode(GOOGLE_RPC).expect("a test compares it with its source");
        builder.add(&rpc);
        Self { messages: builder.messages, enums: builder.enums, ids: builder.message_ids }
    }
}

#[derive(Default)]
struct Builder {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    message_ids: HashMap<String, MessageId>,
    enum_ids: HashMap<String, EnumId>,
}

impl Builder {
    fn add(&mut self, pool: &DescriptorPool) {
        // Names first: messages may refer to each other in circles.
        let mut added = Vec::new();
        for message in pool.all_messages() {
            if !self.message_ids.contains_key(message.full_name()) {
                self.message_ids
                    .insert(message.full_name().to_owned(), self.messages.len() + added.len());
                added.push(message);
            }
        }
        for descriptor in pool.all_enums() {
            if !self.enum_ids.contains_key(descriptor.full_name()) {
                self.enum_ids.insert(descriptor.full_name().to_owned(), self.enums.len());
                self.enums.push(enum_of(&descriptor));
            }
        }
        for message in added {
            let compiled = self.message(&message);
            self.messages.push(compiled);
        }
        self.spread_required();
    }

    /// From messages to those that hold them, until nothing changes.
    fn spread_required(&mut self) {
        loop {
            let holds = |message: &Message| {
                let mut ids = message.fields.iter().filter_map(|field| field.kind.message_id());
                ids.any(|id| self.messages[id].has_required)
            };
            let found: Vec<MessageId> = (0..self.messages.len())
                .filter(|id| !self.messages[*id].has_required && holds(&self.messages[*id]))
                .collect();
            if found.is_empty() {
                return;
            }
            for id in found {
                self.messages[id].has_required = true;
            }
        }
    }

    fn message(&self, message: &MessageDescriptor) -> Message {
        let oneofs: Vec<OneofDescriptor> =
            message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let mut fields: Vec<Field> =
            message.fields().map(|field| self.field(&field, &oneofs)).collect();
        fields.extend(message.extensions().map(|extension| self.extension(&extension)));
        fields.sort_by_key(|field| field.number);

        let dense_end = fields.iter().map(|field| field.number + 1).filter(|end| *end <= DENSE_END);
        let mut dense = vec![u16::MAX; dense_end.max().unwrap_or(0) as usize];
        let mut by_name = HashMap::default();
        for (index, field) in fields.iter().enumerate() {
            let index = u16::try_from(index).expect("protoc allows no so many fields");
            if field.number < DENSE_END {
                dense[field.number as usize] = index;
            }
            by_name.entry(field.name.clone()).or_insert(index);
        }
        // A JSON name wins over another field's proto name.
        for (index, field) in (0..).zip(&fields) {
            by_name.insert(field.json_name.clone(), index);
        }
        let form = form_of(message.full_name());
        Message {
            name: message.full_name().to_owned(),
            form,
            has_required: fields.iter().any(|field| field.behavior.is_required),
            fields,
            dense,
            by_name,
        }
    }

    fn field(&self, field: &FieldDescriptor, oneofs: &[OneofDescriptor]) -> Field {
        let kind = self.kind(&field.kind());
        let shape = shape_of(field.is_map(), field.cardinality());
        let oneof = field.containing_oneof();
        let oneof = oneofs.iter().position(|candidate| Some(candidate) == oneof.as_ref());
        Field {
            name: field.name().into(),
            json_name: field.json_name().into(),
            key: key_of(field.name()),
            json_key: key_of(field.json_name()),
            has_presence: field.supports_presence(),
            oneof,
            behavior: behavior_of(&field.options(), field.parent_pool()),
            ..plain(field.number(), kind, shape, field.is_packed(), field.is_group())
        }
    }

    fn extension(&self, extension: &ExtensionDescriptor) -> Field {
        let kind = self.kind(&extension.kind());
        let shape = shape_of(extension.is_map(), extension.cardinality());
        Field {
            name: extension.json_name().into(),
            json_name: extension.json_name().into(),
            key: key_of(extension.json_name()),
            json_key: key_of(extension.json_name()),
            // Also of a repeated one: nobody who does not use an extension should see it.
            has_presence: true,
            ..plain(extension.number(), kind, shape, extension.is_packed(), extension.is_group())
        }
    }

    fn kind(&self, kind: &prost_reflect::Kind) -> Kind {
        use prost_reflect::Kind as Descriptor;
        match kind {
            Descriptor::Double => Kind::Double,
            Descriptor::Float => Kind::Float,
            Descriptor::Int32 => Kind::Int32,
            Descriptor::Int64 => Kind::Int64,
            Descriptor::Uint32 => Kind::Uint32,
            Descriptor::Uint64 => Kind::Uint64,
            Descriptor::Sint32 => Kind::Sint32,
            Descriptor::Sint64 => Kind::Sint64,
            Descriptor::Fixed32 => Kind::Fixed32,
            Descriptor::Fixed64 => Kind::Fixed64,
            Descriptor::Sfixed32 => Kind::Sfixed32,
            Descriptor::Sfixed64 => Kind::Sfixed64,
            Descriptor::Bool => Kind::Bool,
            Descriptor::String => Kind::String,
            Descriptor::Bytes => Kind::Bytes,
            Descriptor::Enum(descriptor) => Kind::Enum(self.enum_ids[descriptor.full_name()]),
            Descriptor::Message(message) => Kind::Message(self.message_ids[message.full_name()]),
        }
    }
}

/// A field without what only its descriptor tells.
fn plain(number: u32, kind: Kind, shape: Shape, is_packed: bool, is_group: bool) -> Field {
    let wire_type = if is_group { WireType::GroupStart } else { kind.wire_type() };
    let is_packed = is_packed && shape == Shape::Many && kind.is_packable();
    Field {
        number,
        name: Box::default(),
        json_name: Box::default(),
        key: Box::default(),
        json_key: Box::default(),
        tag: Tag::new(number, wire_type),
        packed_tag: is_packed.then(|| Tag::new(number, WireType::Delimited)),
        end_tag: is_group.then(|| Tag::new(number, WireType::GroupEnd)),
        kind,
        shape,
        has_presence: false,
        oneof: None,
        behavior: Behavior::default(),
    }
}

impl Kind {
    pub(crate) fn wire_type(self) -> WireType {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => WireType::Fixed64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => WireType::Fixed32,
            Self::String | Self::Bytes | Self::Message(_) => WireType::Delimited,
            Self::Int32 | Self::Int64 | Self::Uint32 | Self::Uint64 => WireType::Varint,
            Self::Sint32 | Self::Sint64 | Self::Bool | Self::Enum(_) => WireType::Varint,
        }
    }

    /// Whether it is a varint of which the low 32 bits count.
    pub(crate) fn is_32_bits(self) -> bool {
        matches!(self, Self::Int32 | Self::Uint32 | Self::Sint32 | Self::Enum(_))
    }

    pub(crate) fn is_packable(self) -> bool {
        self.wire_type() != WireType::Delimited
    }
}

fn key_of(name: &str) -> Box<[u8]> {
    let mut key = Vec::new();
    text::put_string(&mut key, name);
    key.push(b':');
    key.into()
}

fn shape_of(is_map: bool, cardinality: Cardinality) -> Shape {
    match cardinality {
        Cardinality::Repeated if is_map => Shape::Map,
        Cardinality::Repeated => Shape::Many,
        Cardinality::Optional | Cardinality::Required => Shape::One,
    }
}

fn form_of(full_name: &str) -> Form {
    match full_name {
        "google.protobuf.Any" => Form::Any,
        "google.protobuf.Timestamp" => Form::Timestamp,
        "google.protobuf.Duration" => Form::Duration,
        "google.protobuf.FieldMask" => Form::FieldMask,
        "google.protobuf.Struct" => Form::Struct,
        "google.protobuf.Value" => Form::Value,
        "google.protobuf.ListValue" => Form::ListValue,
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => Form::Wrapper,
        "google.protobuf.Empty" => Form::Empty,
        "google.api.HttpBody" => Form::HttpBody,
        _ => Form::Fields,
    }
}

fn behavior_of(options: &DynamicMessage, pool: &DescriptorPool) -> Behavior {
    let Some(extension) = pool.get_extension_by_name("google.api.field_behavior") else {
        return Behavior::default();
    };
    let values = options.get_extension(&extension);
    let numbers = values.as_list().unwrap_or_default();
    let has = |wanted| numbers.iter().filter_map(Value::as_enum_number).any(|it| it == wanted);
    Behavior {
        is_required: has(REQUIRED),
        is_output_only: has(OUTPUT_ONLY),
        is_identifier: has(IDENTIFIER),
    }
}

fn enum_of(descriptor: &EnumDescriptor) -> Enum {
    let mut names: Vec<(i32, Box<str>)> = Vec::new();
    let mut numbers = HashMap::default();
    // As declared: of the names that share a number the first is the one that is written.
    let values = &descriptor.enum_descriptor_proto().value;
    for value in values {
        numbers.insert(value.name().into(), value.number());
        if names.iter().all(|(number, _)| *number != value.number()) {
            names.push((value.number(), value.name().into()));
        }
    }
    names.sort_by_key(|(number, _)| *number);
    // Nobody is advised to send "unspecified".
    let named = values.iter().filter(|value| value.number() != 0);
    let told: Vec<String> = named.map(|value| value.name().to_owned()).collect();
    Enum {
        is_null: descriptor.full_name() == "google.protobuf.NullValue",
        names,
        numbers,
        told: told.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The details of errors are of these types: without them Any would have no JSON (R22).
    #[test]
    fn r22_google_rpc_is_known_to_every_schema_as_its_protos_say() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/third_party");
        let mut compiler = protox::Compiler::new([folder]).expect("the folder exists");
        let files =
            ["google/rpc/code.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"];
        compiler.include_imports(true).open_files(files).expect("the protos compile");
        let set = compiler.encode_file_descriptor_set();
        assert!(
            GOOGLE_RPC == set,
            "write what protox makes of {files:?} to src/schema/google_rpc.bin"
        );
        let schema = Schema::new(&DescriptorPool::new());
        for name in [
            "Status",
            "ErrorInfo",
            "RetryInfo",
            "DebugInfo",
            "QuotaFailure",
            "PreconditionFailure",
            "BadRequest",
            "RequestInfo",
            "ResourceInfo",
            "Help",
            "LocalizedMessage",
        ] {
            assert!(schema.message(&format!("google.rpc.{name}")).is_some(), "{name}");
        }
    }
}
