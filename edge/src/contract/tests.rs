use super::*;

use std::path::Path;

use stack::TemporaryFolder;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
/// What a method is that anyone signed in may call.
const FOR_USERS: &str = "option (linkmesh.common.v1.requires).caller = CALLER_USER;";

/// The set of an API of another team, whose one service has these methods.
fn compiled(methods: &str) -> Vec<u8> {
    compiled_as("acme.widgets.v1", "Widgets", methods)
}

fn compiled_as(package: &str, service: &str, methods: &str) -> Vec<u8> {
    let folder = TemporaryFolder::new().expect("a folder");
    let source = format!(
        r#"syntax = "proto3"; package {package};
        import "google/api/annotations.proto"; import "linkmesh/common/v1/options.proto";
        message Widget {{ string name = 1; }}
        service {service} {{ {methods} }}"#
    );
    std::fs::write(folder.path().join("widgets.proto"), source).expect("written");
    let include = [folder.path(), Path::new(ROOT), &Path::new(ROOT).join("third_party")];
    let mut compiler = protox::Compiler::new(include).expect("the folders exist");
    compiler.include_imports(true).open_file("widgets.proto").expect("it compiles");
    compiler.encode_file_descriptor_set()
}

fn rpc(name: &str, rule: &str, options: &str) -> String {
    format!(
        "rpc {name}(Widget) returns (Widget) {{
            option (google.api.http) = {{ {rule} }}; {options}
        }}"
    )
}

fn refused(set: &[u8]) -> (&'static str, String) {
    let refusal = Contract::read(set).expect_err("it can't be served");
    (refusal.reason(), refusal.to_string())
}

#[test]
fn only_methods_with_a_route_that_say_what_they_ask_are_public() {
    let contract = Contract::built_in();
    let create = contract.method("/linkmesh.links.v1.LinksService/CreateLink");
    assert!(create.is_some_and(|method| !method.server_streams && !method.is_read_only));
    let get = contract.method("/linkmesh.links.v1.LinksService/GetLink");
    assert!(get.is_some_and(|method| method.is_read_only && method.asks_who()));
    let watch = contract.method("/linkmesh.analytics.v1.AnalyticsService/WatchClicks");
    assert!(watch.is_some_and(|method| method.server_streams));
    for internal in [
        "/linkmesh.links.v1.ResolverService/Resolve",
        "/linkmesh.identity.v1.AuthenticationService/Authenticate",
        "/linkmesh.identity.v1.WorkspacesService/SetWorkspaceTier",
        "/linkmesh.analytics.v1.SaltsService/GetSalts",
        "/linkmesh.mesh.v1.MeshService/ListEndpoints",
    ] {
        assert!(contract.method(internal).is_none(), "{internal}");
    }
    assert!(!contract.has_service("linkmesh.links.v1.ResolverService"));
    let health = contract.method("/grpc.health.v1.Health/Check");
    assert!(health.is_some_and(|it| it.service().is_empty() && !it.asks_who()));
    assert_eq!(get.map(Method::service), Some("links"));
}

#[test]
fn a_set_that_was_never_seen_before_is_as_good_as_the_built_in_one() {
    let read = rpc("GetWidget", r#"get: "/v1/{name=widgets/*}""#, FOR_USERS);
    let watch = r#"rpc WatchWidget(Widget) returns (stream Widget) {
        option (google.api.http) = { get: "/v1/{name=widgets/*}:watch" };
        option (linkmesh.common.v1.requires).caller = CALLER_ANYONE;
    }
    rpc Hidden(Widget) returns (Widget) {
        option (linkmesh.common.v1.requires).caller = CALLER_ANYONE;
    }"#;
    let contract = Contract::read(&compiled(&(read + watch))).expect("a good one");
    let get = contract.method("/acme.widgets.v1.Widgets/GetWidget").expect("it is public");
    assert_eq!((get.requires, get.service()), (Some(Requirement::User), ""));
    let watch = contract.method("/acme.widgets.v1.Widgets/WatchWidget").expect("it is public");
    assert!(watch.server_streams && !watch.asks_who());
    assert!(contract.method("/acme.widgets.v1.Widgets/Hidden").is_none(), "it has no route");
    assert!(contract.rest(&http::Method::GET, "/v1/widgets/w").is_ok());
    // It is all that there is; but for what the edge answers itself.
    assert!(contract.method("/linkmesh.links.v1.LinksService/GetLink").is_none());
    assert!(contract.method("/grpc.health.v1.Health/Check").is_some());
    assert_eq!(contract.method_count(), 2);
    // The same names again, and no more of them are kept.
    assert!(std::ptr::eq(get.label, label("/acme.widgets.v1.Widgets/GetWidget")));
}

