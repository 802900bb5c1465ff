//! What is refused, and how it is said; what is taken, and what it means.

use super::*;
use crate::policy::RoutePolicy;
use crate::policy::read_yaml;

fn compile(yaml: &str) -> Result<Policy, Vec<Violation>> {
    Policy::compile(&read_yaml(yaml).unwrap(), 1)
}

/// What is wrong, a line for each.
fn wrong(yaml: &str) -> Vec<String> {
    let violations = compile(yaml).expect_err("it is refused");
    violations.iter().map(|it| format!("{} {}", it.field, it.description)).collect()
}

#[test]
fn an_empty_policy_is_the_same_as_none() {
    let default = Policy { revision: 1, ..Policy::default_of("links") };
    assert_eq!(compile("service: links").unwrap(), default);
    let empty = "
service: links
balancing: {locality: {}, aperture: {}}
health: {outliers: {}}
connections: {}
concurrency: {}";
    assert_eq!(compile(empty).unwrap(), default);
}

#[test]
fn every_documented_default_is_the_default() {
    let documented = "
service: links
balancing:
  algorithm: PEAK_EWMA
  warm_up: 10s
  locality: {mode: ZONE_FIRST, healthy_percent_min: 70}
health:
  consecutive_failures: 7
  success_percent_min: 80
  success_calls_min: 5
  backoff_min: 1s
  backoff_max: 60s
  outliers:
    interval: 10s
    ejection_base: 30s
    ejection_max: 300s
    success_rate_stdev_factor: 1900
    instances_min: 5
    volume_min: 100
    failure_percent: 0
  ejected_percent_max: 10
  panic_percent: 50
connections: {per_instance_max: 8, age_max: 30m}
concurrency: {calls_max: 1024, calls_min: 16}";
    let default = Policy { revision: 1, ..Policy::default_of("links") };
    assert_eq!(compile(documented).unwrap(), default);
    let route = "
service: links
routes:
  - name: a
    retry: {attempts_max: 5, backoff_min: 25ms, backoff_max: 250ms, codes: [UNAVAILABLE]}";
    let compiled = compile(route).unwrap();
    let default = RoutePolicy { name: "a".to_owned(), ..RoutePolicy::default() };
    assert_eq!(*compiled.routes[0], default);
    let limit = compile("service: a\nrate_limits: [{name: a, calls: 500}, {name: b, calls: 3}]");
    let limits = limit.unwrap().rate_limits;
    assert_eq!((limits[0].per, limits[0].burst), (Duration::from_secs(1), 50));
    assert_eq!(limits[1].burst, 1);
}

#[test]
fn what_means_off_is_off() {
    let off = compile(
        "
service: links
balancing: {warm_up: 0s, locality: {mode: ANY}}
health:
  consecutive_failures: 0
  success_percent_min: 0
  outliers: {disabled: true}
  ejected_percent_max: 0
  panic_percent: 0
connections: {age_max: 0s}
concurrency: {adaptive_disabled: true, calls_max: 8}",
    )
    .unwrap();
    assert_eq!((off.balancing.warm_up, off.balancing.locality), (Duration::ZERO, None));
    let health = off.health;
    assert_eq!((health.consecutive_failures, health.success_percent_min), (None, None));
    assert_eq!((health.outliers, health.ejected_percent_max, health.panic_percent), (None, 0, 0));
    assert_eq!(off.connections.age_max, None);
    assert_eq!(off.concurrency, Concurrency { calls_max: 8, adaptive: false, calls_min: 8 });
}

