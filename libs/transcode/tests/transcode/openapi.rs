//! The OpenAPI document of the test API: every form of a rule, said in OpenAPI's words.

use crate::LIBRARY;
use serde_json::Value;
use serde_json::json;
use std::sync::LazyLock;
use transcode::About;
use transcode::Access;
use transcode::Route;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    LIBRARY.openapi(&About {
        title: "Library",
        version: "v1",
        description: "Books.",
        contact: json!({"name": "Us"}),
        license: json!({"name": "None"}),
        server: "/",
        security_schemes: json!({"bearer": {"type": "http", "scheme": "bearer"}}),
        access: &|route: &Route| match route.method.name() {
            "Cover" => None,
            "Raw" => Some(Access::default()),
            name => Some(Access {
                security: vec![json!({"bearer": []})],
                scopes: vec!["READ".to_owned()],
                parameters: if name == "Order" { vec!["Key"] } else { Vec::new() },
                has_headers: true,
            }),
        },
        parameters: json!({"Key": {"name": "Key", "in": "header", "schema": {"type": "string"}}}),
        headers: json!({"X-Left": {"schema": {"type": "integer"}}}),
        reasons: None,
    })
}

fn operation(verb: &str, path: &str) -> &'static Value {
    let operation = &DOCUMENT["paths"][path][verb];
    assert!(
        operation.is_object(),
        "{verb} {path}: {:?}",
        DOCUMENT["paths"].as_object().map(|it| it.keys().collect::<Vec<_>>())
    );
    operation
}

fn schema(name: &str) -> &'static Value {
    let schema = &DOCUMENT["components"]["schemas"][name];
    assert!(schema.is_object(), "{name}");
    schema
}

fn names(operation: &Value, place: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().expect("parameters");
    let here = parameters.iter().filter(|parameter| parameter["in"] == place);
    here.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn each_binding_is_an_operation_under_a_path_of_single_segments() {
    let one = operation("get", "/v1/shelves/{shelve}/books/{book}");
    assert_eq!(one["operationId"], "Library_GetBook");
    assert_eq!((&one["security"], &one["x-scopes"]), (&json!([{"bearer": []}]), &json!(["READ"])));
    assert_eq!(names(one, "path"), ["shelve", "book"]);
    assert_eq!(names(one, "query"), ["view"]);
    assert_eq!(operation("get", "/v1/books/{name}")["operationId"], "Library_GetBook_2");
    assert_eq!(operation("get", "/v1/any/{name}")["operationId"], "Library_GetBook_3");
    operation("delete", "/v1/trash/{trash}:purge");
    operation("put", "/v1/echo/{int64Value}");
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    assert!(!paths.keys().any(|path| path.contains("cover") || path.contains("count")));
    assert_eq!(DOCUMENT["tags"], json!([{"name": "Library", "description": ""}]));
    assert_eq!(document(), *DOCUMENT, "the same table, the same document");
}

#[test]
fn a_query_has_what_neither_path_nor_body_has() {
    let search = operation("get", "/v1/shelves/{shelve}/books:search");
    let parameters = names(search, "query");
    for name in
        ["tags", "genre", "author.fullName", "author.born", "since", "pageSize", "rare", "genres"]
    {
        assert!(parameters.iter().any(|listed| listed == name), "{name}: {parameters:?}");
    }
    for name in ["parent", "authors", "labels", "author"] {
        assert!(!parameters.iter().any(|listed| listed == name), "{name}");
    }
    let find = |name: &str| {
        let list = search["parameters"].as_array().expect("a list");
        list.iter().find(|parameter| parameter["name"] == name).expect(name)["schema"].clone()
    };
    assert_eq!(find("tags"), json!({"type": "array", "items": {"type": "string"}}));
    assert_eq!(find("since"), json!({"type": "string", "format": "date-time"}));
    assert_eq!(find("genre"), json!({"$ref": "#/components/schemas/Genre"}));
    let echo = &operation("post", "/v1/echo")["parameters"];
    assert!(echo.is_null(), "what the whole body has is in no query: {echo}");
}

#[test]
fn bodies_and_answers_are_what_the_rule_says() {
    let create = operation("post", "/v1/shelves/{shelve}/books");
    let (book, sent) = ("#/components/schemas/Book", "#/components/schemas/BookInput");
    let (book, sent) = (json!({"$ref": book}), json!({"$ref": sent}));
    assert_eq!(create["requestBody"]["content"]["application/json"]["schema"], sent);
    let sent = schema("BookInput");
    assert!(sent["properties"].get("createTime").is_none(), "clients don't send it: {sent}");
    assert_eq!(
        (&sent["additionalProperties"], schema("Book").get("additionalProperties")),
        (&false.into(), None)
    );
    assert_eq!(create["responses"]["200"]["content"]["application/json"]["schema"], book);
    let patch = operation("patch", "/v1/shelves/{shelve}/books/{book}");
    let changed = &patch["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(*changed, json!({"$ref": "#/components/schemas/BookPatch"}));
    let properties = schema("BookPatch")["properties"].as_object().expect("properties");
    assert!(properties.contains_key("displayTitle") && properties.contains_key("etag"));
    assert!(!properties.contains_key("name") && !properties.contains_key("createTime"));
    let bound = &operation("put", "/v1/echo/{int64Value}")["requestBody"]["content"];
    let bound = bound["application/json"]["schema"]["properties"].as_object().expect("inline");
    assert!(!bound.contains_key("int64Value") && bound.contains_key("int32Value"));
    let tags = operation("put", "/v1/shelves/{shelve}/tags");
    let list = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(tags["requestBody"]["content"]["application/json"]["schema"], list);
    assert_eq!(tags["responses"]["200"]["content"]["application/json"]["schema"], list);
}

#[test]
fn streams_and_raw_bytes_have_their_media_types() {
    let types = |content: &Value| -> Vec<String> {
        content.as_object().expect("content").keys().cloned().collect()
    };
    let watch = operation("get", "/v1/shelves/{shelve}/books/{book}:watch");
    let content = &watch["responses"]["200"]["content"];
    assert_eq!(types(content), ["application/json", "application/x-ndjson", "text/event-stream"]);
    assert_eq!(content["application/json"]["schema"]["type"], "array");
    let append = operation("post", "/v1/shelves/{shelve}/books:append");
    assert_eq!(
        types(&append["requestBody"]["content"]),
        ["application/json", "application/x-ndjson"]
    );
    assert_eq!(append["requestBody"]["required"], true, "no messages are said, too");
    let import = operation("post", "/v1/shelves/{shelve}/books:import");
    let item = &import["requestBody"]["content"]["application/json"]["schema"]["items"];
    assert!(item["properties"].get("city").is_some() && item["properties"].get("parent").is_none());
    assert!(import["responses"]["200"]["content"].get("application/x-ndjson").is_some());
    assert!(operation("get", "/v1/shelves/{shelve}/books/{book}:listen")["requestBody"].is_null());
    let upload = &operation("post", "/v1/files/{file}:upload")["requestBody"];
    assert_eq!(types(&upload["content"]), ["*/*"]);
    assert_eq!(upload["required"], false, "a file may be empty");
    let download = &operation("get", "/v1/files/{file}:download")["responses"]["200"];
    assert_eq!(types(&download["content"]), ["*/*"]);
    assert!(download["description"].as_str().is_some_and(|said| said.starts_with("Bytes")));
    let raw = operation("put", "/v1/raw");
    assert_eq!(types(&raw["requestBody"]["content"]), ["*/*"]);
    assert_eq!(types(&raw["responses"]["200"]["content"]), ["*/*"]);
}

#[test]
fn schemas_are_what_protojson_is() {
    let all = &schema("Everything")["properties"];
    for (name, expected) in [
        ("int32Value", json!({"type": "integer", "format": "int32"})),
        ("boolValue", json!({"type": "boolean"})),
        ("int64Value", json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})),
        ("timestamp", json!({"type": "string", "format": "date-time"})),
        ("struct", json!({"type": "object"})),
        ("value", json!({})),
        ("wrapped", json!({"type": ["string", "null"]})),
        ("nested", json!({"$ref": "#/components/schemas/Everything"})),
        (
            "byName",
            json!({"type": "object", "additionalProperties": {
                "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$",
            }}),
        ),
    ] {
        assert_eq!(all[name], expected, "{name}");
    }
    assert_eq!(
        schema("Genre")["enum"],
        json!(["GENRE_UNSPECIFIED", "GENRE_POETRY", "GENRE_PROSE"])
    );
    assert_eq!(
        schema("Everything")["allOf"],
        json!([
            {"not": {"properties": {"left": {}, "right": {}}, "required": ["left", "right"]}},
        ])
    );
    assert_eq!(schema("OrderInput")["required"], json!(["address"]));
    assert!(schema("OrderInput")["properties"].get("state").is_none(), "it is for answers alone");
    assert_eq!(schema("Order.LineInput")["required"], json!(["title"]));
    assert_eq!(schema("Book")["properties"]["createTime"]["readOnly"], true);
    assert_eq!(operation("post", "/v1/echo")["requestBody"]["required"], false);
}

