//! What is known of each RPC before it is called, from its descriptor: what may be done when it fails.

use crate::described;
use crate::described::FileSet;
use crate::descriptors;
use prost_reflect::prost_types::method_options::IdempotencyLevel;
use rapidhash::RapidHashMap;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// What a method allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// To do it twice may not be the same as to do it once.
    Once,
    /// `NO_SIDE_EFFECTS` or `IDEMPOTENT`: it may be done again though it may have been done.
    Repeatable,
}

/// How many request messages a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Messages {
    One,
    Stream,
}

/// An RPC.
#[derive(Debug)]
pub(crate) struct Method {
    /// Its place in a table of all methods; none for what is in no descriptor.
    pub(crate) index: Option<usize>,
    /// `linkmesh.links.v1.LinksService/GetLink`.
    pub(crate) name: String,
    pub(crate) safety: Safety,
    /// `NO_SIDE_EFFECTS`: who may only look may call it.
    pub(crate) only_reads: bool,
    pub(crate) requests: Messages,
    pub(crate) responses: Messages,
    /// What it asks of whom a call is made for; none if it does not say.
    pub(crate) requires: Option<rpc::Requirement>,
}

/// Every RPC that is described.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: RapidHashMap<String, Method>,
    /// By index.
    names: Vec<String>,
    /// By gRPC service, the mesh service that must serve it.
    served_by: RapidHashMap<String, String>,
}

/// A method that is not described: nothing is assumed of it.
static UNKNOWN: LazyLock<Method> = LazyLock::new(Method::unknown);

impl Method {
    /// One of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self {
            index: None,
            name: "other".to_owned(),
            safety: Safety::Once,
            only_reads: false,
            requests: Messages::Stream,
            responses: Messages::Stream,
            requires: None,
        }
    }
}

/// The table, which never changes.
pub(crate) static METHODS: LazyLock<Methods> = LazyLock::new(Methods::from_descriptors);

impl Methods {
    fn from_descriptors() -> Self {
        let mut methods = Self {
            by_path: RapidHashMap::default(),
            names: Vec::new(),
            served_by: RapidHashMap::default(),
        };
        let mut files = BTreeSet::new();
        // The first set is that of `proto/`.
        for (number, encoded) in descriptors::encoded().iter().enumerate() {
            let set = FileSet::read(encoded).expect("it was read before");
            // A set brings its imports along, and two may bring the same.
            for file in set.files.iter().filter(|file| files.insert(file.name.clone())) {
                for service in &file.services {
                    let name = file.full_name(service);
                    // In a stranger's protos the option's number may stand for something else.
                    if number == 0 {
                        methods.serve(&name, service);
                    }
                    let requirement = match number {
                        0 => rpc::Requirement::of_path,
                        _ => descriptors::requirement,
                    };
                    methods.add(&name, service, requirement);
                }
            }
        }
        methods
    }

    fn serve(&mut self, full_name: &str, service: &described::Service) {
        if let Some(options) = service.options().filter(|options| !options.served_by.is_empty()) {
            self.served_by.insert(full_name.to_owned(), options.served_by);
        }
    }

    fn add(
        &mut self,
        full_name: &str,
        service: &described::Service,
        requirement: fn(&str) -> Option<rpc::Requirement>,
    ) {
        for method in &service.methods {
            let level = method.options.unwrap_or_default().idempotency_level;
            let level = IdempotencyLevel::try_from(level);
            let name = format!("{full_name}/{}", method.name);
            let path = format!("/{name}");
            let messages = |stream| if stream { Messages::Stream } else { Messages::One };
            let method = Method {
                index: Some(self.names.len()),
                name: name.clone(),
                safety: match level {
                    Ok(IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent) => {
                        Safety::Repeatable
                    }
                    Ok(IdempotencyLevel::IdempotencyUnknown) | Err(_) => Safety::Once,
                },
                only_reads: level == Ok(IdempotencyLevel::NoSideEffects),
                requests: messages(method.client_streaming),
                responses: messages(method.server_streaming),
                requires: requirement(&path),
            };
            self.by_path.insert(path, method);
            self.names.push(name);
        }
    }

    /// The mesh service whose instances serve a gRPC service; none if any may.
    pub(crate) fn served_by(&self, grpc_service: &str) -> Option<&str> {
        self.served_by.get(grpc_service).map(String::as_str)
    }

    /// The method that a path names.
    pub(crate) fn of_path(&self, path: &str) -> &Method {
        self.by_path.get(path).unwrap_or(&UNKNOWN)
    }

    /// The names of all, by index.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a call of the method may be done again though it may have been done.
    pub(crate) fn is_repeatable(&self, path: &str) -> bool {
        self.of_path(path).safety == Safety::Repeatable
    }

    /// The same, of any method of the gRPC service whose paths begin with `prefix`.
    pub(crate) fn is_any_repeatable(&self, prefix: &str) -> bool {
        let mut methods = self.by_path.iter().filter(|(path, _)| path.starts_with(prefix));
        methods.any(|(_, method)| method.safety == Safety::Repeatable)
    }

    /// How many there are: one more than the largest index.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }
}

/// The gRPC service that a path names: `/service/method`.
pub(crate) fn grpc_service(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty()).then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safety_comes_from_the_proto() {
        let safety = |path| METHODS.of_path(path).safety;
        assert_eq!(safety("/linkmesh.links.v1.LinksService/GetLink"), Safety::Repeatable);
        assert_eq!(safety("/linkmesh.links.v1.LinksService/BatchCreateLinks"), Safety::Repeatable);
        assert_eq!(safety("/linkmesh.links.v1.LinksService/CreateLink"), Safety::Once);
        assert_eq!(safety("/no.Such/Method"), Safety::Once);
    }

    #[test]
    fn who_serves_a_grpc_service_comes_from_the_proto() {
        assert_eq!(METHODS.served_by("linkmesh.links.v1.ResolverService"), Some("links"));
        assert_eq!(METHODS.served_by("linkmesh.mesh.v1.PolicyService"), Some("control"));
        assert_eq!(METHODS.served_by("linkmesh.mesh.v1.MeshService"), None);
        assert_eq!(METHODS.served_by("no.Such"), None);
    }

    #[test]
    fn a_path_names_its_service() {
        assert_eq!(grpc_service("/a.B/C"), Some("a.B"));
        for path in ["", "/", "/a.B", "/a.B/", "//C", "a.B/C"] {
            assert_eq!(grpc_service(path), None, "{path}");
        }
    }
}
