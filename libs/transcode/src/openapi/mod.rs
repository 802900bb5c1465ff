//! OpenAPI 3.1 of a route table: what a REST client may send, what it gets, and what the comments of the protos say of it.
//!
//! What must stay true: the document says nothing that the table does not do. Paths, parameters, bodies and answers are read from
//! what requests are read by; a route that OpenAPI has no words for (a custom method) is left out.

mod comments;
mod errors;
mod limits;
mod operations;
mod parameters;
mod schemas;

use crate::route::Route;
use crate::table::RouteTable;
use comments::Comments;
use operations::Operations;
use prost_reflect::EnumDescriptor;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// What no descriptor tells.
pub struct About<'a> {
    /// The API's name.
    pub title: &'a str,
    /// The version of the API.
    pub version: &'a str,
    /// What it is, in Markdown.
    pub description: &'a str,
    /// Who answers for it: a Contact Object.
    pub contact: Value,
    /// Under what terms: a License Object.
    pub license: Value,
    /// Where it is, relative to the document.
    pub server: &'a str,
    /// How callers prove who they are: Security Scheme Objects by name.
    pub security_schemes: Value,
    /// What a route asks of its caller. `None`: the route is not public.
    pub access: &'a dyn Fn(&Route) -> Option<Access>,
    /// Headers of requests that no field stands for: Parameter Objects by name.
    pub parameters: Value,
    /// Headers that answers may have: Header Objects by the name that the header has.
    pub headers: Value,
    /// The reasons of errors, whose names are sent without the prefix that is the enum's name.
    pub reasons: Option<EnumDescriptor>,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// How it is proved who calls: Security Requirement Objects, of which one will do. Empty: not at all.
    pub security: Vec<Value>,
    /// What the caller has to be allowed, as `x-scopes`: only OAuth's schemes have a place for that.
    pub scopes: Vec<String>,
    /// Which of [`About::parameters`] it takes.
    pub parameters: Vec<&'static str>,
    /// Whether its answers have [`About::headers`]. Its errors may have them in any case.
    pub has_headers: bool,
}

impl std::fmt::Debug for About<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("About").field("title", &self.title).finish_non_exhaustive()
    }
}

impl RouteTable {
    /// Describes the public routes. The same table gives the same bytes.
    #[must_use]
    pub fn openapi(&self, about: &About<'_>) -> Value {
        let pool = self.routes.first().map(|route| route.method.parent_pool().clone());
        let pool = pool.unwrap_or_default();
        let comments = Comments::new(&pool);
        let told = references(&about.headers);
        let mut operations = Operations::new(&pool, &comments, &told);
        for route in &self.routes {
            if let Some(access) = (about.access)(route) {
                operations.add(route, access);
            }
        }
        let Operations { paths, tags, mut schemas, .. } = operations;
        errors::add_schemas(&mut schemas, about.reasons.as_ref(), &comments);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": about.title,
                "version": about.version,
                "description": about.description,
                "contact": about.contact,
                "license": about.license,
            },
            "servers": [{"url": about.server}],
            "tags": tags.iter().map(|(name, description)| {
                json!({"name": name, "description": description})
            }).collect::<Value>(),
            "paths": object(paths),
            "components": {
                "schemas": object(schemas.components),
                "responses": errors::responses(&told),
                "headers": merged(errors::headers(), &about.headers, component),
                "parameters": merged(parameters::conditions(), &about.parameters, str::to_owned),
                "securitySchemes": about.security_schemes,
            },
        })
    }
}

/// References to headers, by the headers' names.
fn references(headers: &Value) -> Map<String, Value> {
    let names = headers.as_object().into_iter().flatten().map(|(name, _)| name);
    let reference = |name: &String| {
        let place = format!("#/components/headers/{}", component(name));
        (name.clone(), json!({"$ref": place}))
    };
    names.map(reference).collect()
}

/// What a header is called as a component: `X-Limit` as `XLimit`.
fn component(header: &str) -> String {
    header.replace('-', "")
}

fn merged(mut into: Value, from: &Value, name: impl Fn(&str) -> String) -> Value {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[name(key)] = value.clone();
    }
    into
}

fn object(entries: BTreeMap<String, Value>) -> Value {
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}
