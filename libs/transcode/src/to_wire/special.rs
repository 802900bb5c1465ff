//! The messages whose JSON is not an object of their fields: Any, and Struct with what it is made of.

use super::Encoder;
use super::Keys;
use super::Path;
use super::Stop;
use crate::error::short;
use crate::lexer::Token;
use crate::number;
use crate::schema::Message;
use crate::wire;

/// The key of an Any's object that says what the other keys are.
pub(super) const TYPE_KEY: &str = "@type";
const VALUE_KEY: &str = "value";

// Tags: `Any.type_url` and `Any.value`; `Struct.fields`, `ListValue.values`, and the key of an entry; the value of one; the
// members of `Value.kind`.
const FIRST: u8 = 0x0a;
const SECOND: u8 = 0x12;
const NUMBER: u8 = 0x11;
const STRING: u8 = 0x1a;
const BOOL: u8 = 0x20;
const STRUCT: u8 = 0x2a;
const LIST: u8 = 0x32;
const NULL: [u8; 2] = [0x08, 0];

impl<'j> Encoder<'_, 'j, '_> {
    /// An Any whose `{` was read. What it is may be said after the fields that need it, so that is looked for first.
    pub(super) fn any(&mut self, path: &Path<'_>) -> Result<(), Stop> {
        let beginning = self.json.clone();
        let mut is_first = true;
        let url = loop {
            match self.json.key(&mut is_first)? {
                Some(key) if key == TYPE_KEY => break self.json.value()?,
                Some(_) => self.json.skip()?,
                None if is_first => return Ok(()),
                None => return self.refuse(&Path::Field(path, TYPE_KEY), "is missing"),
            }
        };
        self.json = beginning;
        let schema = self.schema;
        let Token::Text(url) = url else {
            self.json.skip_rest(&Token::Object)?;
            return self.refuse(&Path::Field(path, TYPE_KEY), "must be text");
        };
        let name = url.rsplit_once('/').map(|(_, name)| name);
        let Some(message) = name.and_then(|name| schema.message(name)) else {
            self.json.skip_rest(&Token::Object)?;
            let description = format!("is of the type `{}`, which is not known", short(&url));
            return self.refuse(path, description);
        };
        let message = &schema.messages[message.0];
        self.out.push(FIRST);
        wire::put_delimited(self.out, url.as_bytes());
        let before = self.out.len();
        self.out.push(SECOND);
        let mark = wire::open(self.out);
        if message.form.has_fields() {
            self.fields(message, path, true)?;
        } else {
            self.wrapped(message, path)?;
        }
        if self.out.len() == mark + 1 {
            self.out.truncate(before);
        } else {
            wire::close(self.out, mark);
        }
        Ok(())
    }

    /// Counts how often an object says its type, and passes over it.
    pub(super) fn once(&mut self, times: u32, path: &Path<'_>) -> Result<(), Stop> {
        self.json.skip()?;
        if times > 1 {
            return self.refuse(&Path::Field(path, TYPE_KEY), "is given twice");
        }
        Ok(())
    }

    /// The rest of an Any's object whose content has a JSON of its own, in `value`.
    fn wrapped(&mut self, message: &Message, path: &Path<'_>) -> Result<(), Stop> {
        let id = self.schema.message(&message.name).expect("it came from there").0;
        let value_path = Path::Field(path, VALUE_KEY);
        let (mut types, mut values) = (0, 0);
        let mut is_first = true;
        while let Some(key) = self.json.key(&mut is_first)? {
            if key == TYPE_KEY {
                types += 1;
                self.once(types, path)?;
            } else if key == VALUE_KEY && values == 0 {
                values = 1;
                let start = self.json.position();
                let token = self.json.value()?;
                self.content(id, token, start, &value_path)?;
            } else if key == VALUE_KEY {
                self.json.skip()?;
                self.refuse(&value_path, "is given twice")?;
            } else {
                self.json.skip()?;
                if !self.options.ignores_unknown {
                    let field = Path::Field(path, short(&key));
                    self.refuse(&field, "is no field; there are @type, value")?;
                }
            }
        }
        if values == 0 {
            return self.refuse(&value_path, "is missing");
        }
        Ok(())
    }

    /// A Value: any JSON.
    pub(super) fn value(
        &mut self,
        token: Token<'j>,
        start: usize,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        match token {
            Token::Null => self.out.extend_from_slice(&NULL),
            Token::Bool(value) => self.out.extend_from_slice(&[BOOL, u8::from(value)]),
            Token::Number(text) => match number::double(text) {
                Ok(value) => {
                    self.out.push(NUMBER);
                    self.out.extend_from_slice(&value.to_le_bytes());
                }
                Err(_) => self.refuse_value(path, start, &token, "a number of type double")?,
            },
            Token::Text(text) => {
                self.out.push(STRING);
                wire::put_delimited(self.out, text.as_bytes());
            }
            Token::Object => {
                self.out.push(STRUCT);
                let mark = wire::open(self.out);
                self.entries(path)?;
                wire::close(self.out, mark);
            }
            Token::Array => {
                self.out.push(LIST);
                let mark = wire::open(self.out);
                self.items(path)?;
                wire::close(self.out, mark);
            }
        }
        Ok(())
    }

    /// The fields of a Struct whose `{` was read.
    pub(super) fn entries(&mut self, path: &Path<'_>) -> Result<(), Stop> {
        let mut keys = Keys::default();
        let mut is_first = true;
        while let Some(key) = self.json.key(&mut is_first)? {
            let path = Path::Key(path, short(&key));
            self.out.push(FIRST);
            let mark = wire::open(self.out);
            self.out.push(FIRST);
            wire::put_delimited(self.out, key.as_bytes());
            let key_length = self.out.len() - mark - 1;
            self.nested_value(SECOND, &path)?;
            wire::close(self.out, mark);
            if !keys.insert(self.out, mark, key_length) {
                self.refuse(&path, "is given twice")?;
            }
        }
        Ok(())
    }

    /// The values of a ListValue whose `[` was read.
    pub(super) fn items(&mut self, path: &Path<'_>) -> Result<(), Stop> {
        let mut is_first = true;
        let mut index = 0;
        while self.json.item(&mut is_first)? {
            self.nested_value(FIRST, &Path::Index(path, index))?;
            index += 1;
        }
        Ok(())
    }

    fn nested_value(&mut self, tag: u8, path: &Path<'_>) -> Result<(), Stop> {
        self.out.push(tag);
        let mark = wire::open(self.out);
        let start = self.json.position();
        let token = self.json.value()?;
        self.value(token, start, path)?;
        wire::close(self.out, mark);
        Ok(())
    }
}
