//! Operations: one for each binding of a method.

use super::Access;
use super::comments;
use super::comments::Comments;
use super::errors;
use super::parameters;
use super::parameters::Patterns;
use super::schemas::Schemas;
use super::schemas::Use;
use super::schemas::behavior;
use super::schemas::flag;
use crate::framing::Framing;
use crate::limits::is_one_required;
use crate::route::Body;
use crate::route::Route;
use http::Method;
use prost_reflect::DescriptorPool;
use prost_reflect::FieldDescriptor;
use prost_reflect::ServiceDescriptor;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::HashMap;

const JSON: &str = "application/json";
const ANY: &str = "*/*";
/// What is said of a client's stream.
const STREAMED_MESSAGES: &str = "A stream of messages, as the items of an array or one a line; each is handed on as soon as it has arrived. \
     Path and query are part of the first one, and none may say something else of what the path says. An error names the message it is \
     about, counted from 0.";
const STREAMED_BYTES: &str = "Bytes that are handed on as they arrive, under their `Content-Type`.";
/// What is said of a service's stream.
const MESSAGES: &str = "The messages as they come: one a line, as an event's `data`, or in an array. One with the key `error` is an error, \
     and the last.";
const BYTES: &str = "Bytes as they come. An error that comes later breaks them off: HTTP/1.1 closes without a last chunk, HTTP/2 resets the \
     stream.";

/// The operations of a document, and what they refer to.
pub(super) struct Operations<'c> {
    pub(super) paths: BTreeMap<String, Value>,
    /// Services by name, with what their comment says.
    pub(super) tags: BTreeMap<String, String>,
    pub(super) schemas: Schemas<'c>,
    comments: &'c Comments,
    /// Headers that answers may have.
    headers: &'c Map<String, Value>,
    patterns: Patterns,
    /// How many operations a method has so far.
    seen: HashMap<String, usize>,
}

impl<'c> Operations<'c> {
    pub(super) fn new(
        pool: &DescriptorPool,
        comments: &'c Comments,
        headers: &'c Map<String, Value>,
    ) -> Self {
        Self {
            paths: BTreeMap::new(),
            tags: BTreeMap::new(),
            schemas: Schemas::new(pool, comments),
            comments,
            headers,
            patterns: Patterns::new(pool),
            seen: HashMap::new(),
        }
    }

    /// Adds a route, if OpenAPI has a word for its method.
    pub(super) fn add(&mut self, route: &Route, access: Access) {
        let Some(verb) = route.http_method.as_ref().and_then(verb) else { return };
        let service = route.method.parent_service();
        let tag = self.tag(service);
        let (path, mut parameters) = parameters::path(route, &self.patterns, &mut self.schemas);
        parameters.extend(parameters::query(route, &mut self.schemas));
        if verb == "get" && !route.method.is_server_streaming() {
            parameters.push(json!({"$ref": "#/components/parameters/IfNoneMatch"}));
        }
        if route.takes_etag() && verb != "get" {
            parameters.push(json!({"$ref": "#/components/parameters/IfMatch"}));
        }
        for name in &access.parameters {
            parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
        }
        let comment = self.comments.of(&service.parent_file(), route.method.path());
        let mut operation = json!({
            "operationId": self.operation_id(route),
            "tags": [tag],
            "summary": comments::summary(comment),
            "description": comment,
            "security": access.security,
        });
        if !access.scopes.is_empty() {
            operation["x-scopes"] = access.scopes.into();
        }
        let is_open = access.security.is_empty();
        operation["responses"] = self.responses(route, verb, is_open, access.has_headers);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body(route) {
            operation["requestBody"] = body;
        }
        if flag(&route.method.options(), "deprecated") {
            operation["deprecated"] = true.into();
        }
        let entry = self.paths.entry(path).or_insert_with(|| Value::Object(Map::new()));
        entry[verb] = operation;
    }

    fn tag(&mut self, service: &ServiceDescriptor) -> String {
        let name =
            service.name().strip_suffix("Service").unwrap_or_else(|| service.name()).to_owned();
        let said = self.comments.of(&service.parent_file(), service.path());
        self.tags.entry(name.clone()).or_insert_with(|| said.to_owned());
        name
    }

    /// `LinksService_CreateLink`; further bindings of a method are numbered.
    fn operation_id(&mut self, route: &Route) -> String {
        let count = self.seen.entry(route.grpc_path.clone()).or_default();
        *count += 1;
        let name = format!("{}_{}", route.method.parent_service().name(), route.method.name());
        if *count == 1 { name } else { format!("{name}_{count}") }
    }

