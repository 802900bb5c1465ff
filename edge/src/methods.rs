//! The public methods: those with `google.api.http`, and nothing else is reachable from outside.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::LazyLock;

use transcode::Options;
use transcode::Route;
use transcode::RouteTable;

/// Every REST route.
pub(crate) static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    RouteTable::from_pool(&proto::DESCRIPTORS)
        .expect("the tests of this crate build it from the same protos")
        .with_options(|_| Options { plus_is_space: true, ..Options::default() })
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
}

/// The public method with this gRPC path.
pub(crate) fn find(path: &str) -> Option<Method> {
    let route = METHODS.get(path)?;
    Some(Method { path: &route.grpc_path, streams: route.method.is_server_streaming() })
}

/// Whether bytes are a request message of a method.
pub(crate) fn is_request(method: Method, message: &[u8]) -> bool {
    METHODS.get(method.path).is_some_and(|route| route.is_request(message))
}

/// The full names of the services that have a public method.
pub(crate) fn services() -> BTreeSet<String> {
    let routes = ROUTES.routes.iter();
    routes.map(|route| route.method.parent_service().full_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_annotated_methods_are_public() {
        assert!(find("/linkmesh.links.v1.LinksService/CreateLink").is_some_and(|m| !m.streams));
        assert!(
            find("/linkmesh.analytics.v1.AnalyticsService/WatchClicks").is_some_and(|m| m.streams)
        );
        for internal in [
            "/linkmesh.links.v1.ResolverService/Resolve",
            "/linkmesh.identity.v1.AuthenticationService/Authenticate",
            "/linkmesh.identity.v1.WorkspacesService/CreateWorkspace",
            "/linkmesh.analytics.v1.SaltsService/GetSalts",
            "/linkmesh.mesh.v1.MeshService/ListEndpoints",
        ] {
            assert!(find(internal).is_none(), "{internal}");
        }
        assert!(!services().contains("linkmesh.links.v1.ResolverService"));
    }
}
