//! What clients may call, and how: all that is made of descriptors, as one value that never changes. Descriptors are those of
//! `proto/`, or of a file that is read again when it changes.
//!
//! What must stay true: a method is public only if it has a route (`google.api.http`) and says what it asks of its caller
//! (`requires`), and nothing else is reachable from outside; a request takes one contract and keeps what it needs of it until its
//! answer has ended, so no reload is seen halfway; and what can't be used whole changes nothing.

mod file;
mod labels;
mod options;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::LazyLock;

use arc_swap::ArcSwap;
use http::Uri;
use prost_reflect::DescriptorPool;
use rpc::Requirement;
use tonic::service::Routes;
use transcode::Lookup;
use transcode::Match;
use transcode::Options;
use transcode::Route;
use transcode::RouteTable;
use transcode::Schema;

use crate::caching;
use crate::documents;
use crate::documents::Document;
use crate::fault::Fault;
use crate::health;
use crate::protocols::Method;
use crate::protocols::Methods;

pub(crate) use labels::of as label;
pub(crate) use options::message as option;
pub(crate) use options::requirement;
pub(crate) use refusal::Refusal;

/// What paths of REST begin with. Short links have one segment, and gRPC's begin with a service's name.
pub(crate) const REST: [&str; 2] = ["/v1/", "/.well-known/"];

/// The contract of `proto/`.
static BUILT_IN: LazyLock<Arc<Contract>> = LazyLock::new(|| {
    let contract = Contract::of(&proto::DESCRIPTORS, proto::DESCRIPTOR_SET);
    Arc::new(contract.expect("the tests of this crate make it of the same protos"))
});

/// Descriptors, made ready to answer by.
#[derive(Debug)]
pub(crate) struct Contract {
    routes: RouteTable,
    /// The public methods of services.
    methods: Methods,
    /// The full names of their services.
    services: BTreeSet<String>,
    /// Whose instances serve them, as far as they say.
    owners: BTreeMap<String, String>,
    pub(crate) openapi: Document,
    pub(crate) reflection: Routes,
}

impl Contract {
    /// That of `proto/`.
    pub(crate) fn built_in() -> &'static Arc<Self> {
        &BUILT_IN
    }

    /// Of an encoded FileDescriptorSet with all imports.
    ///
    /// # Errors
    /// Whatever can't be served as it is said.
    pub(crate) fn read(encoded: &[u8]) -> Result<Self, Refusal> {
        let pool = DescriptorPool::decode(encoded);
        Self::of(&pool.map_err(|error| Refusal::Malformed(error.to_string()))?, encoded)
    }

    fn of(pool: &DescriptorPool, encoded: &[u8]) -> Result<Self, Refusal> {
        let reading = Options { plus_is_space: true, ..Options::default() };
        let routes = RouteTable::from_pool(pool)?.with_options(|_| reading);
        for route in &routes.routes {
            check(route)?;
        }
        keep_own_paths(&routes)?;
        let methods = routes.routes.iter().map(|route| &route.method);
        let methods = Methods::with_schema(methods, &routes.schema);
        let services: BTreeSet<String> = methods.services().map(str::to_owned).collect();
        if services.is_empty() {
            return Err(Refusal::Empty);
        }
        let described = pool.services().filter(|service| services.contains(service.full_name()));
        let owners = described.filter_map(|service| {
            Some((service.full_name().to_owned(), options::served_by(&service)?))
        });
        let owners = owners.collect();
        let openapi = documents::openapi_of(&routes, &methods, pool);
        let reflection = health::reflection(encoded, &services);
        let reflection = reflection.map_err(|error| Refusal::Malformed(format!("{error:#}")))?;
        Ok(Self { routes, methods, services, owners, openapi, reflection })
    }

    /// The method with this gRPC path that clients may call, if only to be answered by the edge itself.
    pub(crate) fn method(&self, path: &str) -> Option<&Method> {
        self.methods.find(path).or_else(|| health::method(path))
    }

    /// What a REST path leads to, for metrics and for the call.
    pub(crate) fn rest(
        &self,
        method: &http::Method,
        path: &str,
    ) -> Result<(Match, &Method), Fault> {
        match self.routes.find(method, path) {
            Lookup::Found(found) => {
                let method = self.methods.find(&found.route.grpc_path);
                Ok((found, method.ok_or_else(Fault::path_unknown)?))
            }
            Lookup::MethodNotAllowed { allow } => Err(Fault::method_not_allowed(&allow)),
            Lookup::NotFound => Err(Fault::path_unknown()),
        }
    }

    /// What services' messages are written by.
    pub(crate) fn schema(&self) -> &Schema {
        &self.routes.schema
    }

    /// Whether a service has a method that clients may call.
    pub(crate) fn has_service(&self, name: &str) -> bool {
        self.services.contains(name)
    }

    #[cfg(test)]
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes.routes
    }

    /// How many methods of services are public.
    pub(crate) fn method_count(&self) -> usize {
        self.methods.count()
    }
}

/// Whether a route is one that the edge can serve, and knows whom to.
fn check(route: &Route) -> Result<(), Refusal> {
    let method = || route.method.full_name().to_owned();
    let own = |path: &str, why| Refusal::OwnPath { method: method(), path: path.to_owned(), why };
    if Uri::try_from(&route.grpc_path).is_err() {
        return Err(Refusal::Malformed(format!("{} is no name", method())));
    }
    let requirement = match requirement(&route.method) {
        None => return Err(Refusal::Undeclared(method())),
        Some(Requirement::Operator) => return Err(Refusal::ForOperators(method())),
        Some(requirement) => requirement,
    };
    caching::declared(&route.method, Some(requirement))
        .map_err(|why| Refusal::Caching { method: method(), why })?;
    let pattern = route.pattern();
    if !REST.iter().any(|prefix| pattern.starts_with(prefix)) {
        return Err(own(&route.template, "and routes are under /v1/ and /.well-known/ alone"));
    }
    if REST.iter().any(|prefix| route.grpc_path.starts_with(prefix)) {
        return Err(own(&route.grpc_path, "which looks like a route"));
    }
    if health::local_service(&route.grpc_path).is_some() {
        return Err(own(&route.grpc_path, "which the edge answers itself"));
    }
    Ok(())
}

/// No route leads where a document of the edge is.
fn keep_own_paths(routes: &RouteTable) -> Result<(), Refusal> {
    for path in documents::PATHS {
        for route in &routes.routes {
            let verb = route.http_method.as_ref().unwrap_or(&http::Method::GET);
            if let Lookup::Found(found) = routes.find(verb, path) {
                return Err(Refusal::OwnPath {
                    method: found.route.method.full_name().to_owned(),
                    path: found.route.template.clone(),
                    why: "which is also the path of a document of the edge",
                });
            }
        }
    }
    Ok(())
}

/// The contract that holds, for whoever begins something now. Cheap to clone; all clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Contracts(Arc<ArcSwap<Contract>>);

impl Contracts {
    pub(crate) fn new(contract: Arc<Contract>) -> Self {
        Self(Arc::new(ArcSwap::new(contract)))
    }

    /// One atomic load and one reference count; what was taken stays as it is.
    pub(crate) fn current(&self) -> Arc<Contract> {
        self.0.load_full()
    }

    fn set(&self, contract: Contract) {
        self.0.store(Arc::new(contract));
    }
}