    fn body(&mut self, route: &Route) -> Option<Value> {
        let input = route.method.input();
        let (schema, description, is_required) = match route.body {
            Body::None => return None,
            Body::Whole => {
                let bound: Vec<String> =
                    route.path_fields.iter().map(|bound| bound.name.clone()).collect();
                let schema = if bound.is_empty() {
                    self.schemas.message(&input, Use::Request)
                } else {
                    self.schemas.object(&input, Use::Request, &bound)
                };
                let is_asked_for = |field: FieldDescriptor| {
                    behavior(&field).is_required && !bound.iter().any(|name| name == field.name())
                };
                let is_required = input.fields().any(is_asked_for)
                    || input.oneofs().any(|oneof| is_one_required(&oneof));
                (schema, String::new(), is_required)
            }
            Body::Field(index) => {
                let number = route.schema.messages[route.input.0].fields[index].number;
                let field = input.get_field(number)?;
                let file = input.parent_file();
                let said = self.comments.of(&file, field.path()).to_owned();
                (self.body_field(route, &field), said, true)
            }
        };
        let media_type = if route.takes_raw { ANY } else { JSON };
        let schema = if route.takes_raw { json!({}) } else { schema };
        let mut content = json!({media_type: {"schema": schema}});
        let is_streamed = route.method.is_client_streaming();
        if is_streamed && !route.takes_raw {
            content = json!({
                JSON: {"schema": {"type": "array", "items": schema}},
                Framing::Lines.media_type(): {"schema": schema},
            });
        }
        let said = match (is_streamed, route.takes_raw) {
            (false, _) => None,
            (true, true) => Some(STREAMED_BYTES),
            (true, false) => Some(STREAMED_MESSAGES),
        };
        let description: Vec<&str> =
            [description.as_str()].into_iter().filter(|it| !it.is_empty()).chain(said).collect();
        // A stream of no messages is said too, in one of these types; a file of no bytes needs neither.
        let is_required = if is_streamed { !route.takes_raw } else { is_required };
        let mut body = json!({"content": content, "required": is_required});
        if !description.is_empty() {
            body["description"] = description.join("\n\n").into();
        }
        Some(body)
    }

    fn body_field(&mut self, route: &Route, field: &FieldDescriptor) -> Value {
        let is_patch = route.http_method == Some(Method::PATCH);
        match field.kind().as_message() {
            Some(message) if is_patch && !field.is_list() && !field.is_map() => {
                self.schemas.message(message, Use::Patch)
            }
            Some(message) if !field.is_list() && !field.is_map() => {
                self.schemas.message(message, Use::Request)
            }
            _ => self.schemas.field(field, Use::Request),
        }
    }

    fn responses(&mut self, route: &Route, verb: &str, is_open: bool, has_headers: bool) -> Value {
        let mut responses = errors::of(route, is_open);
        let output = route.method.output();
        let schema = match route.response_body {
            _ if route.answers_raw => json!({}),
            None => self.schemas.message(&output, Use::Answer),
            Some(index) => {
                let number = route.schema.messages[route.output.0].fields[index].number;
                output.get_field(number).map_or_else(
                    || json!({}),
                    |field| {
                        if field.is_list() || field.is_map() {
                            self.schemas.field(&field, Use::Answer)
                        } else {
                            self.schemas.value(&field, Use::Answer)
                        }
                    },
                )
            }
        };
        let content = if route.answers_raw {
            json!({ANY: {"schema": schema}})
        } else if route.method.is_server_streaming() {
            json!({
                Framing::Lines.media_type(): {"schema": schema},
                Framing::Events.media_type(): {"schema": schema},
                Framing::Array.media_type(): {"schema": {"type": "array", "items": schema}},
            })
        } else {
            json!({JSON: {"schema": schema}})
        };
        let description = match (route.method.is_server_streaming(), route.answers_raw) {
            (false, _) => "The answer.",
            (true, true) => BYTES,
            (true, false) => MESSAGES,
        };
        let mut ok = json!({"description": description, "content": content});
        let mut headers = if has_headers { self.headers.clone() } else { Map::new() };
        if verb == "get" && !route.method.is_server_streaming() {
            headers.insert("ETag".to_owned(), json!({"$ref": "#/components/headers/ETag"}));
            let description = "The client has it already: `If-None-Match` names it.";
            let not_modified = json!({"description": description, "headers": headers});
            responses.insert("304".to_owned(), not_modified);
        }
        if !headers.is_empty() {
            ok["headers"] = headers.into();
        }
        responses.insert("200".to_owned(), ok);
        Value::Object(responses)
    }
}

/// The word that OpenAPI 3.1 has for a method.
fn verb(method: &Method) -> Option<&'static str> {
    match *method {
        Method::GET => Some("get"),
        Method::PUT => Some("put"),
        Method::POST => Some("post"),
        Method::DELETE => Some("delete"),
        Method::PATCH => Some("patch"),
        _ => None,
    }
}
