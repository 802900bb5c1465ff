//! The public methods: those that have a route (`google.api.http`) and say what they ask of their caller, and nothing else is
//! reachable from outside.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::LazyLock;

use rpc::Requirement;
use transcode::Options;
use transcode::Route;
use transcode::RouteTable;

/// Every REST route.
pub(crate) static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    RouteTable::from_pool(&proto::DESCRIPTORS)
        .expect("the tests of this crate build it from the same protos")
        .with_options(Options { plus_is_space: true, emit_defaults: false })
});

/// The public methods, by gRPC path.
static METHODS: LazyLock<HashMap<&'static str, &'static Route>> = LazyLock::new(|| {
    let routes = ROUTES.routes.iter();
    routes.map(|route| (route.grpc_path.as_str(), route)).collect()
});

/// A public method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    /// `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// Whether it answers with a stream.
    pub(crate) streams: bool,
    /// Whether its caller has to prove anything.
    pub(crate) asks_who: bool,
}

/// The public method with this gRPC path.
pub(crate) fn find(path: &str) -> Option<Method> {
    let route = METHODS.get(path)?;
    let asks_who = match Requirement::of_path(path)? {
        Requirement::Operator => return None,
        Requirement::Anyone => false,
        Requirement::User | Requirement::Permission(_) => true,
    };
    let streams = route.method.is_server_streaming();
    Some(Method { path: &route.grpc_path, streams, asks_who })
}

/// Whether bytes are a request message of a method.
pub(crate) fn is_request(method: Method, message: &[u8]) -> bool {
    METHODS.get(method.path).is_some_and(|route| route.is_request(message))
}

/// The full names of the services that have a public method.
pub(crate) fn services() -> BTreeSet<String> {
    let routes = ROUTES.routes.iter().filter(|route| find(&route.grpc_path).is_some());
    routes.map(|route| route.method.parent_service().full_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_with_a_route_that_say_what_they_ask_are_public() {
        assert!(
            find("/linkmesh.links.v1.LinksService/CreateLink")
                .is_some_and(|m| !m.streams && m.asks_who)
        );
        assert!(
            find("/linkmesh.analytics.v1.AnalyticsService/WatchClicks").is_some_and(|m| m.streams)
        );
        for internal in [
            "/linkmesh.links.v1.ResolverService/Resolve",
            "/linkmesh.identity.v1.AuthenticationService/Authenticate",
            "/linkmesh.identity.v1.WorkspacesService/SetWorkspaceTier",
            "/linkmesh.analytics.v1.SaltsService/GetSalts",
            "/linkmesh.mesh.v1.MeshService/ListEndpoints",
        ] {
            assert!(find(internal).is_none(), "{internal}");
        }
        assert!(!services().contains("linkmesh.links.v1.ResolverService"));
    }
}
