//! The update mask of a PATCH that states none: the keys that its body has.

use crate::json;
use crate::route::PathField;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value;

/// Values of `google.api.FieldBehavior` that keep a field out of a mask: what callers can't change is ignored when
/// they send back a resource as they read it.
const OUTPUT_ONLY: i32 = 3;
const IDENTIFIER: i32 = 8;

/// AIP-154's precondition: a field of the resource that is compared, never written.
const ETAG: &str = "etag";

/// The fields that a body sets, by proto names below the body's field: nested messages by their own keys, repeated
/// fields and maps as a whole, null and zero included.
pub(crate) fn of_body(
    body: &FieldDescriptor,
    json: &serde_json::Value,
    path_fields: &[PathField],
) -> Vec<String> {
    let kind = body.kind();
    let Some(message) = kind.as_message() else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    collect(message, json, "", &mut paths);
    paths.retain(|path| {
        path != ETAG && !path_fields.iter().any(|bound| is_bound(bound, body, path))
    });
    paths
}

/// Writes the mask, unless it is empty.
pub(crate) fn set(message: &mut DynamicMessage, field: &FieldDescriptor, paths: Vec<String>) {
    let kind = field.kind();
    let Some(descriptor) = kind.as_message().filter(|_| !paths.is_empty()) else {
        return;
    };
    let mut mask = DynamicMessage::new(descriptor.clone());
    let list = paths.into_iter().map(Value::String).collect();
    mask.set_field_by_name("paths", Value::List(list));
    message.set_field(field, Value::Message(mask));
}

fn collect(
    message: &MessageDescriptor,
    json: &serde_json::Value,
    parent: &str,
    paths: &mut Vec<String>,
) {
    let Some(object) = json.as_object() else {
        return;
    };
    for (key, value) in object {
        let Some(field) = json::field_of(message, key).filter(|field| !is_fixed(field)) else {
            continue;
        };
        let path = json::join(parent, field.name());
        let kind = field.kind();
        let nested = kind.as_message().filter(|nested| {
            let is_single = !field.is_list() && !field.is_map();
            is_single && !json::is_well_known(nested)
        });
        match nested {
            Some(nested) if value.as_object().is_some_and(|object| !object.is_empty()) => {
                collect(nested, value, &path, paths);
            }
            Some(_) | None => paths.push(path),
        }
    }
}

fn is_bound(bound: &PathField, body: &FieldDescriptor, path: &str) -> bool {
    let Some((first, rest)) = bound.fields.split_first() else {
        return false;
    };
    first == body && crate::request::path_name(rest) == path
}

fn is_fixed(field: &FieldDescriptor) -> bool {
    let pool = field.parent_pool();
    let Some(extension) = pool.get_extension_by_name("google.api.field_behavior") else {
        return false;
    };
    let options = field.options();
    let behaviors = options.get_extension(&extension);
    behaviors.as_list().is_some_and(|list| {
        list.iter()
            .filter_map(Value::as_enum_number)
            .any(|behavior| matches!(behavior, OUTPUT_ONLY | IDENTIFIER))
    })
}
