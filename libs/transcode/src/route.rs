//! One REST route: a method of a service under a verb and a template, checked against the messages it binds.

use crate::path::FieldPath;
use crate::path::is_scalar;
use crate::rule::Rule;
use crate::schema::Form;
use crate::schema::Message;
use crate::schema::MessageType;
use crate::schema::Schema;
use crate::schema::Shape;
use crate::table::Options;
use crate::template::Segment;
use crate::template::Template;
use prost_reflect::MethodDescriptor;
use prost_reflect::Value;
use std::sync::Arc;

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
    /// The type of its requests.
    pub input: MessageType,
    /// The type of its answers.
    pub output: MessageType,
    /// How its requests are read and its answers written.
    pub options: Options,
    pub(crate) schema: Arc<Schema>,
    pub(crate) parsed: Template,
    pub(crate) path_fields: Vec<PathField>,
    pub(crate) body: Body,
    /// Whether the body is the data of a `google.api.HttpBody`, as it is.
    pub(crate) takes_raw: bool,
    /// Index of the output's field that is the answer.
    pub(crate) response_body: Option<usize>,
    /// Whether the answer is a `google.api.HttpBody`.
    pub(crate) answers_raw: bool,
    /// Index of the request's `update_mask`, if a PATCH whose body is a field may fill it.
    pub(crate) mask: Option<usize>,
}

/// A field that the path binds.
#[derive(Debug)]
pub(crate) struct PathField {
    pub(crate) path: FieldPath,
    /// By proto names.
    pub(crate) name: String,
    pub(crate) numbers: Vec<u32>,
    /// Whether it covers more than one segment, and so keeps `%2F` as received.
    pub(crate) is_multi_segment: bool,
}

/// Where the body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Whole,
    /// Into the field with this index.
    Field(usize),
}

impl Route {
    pub(crate) fn new(
        schema: &Arc<Schema>,
        method: &MethodDescriptor,
        rule: &Rule,
    ) -> Result<Self, String> {
        let parsed = Template::parse(&rule.template)
            .map_err(|why| format!("has the template `{}`, which {why}", rule.template))?;
        let of = |name: &str| schema.message(name).ok_or("is of a message that no file has");
        let input = of(method.input().full_name())?;
        let output = of(method.output().full_name())?;
        let request = &schema.messages[input.0];
        let path_fields = path_fields(schema, input, &parsed)?;
        let body = body(request, &rule.body)?;
        if let Body::Field(field) = body
            && path_fields
                .iter()
                .any(|bound| bound.path.is_one_field() && bound.path.first() == field)
        {
            return Err(format!("binds `{}` by path and body", request.fields[field].name));
        }
        let response = &schema.messages[output.0];
        let response_body = match rule.response_body.as_str() {
            "" => None,
            name => Some(
                by_proto_name(response, name)
                    .ok_or_else(|| format!("has the response_body `{name}`, which is no field"))?,
            ),
        };
        let is_patch = rule.http_method == Some(http::Method::PATCH);
        let mask = by_proto_name(request, "update_mask").filter(|index| {
            let is_mask = form_of(schema, request, *index) == Some(Form::FieldMask);
            is_patch && is_mask && matches!(body, Body::Field(_))
        });
        let takes_raw = match body {
            Body::None => false,
            Body::Whole => request.form == Form::HttpBody,
            Body::Field(index) => form_of(schema, request, index) == Some(Form::HttpBody),
        };
        let answers_raw = match response_body {
            None => response.form == Form::HttpBody,
            Some(index) => form_of(schema, response, index) == Some(Form::HttpBody),
        };
        Ok(Self {
            grpc_path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            idempotency: idempotency(method),
            http_method: rule.http_method.clone(),
            template: rule.template.clone(),
            method: method.clone(),
            input,
            output,
            options: Options::default(),
            schema: Arc::clone(schema),
            parsed,
            path_fields,
            body,
            takes_raw,
            response_body,
            answers_raw,
            mask,
        })
    }

    /// The template with its variables spelled out and without its verb: `/v1/workspaces/*/links/*`.
    #[must_use]
    pub fn pattern(&self) -> String {
        let segments = self.parsed.segments.iter().flat_map(|segment| {
            let text = match segment {
                Segment::Literal(text) => text,
                Segment::Star => "*",
                Segment::DoubleStar => "**",
            };
            ["/", text]
        });
        segments.collect()
    }

    /// What its messages are read and written by.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether bytes are a request message of the method.
    #[must_use]
    pub fn is_request(&self, message: &[u8]) -> bool {
        self.schema.is_message(self.input, message)
    }

    /// Whether an answer is a `google.api.HttpBody`: bytes of any type, which no JSON stands around.
    #[must_use]
    pub fn answers_raw(&self) -> bool {
        self.answers_raw
    }
}

fn path_fields(
    schema: &Schema,
    input: MessageType,
    template: &Template,
) -> Result<Vec<PathField>, String> {
    let mut bound = Vec::new();
    for variable in &template.variables {
        let name = variable.field_path.join(".");
        let names = variable.field_path.iter().map(String::as_str);
        let path = FieldPath::resolve(schema, input.0, names, by_proto_name).ok_or_else(|| {
            format!("binds `{name}`, which is no field of {}", schema.messages[input.0].name)
        })?;
        let leaf = path.leaf(schema);
        if leaf.shape != Shape::One || !is_scalar(schema, leaf) {
            return Err(format!("binds `{name}`, which is repeated, a map or a message"));
        }
        let covered = &template.segments[variable.start..variable.start + variable.length];
        let is_multi_segment = covered.len() > 1 || covered.contains(&Segment::DoubleStar);
        let numbers = path.numbers(schema);
        bound.push(PathField { path, name, numbers, is_multi_segment });
    }
    Ok(bound)
}

pub(crate) fn by_proto_name(message: &Message, name: &str) -> Option<usize> {
    message.fields.iter().position(|field| *field.name == *name)
}

fn form_of(schema: &Schema, message: &Message, index: usize) -> Option<Form> {
    message.fields[index].single_message().map(|id| schema.messages[id].form)
}

fn body(request: &Message, name: &str) -> Result<Body, String> {
    match name {
        "" => Ok(Body::None),
        "*" => Ok(Body::Whole),
        name => by_proto_name(request, name)
            .map(Body::Field)
            .ok_or_else(|| format!("has the body `{name}`, which is no field")),
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
