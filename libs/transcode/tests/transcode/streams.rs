//! Streams of a client: made into messages out of a body that is cut at whatever bytes it arrives in.

use crate::LIBRARY;
use crate::find;
use crate::show;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use transcode::Options;
use transcode::RouteTable;
use transcode::TranscodeError;

const APPEND: &str = "/v1/shelves/a/books:append";
const IMPORT: &str = "/v1/shelves/a/books:import";
const UPLOAD: &str = "/v1/files/f:upload";
const LINES_TYPE: &str = "application/x-ndjson";
const ARRAY_TYPE: &str = "application/json";
const MESSAGE_BYTES_MAX: usize = 64;

/// The messages of a body that arrives in these pieces.
fn read(
    uri: &str,
    content_type: Option<&str>,
    pieces: &[&[u8]],
) -> Result<Vec<Value>, TranscodeError> {
    read_from(&LIBRARY, "POST", uri, content_type, pieces)
}

fn read_from(
    table: &RouteTable,
    method: &str,
    uri: &str,
    content_type: Option<&str>,
    pieces: &[&[u8]],
) -> Result<Vec<Value>, TranscodeError> {
    let (path, query) =
        uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let found = find(table, method, path).expect("a route");
    assert!(found.route.method.is_client_streaming());
    let mut incoming = found.clone().incoming(query, content_type, MESSAGE_BYTES_MAX)?;
    let mut messages = Vec::new();
    for piece in pieces {
        incoming.push(Bytes::copy_from_slice(piece));
        while let Some(message) = incoming.next()? {
            messages.push(show(&found, &message));
        }
    }
    messages.extend(incoming.finish()?.map(|message| show(&found, &message)));
    assert_eq!(incoming.made(), messages.len());
    Ok(messages)
}

/// The books of a stream of these.
fn books(content_type: &str, pieces: &[&[u8]]) -> Result<Vec<Value>, TranscodeError> {
    let messages = read(APPEND, Some(content_type), pieces)?;
    Ok(messages.iter().map(|message| message["book"].clone()).collect())
}

/// The fields that a stream of lines is refused for.
fn refused(uri: &str, lines: &str) -> Vec<String> {
    match read(uri, Some(LINES_TYPE), &[lines.as_bytes()]) {
        Err(TranscodeError::Invalid(violations)) => {
            violations.into_iter().map(|violation| violation.field).collect()
        }
        other => panic!("{uri} {lines}: {other:?}"),
    }
}

const ARRAY: &str =
    r#" [ {"displayTitle": "a,]}\"\\", "tags": ["[{"]} , {"labels": {"k": "v"}},{} ] "#;
const LINES: &str = "{\"displayTitle\": \"a,]}\\\"\\\\\", \"tags\": [\"[{\"]}\n\r\n \n{\"labels\": {\"k\": \"v\"}}\r\n{}";

fn expected() -> Vec<Value> {
    vec![
        json!({"displayTitle": "a,]}\"\\", "tags": ["[{"]}),
        json!({"labels": {"k": "v"}}),
        json!({}),
    ]
}

#[test]
fn a_clients_stream_is_an_array_or_lines() {
    assert_eq!(books(ARRAY_TYPE, &[ARRAY.as_bytes()]), Ok(expected()));
    assert_eq!(books(LINES_TYPE, &[LINES.as_bytes()]), Ok(expected()));
    assert_eq!(books("application/jsonl; charset=utf-8", &[LINES.as_bytes()]), Ok(expected()));
    for (content_type, body) in [
        (ARRAY_TYPE, ""),
        (ARRAY_TYPE, "[]"),
        (ARRAY_TYPE, " [ ]\n"),
        (LINES_TYPE, ""),
        (LINES_TYPE, "\n\n"),
    ] {
        assert_eq!(books(content_type, &[body.as_bytes()]), Ok(vec![]), "{content_type} {body}");
    }
}

#[test]
fn what_is_no_stream_is_refused() {
    for body in [
        "{}", "[", "[{}", "[{},", "[{},]", "[,{}]", "[{}]x", "[{}][]", "[{} {}]", "[1}", "[\"", "x",
    ] {
        assert!(books(ARRAY_TYPE, &[body.as_bytes()]).is_err(), "{body}");
    }
    for body in ["{}\n{\n", "{} {}\n", "[{}]\n", "\u{c}{}\n", "{}\n\u{feff}{}"] {
        assert!(books(LINES_TYPE, &[body.as_bytes()]).is_err(), "{body}");
    }
    for content_type in [Some("text/plain"), Some("application/octet-stream"), Some(""), None] {
        let refused = read(APPEND, content_type, &[]);
        assert!(matches!(refused, Err(TranscodeError::MediaType(_))), "{content_type:?}");
    }
}

