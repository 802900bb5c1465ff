//! Descriptors, compiled: for each message a table of its fields, by number and by name, that says all that is needed to
//! turn JSON into wire bytes and back. Built once, immutable, without reflection afterwards.

mod build;

use crate::wire::Tag;
use crate::wire::WireType;
use std::collections::HashMap;

/// Index of a message in its schema.
pub(crate) type MessageId = usize;
/// Index of an enum in its schema.
pub(crate) type EnumId = usize;

/// The messages of a descriptor pool and those of `google.rpc`, ready to be read and written.
#[derive(Debug)]
pub struct Schema {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    ids: HashMap<String, MessageId>,
}

/// A message type of a [`Schema`]. Only valid for the schema that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageType(pub(crate) MessageId);

#[derive(Debug)]
pub(crate) struct Message {
    /// With its package.
    pub(crate) name: String,
    pub(crate) form: Form,
    /// By ascending number.
    pub(crate) fields: Vec<Field>,
    /// Whether it, or a message within it, has a field that is REQUIRED.
    pub(crate) has_required: bool,
    /// Indices by number, below [`DENSE_END`]; `u16::MAX` is none.
    dense: Vec<u16>,
    by_name: HashMap<Box<str>, u16, rapidhash::fast::RandomState>,
}

/// How a message stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As an object of its fields.
    Fields,
    /// `google.protobuf.Any`: as its content with `@type`.
    Any,
    Timestamp,
    Duration,
    FieldMask,
    /// As any object.
    Struct,
    /// As any value.
    Value,
    /// As any array.
    ListValue,
    /// As the one field that it has, and never null.
    Wrapper,
    /// As an empty object; within an Any it has a `value`, unlike a message with fields.
    Empty,
    /// `google.api.HttpBody`: an object here; a request or a response as a whole is its data, as it is.
    HttpBody,
}

impl Form {
    /// Whether JSON has one string, number or bool for it.
    pub(crate) fn is_scalar(self) -> bool {
        match self {
            Self::Timestamp | Self::Duration | Self::FieldMask | Self::Wrapper => true,
            Self::Fields | Self::Any | Self::Struct | Self::Value | Self::ListValue => false,
            Self::HttpBody | Self::Empty => false,
        }
    }

    /// Whether JSON has an object of its fields for it.
    pub(crate) fn has_fields(self) -> bool {
        matches!(self, Self::Fields | Self::HttpBody)
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// As in the proto; an extension's is in brackets.
    pub(crate) name: Box<str>,
    pub(crate) json_name: Box<str>,
    /// The names as keys: quoted, with a colon.
    pub(crate) key: Box<[u8]>,
    pub(crate) json_key: Box<[u8]>,
    /// Before one value: also of a packed field, whose values may come apart.
    pub(crate) tag: Tag,
    /// Before all values of a packed field.
    pub(crate) packed_tag: Option<Tag>,
    /// Behind a group.
    pub(crate) end_tag: Option<Tag>,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Whether being there with the default value differs from not being there.
    pub(crate) has_presence: bool,
    /// Which of the message's oneofs it is in; a proto3 `optional` is in none.
    pub(crate) oneof: Option<usize>,
    pub(crate) behavior: Behavior,
}

/// What `google.api.field_behavior` says of a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Behavior {
    pub(crate) is_required: bool,
    pub(crate) is_output_only: bool,
    pub(crate) is_identifier: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Many,
    /// Of entries: messages of a key (field 0) and a value (field 1).
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

#[derive(Debug)]
pub(crate) struct Enum {
    /// Whether it is `google.protobuf.NullValue`, which is null in JSON.
    pub(crate) is_null: bool,
    /// By ascending number, the first name of each.
    pub(crate) names: Vec<(i32, Box<str>)>,
    /// Every name, aliases included.
    pub(crate) numbers: HashMap<Box<str>, i32, rapidhash::fast::RandomState>,
    /// Names in the order of the proto, for whoever used another.
    pub(crate) told: String,
}

/// Numbers from here on are searched, not indexed.
const DENSE_END: u32 = 512;

impl Schema {
    /// The message with this full name.
    #[must_use]
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        self.ids.get(full_name).copied().map(MessageType)
    }

    /// The full names of all messages that may be asked for.
    pub fn message_names(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }
}

impl Message {
    #[inline]
    pub(crate) fn index_by_number(&self, number: u32) -> Option<usize> {
        if number < DENSE_END {
            let index = usize::from(*self.dense.get(number as usize)?);
            return (index < self.fields.len()).then_some(index);
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }

    /// The field that a key names, by its JSON name or its proto name. `guess` is where the search begins: keys mostly come in
    /// the order of the fields.
    #[inline]
    pub(crate) fn index_by_name(&self, key: &str, guess: usize) -> Option<usize> {
        if let Some(field) = self.fields.get(guess)
            && *field.json_name == *key
        {
            return Some(guess);
        }
        self.by_name.get(key).map(|index| usize::from(*index))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.index_by_name(name, usize::MAX).map(|index| &self.fields[index])
    }

    /// The names of the fields in JSON, for whoever used another.
    pub(crate) fn json_names(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| &*field.json_name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

impl Kind {
    #[inline]
    pub(crate) fn message_id(self) -> Option<MessageId> {
        if let Self::Message(id) = self { Some(id) } else { None }
    }
}

impl Field {
    /// The message that a field is which holds at most one.
    pub(crate) fn single_message(&self) -> Option<MessageId> {
        self.kind.message_id().filter(|_| self.shape == Shape::One)
    }

    /// Whether a value may be laid out so. Packed and unpacked are taken for any repeated field, whatever its proto says.
    #[inline]
    pub(crate) fn takes(&self, wire_type: WireType) -> bool {
        let own = if self.end_tag.is_some() { WireType::GroupStart } else { self.kind.wire_type() };
        let is_packed = wire_type == WireType::Delimited
            && self.shape == Shape::Many
            && self.kind.is_packable();
        wire_type == own || is_packed
    }
}

impl Enum {
    #[inline]
    pub(crate) fn name_of(&self, number: i32) -> Option<&str> {
        // Most are numbered from 0 without a gap.
        if let Ok(index) = usize::try_from(number)
            && let Some((found, name)) = self.names.get(index)
            && *found == number
        {
            return Some(name);
        }
        let found = self.names.binary_search_by_key(&number, |(number, _)| *number);
        found.ok().map(|index| &*self.names[index].1)
    }
}