#[test]
fn a_value_out_of_its_range_is_refused_by_its_path() {
    for (yaml, expected) in [
        ("service: Links", "service must be the name of a service"),
        ("service: a\nbalancing: {hash_header: x-user}", "balancing.hash_header is only for"),
        (
            "service: a\nbalancing: {algorithm: RING_HASH}",
            "balancing.hash_header must be a header's name in lower case, is \"\"",
        ),
        (
            "service: a\nbalancing: {algorithm: RING_HASH, hash_header: id-bin}",
            "balancing.hash_header must not be a binary header",
        ),
        ("service: a\nbalancing: {warm_up: 1h}", "balancing.warm_up must be 0 s to 15 min, is 1 h"),
        (
            "service: a\nbalancing: {aperture: {instances_min: 1}}",
            "balancing.aperture.instances_min must be 2 to 1000, is 1",
        ),
        (
            "service: a\nbalancing: {locality: {mode: ANY, failover_zones: [b]}}",
            "balancing.locality.failover_zones are only for the mode ZONE_FIRST",
        ),
        (
            "service: a\nbalancing: {locality: {failover_zones: [b, b]}}",
            "balancing.locality.failover_zones[1] is there twice: \"b\"",
        ),
        (
            "service: a\nhealth: {panic_percent: 101}",
            "health.panic_percent must be 0 to 100, is 101",
        ),
        (
            "service: a\nhealth: {backoff_min: 90s}",
            "health.backoff_min must be at most `backoff_max`, which is 1 min; is 90 s",
        ),
        (
            "service: a\nhealth: {outliers: {ejection_base: 2m, ejection_max: 1m}}",
            "health.outliers.ejection_base must be at most `ejection_max`",
        ),
        (
            "service: a\nconnections: {age_max: 1s}",
            "connections.age_max must be 10 s to 24 h, is 1 s",
        ),
        ("service: a\nsubsets: [{name: A}]", "subsets[0].name must be 1 to 63 of a-z, 0-9 and -"),
        ("service: a\nsubsets: [{name: b}, {name: b}]", "subsets[1].name is there twice: \"b\""),
        (
            "service: a\nsubsets: [{name: b, version: \"*\"}]",
            "subsets[0].version must be a version",
        ),
        (
            "service: a\nconcurrency: {calls_max: 5, calls_min: 6}",
            "concurrency.calls_min must be 1 to `calls_max`, which is 5; is 6",
        ),
        (
            "service: a\nrate_limits: [{name: b, calls: 5, burst: 6}]",
            "rate_limits[0].burst must be 1 to 5, is 6",
        ),
        (
            "service: a\nrate_limits: [{name: b}]",
            "rate_limits[0].calls must be 1 to 1000000000, is 0",
        ),
    ] {
        let wrong = wrong(yaml);
        assert!(wrong.len() == 1 && wrong[0].starts_with(expected), "{yaml}\n{wrong:?}");
    }
}

