//! What stands in a path and in a query, and the conditions of HTTP.

use super::limits;
use super::schemas::Schemas;
use super::schemas::Use;
use super::schemas::behavior;
use super::schemas::flag;
use crate::path::is_scalar;
use crate::route::Body;
use crate::route::Route;
use crate::schema::MessageId;
use crate::schema::Shape;
use crate::template::Segment;
use crate::template::Variable;
use prost_reflect::DescriptorPool;
use prost_reflect::FieldDescriptor;
use prost_reflect::MessageDescriptor;
use prost_reflect::Value as Reflected;
use serde_json::Value;
use serde_json::json;

/// How deep in a request a query may reach here. A deeper field can still be given, only nobody is told.
const DEPTH_MAX: usize = 4;

/// The patterns of resource names, segment by segment: `workspaces/{workspace}`.
pub(super) struct Patterns(Vec<Vec<String>>);

impl Patterns {
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let Some(resource) = pool.get_extension_by_name("google.api.resource") else {
            return Self(Vec::new());
        };
        let mut patterns = Vec::new();
        for message in pool.all_messages() {
            let options = message.options();
            let said = options.get_extension(&resource);
            let list = said.as_message().and_then(|said| said.get_field_by_name("pattern"));
            let list = list.as_deref().and_then(Reflected::as_list).unwrap_or_default().to_vec();
            for pattern in list.iter().filter_map(Reflected::as_str) {
                patterns.push(pattern.split('/').map(str::to_owned).collect());
            }
        }
        Self(patterns)
    }

    /// The pattern of names that segments of a template cover.
    fn find(&self, covered: &[Segment]) -> Option<&[String]> {
        let found = self.0.iter().find(|pattern| {
            pattern.len() == covered.len()
                && pattern.iter().zip(covered).all(|(said, segment)| match segment {
                    Segment::Literal(text) => said == text,
                    Segment::Star => said.starts_with('{'),
                    Segment::DoubleStar => false,
                })
        });
        found.map(Vec::as_slice)
    }
}

/// A route's path as OpenAPI has it, one parameter for each segment that is not fixed, and these parameters.
pub(super) fn path(
    route: &Route,
    patterns: &Patterns,
    schemas: &mut Schemas<'_>,
) -> (String, Vec<Value>) {
    let template = &route.parsed;
    let mut path = String::new();
    let mut parameters: Vec<Value> = Vec::new();
    for (at, segment) in template.segments.iter().enumerate() {
        path.push('/');
        if let Segment::Literal(text) = segment {
            path.push_str(text);
            continue;
        }
        let covers =
            |variable: &&Variable| (variable.start..variable.start + variable.length).contains(&at);
        let variable = template.variables.iter().find(covers);
        let (mut name, description, schema) = match variable {
            Some(variable) => bound(route, variable, at, patterns, schemas),
            None => ("segment".to_owned(), String::new(), json!({"type": "string"})),
        };
        let is_taken = |name: &str| parameters.iter().any(|taken| taken["name"] == name);
        if is_taken(&name) {
            name = format!("{name}{at}");
        }
        path.push_str(&format!("{{{name}}}"));
        let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": schema});
        let description = match segment {
            Segment::DoubleStar => format!("Any number of segments. {description}"),
            Segment::Star | Segment::Literal(_) => description,
        };
        if !description.is_empty() {
            parameter["description"] = description.trim_end().into();
        }
        parameters.push(parameter);
    }
    if let Some(verb) = &template.verb {
        path.push(':');
        path.push_str(verb);
    }
    if path.is_empty() {
        path.push('/');
    }
    (path, parameters)
}

/// Name, description and schema of the segment `at`, which a variable covers.
fn bound(
    route: &Route,
    variable: &Variable,
    at: usize,
    patterns: &Patterns,
    schemas: &mut Schemas<'_>,
) -> (String, String, Value) {
    let covered = &route.parsed.segments[variable.start..variable.start + variable.length];
    let leaf = leaf(&route.method.input(), &variable.field_path);
    if covered.len() == 1 {
        let name = leaf.as_ref().map_or("segment", FieldDescriptor::json_name).to_owned();
        let mut schema =
            leaf.as_ref().map_or_else(|| json!({}), |leaf| schemas.field(leaf, Use::Request));
        let description = schema["description"].as_str().unwrap_or_default().to_owned();
        if let Some(schema) = schema.as_object_mut() {
            schema.retain(|key, _| key != "description" && key != "readOnly");
        }
        return (name, description, not_empty(schema));
    }
    let mut string = not_empty(json!({"type": "string"}));
    let whole = leaf.as_ref().and_then(|leaf| limits::of(leaf).pattern);
    let of_segment = |whole: String| limits::of_segment(&whole, at - variable.start, covered.len());
    if let Some(part) = whole.and_then(of_segment) {
        string = json!({"type": "string", "pattern": part});
    }
    if let Some(pattern) = patterns.find(covered) {
        let said = pattern[at - variable.start].trim_matches(['{', '}']);
        let whole = pattern.join("/");
        return (camel(said), format!("`{{{said}}}` in `{whole}`."), string);
    }
    let before = match at.checked_sub(1).and_then(|before| route.parsed.segments.get(before)) {
        Some(Segment::Literal(text)) => text.trim_end_matches('s').to_owned(),
        Some(Segment::Star | Segment::DoubleStar) | None => variable.field_path.join("_"),
    };
    (camel(&before), format!("A part of `{}`.", variable.field_path.join(".")), string)
}

