//! Paths: which of some templates they lead to, and what they bind.

use crate::get;
use crate::table;
use serde_json::Value;
use serde_json::json;
use transcode::Options;

/// A field, and what of the path it gets.
type Binding = (&'static str, &'static str);

/// Templates, and for each path which of them is meant (none for none) and what is bound.
struct Case {
    templates: &'static [&'static str],
    paths: &'static [(&'static str, Option<usize>, &'static [Binding])],
}

/// From `path_matcher_test.cc`, test by test.
const ENVOY: &[Case] = &[
    Case {
        templates: &["/**"],
        paths: &[
            ("/", Some(0), &[]),
            ("/a", Some(0), &[]),
            // Envoy takes a trailing slash. R10: it matches nothing, as `//` does.
            ("/a/", None, &[]),
        ],
    },
    Case {
        templates: &["/a/**", "/b/*", "/c/*/d/**", "/c/*/d/e", "/c/f/d/e", "/"],
        paths: &[
            ("/a/b", Some(0), &[]),
            ("/a/b/c", Some(0), &[]),
            ("/b/c", Some(1), &[]),
            ("b/c/d", None, &[]),
            ("/c/u/d/v", Some(2), &[]),
            ("/c/v/d/w/x", Some(2), &[]),
            ("/c/x/y/d/z", None, &[]),
            ("/c//v/d/w/x", None, &[]),
            ("/c/x/d/e", Some(3), &[]),
            ("/c/f/d/e", Some(4), &[]),
            ("/", Some(5), &[]),
        ],
    },
    Case {
        templates: &[
            "/a/{x}/c/d/e",
            "/{x=a/*}/b/{y=*}/c",
            "/a/{x=b/*}/{y=d/**}",
            "/alpha/{x=*}/beta/{y=**}/gamma",
            "/{x=*}/a",
            "/{x=**}/a/b",
            "/a/b/{x=*}",
            "/a/b/c/{x=**}",
            "/{x=*}/d/e/f/{y=**}",
        ],
        paths: &[
            ("/a/book/c/d/e", Some(0), &[("x", "book")]),
            ("/a/hello/b/world/c", Some(1), &[("x", "a/hello"), ("y", "world")]),
            ("/a/b/zoo/d/animal/tiger", Some(2), &[("x", "b/zoo"), ("y", "d/animal/tiger")]),
            ("/alpha/dog/beta/eat/bones/gamma", Some(3), &[("x", "dog"), ("y", "eat/bones")]),
            ("/foo/a", Some(4), &[("x", "foo")]),
            ("/foo/bar/a/b", Some(5), &[("x", "foo/bar")]),
            ("/a/b/foo", Some(6), &[("x", "foo")]),
            ("/a/b/c/foo/bar/baz", Some(7), &[("x", "foo/bar/baz")]),
            ("/foo/d/e/f/bar/baz", Some(8), &[("x", "foo"), ("y", "bar/baz")]),
        ],
    },
    Case { templates: &["/a/{x}/c"], paths: &[("/a/p%20q%2Fr+/c", Some(0), &[("x", "p q/r+")])] },
    Case {
        templates: &["/a/{x=p/*/q/*}/c"],
        paths: &[("/a/p/foo%20foo/q/bar%2Fbar/c", Some(0), &[("x", "p/foo foo/q/bar%2Fbar")])],
    },
    Case {
        templates: &["/a/{x=**}/c"],
        paths: &[("/a/p/foo%20foo/q/bar%2Fbar+/c", Some(0), &[("x", "p/foo foo/q/bar%2Fbar+")])],
    },
    Case {
        templates: &["/person", "/person/{id=*}", "/{x=**}:verb"],
        paths: &[
            ("/person:verb", Some(2), &[("x", "person")]),
            ("/person/jason:verb", Some(2), &[("x", "person/jason")]),
            ("/animal:verb", Some(2), &[("x", "animal")]),
            ("/animal/cat:verb", Some(2), &[("x", "animal/cat")]),
            ("/person", Some(0), &[]),
            ("/person/jason", Some(1), &[("id", "jason")]),
            ("/animal", None, &[]),
            ("/animal/cat", None, &[]),
            ("/person:other", None, &[]),
            ("/person/jason:other", Some(1), &[("id", "jason:other")]),
            ("/animal:other", None, &[]),
            ("/animal/cat:other", None, &[]),
        ],
    },
    Case {
        // Envoy can be told to take a verb that no template has as one. R7: it belongs to the variable.
        templates: &["/person/{id=*}", "/person/**", "/person/{id=*}/name", "/{x=**}:verb"],
        paths: &[
            ("/person:verb", Some(3), &[("x", "person")]),
            ("/person/jason:verb", Some(3), &[("x", "person/jason")]),
            ("/person/jason/name", Some(2), &[("id", "jason")]),
            ("/person/jason:verb/name", Some(2), &[("id", "jason:verb")]),
            ("/animal:verb", Some(3), &[("x", "animal")]),
            ("/animal/cat:verb", Some(3), &[("x", "animal/cat")]),
            ("/person:other", None, &[]),
            ("/person/jason:other", Some(0), &[("id", "jason:other")]),
            ("/animal:other", None, &[]),
            ("/animal/cat:other", None, &[]),
        ],
    },
    Case {
        templates: &[
            "/a/{y=*}:verb",
            "/a/{y=d/**}:verb",
            "/{x=*}/a:verb",
            "/{x=**}/b:verb",
            "/e/{x=*}/f:verb",
            "/g/{x=**}/h:verb",
        ],
        paths: &[
            ("/a/world:verb", Some(0), &[("y", "world")]),
            ("/a/d/animal/tiger:verb", Some(1), &[("y", "d/animal/tiger")]),
            ("/foo/a:verb", Some(2), &[("x", "foo")]),
            ("/foo/bar/baz/b:verb", Some(3), &[("x", "foo/bar/baz")]),
            ("/e/foo/f:verb", Some(4), &[("x", "foo")]),
            ("/g/foo/bar/h:verb", Some(5), &[("x", "foo/bar")]),
        ],
    },
    Case {
        templates: &[
            "/a/{x=b/**}",
            "/a/{x=b/**}/z",
            "/a/{x=b/**}/y/z",
            "/a/{x=b/**}:verb",
            "/a/{x=**}",
            "/c/{x=*}/{y=d/**}/e",
            "/c/{x=*}/{y=d/**}/e:verb",
            "/f/{x=*}/{y=**}/g",
            "/f/{x=*}/{y=**}/g:verb",
            "/a/{x=b/*/y/z/**}/foo",
            "/a/{x=b/*/**/y/z}/foo",
        ],
        paths: &[
            ("/a/b/hello/world/c", Some(0), &[("x", "b/hello/world/c")]),
            ("/a/b/world/c/z", Some(1), &[("x", "b/world/c")]),
            ("/a/b/world/c/y/z", Some(2), &[("x", "b/world/c")]),
            ("/a/b/world/c:verb", Some(3), &[("x", "b/world/c")]),
            ("/a/hello/b/world/c", Some(4), &[("x", "hello/b/world/c")]),
            ("/c/hello/d/esp/world/e", Some(5), &[("x", "hello"), ("y", "d/esp/world")]),
            ("/c/hola/d/esp/mundo/e:verb", Some(6), &[("x", "hola"), ("y", "d/esp/mundo")]),
            ("/f/foo/bar/baz/g", Some(7), &[("x", "foo"), ("y", "bar/baz")]),
            ("/f/foo/bar/baz/g:verb", Some(8), &[("x", "foo"), ("y", "bar/baz")]),
            ("/a/b/foo/y/z/bar/baz/foo", Some(9), &[("x", "b/foo/y/z/bar/baz")]),
            ("/a/b/foo/bar/baz/y/z/foo", Some(10), &[("x", "b/foo/bar/baz/y/z")]),
        ],
    },
    Case {
        templates: &[
            "/some/const:verb",
            "/some/*:verb",
            "/some/*/foo:verb",
            "/other/**:verb",
            "/other/**/const:verb",
        ],
        paths: &[
            ("/some/const:verb", Some(0), &[]),
            ("/some/other:verb", Some(1), &[]),
            ("/some/other:verb/", None, &[]),
            ("/some/bar/foo:verb", Some(2), &[]),
            ("/some/foo1/foo2/foo:verb", None, &[]),
            ("/some/foo/bar:verb", None, &[]),
            ("/other/bar/foo:verb", Some(3), &[]),
            ("/other/bar/foo/const:verb", Some(4), &[]),
        ],
    },
    Case {
        templates: &["/{a=*}/{b=*}:verb"],
        paths: &[("/some:verb/const:verb", Some(0), &[("a", "some:verb"), ("b", "const")])],
    },
    Case {
        templates: &["/foo/{a=*}"],
        paths: &[("/foo/other:verb", Some(0), &[("a", "other:verb")])],
    },
    Case { templates: &["/foo/*/hello"], paths: &[("/foo/other:verb/hello", Some(0), &[])] },
    Case {
        templates: &["/{a=**}:verb", "/{a=**}"],
        paths: &[
            ("/some:verb/const:verb", Some(0), &[("a", "some:verb/const")]),
            ("/some:verb/const", Some(1), &[("a", "some:verb/const")]),
            ("/some:verb2/const:verb2", Some(1), &[("a", "some:verb2/const:verb2")]),
        ],
    },
    Case {
        templates: &["/prefix/middle/suffix", "/prefix/middle", "/prefix"],
        paths: &[
            ("/prefix/middle/suffix", Some(0), &[]),
            ("/prefix/middle", Some(1), &[]),
            ("/prefix", Some(2), &[]),
            ("/prefix/middle/suffix/other", None, &[]),
            ("/prefix/middle/other", None, &[]),
            ("/prefix/other", None, &[]),
            ("/other", None, &[]),
        ],
    },
    Case { templates: &[], paths: &[("a/b/blue/foo", None, &[])] },
    Case {
        templates: &[
            "/prefix/middle/suffix",
            "/prefix/middle/othersuffix",
            "/prefix/othermiddle/suffix",
            "/otherprefix/middle/suffix",
            "/otherprefix/suffix",
        ],
        paths: &[
            ("/prefix/not/a/path", None, &[]),
            ("/prefix/middle", None, &[]),
            ("/prefix/not/othermiddle", None, &[]),
            ("/otherprefix/suffix/othermiddle", None, &[]),
            ("/prefix/middle/suffix", Some(0), &[]),
            ("/prefix/middle/othersuffix", Some(1), &[]),
            ("/prefix/othermiddle/suffix", Some(2), &[]),
            ("/otherprefix/middle/suffix", Some(3), &[]),
            ("/otherprefix/suffix", Some(4), &[]),
        ],
    },
    Case { templates: &["/a/b/c", "/a/b"], paths: &[("/a/b/c/d", None, &[])] },
    Case { templates: &["/a/b/c/d"], paths: &[("/a/b/c", None, &[])] },
];

