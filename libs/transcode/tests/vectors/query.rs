//! Queries: from Envoy's path matcher, and from grpc-gateway's `query_test.go`, whose `ABitOfEverything` has the fields of
//! protobuf's own test message here.

use crate::get;
use crate::table;
use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use serde_json::json;
use transcode::Lookup;
use transcode::Options;
use transcode::RequestParts;
use transcode::RouteTable;

#[test]
fn r4_the_queries_of_envoys_path_matcher_bind_as_they_do_there() {
    let rules = ["/a", "/a/{x}/b", "/a/{x}/b/{y}/c"].map(|path| format!("get: \"{path}\""));
    for (plus_is_space, path, query, expected) in [
        (false, "/a", "x=hello", (0, json!({"x": "hello"}))),
        (
            false,
            "/a/book/b",
            "y=shelf&z=author",
            (1, json!({"x": "book", "y": "shelf", "z": "author"})),
        ),
        (
            false,
            "/a/hello/b/endpoints/c",
            "z=server&t=proxy",
            (2, json!({"x": "hello", "y": "endpoints", "z": "server", "t": "proxy"})),
        ),
        (false, "/a", "x=Hello%20world", (0, json!({"x": "Hello world"}))),
        (false, "/a", "x=%24%25%2F%20%0A", (0, json!({"x": "$%/ \n"}))),
        (false, "/a", "x=Hello+world&y=%2B+%20", (0, json!({"x": "Hello+world", "y": "++ "}))),
        (true, "/a", "x=Hello+world&y=%2B+%20", (0, json!({"x": "Hello world", "y": "+  "}))),
    ] {
        let options = Options { plus_is_space, ..Options::default() };
        let table = table(&rules, options).expect("good templates");
        assert_eq!(get(&table, path, query), Some((expected.0, Ok(expected.1))), "{path}?{query}");
    }
}

/// A method whose request is the conformance message, all of it from the query.
fn everything() -> RouteTable {
    let source = r#"syntax = "proto3"; package e; import "google/api/annotations.proto";
        import "google/protobuf/test_messages_proto3.proto";
        service E { rpc Get(protobuf_test_messages.proto3.TestAllTypesProto3)
            returns (protobuf_test_messages.proto3.TestAllTypesProto3) {
            option (google.api.http) = { get: "/e" }; } }"#;
    let folder = crate::folder();
    std::fs::write(folder.join("e.proto"), source).expect("a writable folder");
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let roots = [folder.to_str().expect("UTF-8"), tests, crate::THIRD_PARTY];
    let mut compiler = protox::Compiler::new(roots).expect("the folders exist");
    compiler.include_imports(true).open_file("e.proto").expect("it compiles");
    std::fs::remove_dir_all(&folder).expect("it was made above");
    let set = compiler.encode_file_descriptor_set();
    RouteTable::from_pool(&DescriptorPool::decode(&*set).expect("protox encoded it")).expect("good")
}

fn ask(table: &RouteTable, query: &str) -> Result<Value, String> {
    let Lookup::Found(found) = table.find(&http::Method::GET, "/e") else { panic!("no route") };
    let parts = RequestParts { query: Some(query), ..RequestParts::default() };
    let wire = found.request(parts).map_err(|error| error.to_string())?;
    let message = DynamicMessage::decode(found.route.method.input(), wire).expect("a request");
    Ok(serde_json::to_value(message).expect("it has a JSON form"))
}