fn not_empty(mut schema: Value) -> Value {
    if schema["type"] == "string" && schema.get("format").is_none() {
        schema["minLength"] = 1.into();
    }
    schema
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    let mut is_after = false;
    for character in name.chars() {
        match character {
            '_' | '-' => is_after = true,
            _ if is_after => {
                out.push(character.to_ascii_uppercase());
                is_after = false;
            }
            _ => out.push(character),
        }
    }
    out
}

fn leaf(message: &MessageDescriptor, path: &[String]) -> Option<FieldDescriptor> {
    let (first, rest) = path.split_first()?;
    let field = message.get_field_by_name(first)?;
    if rest.is_empty() {
        return Some(field);
    }
    leaf(field.kind().as_message()?, rest)
}

/// The parameters of a route's query: every field that neither the path nor the body has.
pub(super) fn query(route: &Route, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let mut parameters = Vec::new();
    if route.body != Body::Whole {
        let start = Place { names: String::new(), json: String::new(), within: Vec::new() };
        collect(route, &route.method.input(), route.input.0, &start, schemas, &mut parameters);
    }
    parameters
}

/// Where in a request a message is.
struct Place {
    /// By proto names, with a dot behind.
    names: String,
    /// By JSON names.
    json: String,
    within: Vec<MessageId>,
}

fn collect(
    route: &Route,
    message: &MessageDescriptor,
    id: MessageId,
    place: &Place,
    schemas: &mut Schemas<'_>,
    parameters: &mut Vec<Value>,
) {
    if place.within.len() == DEPTH_MAX || place.within.contains(&id) {
        return;
    }
    let compiled = &route.schema.messages[id];
    for (index, field) in compiled.fields.iter().enumerate() {
        let Some(descriptor) = message.get_field(field.number) else { continue };
        let is_body = place.within.is_empty() && route.body == Body::Field(index);
        let names = format!("{}{}", place.names, field.name);
        let is_in_path = route.path_fields.iter().any(|bound| bound.name == names);
        let said = behavior(&descriptor);
        if is_body || is_in_path || said.is_output_only || field.shape == Shape::Map {
            continue;
        }
        let json_name = format!("{}{}", place.json, field.json_name);
        if is_scalar(&route.schema, field) {
            let mut schema = schemas.field(&descriptor, Use::Request);
            let description = schema["description"].as_str().unwrap_or_default().to_owned();
            if let Some(schema) = schema.as_object_mut() {
                schema.retain(|key, _| {
                    !["description", "readOnly", "deprecated"].contains(&key.as_str())
                });
            }
            let mut parameter = json!({"name": json_name, "in": "query", "schema": schema});
            if !description.is_empty() {
                parameter["description"] = description.into();
            }
            if said.is_required && place.within.is_empty() {
                parameter["required"] = true.into();
            }
            if flag(&descriptor.options(), "deprecated") {
                parameter["deprecated"] = true.into();
            }
            parameters.push(parameter);
            continue;
        }
        if field.shape == Shape::One
            && let Some(inner) = field.kind.message_id()
            && let Some(inner_message) = descriptor.kind().as_message()
        {
            let mut within = place.within.clone();
            within.push(id);
            let inner_place =
                Place { names: format!("{names}."), json: format!("{json_name}."), within };
            collect(route, inner_message, inner, &inner_place, schemas, parameters);
        }
    }
}

/// The conditions that a request may have.
pub(super) fn conditions() -> Value {
    json!({
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "description": "The `ETag` of the version that is to be changed, or `*`. Another version answers with 412. The resource's \
                            own `etag`, in quotes, is taken too.",
            "schema": {"type": "string", "minLength": 1, "pattern": "^(\\*|\"[!#-~]+\")$"},
        },
        "IfNoneMatch": {
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag`s of what the client has already: if the answer is one of them, it is 304 without a body.",
            "schema": {"type": "string"},
        },
    })
}
