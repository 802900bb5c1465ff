//! What a REST client may rely on: routing, binding, JSON and what is refused, on a test API and on the real protos.

#[path = "transcode/binding.rs"]
mod binding;
#[path = "transcode/json.rs"]
mod json;
#[path = "transcode/limits.rs"]
mod limits;
#[path = "transcode/loading.rs"]
mod loading;
#[path = "transcode/openapi.rs"]
mod openapi;
#[path = "transcode/options.rs"]
mod options;
#[path = "transcode/preconditions.rs"]
mod preconditions;
#[path = "transcode/properties.rs"]
mod properties;
#[path = "transcode/raw.rs"]
mod raw;
#[path = "transcode/routing.rs"]
mod routing;
#[path = "transcode/streams.rs"]
mod streams;

use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use serde_json::Value;
use std::sync::LazyLock;
use transcode::Lookup;
use transcode::Match;
use transcode::Options;
use transcode::RequestParts;
use transcode::RouteTable;
use transcode::TranscodeError;

const THIRD_PARTY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/third_party");

/// The route table of `tests/protos/test/library.proto`.
static LIBRARY: LazyLock<RouteTable> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let pool = compile(folder, &["test/library.proto"]);
    let options = Options { plus_is_space: true, ..Options::default() };
    RouteTable::from_pool(&pool).expect("the test API is well-formed").with_options(|_| options)
});

fn compile(folder: &str, files: &[&str]) -> DescriptorPool {
    let mut compiler = protox::Compiler::new([folder, THIRD_PARTY]).expect("the folders exist");
    compiler.include_imports(true).open_files(files).expect("the protos compile");
    let set = compiler.encode_file_descriptor_set();
    DescriptorPool::decode(set.as_slice()).expect("protox encoded it")
}

fn find(table: &RouteTable, method: &str, path: &str) -> Option<Match> {
    match table.find(&method.parse().expect("a method"), path) {
        Lookup::Found(found) => Some(found),
        Lookup::MethodNotAllowed { .. } | Lookup::NotFound => None,
    }
}

/// What a request to the test API becomes: the gRPC path and the message as JSON.
fn ask(method: &str, uri: &str, body: &str) -> Result<(String, Value), TranscodeError> {
    let (path, query) =
        uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let found =
        find(&LIBRARY, method, path).unwrap_or_else(|| panic!("no route for {method} {path}"));
    let content_type = Some("application/json");
    let message = found.request(RequestParts { query, content_type, body: body.as_bytes() })?;
    Ok((found.route.grpc_path.clone(), show(&found, &message)))
}

/// The message of [`ask`] alone.
fn message(method: &str, uri: &str, body: &str) -> Value {
    match ask(method, uri, body) {
        Ok((_, message)) => message,
        Err(error) => panic!("{method} {uri} {body}: {error}"),
    }
}

/// The fields that [`ask`] complains about.
fn refused(method: &str, uri: &str, body: &str) -> Vec<String> {
    match ask(method, uri, body) {
        Ok((_, message)) => panic!("{method} {uri} {body} was accepted as {message}"),
        Err(TranscodeError::Invalid(violations)) => {
            violations.into_iter().map(|violation| violation.field).collect()
        }
        Err(TranscodeError::Malformed(_)) => vec!["(malformed)".to_owned()],
        Err(TranscodeError::MediaType(_)) => vec!["(media type)".to_owned()],
        Err(TranscodeError::TooLong { .. }) => vec!["(too long)".to_owned()],
    }
}

fn show(found: &Match, message: &[u8]) -> Value {
    let message = DynamicMessage::decode(found.route.method.input(), message).expect("the request");
    serde_json::to_value(&message).expect("a message has a JSON form")
}