/// From `pattern_test.go` (whose compiled patterns are written as the templates that make them) and `mux_test.go`.
const GRPC_GATEWAY: &[Case] = &[
    Case { templates: &["/"], paths: &[("/", Some(0), &[]), ("/example", None, &[])] },
    Case {
        templates: &["/*"],
        paths: &[
            ("/abc", Some(0), &[]),
            ("/def", Some(0), &[]),
            ("/", None, &[]),
            ("/abc/def", None, &[]),
        ],
    },
    Case {
        templates: &["/v1"],
        paths: &[("/v1", Some(0), &[]), ("/", None, &[]), ("/v2", None, &[])],
    },
    Case {
        templates: &["/**"],
        paths: &[
            ("/", Some(0), &[]),
            ("/abc", Some(0), &[]),
            ("/abc/def", Some(0), &[]),
            ("/abc/def/ghi", Some(0), &[]),
        ],
    },
    Case {
        templates: &["/**/tail"],
        paths: &[
            ("/tail", Some(0), &[]),
            ("/abc/tail", Some(0), &[]),
            ("/abc/def/tail", Some(0), &[]),
            ("/", None, &[]),
            ("/abc", None, &[]),
            ("/abc/def", None, &[]),
            ("/tail/extra", None, &[]),
            ("/abc/tail/extra", None, &[]),
            ("/abc/def/tail/extra", None, &[]),
        ],
    },
    Case {
        templates: &["/v1/bucket/{name}"],
        paths: &[
            ("/v1/bucket/my-bucket", Some(0), &[("name", "my-bucket")]),
            ("/", None, &[]),
            ("/v1", None, &[]),
            ("/v1/bucket", None, &[]),
            ("/v2/bucket/my-bucket", None, &[]),
            ("/v1/pubsub/my-topic", None, &[]),
        ],
    },
    Case {
        templates: &["/v1/{name=o/**}"],
        paths: &[
            ("/v1/o", Some(0), &[("name", "o")]),
            ("/v1/o/my-bucket", Some(0), &[("name", "o/my-bucket")]),
            ("/v1/o/my-bucket/dir/dir2/obj", Some(0), &[("name", "o/my-bucket/dir/dir2/obj")]),
            ("/", None, &[]),
            ("/v1", None, &[]),
            ("/v2/o/my-bucket", None, &[]),
            ("/v1/b/my-bucket", None, &[]),
        ],
    },
    Case {
        templates: &["/v2/{name=b/*}/o/{oname}"],
        paths: &[
            ("/v2/b/my-bucket/o/obj", Some(0), &[("name", "b/my-bucket"), ("oname", "obj")]),
            ("/v2", None, &[]),
            ("/v2/b", None, &[]),
            ("/v2/b/my-bucket", None, &[]),
            ("/v2/b/my-bucket/o", None, &[]),
        ],
    },
    Case {
        templates: &["/v1:LOCK"],
        paths: &[("/v1:LOCK", Some(0), &[]), ("/v1", None, &[]), ("/LOCK", None, &[])],
    },
    Case { templates: &["/*:LOCK"], paths: &[("/abc:LOCK", Some(0), &[])] },
    Case {
        templates: &["/v1/bucket/{name}:LOCK"],
        paths: &[("/v1/bucket/my-bucket:LOCK", Some(0), &[("name", "my-bucket")])],
    },
    Case {
        templates: &["/v1/{name=o/**/.ext}/tail"],
        paths: &[(
            "/v1/o/my-bucket/dir/dir2/obj/.ext/tail",
            Some(0),
            &[("name", "o/my-bucket/dir/dir2/obj/.ext")],
        )],
    },
    Case {
        templates: &["/foo/{id}/bar"],
        paths: &[("/foo/part1%2Fpart2/bar", Some(0), &[("id", "part1/part2")])],
    },
    Case {
        // grpc-gateway can be told to decode everything. R3: `%2F` across segments stays as received.
        templates: &["/foo/{id=**}"],
        paths: &[("/foo/test%2Fbar", Some(0), &[("id", "test%2Fbar")])],
    },
    Case {
        templates: &["/foo", "/foo/*", "/foo:bar", "/foo/{id}:verb"],
        paths: &[
            ("/bar", None, &[]),
            ("/foo", Some(0), &[]),
            ("/foo:bar", Some(2), &[]),
            ("/foo/bar:verb", Some(3), &[("id", "bar")]),
            ("/foo/bar:123", Some(1), &[]),
            // grpc-gateway tries every colon. R7: a verb is what follows the last one.
            ("/foo/bar:verb:subverb", Some(1), &[]),
            ("foo", None, &[]),
        ],
    },
    Case {
        templates: &["/api/v1/{name=organizations/*}:action", "/api/v1/{id}:action"],
        paths: &[
            // grpc-gateway decodes before it splits, so the first. R3: the second.
            ("/api/v1/organizations%2Ffoo:action", Some(1), &[("id", "organizations/foo")]),
            ("/api/v1/organizations/foo:action", Some(0), &[("name", "organizations/foo")]),
        ],
    },
];

