//! Limits that fields state as `buf.validate`: read, and said in JSON Schema's words.

use crate::compile;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use serde_json::json;
use std::sync::LazyLock;
use transcode::About;
use transcode::Access;
use transcode::Limits;
use transcode::RouteTable;
use transcode::TextFormat;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    compile(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos"), &["test/limits.proto"])
});

fn limits(field: &str) -> Option<Limits> {
    let (message, field) = field.split_once('.').expect("message.field");
    let message = POOL.get_message_by_name(&format!("test.limits.{message}")).expect(message);
    Limits::of(&message.get_field_by_name(field).expect(field)).expect("rules that are known")
}

fn document() -> Value {
    RouteTable::from_pool(&POOL).expect("the test API is well-formed").openapi(&About {
        title: "Shop",
        version: "v1",
        description: "Offers.",
        contact: json!({"name": "Us"}),
        license: json!({"name": "None"}),
        server: "/",
        security_schemes: json!({}),
        access: &|_| Some(Access::default()),
        parameters: json!({}),
        headers: json!({}),
        reasons: None,
    })
}

#[test]
fn limits_are_read_as_they_are_stated() {
    assert_eq!(limits("Offer.name"), None);
    let name = Limits {
        chars_max: Some(100),
        bytes_max: Some(300),
        pattern: Some("^[^x]*$".to_owned()),
        ..Limits::default()
    };
    assert_eq!(limits("Offer.display_name"), Some(name));
    let uri = Limits { takes_zero: true, bytes_max: Some(50), ..Limits::default() };
    assert_eq!(limits("Offer.uri"), Some(uri));
    let id = limits("Offer.request_id").expect("it states some");
    assert_eq!((id.format, id.refused_texts.len()), (Some(TextFormat::Uuid), 1));
    let tags = limits("Offer.tags").expect("it states some");
    let of_items = Limits { chars_min: Some(1), chars_max: Some(50), ..Limits::default() };
    assert_eq!((tags.items_max, tags.items), (Some(20), Some(Box::new(of_items))));
    let overlap = limits("Offer.overlap").expect("it states some");
    assert_eq!((overlap.seconds_min, overlap.seconds_max), (Some(0), Some(60)));
    assert_eq!(limits("Offer.after").and_then(|limits| limits.after), Some(7));
    assert!(limits("Offer.soon").is_some_and(|limits| limits.is_future));
    assert_eq!(limits("GetRequest.page_size").and_then(|limits| limits.min), Some(0));
}

#[test]
fn a_rule_that_can_not_be_read_is_an_error_and_not_passed_over() {
    let message = POOL.get_message_by_name("test.limits.Unreadable").expect("it is there");
    let read = Limits::of(&message.get_field_by_name("soon").expect("it is there"));
    assert_eq!(read, Err("buf.validate.TimestampRules.gt".to_owned()));
}

#[test]
fn a_field_is_described_with_its_limits() {
    let document = document();
    let offer = &document["components"]["schemas"]["Offer"]["properties"];
    for (name, expected) in [
        (
            "displayName",
            json!({"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[^x]*$"}),
        ),
        ("uri", json!({"type": "string", "maxLength": 50})),
        (
            "requestId",
            json!({"type": "string", "format": "uuid", "not": {"enum": ["00000000-0000-0000-0000-000000000000"]}}),
        ),
        ("email", json!({"type": "string", "minLength": 3, "format": "email"})),
        (
            "tags",
            json!({"type": "array", "maxItems": 20, "items": {"type": "string", "minLength": 1, "maxLength": 50}}),
        ),
        (
            "colors",
            json!({"type": "array", "minItems": 1, "items": {
                "$ref": "#/components/schemas/Color", "not": {"enum": ["COLOR_UNSPECIFIED"]},
            }}),
        ),
        (
            "color",
            json!({"$ref": "#/components/schemas/Color", "not": {"enum": ["COLOR_UNSPECIFIED"]}}),
        ),
        ("after", json!({"type": "string", "format": "date-time"})),
    ] {
        assert_eq!(offer[name], expected, "{name}");
    }
    let all = document["components"]["schemas"]["Offer"]["allOf"].as_array().expect("both oneofs");
    let one_of = json!({"anyOf": [{"required": ["euros"]}, {"required": ["words"]}]});
    assert_eq!((all.len(), all.contains(&one_of)), (3, true), "{all:?}");
    assert_eq!(offer["overlap"]["pattern"], r"^[0-9]{1,12}(\.[0-9]{1,9})?s$", "none is negative");
}

#[test]
fn names_in_paths_and_masks_in_queries_have_their_patterns() {
    let document = document();
    let paths = &document["paths"]["/v1/shops/{shop}/offers/{offer}"];
    let schema = |verb: &str, name: &str| {
        let list = paths[verb]["parameters"].as_array().expect("parameters");
        let found = list.iter().find(|parameter| parameter["name"] == name).expect(name);
        found["schema"].clone()
    };
    assert_eq!(schema("get", "shop"), json!({"type": "string", "pattern": "^[a-z]+$"}));
    let offer = json!({"type": "string", "pattern": "^(new|off_[0-9]{3})$"});
    assert_eq!(schema("get", "offer"), offer);
    assert_eq!(schema("get", "pageSize")["minimum"], 0);
    assert_eq!(schema("patch", "offer"), json!({"type": "string", "minLength": 1}));
    let mask = r"^(\*|(displayName|size\.width)(,(displayName|size\.width))*)?$";
    assert_eq!(schema("patch", "updateMask")["pattern"], mask);
}