#[test]
fn r13_and_r14_queries_fill_every_kind_of_field_as_in_grpc_gateway() {
    let table = everything();
    for (query, expected) in [
        (
            "optional_float=1.5&optional_double=2.5",
            json!({"optionalFloat": 1.5, "optionalDouble": 2.5}),
        ),
        (
            "optionalFloat=1.5&optionalDouble=2.5",
            json!({"optionalFloat": 1.5, "optionalDouble": 2.5}),
        ),
        (
            "optional_int64=-1&optional_int32=-2&optional_uint64=3&optional_uint32=4",
            json!({"optionalInt64": "-1", "optionalInt32": -2, "optionalUint64": "3", "optionalUint32": 4}),
        ),
        (
            "optional_bool=true&optional_string=str&optional_bytes=Ynl0ZXM=",
            json!({"optionalBool": true, "optionalString": "str", "optionalBytes": "Ynl0ZXM="}),
        ),
        (
            "optional_bytes=YWJjMTIzIT8kKiYoKSctPUB-",
            json!({"optionalBytes": "YWJjMTIzIT8kKiYoKSctPUB+"}),
        ),
        (
            "repeated_string=a&repeated_string=b&repeatedString=c",
            json!({"repeatedString": ["a", "b", "c"]}),
        ),
        ("optional_nested_enum=1", json!({"optionalNestedEnum": "BAR"})),
        ("optional_nested_enum=BAZ", json!({"optionalNestedEnum": "BAZ"})),
        (
            "repeated_nested_enum=1&repeated_nested_enum=BAZ&repeated_nested_enum=0",
            json!({"repeatedNestedEnum": ["BAR", "BAZ", "FOO"]}),
        ),
        (
            "optional_timestamp=2016-12-15T12:23:32.049Z&optional_duration=13s",
            json!({"optionalTimestamp": "2016-12-15T12:23:32.049Z", "optionalDuration": "13s"}),
        ),
        // There a mask has proto names. R14: as ProtoJSON, which has camelCase.
        (
            "optional_field_mask=floatValue,doubleValue",
            json!({"optionalFieldMask": "floatValue,doubleValue"}),
        ),
        (
            "optional_float_wrapper=1.5&optional_int64_wrapper=-1&optional_uint32_wrapper=4",
            json!({"optionalFloatWrapper": 1.5, "optionalInt64Wrapper": "-1", "optionalUint32Wrapper": 4}),
        ),
        (
            "optional_bool_wrapper=true&optional_string_wrapper=str&optional_bytes_wrapper=Ynl0ZXM=",
            json!({"optionalBoolWrapper": true, "optionalStringWrapper": "str", "optionalBytesWrapper": "Ynl0ZXM="}),
        ),
        (
            "recursive_message.recursive_message.optional_string=t&recursive_message.optional_string=u\
             &recursive_message.recursive_message.repeated_string=a&recursive_message.recursive_message.repeated_string=b",
            json!({"recursiveMessage": {"optionalString": "u", "recursiveMessage": {
                "optionalString": "t", "repeatedString": ["a", "b"]}}}),
        ),
        ("oneof_string=foobar", json!({"oneofString": "foobar"})),
        ("oneofBool=true", json!({"oneofBool": true})),
        ("oneof_nested_message.a=1", json!({"oneofNestedMessage": {"a": 1}})),
        ("oneof_uint32=0", json!({"oneofUint32": 0})),
        ("optional_int32=0&optional_string=", json!({})),
    ] {
        assert_eq!(ask(&table, query), Ok(expected), "{query}");
    }
}

#[test]
fn r13_queries_are_refused_as_in_grpc_gateway_and_where_it_is_lenient() {
    let table = everything();
    for (query, why) in [
        ("optionalTimestamp=null", "must be a time"),
        ("optionalDuration=null", "must be a duration"),
        ("optionalTimestamp=0000-01-01T00:00:00.00Z", "must be a time"),
        ("oneof_bool=true&oneof_string=foobar", "excludes"),
        ("oneof_nested_message.a=1&oneof_string=x", "excludes"),
        ("oneof_string=x&oneof_nested_message.a=1", "excludes"),
        ("optional_uint64=1&optional_uint64=2", "given twice"),
        ("repeated_nested_message.a=1", "is no parameter"),
        ("optional_float.nested=test", "is no parameter"),
        ("optional_string.nested=test", "is no parameter"),
        ("repeated_string.nested=test", "is no parameter"),
        ("optional_nested_enum.nested=test", "is no parameter"),
        ("optional_timestamp.seconds=1", "is no parameter"),
        // grpc-gateway has forms of its own for these. R13: maps and messages that are no scalar are for the body.
        ("map_string_string[a]=b", "is no parameter"),
        ("map_string_string=b", "a query can't hold"),
        ("optional_struct={}", "a query can't hold"),
        ("optional_value=1", "a query can't hold"),
        // It passes over what it does not know.
        ("nonexistent=1", "is no parameter"),
        // It takes Go's forms of a bool. R14: only `true` and `false`.
        ("optional_bool=1", "must be `true` or `false`"),
        ("optional_bool=T", "must be `true` or `false`"),
    ] {
        let refused = ask(&table, query).expect_err(query);
        assert!(refused.contains(why), "{query}: {refused}");
    }
}