#[test]
fn the_set_that_this_program_was_built_with_is_the_contract_that_it_has() {
    let contract = Contract::read(proto::DESCRIPTOR_SET).expect("a good one");
    let built_in = Contract::built_in();
    assert_eq!(contract.method_count(), built_in.method_count());
    assert_eq!(contract.services, built_in.services);
}

#[test]
fn what_is_no_whole_set_is_refused() {
    assert_eq!(refused(b"not descriptors").0, "malformed");
    assert_eq!(refused(b"").0, "empty");
    let whole = proto::DESCRIPTOR_SET;
    for part in [1, 2, 3, 5, 7] {
        let (reason, why) = refused(&whole[..whole.len() * part / 8]);
        assert!(["malformed", "empty"].contains(&reason), "{part}/8: {why}");
    }
    // Without what it imports.
    let mut compiler = protox::Compiler::new([ROOT, &format!("{ROOT}/third_party")]).expect("both");
    compiler.open_file("linkmesh/links/v1/links.proto").expect("it compiles");
    assert_eq!(refused(&compiler.encode_file_descriptor_set()).0, "malformed");
}

#[test]
fn a_route_that_can_not_be_served_is_refused_by_name() {
    let get = r#"get: "/v1/{name=widgets/*}""#;
    let shared = "option (linkmesh.common.v1.caching) = { scope: CACHE_SCOPE_ANYONE };";
    let read = "option idempotency_level = NO_SIDE_EFFECTS;";
    for (methods, reason, words) in [
        (rpc("Get", r#"get: "/v1/{nope}""#, FOR_USERS), "route", "Widgets.Get"),
        (
            rpc("Get", get, FOR_USERS) + &rpc("Read", get, FOR_USERS),
            "route_ambiguous",
            "Widgets.Read and acme.widgets.v1.Widgets.Get both have",
        ),
        (rpc("Get", get, ""), "requires_missing", "Widgets.Get"),
        (
            rpc("Get", get, "option (linkmesh.common.v1.requires).permission = SCOPE_UNSPECIFIED;"),
            "requires_missing",
            "Widgets.Get",
        ),
        (
            rpc("Get", get, "option (linkmesh.common.v1.requires).caller = CALLER_OPERATOR;"),
            "requires_operator",
            "Widgets.Get",
        ),
        (rpc("Get", r#"get: "/widgets""#, FOR_USERS), "own_path", "/widgets"),
        (rpc("Get", r#"get: "/{name=**}""#, FOR_USERS), "own_path", "/{name=**}"),
        (rpc("Get", r#"get: "/v1/{name}""#, FOR_USERS), "own_path", "a document of the edge"),
        (rpc("Get", r#"post: "/v1/openapi.json""#, FOR_USERS), "own_path", "a document"),
        (rpc("Get", get, &format!("{FOR_USERS}{read}{shared}")), "caching", "is for anyone"),
        ("rpc Get(Widget) returns (Widget);".to_owned(), "empty", "no method"),
    ] {
        let (told, why) = refused(&compiled(&methods));
        assert_eq!(told, reason, "{methods}: {why}");
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_service_that_is_called_like_something_of_the_edge_is_refused() {
    let methods = rpc("Check", r#"get: "/v1/{name=widgets/*}""#, FOR_USERS);
    let (reason, why) = refused(&compiled_as("grpc.health.v1", "Health", &methods));
    assert_eq!(reason, "own_path", "{why}");
}

#[test]
fn what_holds_for_one_request_is_not_changed_by_a_reload() {
    let contracts = Contracts::new(Arc::clone(Contract::built_in()));
    let kept = contracts.current();
    let methods = rpc("Get", r#"get: "/v1/{name=widgets/*}""#, FOR_USERS);
    contracts.set(Contract::read(&compiled(&methods)).expect("a good one"));
    let get = "/linkmesh.links.v1.LinksService/GetLink";
    assert!(kept.method(get).is_some() && contracts.current().method(get).is_none());
}

#[test]
fn an_old_contract_is_gone_with_the_last_that_holds_it() {
    let methods = rpc("Get", r#"get: "/v1/{name=widgets/*}""#, FOR_USERS);
    let set = compiled(&methods);
    let contracts = Contracts::new(Arc::new(Contract::read(&set).expect("a good one")));
    let kept = contracts.current();
    let (found, _) = kept.rest(&http::Method::GET, "/v1/widgets/w").expect("a route");
    let old = Arc::downgrade(&kept);
    contracts.set(Contract::read(&set).expect("a good one"));
    assert!(old.upgrade().is_some());
    drop(kept);
    assert!(old.upgrade().is_none());
    // A stream that is still open holds its route, and not the rest.
    assert!(found.response(b"\x0a\x01w").is_ok());
}
