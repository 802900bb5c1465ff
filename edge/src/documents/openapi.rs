//! The OpenAPI document of the public methods: what Linkmesh adds to what its descriptors say.

use prost_reflect::DescriptorPool;
use rpc::Requirement;
use serde_json::Value;
use serde_json::json;
use transcode::About;
use transcode::Access;
use transcode::RouteTable;

use crate::protocols::Method;
use crate::protocols::Methods;

const TITLE: &str = "Linkmesh API";
const VERSION: &str = "v1";
const DESCRIPTION: &str = "Branded short links that redirect at once, and every click counted exactly once. The same methods \
    are served as REST, Connect, gRPC-Web and gRPC on one port; gRPC's reflection lists them.\n\n\
    Who calls proves it by `authorization: Bearer` with an API key or a session's access token, or by `x-api-key`. Errors are RFC \
    9457 problems with a stable `reason`; `Accept` asks for Google's forms instead. 64-bit integers are strings in JSON. An \
    answer has an `ETag`, which `If-None-Match` and, where a resource has an `etag`, `If-Match` take.";

/// The OpenAPI document of these routes to these methods.
pub(super) fn document(routes: &RouteTable, methods: &Methods, pool: &DescriptorPool) -> Value {
    routes.openapi(&About {
        title: TITLE,
        version: VERSION,
        description: DESCRIPTION,
        contact: json!({"name": "Linkmesh", "url": "https://linkmesh.dev"}),
        license: json!({"name": "Proprietary", "identifier": "LicenseRef-Proprietary"}),
        server: "/",
        security_schemes: json!({
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, or the access token of a session.",
            },
            "apiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "x-api-key",
                "description": "An API key, for whoever can't send `authorization`.",
            },
        }),
        access: &|route| methods.find(&route.grpc_path).and_then(access),
        reasons: pool.get_enum_by_name("linkmesh.common.v1.ErrorReason"),
    })
}

/// What a method asks of its caller; none for one that is not public.
fn access(method: &Method) -> Option<Access> {
    let (bearer, key) = (json!({"bearer": []}), json!({"apiKey": []}));
    match method.requires? {
        Requirement::Anyone => Some(Access::default()),
        Requirement::User => Some(Access { security: vec![bearer], scopes: Vec::new() }),
        Requirement::Permission(scope) => Some(Access {
            security: vec![bearer, key],
            scopes: vec![scope.as_str_name().to_owned()],
        }),
        Requirement::Operator => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::contract::Contract;
    use crate::documents::openapi as document;
    use proto::common::v1::ErrorReason;

    fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let items = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().expect("operations");
            item.iter().map(move |(verb, operation)| (path, verb, operation))
        });
        items.collect()
    }

    #[test]
    fn every_public_route_is_there_and_says_what_it_is() {
        let document = document();
        let all = operations(&document);
        assert_eq!(all.len(), Contract::built_in().routes().len());
        for (path, verb, operation) in all {
            for key in ["operationId", "summary", "description"] {
                assert!(
                    operation[key].as_str().is_some_and(|text| !text.is_empty()),
                    "{verb} {path}: {key}"
                );
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let is_told =
                    parameter.get("$ref").is_some() || parameter.get("description").is_some();
                assert!(is_told, "{verb} {path}: {parameter}");
            }
            let responses = operation["responses"].as_object().expect("responses");
            for status in ["200", "400", "429", "500", "503", "504"] {
                assert!(responses.contains_key(status), "{verb} {path}: {status}");
            }
        }
    }

    #[test]
    fn what_a_method_asks_of_its_caller_is_said() {
        let document = document();
        let get = &document["paths"]["/v1/workspaces/{workspace}/links/{link}"]["get"];
        assert_eq!(get["x-scopes"], json!(["SCOPE_LINKS_READ"]), "{get}");
        let keys = &document["paths"]["/.well-known/jwks.json"]["get"];
        assert_eq!(keys["security"], json!([]));
        let reasons = document["components"]["schemas"]["Reason"]["examples"].to_string();
        for reason in [ErrorReason::RateLimited, ErrorReason::EtagMismatch] {
            let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            assert!(reasons.contains(name), "{reasons}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn look(root: &Value, at: &Value) {
            if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("of this document");
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            match at {
                Value::Object(entries) => entries.values().for_each(|value| look(root, value)),
                Value::Array(items) => items.iter().for_each(|value| look(root, value)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        look(&document, &document);
    }
}
