//! What a method asks of its caller, as its proto says: `option (linkmesh.common.v1.requires)`.
//!
//! The descriptors are the only place where it is said: no handler names a scope.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use proto::common::v1 as wire;
use proto::common::v1::Scope;

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Anyone,
    /// To be a signed-in user.
    User,
    /// To be an operator.
    Operator,
    /// That it may do this in the workspace that the request names.
    Permission(Scope),
}

/// What every method says, by gRPC path.
static DECLARED: LazyLock<HashMap<String, Requirement>> = LazyLock::new(|| {
    let set = FileSet::decode(proto::DESCRIPTOR_SET).expect("the build encoded the set");
    let mut declared = HashMap::new();
    for file in &set.files {
        for service in &file.services {
            for rpc in &service.rpcs {
                let requires = rpc.options.and_then(|options| options.requires);
                if let Some(requirement) = requires.and_then(Requirement::from_proto) {
                    let path = format!("/{}.{}/{}", file.package, service.name, rpc.name);
                    declared.insert(path, requirement);
                }
            }
        }
    }
    declared
});

impl Requirement {
    /// What the method with this gRPC path asks; `None` if it does not say, and then nobody may call it as a client.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        DECLARED.get(path).copied()
    }

    /// Reads the option of a method; `None` if it says nothing, or what this version does not know.
    #[must_use]
    pub fn from_proto(message: wire::Requirement) -> Option<Self> {
        match message.requirement? {
            wire::requirement::Requirement::Permission(number) => match Scope::try_from(number) {
                Ok(Scope::Unspecified) | Err(_) => None,
                Ok(scope) => Some(Self::Permission(scope)),
            },
            wire::requirement::Requirement::Caller(number) => {
                match wire::Caller::try_from(number) {
                    Ok(wire::Caller::Anyone) => Some(Self::Anyone),
                    Ok(wire::Caller::User) => Some(Self::User),
                    Ok(wire::Caller::Operator) => Some(Self::Operator),
                    Ok(wire::Caller::Unspecified) | Err(_) => None,
                }
            }
        }
    }
}

// `google.protobuf.FileDescriptorSet`, as far as it is of interest: a pool of all messages takes megabytes and milliseconds.

#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    rpcs: Vec<Rpc>,
}

#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Options {
    /// `linkmesh.common.v1.requires`.
    #[prost(message, optional, tag = "50101")]
    requires: Option<wire::Requirement>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of ours, whether it has a REST route, and whether it has the option.
    fn methods() -> impl Iterator<Item = (String, bool, bool)> {
        let extension = |name: &str| proto::DESCRIPTORS.get_extension_by_name(name).expect(name);
        let http = extension("google.api.http");
        let requires = extension("linkmesh.common.v1.requires");
        let services = proto::DESCRIPTORS.services();
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.map(move |method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let options = method.options();
            (path, options.has_extension(&http), options.has_extension(&requires))
        })
    }

    #[test]
    fn every_method_with_a_rest_route_says_what_it_asks() {
        let mut public = 0;
        for (path, has_route, says) in methods() {
            assert_eq!(says, Requirement::of_path(&path).is_some(), "{path}");
            if has_route {
                public += 1;
                assert!(says, "{path}: add `option (linkmesh.common.v1.requires)`");
                assert_ne!(
                    Requirement::of_path(&path),
                    Some(Requirement::Operator),
                    "{path}: a method for operators has no route"
                );
            }
        }
        assert!(public > 10, "the descriptors were read");
    }

    #[test]
    fn what_is_said_is_read() {
        let of = Requirement::of_path;
        assert_eq!(
            of("/linkmesh.links.v1.LinksService/GetLink"),
            Some(Requirement::Permission(Scope::LinksRead))
        );
        assert_eq!(of("/linkmesh.links.v1.ResolverService/Resolve"), None);
        assert_eq!(of("/no.Such/Method"), None);
    }

    #[test]
    fn an_empty_or_unknown_requirement_is_none() {
        use wire::requirement::Requirement as Wire;
        for requirement in
            [None, Some(Wire::Permission(0)), Some(Wire::Permission(999)), Some(Wire::Caller(0))]
        {
            assert_eq!(Requirement::from_proto(wire::Requirement { requirement }), None);
        }
    }
}
