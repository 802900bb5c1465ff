//! Who may call what: by gRPC service, the peers that are let in. What is not named is refused.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Which services may call which gRPC service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    allowed: BTreeMap<String, Peers>,
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
const OPEN_TO_OPERATOR: &str = "linkmesh.mesh.v1.MeshService";

impl Access {
    /// Nobody may call anything, but for health, reflection (any peer) and `MeshService` (the operator).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `peers`, by service name, call a gRPC service, given by its full name; in addition to those let in before.
    #[must_use]
    pub fn allow(mut self, grpc_service: &str, peers: &[&str]) -> Self {
        let entry = self
            .allowed
            .entry(grpc_service.to_owned())
            .or_insert_with(|| Peers::Only(BTreeSet::new()));
        if let Peers::Only(names) = entry {
            names.extend(peers.iter().map(|&peer| peer.to_owned()));
        }
        self
    }

    /// Lets every peer of the mesh call a gRPC service.
    #[must_use]
    pub fn allow_any_peer(mut self, grpc_service: &str) -> Self {
        self.allowed.insert(grpc_service.to_owned(), Peers::Any);
        self
    }

    /// Whether a gRPC service is one that every process serves to every peer: it only tells how a process is.
    pub(super) fn is_open_to_any(grpc_service: &str) -> bool {
        OPEN_TO_ANY.contains(&grpc_service)
    }

    /// Whether `peer` may call `grpc_service`.
    #[must_use]
    pub fn allows(&self, peer: &str, grpc_service: &str) -> bool {
        match self.allowed.get(grpc_service) {
            Some(Peers::Any) => true,
            Some(Peers::Only(names)) if names.contains(peer) => true,
            Some(Peers::Only(_)) | None => {
                OPEN_TO_ANY.contains(&grpc_service)
                    || (grpc_service == OPEN_TO_OPERATOR && peer == crate::identity::OPERATOR)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_refused() {
        let access =
            Access::new().allow("a.A", &["edge"]).allow("a.A", &["links"]).allow_any_peer("b.B");
        assert!(access.allows("edge", "a.A"));
        assert!(access.allows("links", "a.A"));
        assert!(!access.allows("analytics", "a.A"));
        assert!(access.allows("analytics", "b.B"));
        assert!(!access.allows("edge", "c.C"));
    }

    #[test]
    fn health_is_open_to_peers_and_the_mesh_service_to_the_operator() {
        let access = Access::new();
        assert!(access.allows("links", "grpc.health.v1.Health"));
        assert!(access.allows("operator", "linkmesh.mesh.v1.MeshService"));
        assert!(!access.allows("edge", "linkmesh.mesh.v1.MeshService"));
    }
}
