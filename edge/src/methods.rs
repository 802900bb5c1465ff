//! The public methods: those that have a route (`google.api.http`) and say what they ask of their caller; and those that the edge
//! answers itself. Nothing else is reachable from outside.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost_reflect::DescriptorPool;
use rpc::Requirement;
use transcode::Options;
use transcode::RouteTable;

use crate::protocols::Method;
use crate::protocols::Methods;

/// Every REST route.
pub(crate) static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    RouteTable::from_pool(&proto::DESCRIPTORS)
        .expect("the tests of this crate build it from the same protos")
        .with_options(|_| Options { plus_is_space: true, ..Options::default() })
});

/// The public methods of services.
static METHODS: LazyLock<Methods> = LazyLock::new(|| {
    let public = ROUTES.routes.iter().filter(|route| {
        Requirement::of_path(&route.grpc_path).is_some_and(|asks| asks != Requirement::Operator)
    });
    public.map(|route| route.method.clone()).collect()
});

/// The methods that the edge answers itself.
static LOCAL: LazyLock<Methods> = LazyLock::new(|| {
    let sets = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = sets.map(|set| DescriptorPool::decode(set).expect("the crates encoded them"));
    let services = pools.iter().flat_map(DescriptorPool::services);
    services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
});

/// Builds the tables, so that no request waits for that.
pub(crate) fn load() {
    LazyLock::force(&METHODS);
    LazyLock::force(&LOCAL);
}

/// The public method of a service with this gRPC path.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    METHODS.find(path)
}

/// The service that a method is of, as limits name it: `links` of `/linkmesh.links.v1.LinksService/GetLink`. Empty for none of ours.
pub(crate) fn service(method: &Method) -> &str {
    let package = method.path.strip_prefix("/linkmesh.").unwrap_or_default();
    package.split('.').next().unwrap_or_default()
}

/// Whether the method's caller has to prove anything.
pub(crate) fn asks_who(method: &Method) -> bool {
    if find_local(&method.path).is_some() {
        return false;
    }
    // What says nothing is not public; were it, it would be for those who are somebody.
    Requirement::of_path(&method.path) != Some(Requirement::Anyone)
}

/// The method with this gRPC path that the edge answers itself.
pub(crate) fn find_local(path: &str) -> Option<&'static Method> {
    LOCAL.find(path)
}

/// The full names of the services that have a public method.
pub(crate) fn services() -> BTreeSet<String> {
    METHODS.services().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_with_a_route_that_say_what_they_ask_are_public() {
        let create = find("/linkmesh.links.v1.LinksService/CreateLink");
        assert!(create.is_some_and(|method| !method.server_streams && !method.is_read_only));
        let get = find("/linkmesh.links.v1.LinksService/GetLink");
        assert!(get.is_some_and(|method| method.is_read_only));
        let watch = find("/linkmesh.analytics.v1.AnalyticsService/WatchClicks");
        assert!(watch.is_some_and(|method| method.server_streams));
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
        assert!(
            find_local("/grpc.health.v1.Health/Check").is_some_and(|it| service(it).is_empty())
        );
        assert_eq!(get.map(service), Some("links"));
    }
}
