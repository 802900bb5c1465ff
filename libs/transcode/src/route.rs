//! One REST route: a method of a service under a verb and a template, checked against the messages it binds.

use crate::rule::Rule;
use crate::template::Segment;
use crate::template::Template;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::MethodDescriptor;
use prost_reflect::Value;

/// What `idempotency_level` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing.
    Unknown,
    /// Reading only.
    NoSideEffects,
    /// Twice is the same as once.
    Idempotent,
}

/// A method of a service as reached by REST.
#[derive(Debug)]
pub struct Route {
    /// The method, with its messages and whether it streams.
    pub method: MethodDescriptor,
    /// Its gRPC path, `/package.Service/Method`.
    pub grpc_path: String,
    /// What its proto promises about calling it twice.
    pub idempotency: Idempotency,
    /// The HTTP method; `None` means any.
    pub http_method: Option<http::Method>,
    /// The template as written.
    pub template: String,
    pub(crate) parsed: Template,
    pub(crate) path_fields: Vec<PathField>,
    pub(crate) body: Body,
    pub(crate) response_body: Option<FieldDescriptor>,
    /// The request's `update_mask`, if a PATCH whose body is a field may fill it.
    pub(crate) mask: Option<FieldDescriptor>,
}

/// A field that the path binds.
#[derive(Debug)]
pub(crate) struct PathField {
    /// From the request down to the leaf.
    pub(crate) fields: Vec<FieldDescriptor>,
    /// Whether it covers more than one segment, and so keeps `%2F` as received.
    pub(crate) is_multi_segment: bool,
}

/// Where the JSON body goes.
#[derive(Debug)]
pub(crate) enum Body {
    None,
    Whole,
    Field(FieldDescriptor),
}

impl Route {
    pub(crate) fn new(method: &MethodDescriptor, rule: &Rule) -> Result<Self, String> {
        if method.is_client_streaming() {
            return Err("streams from the client, which REST can't".to_owned());
        }
        let parsed = Template::parse(&rule.template)
            .map_err(|why| format!("has the template `{}`, which {why}", rule.template))?;
        let input = method.input();
        let path_fields = path_fields(&input, &parsed)?;
        let body = body(&input, &rule.body)?;
        if let Body::Field(field) = &body
            && path_fields.iter().any(|path| path.fields.len() == 1 && path.fields[0] == *field)
        {
            return Err(format!("binds `{}` by path and body", field.name()));
        }
        let response_body = match rule.response_body.as_str() {
            "" => None,
            name => Some(
                method
                    .output()
                    .get_field_by_name(name)
                    .ok_or_else(|| format!("has the response_body `{name}`, which is no field"))?,
            ),
        };
        let is_patch = rule.http_method == Some(http::Method::PATCH);
        let mask = match &body {
            Body::Field(_) if is_patch => {
                input.get_field_by_name("update_mask").filter(is_field_mask)
            }
            Body::Field(_) | Body::Whole | Body::None => None,
        };
        Ok(Self {
            grpc_path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            idempotency: idempotency(method),
            http_method: rule.http_method.clone(),
            template: rule.template.clone(),
            method: method.clone(),
            parsed,
            path_fields,
            body,
            response_body,
            mask,
        })
    }

    /// Whether bytes are a request message of the method.
    #[must_use]
    pub fn is_request(&self, message: &[u8]) -> bool {
        DynamicMessage::decode(self.method.input(), message).is_ok()
    }
}

fn path_fields(input: &MessageDescriptor, template: &Template) -> Result<Vec<PathField>, String> {
    let mut bound = Vec::new();
    for variable in &template.variables {
        let name = variable.field_path.join(".");
        let fields = resolve(input, &variable.field_path)
            .ok_or_else(|| format!("binds `{name}`, which is no field of {}", input.full_name()))?;
        let leaf = fields.last().ok_or("binds an empty field path")?;
        if leaf.is_list() || leaf.is_map() || !is_scalar(&leaf.kind()) {
            return Err(format!("binds `{name}`, which is repeated, a map or a message"));
        }
        let covered = &template.segments[variable.start..variable.start + variable.length];
        let is_multi_segment = covered.len() > 1 || covered.contains(&Segment::DoubleStar);
        bound.push(PathField { fields, is_multi_segment });
    }
    Ok(bound)
}

/// Follows proto names through singular messages.
fn resolve(input: &MessageDescriptor, path: &[String]) -> Option<Vec<FieldDescriptor>> {
    let mut message = Some(input.clone());
    let mut fields = Vec::new();
    for name in path {
        let field = message?.get_field_by_name(name)?;
        message = if field.is_list() || field.is_map() {
            None
        } else {
            field.kind().as_message().cloned()
        };
        fields.push(field);
    }
    Some(fields)
}

fn body(input: &MessageDescriptor, name: &str) -> Result<Body, String> {
    match name {
        "" => Ok(Body::None),
        "*" => Ok(Body::Whole),
        name => input
            .get_field_by_name(name)
            .map(Body::Field)
            .ok_or_else(|| format!("has the body `{name}`, which is no field")),
    }
}

fn is_field_mask(field: &FieldDescriptor) -> bool {
    !field.is_list()
        && field
            .kind()
            .as_message()
            .is_some_and(|message| message.full_name() == "google.protobuf.FieldMask")
}

/// Whether a kind is written as one JSON string, number or bool, and so may stand in a path or a query.
pub(crate) fn is_scalar(kind: &Kind) -> bool {
    match kind.as_message() {
        None => true,
        Some(message) => matches!(
            message.full_name(),
            "google.protobuf.Timestamp"
                | "google.protobuf.Duration"
                | "google.protobuf.FieldMask"
                | "google.protobuf.DoubleValue"
                | "google.protobuf.FloatValue"
                | "google.protobuf.Int64Value"
                | "google.protobuf.UInt64Value"
                | "google.protobuf.Int32Value"
                | "google.protobuf.UInt32Value"
                | "google.protobuf.BoolValue"
                | "google.protobuf.StringValue"
                | "google.protobuf.BytesValue"
        ),
    }
}

/// What a method's proto promises about calling it twice.
#[must_use]
pub fn idempotency(method: &MethodDescriptor) -> Idempotency {
    let options = method.options();
    let level = options.get_field_by_name("idempotency_level");
    match level.as_deref().and_then(Value::as_enum_number) {
        Some(1) => Idempotency::NoSideEffects,
        Some(2) => Idempotency::Idempotent,
        Some(_) | None => Idempotency::Unknown,
    }
}
