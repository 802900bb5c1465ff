//! The routing and query cases of other transcoders' own tests, as data: which template a path leads to, what it binds, and
//! which templates and queries are refused. From grpc-httpjson-transcoding, which is what Envoy has
//! (`path_matcher_test.cc`, `http_template_test.cc`), and from grpc-gateway v2 (`httprule/parse_test.go`, `compile_test.go`,
//! `runtime/pattern_test.go`, `mux_test.go`, `query_test.go`).
//!
//! A case that goes another way here says by which rule of the specification.

#[path = "vectors/query.rs"]
mod query;
#[path = "vectors/routing.rs"]
mod routing;
#[path = "vectors/templates.rs"]
mod templates;

use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use transcode::Lookup;
use transcode::Options;
use transcode::RequestParts;
use transcode::RouteTable;

const THIRD_PARTY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/third_party");

/// An API of one service with a method for each rule. Their request has whatever field a template of the cases binds.
fn table(rules: &[String], options: Options) -> Result<RouteTable, String> {
    let methods = rules.iter().enumerate().map(|(number, rule)| {
        format!("rpc M{number}(R) returns (R) {{ option (google.api.http) = {{ {rule} }}; }}")
    });
    let names = "a b c d x y z id name oname bucket_name var shelf book endpoint t another_name";
    let strings = (1..)
        .zip(names.split(' '))
        .map(|(number, name)| format!("string {name} = {number} [json_name = \"{name}\"];"));
    let source = format!(
        r#"syntax = "proto3"; package v; import "google/api/annotations.proto";
        message R {{ {} N nested = 100; }} message N {{ N y = 1; string z = 2; N nested = 3; }}
        service S {{ {} }}"#,
        strings.collect::<String>(),
        methods.collect::<String>()
    );
    let folder = folder();
    std::fs::write(folder.join("v.proto"), source).expect("a writable folder");
    let mut compiler = protox::Compiler::new([folder.to_str().expect("UTF-8"), THIRD_PARTY])
        .expect("the folders exist");
    let compiled = compiler.include_imports(true).open_file("v.proto").map(|_| ());
    std::fs::remove_dir_all(&folder).expect("it was made above");
    compiled.map_err(|error| error.to_string())?;
    let set = compiler.encode_file_descriptor_set();
    let pool = DescriptorPool::decode(&*set).expect("protox encoded it");
    let table = RouteTable::from_pool(&pool).map_err(|error| error.to_string())?;
    Ok(table.with_options(|_| options))
}

/// Which rule a GET leads to, and what it makes of the request, as JSON.
fn get(table: &RouteTable, path: &str, query: &str) -> Option<(usize, Result<Value, String>)> {
    let Lookup::Found(found) = table.find(&http::Method::GET, path) else { return None };
    let name = found.route.method.name();
    let number = name[1..].parse().expect("methods are numbered");
    let request = found.request(RequestParts { query: Some(query), ..RequestParts::default() });
    let message = request.map_err(|error| error.to_string()).map(|wire| {
        let message = DynamicMessage::decode(found.route.method.input(), wire).expect("a request");
        serde_json::to_value(message).expect("it has a JSON form")
    });
    Some((number, message))
}

fn folder() -> std::path::PathBuf {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("vectors-{}-{number}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder of our own");
    folder
}