#[test]
fn r23_a_message_of_a_stream_is_bounded_while_it_arrives() {
    for (content_type, start) in [(ARRAY_TYPE, "[{},\""), (LINES_TYPE, "{}\n\"")] {
        let long = format!("{start}{}", "x".repeat(100));
        let refused = books(content_type, &[long.as_bytes()]);
        let expected = TranscodeError::TooLong { index: 1, bytes_max: MESSAGE_BYTES_MAX };
        assert_eq!(refused, Err(expected), "{content_type}");
    }
    let deep = format!("[{}", "[".repeat(101));
    let refused = find(&LIBRARY, "POST", APPEND).expect("a route");
    let mut refused = refused.incoming(None, Some(ARRAY_TYPE), 1_000).expect("its type is taken");
    refused.push(Bytes::from(deep));
    assert!(matches!(refused.next(), Err(TranscodeError::Malformed(_))));
}

#[test]
fn an_error_names_the_message_that_it_is_about() {
    assert_eq!(
        refused(APPEND, "{}\n{\"tags\": [1, 2]}\n"),
        ["[1].book.tags[0]", "[1].book.tags[1]"]
    );
    assert_eq!(refused(IMPORT, "{}\n{}\n3"), ["[2]"]);
    let malformed = |content_type, body: &str| match books(content_type, &[body.as_bytes()]) {
        Err(TranscodeError::Malformed(why)) => why,
        other => panic!("{body}: {other:?}"),
    };
    let why = "message 1, counted from 0: a value is expected at line 1 column 10";
    assert_eq!(malformed(ARRAY_TYPE, "[{}, {\"tags\": x}]"), why);
    assert_eq!(malformed(LINES_TYPE, "{}\n\n{\"tags\": x}"), why);
    let why = "message 1, counted from 0: it ends too soon";
    assert_eq!(malformed(ARRAY_TYPE, "[{}, {}"), why);
}

#[test]
fn r11_path_and_query_are_part_of_the_first_message_alone() {
    let uri = format!("{APPEND}?requestId=r");
    assert_eq!(
        read(&uri, Some(ARRAY_TYPE), &[b"[{\"etag\": \"x\"}, {}]"]),
        Ok(vec![
            json!({"parent": "shelves/a", "requestId": "r", "book": {"etag": "x"}}),
            json!({"book": {}}),
        ])
    );
    assert_eq!(
        read(IMPORT, Some(LINES_TYPE), &[b"{\"city\": \"x\"}\n{\"city\": \"y\"}"]),
        Ok(vec![json!({"parent": "shelves/a", "city": "x"}), json!({"city": "y"})])
    );
    // What is wrong with them is said before anything arrives.
    for query in ["?parent=shelves/b", "?nothing=1", "?book.etag=x"] {
        let found = find(&LIBRARY, "POST", APPEND).expect("a route");
        let refused = found.incoming(Some(&query[1..]), Some(ARRAY_TYPE), MESSAGE_BYTES_MAX);
        assert!(matches!(refused, Err(TranscodeError::Invalid(_))), "{query}");
    }
}

#[test]
fn r12_no_message_of_a_stream_changes_what_the_path_binds() {
    let same = "{}\n{\"parent\": \"shelves/a\"}\n{\"parent\": \"\"}";
    assert_eq!(
        read(IMPORT, Some(LINES_TYPE), &[same.as_bytes()]),
        Ok(vec![json!({"parent": "shelves/a"}), json!({"parent": "shelves/a"}), json!({})])
    );
    assert_eq!(refused(IMPORT, "{\"parent\": \"evil\"}"), ["[0].parent"]);
    assert_eq!(refused(IMPORT, "{}\n{\"parent\": \"evil\"}"), ["[1].parent"]);
    // The other members of its oneof may be what later messages are for.
    let uri = "/v1/cities/b/books:import";
    assert_eq!(
        read(uri, Some(LINES_TYPE), &[b"{}\n{\"code\": 7}"]),
        Ok(vec![json!({"city": "b"}), json!({"code": "7"})])
    );
    assert_eq!(refused(uri, "{\"code\": 7}"), ["[0].city"]);
    assert_eq!(refused(uri, "{}\n{\"city\": \"\"}"), ["[1].city"]);
}

