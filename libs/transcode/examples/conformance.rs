//! What protobuf's own conformance runner talks to: it asks on standard input for messages between JSON and wire bytes, and is
//! answered on standard output. `tests/conformance.rs` starts the runner with this program.

use prost::Message as _;
use std::io::Read as _;
use std::io::Write as _;
use transcode::MessageType;
use transcode::ReadOptions;
use transcode::Schema;
use transcode::WriteOptions;

/// The parts of `conformance.ConformanceRequest` that are looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    payload: Option<Payload>,
    #[prost(int32, tag = "3")]
    requested_output_format: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    test_category: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Payload {
    #[prost(bytes, tag = "1")]
    Protobuf(Vec<u8>),
    #[prost(bytes, tag = "2")]
    Json(Vec<u8>),
    #[prost(bytes, tag = "7")]
    Jspb(Vec<u8>),
    #[prost(bytes, tag = "8")]
    Text(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(oneof = "Outcome", tags = "1, 3, 4, 5, 6")]
    result: Option<Outcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Outcome {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(bytes, tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(bytes, tag = "4")]
    Json(Vec<u8>),
    #[prost(string, tag = "5")]
    Skipped(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
}

const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
const JSON_IGNORE_UNKNOWN: i32 = 3;

fn main() {
    let schema = schema();
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut length = [0; 4];
    while input.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut request).expect("the runner sends whole requests");
        let request = Request::decode(&*request).expect("the runner sends requests");
        let response = Response { result: Some(answer(&schema, request)) }.encode_to_vec();
        let length = u32::try_from(response.len()).expect("answers are short");
        output.write_all(&length.to_le_bytes()).expect("the runner listens");
        output.write_all(&response).expect("the runner listens");
        output.flush().expect("the runner listens");
    }
}

fn schema() -> Schema {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let mut compiler = protox::Compiler::new([folder]).expect("the folder exists");
    compiler.include_imports(true);
    let files = [
        "google/protobuf/test_messages_proto2.proto",
        "google/protobuf/test_messages_proto3.proto",
    ];
    let set = compiler.open_files(files).expect("the protos compile").encode_file_descriptor_set();
    Schema::new(&prost_reflect::DescriptorPool::decode(&*set).expect("protox encoded it"))
}

fn answer(schema: &Schema, request: Request) -> Outcome {
    let skipped = |why: &str| Outcome::Skipped(why.to_owned());
    let Some(message) = schema.message(&request.message_type) else {
        return skipped("prost-reflect reads no editions");
    };
    let wire = match request.payload {
        Some(Payload::Json(json)) => match to_wire(schema, message, &json, request.test_category) {
            Ok(wire) => wire,
            Err(error) => return Outcome::ParseError(error),
        },
        Some(Payload::Protobuf(wire)) if request.requested_output_format == JSON => wire,
        _ => return skipped("neither from nor to JSON"),
    };
    match request.requested_output_format {
        PROTOBUF => Outcome::Protobuf(wire),
        JSON if !schema.is_message(message, &wire) => Outcome::ParseError("no message".to_owned()),
        JSON => {
            let mut json = Vec::new();
            match schema.to_json(message, &wire, WriteOptions::default(), &mut json) {
                Ok(()) => Outcome::Json(json),
                Err(error) => Outcome::SerializeError(error.to_string()),
            }
        }
        _ => skipped("neither from nor to JSON"),
    }
}

fn to_wire(
    schema: &Schema,
    message: MessageType,
    json: &[u8],
    category: i32,
) -> Result<Vec<u8>, String> {
    let ignores_unknown = category == JSON_IGNORE_UNKNOWN;
    let options = ReadOptions { ignores_unknown, ..ReadOptions::default() };
    let mut wire = Vec::new();
    schema.to_wire(message, json, options, &mut wire).map_err(|error| error.to_string())?;
    Ok(wire)
}
