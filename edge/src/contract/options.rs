//! What methods and services say of themselves in options of ours. They are found by name in their own descriptors: in a stranger's
//! protos the same number may mean something else.

use prost_reflect::MethodDescriptor;
use prost_reflect::ServiceDescriptor;
use rpc::Requirement;

const REQUIRES: &str = "linkmesh.common.v1.requires";
const SERVED_BY: &str = "linkmesh.mesh.v1.served_by";

/// An option that is a message; none if the method does not have it, or it is not read here.
pub(crate) fn message<M>(method: &MethodDescriptor, name: &str) -> Option<M>
where
    M: prost::Message + Default,
{
    let extension = method.parent_pool().get_extension_by_name(name)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message()?.transcode_to().ok()
}

/// What the method asks of its caller; none if it says nothing that is known here, and then nobody may call it.
pub(crate) fn requirement(method: &MethodDescriptor) -> Option<Requirement> {
    message(method, REQUIRES).and_then(Requirement::from_proto)
}

/// The mesh service whose instances serve a gRPC service; none if any may.
pub(crate) fn served_by(service: &ServiceDescriptor) -> Option<String> {
    let extension = service.parent_pool().get_extension_by_name(SERVED_BY)?;
    let options = service.options();
    let owner = options.get_extension(&extension).as_str()?.to_owned();
    (!owner.is_empty()).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_descriptors_say_is_what_handlers_are_handed() {
        let services = proto::DESCRIPTORS.services();
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        let mut says = 0;
        for method in methods {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            assert_eq!(requirement(&method), Requirement::of_path(&path), "{path}");
            says += usize::from(requirement(&method).is_some());
        }
        assert!(says > 10, "the option is found");
    }
}
