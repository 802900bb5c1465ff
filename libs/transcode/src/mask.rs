//! The update mask of a PATCH that states none: the keys that its body has.

use crate::error::TranscodeError;
use crate::lexer::Malformed;
use crate::lexer::Reader;
use crate::lexer::Token;
use crate::schema::Form;
use crate::schema::MessageId;
use crate::schema::Schema;

/// AIP-154's precondition: a field of the resource that is compared, never written.
const ETAG: &str = "etag";

/// The fields that a body sets, by proto names below the body's field, sorted: nested messages by their own keys, repeated
/// fields and maps as a whole, null and zero included. What callers can't change is left out: they send back a resource as
/// they read it. So is what `is_bound` elsewhere.
pub(crate) fn of_body(
    schema: &Schema,
    message: MessageId,
    body: &[u8],
    is_bound: impl Fn(&str) -> bool,
) -> Result<Vec<String>, TranscodeError> {
    let mut paths = Vec::new();
    let walk = || -> Result<Vec<String>, Malformed> {
        let mut json = Reader::new(body)?;
        if json.value()? == Token::Object {
            collect(schema, message, &mut json, "", &mut paths)?;
        }
        Ok(paths)
    };
    let mut paths =
        walk().map_err(|malformed| TranscodeError::Malformed(malformed.describe(body)))?;
    paths.retain(|path| path != ETAG && !is_bound(path));
    paths.sort_unstable();
    Ok(paths)
}

/// The keys of an object whose `{` was read; whether it has any.
fn collect(
    schema: &Schema,
    message: MessageId,
    json: &mut Reader<'_>,
    parent: &str,
    paths: &mut Vec<String>,
) -> Result<bool, Malformed> {
    let message = &schema.messages[message];
    let mut is_first = true;
    while let Some(key) = json.key(&mut is_first)? {
        let field = message.field(&key);
        let Some(field) =
            field.filter(|field| !field.behavior.is_output_only && !field.behavior.is_identifier)
        else {
            json.skip()?;
            continue;
        };
        let path = if parent.is_empty() {
            field.name.to_string()
        } else {
            format!("{parent}.{}", field.name)
        };
        let nested = field.single_message();
        let nested = nested.filter(|id| schema.messages[*id].form == Form::Fields);
        let token = json.value()?;
        let has_keys = if let (Some(id), Token::Object) = (nested, &token) {
            collect(schema, id, json, &path, paths)?
        } else {
            json.skip_rest(&token)?;
            false
        };
        if !has_keys {
            paths.push(path);
        }
    }
    Ok(!is_first)
}