#[test]
fn errors_and_conditions_are_there_where_they_apply() {
    let statuses = |operation: &Value| -> Vec<String> {
        operation["responses"].as_object().expect("responses").keys().cloned().collect()
    };
    let get = operation("get", "/v1/books/{name}");
    assert_eq!(
        statuses(get),
        ["200", "304", "400", "401", "403", "404", "412", "429", "500", "503", "504"]
    );
    let raw = statuses(operation("put", "/v1/raw"));
    assert!(raw.contains(&"413".to_owned()) && !raw.contains(&"412".to_owned()), "{raw:?}");
    let patch = operation("patch", "/v1/shelves/{shelve}/books/{book}");
    let parameters = patch["parameters"].to_string();
    assert!(parameters.contains("#/components/parameters/IfMatch"), "{parameters}");
    let create = operation("post", "/v1/shelves/{shelve}/books")["parameters"].to_string();
    assert!(!create.contains("IfMatch"), "{create}");
    let problem = &DOCUMENT["components"]["responses"]["Unauthorized"];
    assert!(problem["headers"].get("WWW-Authenticate").is_some());
    assert!(problem["headers"].get("X-Left").is_some());
    assert!(problem["content"].get("application/problem+json").is_some());
}

#[test]
fn headers_that_no_field_stands_for_are_there_where_the_caller_says() {
    let order = operation("post", "/v1/shelves/{shelve}/orders");
    let key = json!({"$ref": "#/components/parameters/Key"});
    let has_key = |operation: &Value| {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.any(|parameter| *parameter == key)
    };
    assert!(has_key(order) && !has_key(operation("get", "/v1/books/{name}")));
    let left = json!({"$ref": "#/components/headers/XLeft"});
    assert_eq!(order["responses"]["200"]["headers"]["X-Left"], left);
    assert!(operation("put", "/v1/raw")["responses"]["200"]["headers"].is_null());
    assert_eq!(DOCUMENT["components"]["headers"]["XLeft"]["schema"]["type"], "integer");
    assert_eq!(DOCUMENT["components"]["parameters"]["Key"]["in"], "header");
}
