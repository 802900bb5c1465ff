//! R54: a resource's `etag` as `If-Match` has it, and as an answer says it.

use crate::LIBRARY;
use crate::find;
use crate::show;
use serde_json::json;
use transcode::RequestParts;

#[test]
fn r54_a_precondition_is_the_etag_of_the_resource_in_the_body() {
    let found = find(&LIBRARY, "PATCH", "/v1/shelves/a/books/b").expect("a route");
    let content_type = Some("application/json");
    let read = |body: &[u8]| {
        found.request(RequestParts { query: None, content_type, body }).expect("a request")
    };
    let request = read(br#"{"displayTitle": "x"}"#);
    let with = found.with_etag(&request, "7f").expect("it has a place");
    let expected = json!({
        "book": {"name": "shelves/a/books/b", "displayTitle": "x", "etag": "7f"},
        "updateMask": "displayTitle",
    });
    assert_eq!(show(&found, &with), expected);

    let request = read(br#"{"displayTitle": "x", "etag": "7f"}"#);
    assert_eq!(found.with_etag(&request, "7f"), Ok(request.clone()));
    assert!(found.with_etag(&request, "80").is_err(), "two preconditions");
}

#[test]
fn r54_what_has_no_etag_takes_no_precondition() {
    let found = find(&LIBRARY, "DELETE", "/v1/trash/a:purge").expect("a route");
    let request = found.request(RequestParts::default()).expect("a request");
    assert!(found.with_etag(&request, "7f").is_err());
}

#[test]
fn r54_an_answer_that_is_a_resource_tells_its_etag() {
    let found = find(&LIBRARY, "GET", "/v1/shelves/a/books/b").expect("a route");
    // Field 1, then field 8 of Book.
    assert_eq!(found.etag(b"\x0a\x01x\x42\x027f"), Some("7f"));
    assert_eq!(found.etag(b"\x0a\x01x"), None);
    assert_eq!(found.etag(b"\xff"), None);
    let within = find(&LIBRARY, "POST", "/v1/shelves/a/books").expect("a route");
    assert_eq!(within.etag(b"\x0a\x04\x42\x027f"), Some("7f"), "of the field that is the body");
    let list = find(&LIBRARY, "GET", "/v1/shelves/a/books:search").expect("a route");
    assert_eq!(list.etag(b"\x0a\x027f"), None);
}