#[test]
fn a_route_that_makes_no_sense_is_refused_by_its_path() {
    let subsets = "service: links\nsubsets: [{name: old}, {name: new}]\nroutes: ";
    let links = "linkmesh.links.v1.LinksService";
    for (route, expected) in [
        ("[{name: default}]", "routes[0].name must not be `default`"),
        ("[{name: a, timeout: 0s}]", "routes[0].timeout must be 1 ms to 1 h, is 0 s"),
        (
            "[{name: a, retry: {attempts_max: 9}}]",
            "routes[0].retry.attempts_max must be 1 to 5, is 9",
        ),
        (
            "[{name: a, retry: {codes: [NOT_FOUND]}}]",
            "routes[0].retry.codes[0] must be one of CANCELLED, UNKNOWN, DEADLINE_EXCEEDED",
        ),
        (
            "[{name: a, retry: {codes: [ABORTED, ABORTED]}}]",
            "routes[0].retry.codes[1] is there twice",
        ),
        ("[{name: a, hedge: {}}]", "routes[0].hedge.delay must be there"),
        (
            "[{name: a, hedge: {percentile: .nan}}]",
            "routes[0].hedge.percentile must be 50 to 99.9, is NaN",
        ),
        (
            &format!(
                "[{{name: a, hedge: {{delay: 1s}}, matches: [{{method: {links}/CreateLink}}]}}]"
            ),
            "routes[0].hedge would send nothing twice: no method that it matches is NO_SIDE_EFFECTS",
        ),
        (
            "[{name: a, hedge: {delay: 1s}, matches: [{method: com.example.Shop/Buy}]}]",
            "routes[0].hedge would send nothing twice",
        ),
        (
            "[{name: a, split: [{subset: never, weight: 1}]}]",
            "routes[0].split[0].subset must be one of `subsets`, which are old, new; is \"never\"",
        ),
        (
            "[{name: a, split: [{subset: old}, {subset: new}]}]",
            "routes[0].split must have a weight that is not 0",
        ),
        (
            "[{name: a, split: [{subset: old, weight: 1}, {subset: old, weight: 1}]}]",
            "routes[0].split[1].subset is there twice",
        ),
        (
            "[{name: a, mirror: {subset: new, percent: .nan}}]",
            "routes[0].mirror.percent must be above 0 and at most 100, is NaN",
        ),
        ("[{name: a, fault: {}}]", "routes[0].fault must have `delay`, `abort` or both"),
        (
            "[{name: a, fault: {abort: {code: OK, percent: 1}}}]",
            "routes[0].fault.abort.code must be one of",
        ),
        (
            "[{name: a, fault: {delay: {percent: 0}}}]",
            "routes[0].fault.delay.duration must be there",
        ),
        (
            &format!("[{{name: a, matches: [{{method: {links}/GetLnk}}]}}]"),
            "routes[0].matches[0].method must be a method of linkmesh.links.v1.LinksService",
        ),
        (
            "[{name: a, matches: [{method: linkmesh.links.v1.Links/GetLink}]}]",
            "routes[0].matches[0].method names a gRPC service that there is not",
        ),
        (
            "[{name: a, matches: [{method: linkmesh.identity.v1.ApiKeysService/*}]}]",
            "routes[0].matches[0].method is served by `identity`, whose policy is another",
        ),
        (
            "[{name: a, matches: [{method: GetLink}]}]",
            "routes[0].matches[0].method must be the full name of a method",
        ),
        (
            "[{name: a, matches: [{headers: [{name: X-A}]}]}]",
            "routes[0].matches[0].headers[0].name must be a header's name in lower case",
        ),
        (
            "[{name: a, matches: [{headers: [{name: x-a, prefix: \"\"}]}]}]",
            "routes[0].matches[0].headers[0].prefix must be 1 to 1024 visible ASCII characters",
        ),
        (
            "[{name: a, matches: [{callers: [\"*\"]}]}]",
            "routes[0].matches[0].callers[0] must be the name of a service",
        ),
    ] {
        let wrong = wrong(&format!("{subsets}{route}"));
        assert!(wrong[0].starts_with(expected), "{route}\n{wrong:?}");
    }
}

#[test]
fn an_authorization_says_what_to_do_with_whom() {
    let wrong = wrong(
        "service: a\nauthorizations: [{name: b, methods: [c.D/*], callers: [c, \"*\"]}, {name: b}]",
    );
    assert_eq!(
        wrong,
        [
            "authorizations[0].action must be ALLOW or DENY",
            "authorizations[0].callers[1] must be the name of a service, 1 to 63 of a-z, 0-9 and -, beginning with a \
             letter; is \"*\"",
            "authorizations[1].name is there twice: \"b\"",
            "authorizations[1].action must be ALLOW or DENY",
            "authorizations[1].methods must name at least one method",
            "authorizations[1].callers must name at least one service, or `*` for every peer",
        ]
    );
    let any = compile(
        "service: a\nauthorizations: [{name: b, action: DENY, methods: [c.D/*], callers: [\"*\"]}]",
    );
    assert_eq!(any.unwrap().authorizations[0].callers, crate::policy::Callers::Any);
}

#[test]
fn too_many_of_anything_are_not_looked_into() {
    let many = |count: usize, item: &str| vec![item; count].join(", ");
    for (list, count, item) in [
        ("subsets", 17, "{name: A}"),
        ("routes", 65, "{name: A}"),
        ("authorizations", 129, "{name: A}"),
        ("rate_limits", 65, "{name: A}"),
    ] {
        let wrong = wrong(&format!("service: a\n{list}: [{}]", many(count, item)));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let expected = format!("must have at most {} entries, has {count}", count - 1);
        assert_eq!(wrong[0], format!("{list} {expected}"));
    }
    let bad = format!("service: a\nroutes: [{}]", many(64, "{name: A, timeout: 0s, fault: {}}"));
    assert_eq!(compile(&bad).unwrap_err().len(), 100, "the first hundred are enough");
}

#[test]
fn the_example_is_valid() {
    let text = include_str!("../../../../../manifests/policies/links.yaml");
    let policy = compile(text).unwrap();
    assert_eq!(policy.routes.len(), 3);
}
