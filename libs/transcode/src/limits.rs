//! What a field's values have to keep to, as `buf.validate` states it: read for whoever tells clients, enforced by nobody here.
//!
//! What must stay true: no rule is passed over. One that is not known here is an error, so that a proto states nothing that the
//! OpenAPI document and the tests that compare services with it do not know of.

use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::OneofDescriptor;
use prost_reflect::Value;

/// The extension that holds a field's rules.
const EXTENSION: &str = "buf.validate.field";
/// The one that holds a oneof's.
const OF_ONEOFS: &str = "buf.validate.oneof";
/// `buf.validate.Ignore`: the rules don't hold for the type's zero value.
const IGNORE_IF_ZERO_VALUE: i32 = 1;

/// The limits of one field, or of the items of a repeated one. What is not stated is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Whether the zero value is taken whatever the rest says.
    pub takes_zero: bool,
    /// Characters of a text.
    pub chars_min: Option<u64>,
    /// Characters of a text.
    pub chars_max: Option<u64>,
    /// Bytes of a text in UTF-8.
    pub bytes_max: Option<u64>,
    /// A regular expression that some part of a text matches, in RE2's syntax.
    pub pattern: Option<String>,
    /// What a text is.
    pub format: Option<TextFormat>,
    /// Texts that are refused.
    pub refused_texts: Vec<String>,
    /// The least number.
    pub min: Option<i64>,
    /// Whether only declared values of an enum are taken.
    pub is_declared: bool,
    /// Numbers of an enum's values that are refused.
    pub refused_numbers: Vec<i32>,
    /// Items of a list.
    pub items_min: Option<u64>,
    /// Items of a list.
    pub items_max: Option<u64>,
    /// What each item of a list keeps to.
    pub items: Option<Box<Limits>>,
    /// The shortest duration, in seconds.
    pub seconds_min: Option<i64>,
    /// The longest duration, in seconds.
    pub seconds_max: Option<i64>,
    /// A time is after this, in seconds since 1970.
    pub after: Option<i64>,
    /// Whether a time is in the future.
    pub is_future: bool,
    /// The paths that a mask may have, or such that are below one.
    pub paths: Vec<String>,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// An e-mail address.
    Email,
    /// A UUID.
    Uuid,
}

impl Limits {
    /// The limits that a field's proto states; none if it states none.
    ///
    /// # Errors
    /// A rule that is not known here: its name.
    pub fn of(field: &FieldDescriptor) -> Result<Option<Self>, String> {
        let Some(extension) = field.parent_pool().get_extension_by_name(EXTENSION) else {
            return Ok(None);
        };
        let options = field.options();
        if !options.has_extension(&extension) {
            return Ok(None);
        }
        let rules = options.get_extension(&extension);
        let rules = rules.as_message().ok_or_else(|| EXTENSION.to_owned())?;
        let mut limits = Self::default();
        limits.read(rules)?;
        Ok(Some(limits))
    }

    fn read(&mut self, rules: &DynamicMessage) -> Result<(), String> {
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("ignore", Value::EnumNumber(IGNORE_IF_ZERO_VALUE)) => self.takes_zero = true,
                ("ignore", Value::EnumNumber(0)) => {}
                (of @ ("string" | "int32" | "enum"), Value::Message(rules)) => {
                    each(rules, |name, value| self.scalar(of, name, value))?;
                }
                ("repeated", Value::Message(rules)) => {
                    each(rules, |name, value| self.repeated(name, value))?;
                }
                (of @ ("duration" | "timestamp" | "field_mask"), Value::Message(rules)) => {
                    each(rules, |name, value| self.well_known(of, name, value))?;
                }
                (unknown, _) => return Err(unknown.to_owned()),
            }
        }
        Ok(())
    }

    fn scalar(&mut self, of: &str, name: &str, value: &Value) -> Option<()> {
        match (of, name) {
            ("string", "min_len") => self.chars_min = Some(value.as_u64()?),
            ("string", "max_len") => self.chars_max = Some(value.as_u64()?),
            ("string", "max_bytes") => self.bytes_max = Some(value.as_u64()?),
            ("string", "pattern") => self.pattern = Some(value.as_str()?.to_owned()),
            ("string", "email") => self.format = value.as_bool()?.then_some(TextFormat::Email),
            ("string", "uuid") => self.format = value.as_bool()?.then_some(TextFormat::Uuid),
            ("string", "not_in") => self.refused_texts = texts(value)?,
            ("int32", "gte") => self.min = Some(value.as_i32()?.into()),
            ("enum", "defined_only") => self.is_declared = value.as_bool()?,
            ("enum", "not_in") => {
                self.refused_numbers =
                    value.as_list()?.iter().map(Value::as_i32).collect::<Option<_>>()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn repeated(&mut self, name: &str, value: &Value) -> Option<()> {
        match name {
            "min_items" => self.items_min = Some(value.as_u64()?),
            "max_items" => self.items_max = Some(value.as_u64()?),
            "items" => {
                let mut items = Self::default();
                items.read(value.as_message()?).ok()?;
                self.items = Some(Box::new(items));
            }
            _ => return None,
        }
        Some(())
    }

    fn well_known(&mut self, of: &str, name: &str, value: &Value) -> Option<()> {
        match (of, name) {
            ("duration", "gte") => self.seconds_min = Some(seconds(value)?),
            ("duration", "lte") => self.seconds_max = Some(seconds(value)?),
            ("timestamp", "gt") => self.after = Some(seconds(value)?),
            ("timestamp", "gt_now") => self.is_future = value.as_bool()?,
            ("field_mask", "in") => self.paths = texts(value)?,
            _ => return None,
        }
        Some(())
    }
}

/// Whether a oneof's proto states that one of its fields has to be set.
#[must_use]
pub fn is_one_required(oneof: &OneofDescriptor) -> bool {
    let extension = oneof.parent_pool().get_extension_by_name(OF_ONEOFS);
    extension.is_some_and(|extension| {
        let options = oneof.options();
        let rules = options.get_extension(&extension);
        let required = rules.as_message().and_then(|rules| rules.get_field_by_name("required"));
        required.and_then(|required| required.as_bool()).unwrap_or(false)
    })
}

/// Reads rules one by one; the error is the name of the first that is not known.
fn each(
    rules: &DynamicMessage,
    mut read: impl FnMut(&str, &Value) -> Option<()>,
) -> Result<(), String> {
    for (field, value) in rules.fields() {
        read(field.name(), value).ok_or_else(|| field.full_name().to_owned())?;
    }
    Ok(())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_list()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The seconds of a duration or a timestamp without a fraction.
fn seconds(value: &Value) -> Option<i64> {
    let message = value.as_message()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    (nanos == 0).then_some(message.get_field_by_name("seconds")?.as_i64()?)
}
