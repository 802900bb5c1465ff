//! JSON Schemas of messages and enums, as their ProtoJSON is: 64-bit integers as strings, enums by name, well-known types as what
//! they are in JSON.

use super::comments::Comments;
use super::limits;
use crate::limits::is_one_required;
use prost_reflect::Cardinality;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::EnumDescriptor;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value as Reflected;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

/// Members of a oneof whose exclusion is spelled out, pair by pair; of more only the description tells.
const ONEOF_MEMBERS_MAX: usize = 4;

// Values of `google.api.FieldBehavior`.
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const IMMUTABLE: i32 = 5;
const IDENTIFIER: i32 = 8;

/// The schemas of a document, made as they are asked for.
pub(super) struct Schemas<'c> {
    pub(super) components: BTreeMap<String, Value>,
    comments: &'c Comments,
    /// How many types have a name without its package.
    names: HashMap<String, usize>,
    /// The requests that are no answers too: the full names of their types.
    requests: HashSet<String>,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// An answer. It may have more fields at any time.
    Answer,
    /// A request, or a resource that is created: what clients send, whose unknown fields are refused.
    Request,
    /// The resource of a PATCH, of which only a part is sent.
    Patch,
}

impl<'c> Schemas<'c> {
    pub(super) fn new(pool: &DescriptorPool, comments: &'c Comments) -> Self {
        let mut names: HashMap<String, usize> = HashMap::new();
        let messages = pool.all_messages().map(|it| short(it.package_name(), it.full_name()));
        let enums = pool.all_enums().map(|it| short(it.package_name(), it.full_name()));
        for name in messages.chain(enums) {
            *names.entry(name).or_default() += 1;
        }
        for own in super::errors::SCHEMAS {
            *names.entry(own.to_owned()).or_default() += 1;
        }
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let methods: Vec<_> = methods.collect();
        let mut requests: HashSet<String> =
            methods.iter().map(|method| method.input().full_name().to_owned()).collect();
        for method in methods {
            requests.remove(method.output().full_name());
        }
        Self { components: BTreeMap::new(), comments, names, requests }
    }

    /// A schema for a message: a reference, or what a well-known type is.
    pub(super) fn message(&mut self, message: &MessageDescriptor, used: Use) -> Value {
        if let Some(known) = well_known(message) {
            return known;
        }
        let mut name = self.name(message.package_name(), message.full_name());
        match used {
            Use::Answer => {}
            Use::Request if self.requests.contains(message.full_name()) => {}
            Use::Request => name.push_str("Input"),
            Use::Patch => name.push_str("Patch"),
        }
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if !self.components.contains_key(&name) {
            // Taken before its fields are looked at: messages may refer to each other in circles.
            self.components.insert(name.clone(), Value::Null);
            let schema = self.object(message, used, &[]);
            self.components.insert(name, schema);
        }
        reference
    }

    /// The object that a message is, without some of its fields.
    pub(super) fn object(
        &mut self,
        message: &MessageDescriptor,
        used: Use,
        without: &[String],
    ) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields() {
            let said = behavior(&field);
            let is_sent = match used {
                Use::Answer => true,
                Use::Request => !said.is_output_only && !said.is_identifier,
                Use::Patch => said.is_changeable(),
            };
            if !is_sent || without.iter().any(|name| name == field.name()) {
                continue;
            }
            let name = field.json_name().to_owned();
            if said.is_required && used != Use::Patch {
                required.push(name.clone());
            }
            properties.insert(name, self.field(&field, used));
        }
        let mut schema = json!({"type": "object", "properties": properties});
        let comment = self.comments.of(&message.parent_file(), message.path());
        describe(&mut schema, comment);
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if used != Use::Answer {
            schema["additionalProperties"] = false.into();
        }
        let exclusions = exclusions(message, without);
        if !exclusions.is_empty() {
            schema["allOf"] = exclusions.into();
        }
        schema
    }

    /// The schema of a field, with what its comment and its options say.
    pub(super) fn field(&mut self, field: &FieldDescriptor, used: Use) -> Value {
        let (stated, behavior) = (limits::of(field), behavior(field));
        let mut schema = if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().expect("a map is of entries");
            let values = self.value(&entry.map_entry_value_field(), used);
            json!({"type": "object", "additionalProperties": values})
        } else if field.cardinality() == Cardinality::Repeated {
            let mut items = self.value(field, used);
            let of_items = stated.items.as_deref().cloned().unwrap_or_default();
            limits::constrain_value(&mut items, &field.kind(), &of_items, None);
            let mut list = json!({"type": "array", "items": items});
            limits::constrain_list(&mut list, &stated, behavior.is_required);
            list
        } else {
            let mut value = self.value(field, used);
            limits::constrain_value(&mut value, &field.kind(), &stated, Some(behavior));
            value
        };
        let comment = self.comments.of(&field.parent_message().parent_file(), field.path());
        let note = if behavior.is_immutable { "Can't be changed afterwards." } else { "" };
        describe(&mut schema, &paragraphs(comment, note));
        if behavior.is_output_only || behavior.is_identifier {
            schema["readOnly"] = true.into();
        }
        if flag(&field.options(), "deprecated") {
            schema["deprecated"] = true.into();
        }
        let is_secret = flag(&field.options(), "debug_redact") && field.kind() == Kind::String;
        if is_secret && schema.get("format").is_none() {
            schema["format"] = "password".into();
        }
        schema
    }

    /// The schema of one value of a field, without what is said of the field.
    pub(super) fn value(&mut self, field: &FieldDescriptor, used: Use) -> Value {
        let kind = field.kind();
        if let Some(message) = kind.as_message() {
            return self.message(message, used);
        }
        match kind.as_enum() {
            Some(descriptor) => self.enumeration(descriptor),
            None => scalar(&kind),
        }
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor) -> Value {
        if descriptor.full_name() == "google.protobuf.NullValue" {
            return json!({"type": "null"});
        }
        let name = self.name(descriptor.package_name(), descriptor.full_name());
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if self.components.contains_key(&name) {
            return reference;
        }
        let file = descriptor.parent_file();
        let values: Vec<_> = descriptor.values().collect();
        let said = values.iter().filter_map(|value| {
            let comment = self.comments.of(&file, value.path());
            (!comment.is_empty()).then(|| format!("- `{}`: {comment}", value.name()))
        });
        let said = said.collect::<Vec<_>>().join("\n");
        let comment = paragraphs(self.comments.of(&file, descriptor.path()), &said);
        let names: Vec<&str> = values.iter().map(|value| value.name()).collect();
        let mut schema = json!({"type": "string", "enum": names});
        describe(&mut schema, &comment);
        self.components.insert(name, schema);
        reference
    }

    fn name(&self, package: &str, full_name: &str) -> String {
        let short = short(package, full_name);
        let is_unique = self.names.get(&short).is_some_and(|count| *count == 1);
        if is_unique { short } else { full_name.to_owned() }
    }
}

