//! What descriptors say of services alone, read straight from an encoded `FileDescriptorSet`.
//!
//! A pool of all messages takes megabytes and milliseconds; a process that never shows a message does not need it.

use prost::Message;

/// `google.protobuf.FileDescriptorSet`, as far as it is of interest. What is not listed is skipped.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileSet {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct File {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) package: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Service {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) methods: Vec<Rpc>,
    /// Encoded: in a stranger's protos the numbers of extensions may stand for something else, of another type.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) options: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ServiceOptions {
    /// `linkmesh.mesh.v1.served_by`.
    #[prost(string, tag = "50100")]
    pub(crate) served_by: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Rpc {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) options: Option<RpcOptions>,
    #[prost(bool, tag = "5")]
    pub(crate) client_streaming: bool,
    #[prost(bool, tag = "6")]
    pub(crate) server_streaming: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RpcOptions {
    /// `google.protobuf.MethodOptions.IdempotencyLevel`.
    #[prost(int32, tag = "34")]
    pub(crate) idempotency_level: i32,
}

impl FileSet {
    /// Reads an encoded set.
    pub(crate) fn read(encoded: &[u8]) -> Result<Self, prost::DecodeError> {
        Self::decode(encoded)
    }
}

impl Service {
    /// Its options, if they are of the types that are of interest.
    pub(crate) fn options(&self) -> Option<ServiceOptions> {
        ServiceOptions::decode(self.options.as_slice()).ok()
    }
}

impl File {
    /// A service's full name.
    pub(crate) fn full_name(&self, service: &Service) -> String {
        if self.package.is_empty() {
            return service.name.clone();
        }
        format!("{}.{}", self.package, service.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_strangers_option_of_another_type_is_none_of_ours() {
        #[derive(Clone, PartialEq, Message)]
        struct Strangers {
            #[prost(uint32, tag = "50100")]
            price: u32,
        }
        let options = Strangers { price: 7 }.encode_to_vec();
        let service = Service { name: "Shop".to_owned(), options, ..Service::default() };
        let file = File { services: vec![service], ..File::default() };
        let set = FileSet::read(&FileSet { files: vec![file] }.encode_to_vec()).unwrap();
        assert_eq!(set.files[0].services[0].name, "Shop");
        assert_eq!(set.files[0].services[0].options(), None);
    }

    #[test]
    fn it_reads_what_the_whole_descriptors_say() {
        let set = FileSet::read(proto::DESCRIPTOR_SET).unwrap();
        let mut found = BTreeSet::new();
        for file in &set.files {
            for service in &file.services {
                for method in &service.methods {
                    let level = method.options.unwrap_or_default().idempotency_level;
                    let streams = (method.client_streaming, method.server_streaming);
                    found.insert((file.full_name(service), method.name.clone(), level, streams));
                }
            }
        }
        let methods = proto::DESCRIPTORS
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| {
                let options = method.method_descriptor_proto().options.clone();
                let level = options.unwrap_or_default().idempotency_level.unwrap_or_default();
                let streams = (method.is_client_streaming(), method.is_server_streaming());
                let service = method.parent_service().full_name().to_owned();
                (service, method.name().to_owned(), level, streams)
            });
        assert_eq!(found, methods.collect());
        let option = proto::DESCRIPTORS
            .get_extension_by_name("linkmesh.mesh.v1.served_by")
            .expect("it is in proto/linkmesh/mesh/v1/options.proto");
        assert_eq!(option.number(), 50_100);
    }
}
