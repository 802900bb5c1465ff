//! The errors of every operation: RFC 9457's problem, and Google's two forms for who asks for them.

use super::comments::Comments;
use super::schemas::Schemas;
use super::schemas::paragraphs;
use crate::problem::ErrorForm;
use crate::problem::http_status;
use crate::route::Body;
use crate::route::Route;
use prost_reflect::EnumDescriptor;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The schemas that are made here.
pub(super) const SCHEMAS: [&str; 4] = ["Problem", "ErrorStatus", "ErrorEnvelope", "Reason"];

/// HTTP status, name and description of every response that is an error.
const RESPONSES: [(u16, &str, &str); 12] = [
    (
        400,
        "BadRequest",
        "The request is malformed, a field is out of its limits, or the state does not allow the call.",
    ),
    (401, "Unauthorized", "Nobody has proved who calls, or the proof is not valid."),
    (403, "Forbidden", "The caller may not do this."),
    (404, "NotFound", "There is no such resource, or the caller has no part in it."),
    (409, "Conflict", "The name is taken, or somebody else was faster."),
    (412, "PreconditionFailed", "`If-Match` names another version than the current one."),
    (413, "ContentTooLarge", "The body is longer than it may be."),
    (
        415,
        "UnsupportedMediaType",
        "The body must be `application/json`, or of a type that the operation names.",
    ),
    (429, "TooManyRequests", "Too much at once. `Retry-After` says when to come again."),
    (500, "InternalServerError", "The fault is the server's; it is logged under the trace id."),
    (
        503,
        "ServiceUnavailable",
        "Nobody can answer for now. `Retry-After` says when to come again.",
    ),
    (504, "GatewayTimeout", "The deadline passed. Whether the call was done is not known."),
];

/// The errors that a route can answer with: references by HTTP status.
pub(super) fn of(route: &Route, is_open: bool) -> Map<String, Value> {
    let has_path = !route.path_fields.is_empty();
    let has_body = route.body != Body::None;
    let is_read = route.http_method == Some(http::Method::GET);
    let applies = |status: u16| match status {
        // What anyone may call may still take a proof in its body.
        401 | 403 => !is_open || has_body,
        404 => has_path || !is_open,
        409 => !is_read,
        412 => is_read || route.takes_etag(),
        413 | 415 => has_body,
        _ => true,
    };
    let statuses = RESPONSES.iter().filter(|(status, ..)| applies(*status));
    statuses
        .map(|(status, name, _)| {
            let reference = json!({"$ref": format!("#/components/responses/{name}")});
            (status.to_string(), reference)
        })
        .collect()
}

/// The responses, by name.
///
/// `headers` are those that any of them may have beside its own.
pub(super) fn responses(headers: &Map<String, Value>) -> Value {
    let schema = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    let content = json!({
        ErrorForm::Problem.media_type(): schema("Problem"),
        ErrorForm::Status.media_type(): schema("ErrorStatus"),
        ErrorForm::Aip193.media_type(): schema("ErrorEnvelope"),
    });
    let response = |(status, name, description): &(u16, &str, &str)| {
        let mut response = json!({"description": description, "content": content});
        let own = match status {
            401 => Some(("WWW-Authenticate", "WwwAuthenticate")),
            429 | 503 => Some(("Retry-After", "RetryAfter")),
            _ => None,
        };
        let mut headers = headers.clone();
        if let Some((header, component)) = own {
            let place = format!("#/components/headers/{component}");
            headers.insert(header.to_owned(), json!({"$ref": place}));
        }
        if !headers.is_empty() {
            response["headers"] = headers.into();
        }
        ((*name).to_owned(), response)
    };
    Value::Object(RESPONSES.iter().map(response).collect())
}

/// The headers of responses.
pub(super) fn headers() -> Value {
    json!({
        "ETag": {
            "description": "The version of the answer, as `If-None-Match` and `If-Match` take it.",
            "schema": {"type": "string"},
        },
        "RetryAfter": {
            "description": "After how many seconds another attempt may help.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "WwwAuthenticate": {
            "description": "How to prove who calls (RFC 6750).",
            "schema": {"type": "string"},
        },
    })
}

