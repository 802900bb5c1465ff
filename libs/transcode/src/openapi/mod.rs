//! OpenAPI 3.1 of a route table: what a REST client may send, what it gets, and what the comments of the protos say of it.
//!
//! What must stay true: the document says nothing that the table does not do. Paths, parameters, bodies and answers are read from
//! what requests are read by; a route that OpenAPI has no words for (a custom method) is left out.

mod comments;
mod errors;
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
        let mut operations = Operations::new(&pool, &comments);
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
                "responses": errors::responses(),
                "headers": errors::headers(),
                "parameters": parameters::conditions(),
                "securitySchemes": about.security_schemes,
            },
        })
    }
}

fn object(entries: BTreeMap<String, Value>) -> Value {
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}
