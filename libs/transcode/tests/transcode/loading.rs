//! What makes no route table.

use crate::compile;
use transcode::RouteTable;

/// The error of an API whose one service has these methods, each with the request `Request` below.
fn refused(methods: &str) -> String {
    let folder = tempdir();
    let source = format!(
        r#"syntax = "proto3"; package bad; import "google/api/annotations.proto";
        message Request {{ string name = 1; repeated string names = 2; Request inner = 3;
            map<string, string> labels = 4; string other = 5; }}
        service Bad {{ {methods} }}"#
    );
    std::fs::write(folder.join("bad.proto"), source).expect("a writable folder");
    let pool = compile(folder.to_str().expect("UTF-8"), &["bad.proto"]);
    std::fs::remove_dir_all(&folder).expect("it was made above");
    RouteTable::from_pool(&pool).expect_err("it must be refused").to_string()
}

fn tempdir() -> std::path::PathBuf {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("transcode-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).expect("a folder of our own");
    folder
}

fn rpc(name: &str, rule: &str) -> String {
    format!("rpc {name}(Request) returns (Request) {{ option (google.api.http) = {{ {rule} }}; }}")
}

#[test]
fn r1_r5_and_r8_a_rule_that_can_not_be_served_is_refused_with_its_method() {
    for (rule, why) in [
        (r#"get: "v1/x""#, "must begin with `/`"),
        (r#"get: "/v1/**/*""#, "only literals after `**`"),
        (r#"get: "/v1/x{name}""#, "text around a variable"),
        (r#"get: "/v1/{nope}""#, "no field of bad.Request"),
        (r#"get: "/v1/{names}""#, "repeated, a map or a message"),
        (r#"get: "/v1/{labels}""#, "repeated, a map or a message"),
        (r#"get: "/v1/{inner}""#, "repeated, a map or a message"),
        (r#"get: "/v1/{names.x}""#, "no field of bad.Request"),
        (r#"post: "/v1/x" body: "nope""#, "the body `nope`"),
        (r#"post: "/v1/{name}" body: "name""#, "by path and body"),
        (r#"get: "/v1/x" response_body: "nope""#, "the response_body `nope`"),
        (r#"custom { kind: "B A D" path: "/v1/x" }"#, "the custom method"),
        (r#"body: "*""#, "without a pattern"),
        (
            r#"get: "/a" additional_bindings { get: "/b" additional_bindings { get: "/c" } }"#,
            "nests additional_bindings",
        ),
        (r#"post: "/a" body: "*" additional_bindings { post: "/b" }"#, "another body"),
    ] {
        let error = refused(&rpc("One", rule));
        assert!(error.starts_with("bad.Bad.One ") && error.contains(why), "{rule}: {error}");
    }
}

#[test]
fn r6_two_methods_can_not_have_the_same_requests() {
    let methods = rpc("One", r#"get: "/v1/{name=a/*}""#) + &rpc("Two", r#"get: "/v1/a/{other}""#);
    let error = refused(&methods);
    assert!(error.contains("bad.Bad.Two and bad.Bad.One both have"), "{error}");
}
