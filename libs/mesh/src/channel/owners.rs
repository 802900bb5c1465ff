//! Whose instances serve a gRPC service: as its proto says, which may be newer than this program.

use crate::methods::METHODS;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Mesh services by gRPC service, as they were told while the mesh runs.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<String, String>);

/// What is told now, in place of what was before.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) owners: BTreeMap<String, String>,
    /// Dropped once no call goes to anyone else.
    pub(super) obeyed: oneshot::Sender<()>,
}

impl Owners {
    pub(super) fn replace(&mut self, owners: BTreeMap<String, String>) {
        self.0 = owners;
    }

    /// The mesh service whose instances serve a gRPC service; none if any may. What this program was built with goes before what it
    /// is told: nobody hands `control`'s calls on.
    pub(super) fn of(&self, grpc_service: &str) -> Option<&str> {
        let told = || self.0.get(grpc_service).map(String::as_str);
        METHODS.served_by(grpc_service).or_else(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_goes_before_what_is_told() {
        let mut owners = Owners::default();
        let told = [("linkmesh.mesh.v1.PolicyService", "widgets"), ("a.B", "widgets")];
        owners.replace(told.map(|(of, by)| (of.to_owned(), by.to_owned())).into());
        assert_eq!(owners.of("linkmesh.mesh.v1.PolicyService"), Some("control"));
        assert_eq!((owners.of("a.B"), owners.of("a.C")), (Some("widgets"), None));
        owners.replace(BTreeMap::new());
        assert_eq!(owners.of("a.B"), None);
    }
}
