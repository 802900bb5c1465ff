//! The OpenAPI document of the public methods: what Linkmesh adds to what its descriptors say.

use prost_reflect::DescriptorPool;
use rpc::Requirement;
use serde_json::Value;
use serde_json::json;
use transcode::About;
use transcode::Access;
use transcode::RouteTable;

use crate::caching;
use crate::protocols::Method;
use crate::protocols::Methods;

/// The component that says what `Idempotency-Key` is.
const IDEMPOTENCY_KEY: &str = "IdempotencyKey";

const TITLE: &str = "Linkmesh API";
const VERSION: &str = "v1";
const DESCRIPTION: &str = "Branded short links that redirect at once, and every click counted exactly once. The same methods \
    are served as REST, Connect, gRPC-Web and gRPC on one port; gRPC's reflection lists them.\n\n\
    Who calls proves it by `authorization: Bearer` with an API key or a session's access token, or by `x-api-key`. Errors are RFC \
    9457 problems with a stable `reason`; `Accept` asks for Google's forms instead. 64-bit integers are strings in JSON. An \
    answer has an `ETag`, which `If-None-Match` and, where a resource has an `etag`, `If-Match` take. Whatever changes something may \
    be sent again under the same `Idempotency-Key`, and is done once. Fields that are not described are \
    refused. Limits of fields are those that the protos state as `buf.validate`: what exceeds one is refused with the field's name.";

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
            "session": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The access token of a session: for what a person does for themselves. An API key is refused with 403.",
            },
            "apiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "x-api-key",
                "description": "An API key, for whoever can't send `authorization`.",
            },
        }),
        access: &|route| methods.find(&route.grpc_path).and_then(access),
        parameters: parameters(),
        headers: headers(),
        reasons: pool.get_enum_by_name("linkmesh.common.v1.ErrorReason"),
    })
}

/// What a method asks of its caller; none for one that is not public.
fn access(method: &Method) -> Option<Access> {
    let (security, scopes) = match method.requires? {
        Requirement::Anyone => (Vec::new(), Vec::new()),
        Requirement::User => (vec![json!({"session": []})], Vec::new()),
        Requirement::Permission(scope) => {
            let either = vec![json!({"bearer": []}), json!({"apiKey": []})];
            (either, vec![scope.as_str_name().to_owned()])
        }
        Requirement::Operator => return None,
    };
    let is_identified = method.request_id.is_some();
    let parameters = if is_identified { vec![IDEMPOTENCY_KEY] } else { Vec::new() };
    // How one client stands is nothing to the others that a shared cache answers.
    let has_headers = !caching::is_for_shared(method);
    Some(Access { security, scopes, parameters, has_headers })
}

/// The headers that stand for a field of every request that has it.
fn parameters() -> Value {
    json!({
        IDEMPOTENCY_KEY: {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same as `requestId`, as a header: the same key again is answered as the first time, and nothing is done \
                            twice. A UUID, or anything else that the caller never uses for another call, in quotes or without. With \
                            another `requestId` beside it the call is refused.",
            "schema": {
                "type": "string",
                "pattern": r#"^("[!#-+\--:<-\[\]-~]{1,255}"|[!#-+\--:<-\[\]-~]{1,255})$"#,
            },
        },
    })
}

/// What an answer says of its client's limits.
fn headers() -> Value {
    let number = |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    let text =
        |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "X-RateLimit-Limit": number(
            "How many requests the limit lets through: the one that refused, or of which the fewest are left.",
        ),
        "X-RateLimit-Remaining": number("How many of them are left."),
        "X-RateLimit-Reset": number(
            "In how many seconds all of them are there again; of a refused request, when the next one is let through.",
        ),
        "RateLimit": text(
            "The same as draft-ietf-httpapi-ratelimit-headers has it, where the operator switched it on.",
        ),
        "RateLimit-Policy": text("All limits that the request was held to, of the same draft."),
    })
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
        assert_eq!(get["security"], json!([{"bearer": []}, {"apiKey": []}]));
        let keys = &document["paths"]["/.well-known/jwks.json"]["get"];
        assert_eq!(keys["security"], json!([]));
        let own = &document["paths"]["/v1/users/{user}"]["get"];
        assert_eq!(own["security"], json!([{"session": []}]), "a key is no person");
        let reasons = document["components"]["schemas"]["Reason"]["examples"].to_string();
        for reason in [ErrorReason::RateLimited, ErrorReason::EtagMismatch] {
            let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            assert!(reasons.contains(name), "{reasons}");
        }
    }

    #[test]
    fn whatever_changes_something_takes_an_idempotency_key_and_nothing_else_does() {
        let document = document();
        let key = json!({"$ref": "#/components/parameters/IdempotencyKey"});
        for (path, verb, operation) in operations(&document) {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            let takes_one = parameters.any(|parameter| *parameter == key);
            // What its proto says why of.
            let is_excused = path.ends_with(":begin");
            assert_eq!(takes_one, verb != "get" && !is_excused, "{verb} {path}");
        }
    }

    #[test]
    fn answers_say_how_their_client_stands_unless_they_are_for_every_cache() {
        let document = document();
        let has = |response: &Value, header: &str| response["headers"].get(header).is_some();
        for (path, verb, operation) in operations(&document) {
            let is_for_all = path == "/.well-known/jwks.json";
            let has_limit = has(&operation["responses"]["200"], "X-RateLimit-Limit");
            assert_eq!(has_limit, !is_for_all, "{verb} {path}");
        }
        let refused = &document["components"]["responses"]["TooManyRequests"];
        for header in ["Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit"] {
            assert!(has(refused, header), "{header}");
        }
    }

    #[test]
    fn limits_of_fields_are_said_as_the_protos_state_them() {
        let document = document();
        let link = &document["components"]["schemas"]["Link"]["properties"];
        assert_eq!(link["slug"]["pattern"], "^[A-Za-z0-9_-]*$");
        assert_eq!(link["slug"]["maxLength"], 64);
        assert_eq!(
            (&link["tags"]["maxItems"], &link["displayName"]["maxLength"]),
            (&20.into(), &200.into())
        );
        assert_eq!(link["tags"]["items"]["maxLength"], 50);
        assert_eq!(link["destinationUri"]["minLength"], 1);
        let list = &document["paths"]["/v1/workspaces/{workspace}/links"]["get"];
        let workspace = &list["parameters"][0];
        assert_eq!(workspace["name"], "workspace");
        assert_eq!(workspace["schema"]["pattern"], "^wsp_[0-9a-f]{32}$");
        for message in proto::DESCRIPTORS.all_messages() {
            for field in message.fields() {
                let limits = transcode::Limits::of(&field);
                assert!(limits.is_ok(), "{}: {limits:?} is not known", field.full_name());
            }
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
