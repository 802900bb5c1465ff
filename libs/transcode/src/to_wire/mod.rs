//! JSON to wire bytes in one pass: each token is written as it is read, guided by the field tables.
//!
//! Strict: no unknown field, no field twice or under two names, no two members of a oneof. What is wrong with a value is noted
//! and the next one read, so that a client learns of several faults at once; what is no JSON ends it.

mod keys;
mod path;
pub(crate) mod scalar;
mod special;

pub(crate) use path::Path;

use crate::error::TranscodeError;
use crate::error::VIOLATIONS_MAX;
use crate::error::Violation;
use crate::error::short;
use crate::lexer::Malformed;
use crate::lexer::Reader;
use crate::lexer::Token;
use crate::schema::Field;
use crate::schema::Form;
use crate::schema::Kind;
use crate::schema::Message;
use crate::schema::MessageId;
use crate::schema::MessageType;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::wire;
use crate::wire::Tag;
use keys::Keys;
use keys::Seen;

/// How JSON is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether unknown fields and unknown names of enum values are passed over, instead of refused.
    pub ignores_unknown: bool,
    /// Whether fields that `google.api.field_behavior` calls OUTPUT_ONLY are left out (AIP-203), once they are checked.
    pub ignores_output_only: bool,
}

impl Schema {
    /// Reads one JSON value that fills `json`, and appends the message that it is to `out`.
    ///
    /// The length of `json` is the caller's to bound. On an error, what was appended is of no use.
    ///
    /// # Errors
    /// It is no JSON, nests deeper than 100, or fields are unknown, given twice or not of their type.
    pub fn to_wire(
        &self,
        message: MessageType,
        json: &[u8],
        options: ReadOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        read(self, json, options, out, |encoder| {
            let start = encoder.json.position();
            let token = encoder.json.value()?;
            encoder.content(message.0, token, start, &Path::Root)
        })
    }

    /// Reads the value of one field, as [`Schema::to_wire`] reads a message.
    pub(crate) fn field_to_wire<'s>(
        &'s self,
        field: &'s Field,
        json: &[u8],
        options: ReadOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        read(self, json, options, out, |encoder| {
            encoder.field(field, &Path::Field(&Path::Root, &field.name)).map(|_| ())
        })
    }
}

