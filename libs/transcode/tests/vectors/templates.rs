//! Templates that load, and those that don't.

use crate::table;
use transcode::Options;

fn loads(template: &str) -> bool {
    table(&[format!("get: \"{template}\"")], Options::default()).is_ok()
}

#[test]
fn r1_the_templates_of_envoy_and_grpc_gateway_load() {
    for template in [
        "/shelves/{shelf}/books/{book}",
        "/shelves/**",
        "/**",
        "/*",
        "/a:foo",
        "/a/b/c:foo",
        "/*/**",
        "/*/a/**",
        "/a/{nested.y.z}",
        "/a/{nested.y.z=*}",
        "/a/{b=*}",
        "/a/{b=**}",
        "/a/{b=c/*}",
        "/a/{b=c/*/d}",
        "/a/{b=c/**}",
        "/a/{b=c/**}/d/e",
        "/a/{b=c/**/d}/e",
        "/a/{b=c/**/d}/e:verb",
        "/*:verb",
        "/**:verb",
        "/{a}:verb",
        "/a/b/*:verb",
        "/a/b/**:verb",
        "/a/b/{a}:verb",
        "/{x}",
        "/{nested.y.z}",
        "/{x=*}",
        "/{x=a/*}",
        "/{nested.y.z=*/a/b}/c",
        "/{x=**}",
        "/{nested.y.z=**}",
        "/{nested.y.z=a/**/b}",
        "/{nested.y.z=a/**/b}/c/d",
        "/{nested.y.z=*/*}:verb",
        "/{x=**}:myverb",
        "/{nested.y.z=a/**/b}/c/d:custom",
        "/",
        "/a/*:verb",
        "/a/**:verb",
        "/a/{b=*}/**:verb",
        "/v1/{bucket_name=buckets/*}/o/{name}",
        "/v1/a/{endpoint}:a",
        "/-._~!$&'()+,;:@",
        "/%e7%ac%ac%e4%b8%80%e7%89%88",
        "/v1/{name=segment/wi:th}",
    ] {
        assert!(loads(template), "{template}");
    }
}

#[test]
fn r1_the_templates_that_envoy_and_grpc_gateway_refuse_do_not_load() {
    for template in [
        "",
        "//",
        "/{}",
        "/a/",
        "/a//b",
        ":verb",
        "/:verb",
        "/a/:verb",
        ":",
        "/:",
        "/*:",
        "/**:",
        "/{var}:",
        "/a/b/:",
        "/a/b/*:",
        "/a/b/**:",
        "/a/b/{var}:",
        "/a/{",
        "/a/{var",
        "/a/{var.",
        "a",
        "{x}",
        "{x=/a}",
        "{x=/a/b}",
        "a/b",
        "a/b/{x}",
        "a/{x}/b",
        "a/{x}/b:verb",
        "/a/{var=/b}",
        "/{var=a/{x=b}}",
        "/a{x}",
        "/{x}a",
        "/a{x}b",
        "/{x}a{y}",
        "/a/b{x}",
        "/a/{x}b",
        "/a/b{x}c",
        "/a/{x}b{y}",
        "/a/b{x}/s",
        "/a/{x}b/s",
        "/a/b{x}c/s",
        "/a/{x}b{y}/s",
        "/a{x=b/**}/{y=*}",
        "/a{x=b/**}/bb/{y=*}",
        "/a{x=b/**}/{y=**}",
        "/a/**/*",
        "/a/**/foo/*",
        "/a/**/**",
        "/a/**/foo/**",
        "/a/{b=*}/**:",
        // grpc-gateway loads this with the verb `b:c`. R7: a verb is what follows the last colon, and R1 allows no text
        // beside a variable.
        "/v1/a/{endpoint}:b:c",
        // grpc-gateway takes this for a segment. R1: none of `=`, `*` is part of a literal.
        "/v1/a=b&c=d;e=f:g/endpoint.rdf",
        "/a*b",
    ] {
        assert!(!loads(template), "`{template}` was loaded");
    }
}