fn bound(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

#[test]
fn r6_the_routing_cases_of_envoy_and_grpc_gateway_go_as_the_specification_says() {
    for case in ENVOY.iter().chain(GRPC_GATEWAY) {
        let rules: Vec<String> =
            case.templates.iter().map(|template| format!("get: \"{template}\"")).collect();
        let table = table(&rules, Options::default()).expect("good templates");
        for (path, expected, bindings) in case.paths {
            let found = get(&table, path, "");
            let expected = expected.map(|number| (number, Ok(bound(bindings))));
            assert_eq!(found, expected, "{path} among {:?}", case.templates);
        }
    }
}

#[test]
fn r3_reserved_characters_across_segments_are_decoded_or_not_as_it_is_set() {
    const ALL: &str = "%21%23%24%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D";
    let path = format!("/a/{ALL}/{ALL}/c");
    for (keeps_reserved_encoded, across) in [(true, ALL), (false, "!#$&'()*+,%2F:;=?@[]")] {
        let options = Options { keeps_reserved_encoded, ..Options::default() };
        let table = table(&["get: \"/a/{x=*}/{y=**}/c\"".to_owned()], options).expect("good");
        let expected = json!({"x": "!#$&'()*+,/:;=?@[]", "y": across});
        assert_eq!(get(&table, &path, ""), Some((0, Ok(expected))));
    }
}

#[test]
fn r3_every_ascii_character_is_decoded_in_one_segment() {
    let table = table(&["get: \"/{x}\"".to_owned()], Options::default()).expect("good");
    for character in 0..0x7f_u8 {
        for path in [format!("/%{character:02x}"), format!("/%{character:02X}")] {
            let expected = json!({"x": char::from(character).to_string()});
            assert_eq!(get(&table, &path, ""), Some((0, Ok(expected))), "{path}");
        }
    }
}

#[test]
fn r6_the_same_template_twice_does_not_load() {
    let rules = ["get: \"/a/b\"".to_owned(), "get: \"/a/b\"".to_owned()];
    assert!(table(&rules, Options::default()).is_err_and(|error| error.contains("both have")));
}

#[test]
fn r10_empty_segments_match_nothing_however_many() {
    let table = table(&["get: \"/a/**/x\"".to_owned()], Options::default()).expect("good");
    // Envoy matches 64,000 slashes: they would be 64,000 empty segments.
    for path in ["/a//x".to_owned(), format!("/a/{}/x", "/".repeat(64_000)), "/a/x/".to_owned()] {
        assert_eq!(get(&table, &path, ""), None);
    }
}