fn read<'s, 'j>(
    schema: &'s Schema,
    json: &'j [u8],
    options: ReadOptions,
    out: &mut Vec<u8>,
    read: impl FnOnce(&mut Encoder<'s, 'j, '_>) -> Result<(), Stop>,
) -> Result<(), TranscodeError> {
    let malformed = |malformed: Malformed| TranscodeError::Malformed(malformed.describe(json));
    let reader = Reader::new(json).map_err(malformed)?;
    let mut encoder = Encoder { schema, options, json: reader, out, violations: Vec::new() };
    let outcome = read(&mut encoder).and_then(|()| Ok(encoder.json.end()?));
    match outcome {
        Err(Stop::Malformed(why)) => Err(malformed(why)),
        Ok(()) if encoder.violations.is_empty() => Ok(()),
        Ok(()) | Err(Stop::Enough) => Err(TranscodeError::Invalid(encoder.violations)),
    }
}

/// Why reading stops before the end.
enum Stop {
    Malformed(Malformed),
    /// There are as many violations as anybody is told of.
    Enough,
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

struct Encoder<'s, 'j, 'o> {
    schema: &'s Schema,
    options: ReadOptions,
    json: Reader<'j>,
    out: &'o mut Vec<u8>,
    violations: Vec<Violation>,
}

impl<'s, 'j> Encoder<'s, 'j, '_> {
    #[cold]
    fn refuse(&mut self, path: &Path<'_>, description: impl Into<String>) -> Result<(), Stop> {
        let description = description.into();
        self.violations.push(Violation { field: path.to_string(), description });
        if self.violations.len() < VIOLATIONS_MAX { Ok(()) } else { Err(Stop::Enough) }
    }

    /// Refuses a value that begins at `start` with `token`, and reads the rest of it.
    #[cold]
    fn refuse_value(
        &mut self,
        path: &Path<'_>,
        start: usize,
        token: &Token<'_>,
        expected: &str,
    ) -> Result<(), Stop> {
        self.json.skip_rest(token)?;
        let found = if let Token::Text(text) = token { text } else { self.json.since(start) };
        let found = short(found).escape_debug().to_string();
        self.refuse(path, format!("must be {expected}, is `{found}`"))
    }

    #[cold]
    fn refuse_shape(
        &mut self,
        path: &Path<'_>,
        token: &Token<'_>,
        expected: &str,
    ) -> Result<(), Stop> {
        self.json.skip_rest(token)?;
        self.refuse(path, format!("must be a JSON {expected}"))
    }

    /// Writes a message without tag and length, given the first token of its JSON.
    fn content(
        &mut self,
        id: MessageId,
        token: Token<'j>,
        start: usize,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let message = &self.schema.messages[id];
        match message.form {
            Form::Value => self.value(token, start, path),
            Form::Struct if token == Token::Object => self.entries(path),
            Form::ListValue if token == Token::Array => self.items(path),
            Form::ListValue => self.refuse_shape(path, &token, "array"),
            Form::Any if token == Token::Object => self.any(path),
            Form::Timestamp | Form::Duration | Form::FieldMask | Form::Wrapper => {
                match scalar::put_content(self.schema, message, &token, self.out) {
                    Ok(()) => Ok(()),
                    Err(_) => {
                        let expected = scalar::noun_of_message(self.schema, message);
                        self.refuse_value(path, start, &token, &expected)
                    }
                }
            }
            Form::Fields | Form::HttpBody | Form::Empty if token == Token::Object => {
                self.fields(message, path, false)
            }
            Form::Fields | Form::HttpBody | Form::Empty | Form::Any | Form::Struct => {
                self.refuse_shape(path, &token, "object")
            }
        }
    }

    /// Writes the fields of an object whose `{` was read. Within an Any, `@type` is none of them.
    fn fields(&mut self, message: &'s Message, path: &Path<'_>, in_any: bool) -> Result<(), Stop> {
        let mut seen = Seen::default();
        let mut types = 0;
        let mut guess = 0;
        let mut is_first = true;
        while let Some(key) = self.json.key(&mut is_first)? {
            let Some(index) = message.index_by_name(&key, guess) else {
                if in_any && key == special::TYPE_KEY {
                    types += 1;
                    self.once(types, path)?;
                } else {
                    self.unknown(message, &key, path)?;
                }
                continue;
            };
            guess = index + 1;
            let field = &message.fields[index];
            let path = Path::Field(path, &field.name);
            if !seen.insert(index) {
                self.json.skip()?;
                self.refuse(&path, "is given twice")?;
                continue;
            }
            let before = self.out.len();
            let is_set = self.field(field, &path)?;
            if field.behavior.is_output_only && self.options.ignores_output_only {
                self.out.truncate(before);
            } else if is_set
                && let Some(oneof) = field.oneof
                && let Some(rival) = seen.claim(oneof, index)
            {
                let rival = &message.fields[rival].name;
                self.refuse(&path, format!("excludes `{rival}`, which is given too"))?;
            }
        }
        Ok(())
    }

    /// Passes over the value of a key that is no field's.
    #[cold]
    fn unknown(&mut self, message: &Message, key: &str, path: &Path<'_>) -> Result<(), Stop> {
        self.json.skip()?;
        if self.options.ignores_unknown {
            return Ok(());
        }
        let description = format!("is no field; there are {}", message.json_names());
        self.refuse(&Path::Field(path, short(key)), description)
    }

    /// Writes a field's value, if it has one: whether it has.
    fn field(&mut self, field: &'s Field, path: &Path<'_>) -> Result<bool, Stop> {
        let start = self.json.position();
        let token = self.json.value()?;
        if matches!(token, Token::Null) && !self.takes_null(field) {
            return Ok(false);
        }
        match field.shape {
            Shape::One => self.one(field, &field.tag, !field.has_presence, token, start, path),
            Shape::Many if token == Token::Array => self.list(field, path).map(|()| true),
            Shape::Many => self.refuse_shape(path, &token, "array").map(|()| true),
            Shape::Map if token == Token::Object => self.map(field, path).map(|()| true),
            Shape::Map => self.refuse_shape(path, &token, "object").map(|()| true),
        }
    }

    fn takes_null(&self, field: &Field) -> bool {
        let is_value =
            field.single_message().is_some_and(|id| self.schema.messages[id].form == Form::Value);
        let is_null = matches!(field.kind, Kind::Enum(id) if self.schema.enums[id].is_null);
        is_value || is_null && field.shape == Shape::One
    }

    /// Writes one value with its tag, unless it is the default and that is left out: whether there is a value, which an ignored
    /// name of an enum is not.
    fn one(
        &mut self,
        field: &'s Field,
        tag: &Tag,
        leaves_out_default: bool,
        token: Token<'j>,
        start: usize,
        path: &Path<'_>,
    ) -> Result<bool, Stop> {
        let Kind::Message(id) = field.kind else {
            let put =
                scalar::put(self.schema, field.kind, &token, tag, leaves_out_default, self.out);
            let is_ignored = matches!(field.kind, Kind::Enum(_))
                && matches!(token, Token::Text(_))
                && self.options.ignores_unknown;
            return match put {
                Ok(()) => Ok(true),
                Err(_) if is_ignored => Ok(false),
                Err(_) => {
                    let expected = scalar::noun(self.schema, field.kind);
                    self.refuse_value(path, start, &token, &expected).map(|()| true)
                }
            };
        };
        tag.put(self.out);
        if let Some(end) = &field.end_tag {
            self.content(id, token, start, path)?;
            end.put(self.out);
        } else {
            let mark = wire::open(self.out);
            self.content(id, token, start, path)?;
            wire::close(self.out, mark);
        }
        Ok(true)
    }

    fn list(&mut self, field: &'s Field, path: &Path<'_>) -> Result<(), Stop> {
        let before = self.out.len();
        let mark = field.packed_tag.as_ref().map(|tag| {
            tag.put(self.out);
            wire::open(self.out)
        });
        let tag = if mark.is_some() { &Tag::NONE } else { &field.tag };
        let mut is_first = true;
        let mut index = 0;
        while self.json.item(&mut is_first)? {
            let path = Path::Index(path, index);
            let start = self.json.position();
            let token = self.json.value()?;
            self.one(field, tag, false, token, start, &path)?;
            index += 1;
        }
        match mark {
            Some(mark) if self.out.len() == mark + 1 => self.out.truncate(before),
            Some(mark) => wire::close(self.out, mark),
            None => {}
        }
        Ok(())
    }

    fn map(&mut self, field: &'s Field, path: &Path<'_>) -> Result<(), Stop> {
        let Kind::Message(entry) = field.kind else { return Ok(()) };
        let [key_field, value_field] = self.schema.messages[entry].fields.as_slice() else {
            return Ok(());
        };
        let mut keys = Keys::default();
        let mut is_first = true;
        while let Some(key) = self.json.key(&mut is_first)? {
            let path = Path::Key(path, short(&key));
            let before = self.out.len();
            field.tag.put(self.out);
            let mark = wire::open(self.out);
            if scalar::put_key(self.schema, key_field, &key, self.out).is_err() {
                self.json.skip()?;
                let noun = scalar::noun(self.schema, key_field.kind);
                self.refuse(&path, format!("has a key that must be {noun}"))?;
                continue;
            }
            let key_length = self.out.len() - mark - 1;
            let start = self.json.position();
            let token = self.json.value()?;
            if !self.one(value_field, &value_field.tag, false, token, start, &path)? {
                self.out.truncate(before);
                continue;
            }
            wire::close(self.out, mark);
            if !keys.insert(self.out, mark, key_length) {
                self.refuse(&path, "is given twice")?;
            }
        }
        Ok(())
    }
}
