//! A field somewhere in a request, reached through singular messages: how it is found, named and written.

use crate::schema::Field;
use crate::schema::Form;
use crate::schema::Kind;
use crate::schema::Message;
use crate::schema::MessageId;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::wire;

/// From a message down to one of its fields, each by its index in the message before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath {
    root: MessageId,
    indices: Vec<usize>,
}

impl FieldPath {
    /// Follows names; `find` is how a message knows a field by one. None if a name is none, or leads through what is repeated, a
    /// scalar or a well-known type.
    pub(crate) fn resolve<'n>(
        schema: &Schema,
        root: MessageId,
        names: impl Iterator<Item = &'n str>,
        find: impl Fn(&Message, &str) -> Option<usize>,
    ) -> Option<Self> {
        let mut message = Some(root);
        let mut indices = Vec::new();
        for name in names {
            let descriptor = &schema.messages[message?];
            let index = find(descriptor, name)?;
            let field = &descriptor.fields[index];
            let inner = field.single_message();
            message = inner.filter(|id| schema.messages[*id].form == Form::Fields);
            indices.push(index);
        }
        (!indices.is_empty()).then_some(Self { root, indices })
    }

    /// Every field on the way, with the message that it is of.
    pub(crate) fn steps<'s>(
        &self,
        schema: &'s Schema,
    ) -> impl Iterator<Item = (&'s Message, &'s Field)> {
        let mut id = self.root;
        self.indices.iter().map(move |index| {
            let message = &schema.messages[id];
            let field = &message.fields[*index];
            if let Kind::Message(inner) = field.kind {
                id = inner;
            }
            (message, field)
        })
    }

    pub(crate) fn leaf<'s>(&self, schema: &'s Schema) -> &'s Field {
        self.steps(schema).last().expect("a path has a field").1
    }

    /// Index of its first field.
    pub(crate) fn first(&self) -> usize {
        self.indices[0]
    }

    pub(crate) fn is_one_field(&self) -> bool {
        self.indices.len() == 1
    }

    /// The proto names, joined by dots.
    pub(crate) fn name(&self, schema: &Schema) -> String {
        let names: Vec<&str> = self.steps(schema).map(|(_, field)| &*field.name).collect();
        names.join(".")
    }

    pub(crate) fn numbers(&self, schema: &Schema) -> Vec<u32> {
        self.steps(schema).map(|(_, field)| field.number).collect()
    }

    /// Appends the messages on the way, with `leaf` within the innermost. To a message that has them it adds: wire bytes merge
    /// by standing behind each other.
    pub(crate) fn put(&self, schema: &Schema, leaf: &[u8], out: &mut Vec<u8>) {
        let parents: Vec<&Field> = self.steps(schema).map(|(_, field)| field).collect();
        let (_, parents) = parents.split_last().expect("a path has a field");
        let mut marks = Vec::with_capacity(parents.len());
        for parent in parents {
            parent.tag.put(out);
            marks.push(parent.end_tag.is_none().then(|| wire::open(out)));
        }
        out.extend_from_slice(leaf);
        for (parent, mark) in parents.iter().zip(marks).rev() {
            match (mark, &parent.end_tag) {
                (Some(mark), _) => wire::close(out, mark),
                (None, Some(end)) => end.put(out),
                (None, None) => {}
            }
        }
    }

    /// The name of a field that excludes this one, or one on the way to it, and is set in `wire`.
    pub(crate) fn rival(&self, schema: &Schema, wire: &[u8]) -> Option<String> {
        let mut numbers = Vec::new();
        for (message, field) in self.steps(schema) {
            let rivals = message.fields.iter().filter(|other| {
                other.oneof.is_some() && other.oneof == field.oneof && other.number != field.number
            });
            for rival in rivals {
                numbers.push(rival.number);
                if matches!(wire::last_of(wire, &numbers), Ok(Some(_))) {
                    return Some(rival.name.to_string());
                }
                numbers.pop();
            }
            numbers.push(field.number);
        }
        None
    }
}

/// Whether a field's values are written as one JSON string, number or bool each, and so may stand in a path or a query.
pub(crate) fn is_scalar(schema: &Schema, field: &Field) -> bool {
    field
        .kind
        .message_id()
        .is_none_or(|id| field.shape != Shape::Map && schema.messages[id].form.is_scalar())
}