/// Adds the schemas of errors.
pub(super) fn add_schemas(
    schemas: &mut Schemas<'_>,
    reasons: Option<&EnumDescriptor>,
    comments: &Comments,
) {
    let codes: Vec<&str> = (1..=16).map(crate::problem::code_name).collect();
    let statuses: Vec<u16> = {
        let mut statuses: Vec<u16> = (1..=16).map(|code| http_status(code).as_u16()).collect();
        statuses.extend(RESPONSES.iter().map(|(status, ..)| *status));
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    };
    let http = json!({
        "type": "integer",
        "minimum": statuses.first(),
        "maximum": statuses.last(),
        "description": "The HTTP status.",
    });
    let reason = json!({"$ref": "#/components/schemas/Reason"});
    let code =
        json!({"type": "string", "enum": codes, "description": "The name of the gRPC code."});
    let detail =
        json!({"type": "string", "description": "A sentence for people. Don't branch on it."});
    let details = json!({
        "type": "array",
        "description": "Details of `google.rpc`'s types, each type at most once: always an ErrorInfo with the reason.",
        "items": {
            "type": "object",
            "properties": {"@type": {"type": "string"}},
            "required": ["@type"],
            "additionalProperties": true,
        },
    });
    let mut add = |name: &str, schema: Value| schemas.components.insert(name.to_owned(), schema);
    add("Reason", reasons_schema(reasons, comments));
    add(
        "Problem",
        json!({
            "type": "object",
            "description": "An error, as RFC 9457 has it.",
            "properties": {
                "type": {"type": "string", "format": "uri-reference", "description": "Names the reason, as a URI."},
                "title": {"type": "string", "description": "What the status means."},
                "status": http,
                "detail": detail,
                "code": code,
                "reason": reason,
                "domain": {"type": "string", "description": "Whose reason it is."},
                "metadata": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "What belongs to the reason.",
                },
                "violations": {
                    "type": "array",
                    "description": "The fields that are wrong.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "field": {"type": "string", "description": "The field's path in the request."},
                            "description": {"type": "string", "description": "What is wrong with it."},
                        },
                        "required": ["field", "description"],
                    },
                },
                "retryAfterSeconds": {"type": "number", "description": "When another attempt may help."},
            },
            "required": ["type", "title", "status", "detail", "code", "reason", "domain"],
        }),
    );
    add(
        "ErrorStatus",
        json!({
            "type": "object",
            "description": "An error as `google.rpc.Status`.",
            "properties": {
                "code": {"type": "integer", "minimum": 1, "maximum": 16, "description": "The gRPC code."},
                "message": detail,
                "details": details,
            },
            "required": ["code"],
        }),
    );
    add(
        "ErrorEnvelope",
        json!({
            "type": "object",
            "description": "An error as AIP-193 has it.",
            "properties": {
                "error": {
                    "type": "object",
                    "properties": {"code": http, "message": detail, "status": code, "details": details},
                    "required": ["code", "message", "status"],
                },
            },
            "required": ["error"],
        }),
    );
}

/// Reasons are a string: a new one is no break of what was promised.
fn reasons_schema(reasons: Option<&EnumDescriptor>, comments: &Comments) -> Value {
    let mut schema = json!({
        "type": "string",
        "pattern": "^[A-Z][A-Z0-9_]+[A-Z0-9]$",
        "maxLength": 63,
    });
    let mut description =
        "Why a call failed: stable, to branch on. There may be new ones at any time.".to_owned();
    if let Some(reasons) = reasons {
        let file = reasons.parent_file();
        let prefix = format!("{}_", screaming(reasons.name()));
        let known = reasons.values().filter(|value| value.number() != 0).map(|value| {
            let name =
                value.name().strip_prefix(&prefix).unwrap_or_else(|| value.name()).to_owned();
            (name, comments.of(&file, value.path()).to_owned())
        });
        let known: Vec<_> = known.collect();
        let list: Vec<String> =
            known.iter().map(|(name, comment)| format!("- `{name}`: {comment}")).collect();
        description = paragraphs(&description, &list.join("\n"));
        schema["examples"] = known.into_iter().map(|(name, _)| name).collect();
    }
    schema["description"] = description.into();
    schema
}

/// `ErrorReason` as `ERROR_REASON`.
fn screaming(name: &str) -> String {
    let mut out = String::new();
    for (at, character) in name.char_indices() {
        if at > 0 && character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_uppercase());
    }
    out
}