#[test]
fn a_required_field_that_the_first_message_has_is_not_asked_for_again() {
    let options = Options { requires_required: true, ..Options::default() };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protos");
    let pool = crate::compile(folder, &["test/library.proto"]);
    let table = RouteTable::from_pool(&pool).expect("it is well-formed").with_options(|_| options);
    let place = |body: &str| {
        let uri = "/v1/shelves/a/orders:place";
        read_from(&table, "POST", uri, Some(LINES_TYPE), &[body.as_bytes()])
    };
    let good = "{\"address\": \"x\"}\n{\"address\": \"y\"}";
    assert_eq!(place(good).map(|messages| messages.len()), Ok(2));
    let fields = match place("{\"address\": \"x\"}\n{}") {
        Err(TranscodeError::Invalid(violations)) => violations[0].field.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fields, "[1].order.address");
}

#[test]
fn a_method_without_a_body_has_one_message_of_path_and_query() {
    let uri = "/v1/shelves/a/books/b:listen?view=full";
    let ask = |pieces: &[&[u8]]| read_from(&LIBRARY, "GET", uri, None, pieces);
    assert_eq!(ask(&[]), Ok(vec![json!({"name": "shelves/a/books/b", "view": "full"})]));
    assert!(matches!(ask(&[b"{}"]), Err(TranscodeError::Invalid(_))));
}

#[test]
fn raw_bytes_are_messages_as_they_arrive_and_the_first_has_the_rest() {
    let uri = format!("{UPLOAD}?note=x");
    assert_eq!(
        read(&uri, Some("text/csv"), &[b"a,", b"", b"b"]),
        Ok(vec![
            json!({"name": "files/f", "note": "x", "file": {"contentType": "text/csv", "data": "YSw="}}),
            json!({"file": {"data": "Yg=="}}),
        ])
    );
    assert_eq!(
        read(UPLOAD, Some("image/png"), &[]),
        Ok(vec![json!({"name": "files/f", "file": {"contentType": "image/png"}})]),
        "an empty file has a name"
    );
    let long = [0; 2 * MESSAGE_BYTES_MAX + 1];
    assert_eq!(read(UPLOAD, None, &[&long]).map(|messages| messages.len()), Ok(3));
    let found = find(&LIBRARY, "POST", UPLOAD).expect("a route");
    let mut incoming = found.incoming(None, None, 16 << 20).expect("any type");
    incoming.push(vec![0; (1 << 20) + 1].into());
    let lengths: Vec<usize> = std::iter::from_fn(|| incoming.next().expect("bytes"))
        .map(|message| message.len())
        .collect();
    assert!(lengths.len() == 2 && lengths[0] < (1 << 20) + 100, "{lengths:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_may_be_cut_anywhere(cuts in proptest::collection::vec(0..200_usize, 0..6), is_array: bool) {
        let (content_type, body) = if is_array { (ARRAY_TYPE, ARRAY) } else { (LINES_TYPE, LINES) };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body.as_bytes()[cut[0]..cut[1]]).collect();
        prop_assert_eq!(books(content_type, &pieces), Ok(expected()));
    }

    /// The oracle is the request of one message.
    #[test]
    fn the_first_message_is_what_a_request_of_one_would_be(json in "\\{(\"(tags|city|code|parent|x)\": ?(\\[\"a\"\\]|\"shelves/a\"|7),?){0,3}\\}") {
        let found = find(&LIBRARY, "POST", IMPORT).expect("a route");
        let parts = transcode::RequestParts { query: None, content_type: Some(ARRAY_TYPE), body: json.as_bytes() };
        let alone = found.request(parts).map(|message| vec![show(&found, &message)]);
        let streamed = read(IMPORT, Some(LINES_TYPE), &[json.as_bytes()]);
        prop_assert!(json.len() > MESSAGE_BYTES_MAX || alone.is_ok() == streamed.is_ok(), "{alone:?} {streamed:?}");
        if let (Ok(alone), Ok(streamed)) = (alone, streamed) {
            prop_assert_eq!(alone, streamed);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec("[\\[\\]{},\"\\\\ \\n0a\\x80-\\xff]{0,40}", 0..4), is_array: bool) {
        let content_type = if is_array { ARRAY_TYPE } else { LINES_TYPE };
        let pieces: Vec<&[u8]> = bytes.iter().map(|piece| piece.as_bytes()).collect();
        drop(books(content_type, &pieces));
        drop(read(UPLOAD, Some(content_type), &pieces));
    }
}