fn short(package: &str, full_name: &str) -> String {
    full_name.strip_prefix(package).unwrap_or(full_name).trim_start_matches('.').to_owned()
}

/// Two texts as paragraphs; either may be empty.
pub(super) fn paragraphs(first: &str, second: &str) -> String {
    if first.is_empty() || second.is_empty() {
        return format!("{first}{second}");
    }
    format!("{first}\n\n{second}")
}

fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = text.into();
    }
}

/// What `google.api.field_behavior` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behavior {
    pub(super) is_required: bool,
    pub(super) is_output_only: bool,
    is_immutable: bool,
    is_identifier: bool,
}

impl Behavior {
    fn is_changeable(self) -> bool {
        !self.is_output_only && !self.is_immutable && !self.is_identifier
    }
}

pub(super) fn behavior(field: &FieldDescriptor) -> Behavior {
    let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
    let options = field.options();
    let values = extension.as_ref().map(|extension| options.get_extension(extension));
    let list = values.as_deref().and_then(Reflected::as_list).unwrap_or_default();
    let has = |wanted| list.iter().filter_map(Reflected::as_enum_number).any(|it| it == wanted);
    Behavior {
        is_required: has(REQUIRED),
        is_output_only: has(OUTPUT_ONLY),
        is_immutable: has(IMMUTABLE),
        is_identifier: has(IDENTIFIER),
    }
}

/// Whether a bool of an options message is set.
pub(super) fn flag(options: &DynamicMessage, name: &str) -> bool {
    options.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or(false)
}

/// No two members of a oneof are there at once, and one of them where its proto says so.
fn exclusions(message: &MessageDescriptor, without: &[String]) -> Vec<Value> {
    let mut exclusions = Vec::new();
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let members: Vec<FieldDescriptor> = oneof
            .fields()
            .filter(|field| !without.iter().any(|name| name == field.name()))
            .collect();
        if is_one_required(&oneof) {
            let each = members.iter().map(|member| json!({"required": [member.json_name()]}));
            exclusions.push(json!({"anyOf": each.collect::<Value>()}));
        }
        if members.len() > ONEOF_MEMBERS_MAX {
            continue;
        }
        for (at, one) in members.iter().enumerate() {
            for other in &members[at + 1..] {
                let (one, other) = (one.json_name(), other.json_name());
                let both = json!({"properties": {one: {}, other: {}}, "required": [one, other]});
                exclusions.push(json!({"not": both}));
            }
        }
    }
    exclusions
}

/// What a scalar is in ProtoJSON.
fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte", "contentEncoding": "base64"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32"})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX})
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => {
            json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"})
        }
        Kind::Double | Kind::Float => {
            let format = if *kind == Kind::Double { "double" } else { "float" };
            json!({"anyOf": [
                {"type": "number", "format": format},
                {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
            ]})
        }
        Kind::Message(_) | Kind::Enum(_) => json!({}),
    }
}

/// What a well-known type is in ProtoJSON; none for any other.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    let nullable = |mut schema: Value| {
        schema["type"] = json!([schema["type"].clone(), "null"]);
        schema
    };
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => {
            json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["1.500s"]})
        }
        "google.protobuf.FieldMask" => json!({
            "type": "string",
            "pattern": r"^(\*|[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*(,[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*)*)?$",
        }),
        "google.protobuf.Struct" => json!({"type": "object"}),
        "google.protobuf.Value" => json!({}),
        "google.protobuf.ListValue" => json!({"type": "array", "items": {}}),
        "google.protobuf.Empty" => json!({"type": "object"}),
        "google.protobuf.Any" => json!({
            "type": "object",
            "properties": {"@type": {"type": "string", "description": "The message's type, as a URL."}},
            "required": ["@type"],
            "additionalProperties": true,
        }),
        "google.protobuf.BoolValue" => nullable(scalar(&Kind::Bool)),
        "google.protobuf.StringValue" => nullable(scalar(&Kind::String)),
        "google.protobuf.BytesValue" => nullable(scalar(&Kind::Bytes)),
        "google.protobuf.Int32Value" => nullable(scalar(&Kind::Int32)),
        "google.protobuf.UInt32Value" => nullable(scalar(&Kind::Uint32)),
        "google.protobuf.Int64Value" => nullable(scalar(&Kind::Int64)),
        "google.protobuf.UInt64Value" => nullable(scalar(&Kind::Uint64)),
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => {
            json!({"type": ["number", "string", "null"]})
        }
        _ => return None,
    })
}
