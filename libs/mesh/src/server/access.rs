//! Who may call what, as a service's own code says it: by gRPC service or method, the peers that are let in. What is not named is
//! refused.

use crate::identity::OPERATOR;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Which peers may call which gRPC services and methods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    services: BTreeMap<String, Peers>,
    /// By path, `/linkmesh.links.v1.LinksService/GetLink`.
    methods: BTreeMap<String, Peers>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Peers {
    Any,
    Only(BTreeSet<String>),
}

/// Who may call every process of the mesh, whatever it serves.
const OPEN_TO_ANY: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// What an operator may call in every process.
const OPEN_TO_OPERATOR: [&str; 2] =
    ["linkmesh.mesh.v1.MeshService", "linkmesh.mesh.v1.IdentityService"];

impl Access {
    /// Nobody may call anything, but for health, reflection (any peer), `MeshService` and `IdentityService` (operators).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `peers`, by service name, call a gRPC service, given by its full name; in addition to those let in before.
    #[must_use]
    pub fn allow(mut self, grpc_service: &str, peers: &[&str]) -> Self {
        add(self.services.entry(grpc_service.to_owned()), peers);
        self
    }

    /// Lets `peers` call one method, given by its full name, `linkmesh.links.v1.LinksService/GetLink`; in addition to those let
    /// in before. `anonymous` lets in who has proved nothing.
    #[must_use]
    pub fn allow_method(mut self, method: &str, peers: &[&str]) -> Self {
        add(self.methods.entry(format!("/{method}")), peers);
        self
    }

    /// Lets every peer of the mesh call a gRPC service.
    #[must_use]
    pub fn allow_any_peer(mut self, grpc_service: &str) -> Self {
        self.services.insert(grpc_service.to_owned(), Peers::Any);
        self
    }

    /// Whether anything may be called by peers without a certificate ([`ANONYMOUS`]).
    pub(super) fn admits_anonymous(&self) -> bool {
        let mut named = self.services.values().chain(self.methods.values());
        named.any(|peers| peers.contain(&PeerIdentity::anonymous()))
    }

    /// Whether a gRPC service is one that every process serves to every peer: it only tells how a process is.
    pub(super) fn is_open_to_any(grpc_service: &str) -> bool {
        OPEN_TO_ANY.contains(&grpc_service)
    }

    /// Whether a gRPC service tells or says how a process is, and so must be there when nothing else is.
    pub(super) fn is_for_operation(grpc_service: &str) -> bool {
        OPEN_TO_OPERATOR.contains(&grpc_service) || Self::is_open_to_any(grpc_service)
    }

    /// Whether `peer` may call a method, given by its path, of `grpc_service`.
    #[must_use]
    pub fn allows(&self, peer: &PeerIdentity, grpc_service: &str, path: &str) -> bool {
        self.services.get(grpc_service).is_some_and(|peers| peers.contain(peer))
            || self.methods.get(path).is_some_and(|peers| peers.contain(peer))
            || (Self::is_open_to_any(grpc_service) && peer.role != Role::Anonymous)
            || (OPEN_TO_OPERATOR.contains(&grpc_service) && peer.service.as_str() == OPERATOR)
    }
}

fn add(entry: std::collections::btree_map::Entry<'_, String, Peers>, peers: &[&str]) {
    if let Peers::Only(names) = entry.or_insert_with(|| Peers::Only(BTreeSet::new())) {
        names.extend(peers.iter().map(|&peer| peer.to_owned()));
    }
}

impl Peers {
    fn contain(&self, peer: &PeerIdentity) -> bool {
        match self {
            Self::Any => peer.role != Role::Anonymous,
            Self::Only(names) => names.contains(peer.service.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerIdentity {
        PeerIdentity::service(name).unwrap()
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let access =
            Access::new().allow("a.A", &["edge"]).allow("a.A", &["links"]).allow_any_peer("b.B");
        assert!(access.allows(&peer("edge"), "a.A", "/a.A/X"));
        assert!(access.allows(&peer("links"), "a.A", "/a.A/X"));
        assert!(!access.allows(&peer("analytics"), "a.A", "/a.A/X"));
        assert!(access.allows(&peer("analytics"), "b.B", "/b.B/X"));
        assert!(!access.allows(&peer("edge"), "c.C", "/c.C/X"));
    }

    #[test]
    fn one_method_can_be_open_to_more() {
        let access =
            Access::new().allow("a.A", &["edge"]).allow_method("a.A/Join", &["links", "anonymous"]);
        assert!(access.allows(&peer("links"), "a.A", "/a.A/Join"));
        assert!(!access.allows(&peer("links"), "a.A", "/a.A/Other"));
        assert!(access.allows(&peer("edge"), "a.A", "/a.A/Join"));
        assert!(access.allows(&PeerIdentity::anonymous(), "a.A", "/a.A/Join"));
    }

    #[test]
    fn who_has_proved_nothing_is_no_peer() {
        let access = Access::new().allow_any_peer("b.B");
        assert!(!access.allows(&PeerIdentity::anonymous(), "b.B", "/b.B/X"));
        let health = "grpc.health.v1.Health";
        assert!(!access.allows(&PeerIdentity::anonymous(), health, "/grpc.health.v1.Health/Check"));
    }

    #[test]
    fn health_is_open_to_peers_and_the_mesh_service_to_operators() {
        let access = Access::new();
        let health = "grpc.health.v1.Health";
        assert!(access.allows(&peer("links"), health, "/grpc.health.v1.Health/Check"));
        let mesh = "linkmesh.mesh.v1.MeshService";
        let path = "/linkmesh.mesh.v1.MeshService/ListEndpoints";
        for role in [Role::Admin, Role::Viewer] {
            assert!(access.allows(&PeerIdentity::operator(role), mesh, path));
        }
        assert!(!access.allows(&peer("edge"), mesh, path));
    }

    #[test]
    fn a_server_lets_anyone_connect_only_if_something_may_be_called_so() {
        assert!(!Access::new().allow_any_peer("a.A").allow("b.B", &["links"]).admits_anonymous());
        assert!(Access::new().allow_method("a.A/Join", &["anonymous"]).admits_anonymous());
    }
}
