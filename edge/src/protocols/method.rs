//! The methods that can be called, by gRPC path.

use std::collections::HashMap;

use http::Uri;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use prost_reflect::MethodDescriptor;

/// A method, as its proto has it.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: String,
    /// Whether it takes a stream.
    pub client_streams: bool,
    /// Whether it answers with a stream.
    pub server_streams: bool,
    /// Whether it is NO_SIDE_EFFECTS, so that it may be called by GET.
    pub is_read_only: bool,
    pub(crate) uri: Uri,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
}

impl Method {
    /// From its descriptor.
    #[must_use]
    pub fn new(descriptor: &MethodDescriptor) -> Self {
        let service = descriptor.parent_service();
        let path = format!("/{}/{}", service.full_name(), descriptor.name());
        Self {
            uri: Uri::try_from(&path).expect("names of protobuf need no escape"),
            client_streams: descriptor.is_client_streaming(),
            server_streams: descriptor.is_server_streaming(),
            is_read_only: transcode::idempotency(descriptor)
                == transcode::Idempotency::NoSideEffects,
            input: descriptor.input(),
            output: descriptor.output(),
            path,
        }
    }

    /// Whether bytes are a message that the method takes.
    pub(crate) fn takes(&self, message: &[u8]) -> bool {
        DynamicMessage::decode(self.input.clone(), message).is_ok()
    }
}

/// Methods by path.
#[derive(Debug, Default)]
pub struct Methods(HashMap<String, Method>);

impl Methods {
    /// The method with this gRPC path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Method> {
        self.0.get(path)
    }

    /// The names of the services that have one.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|path| path.trim_start_matches('/').split('/').next())
    }
}

impl FromIterator<MethodDescriptor> for Methods {
    fn from_iter<I: IntoIterator<Item = MethodDescriptor>>(descriptors: I) -> Self {
        let methods = descriptors.into_iter().map(|descriptor| {
            let method = Method::new(&descriptor);
            (method.path.clone(), method)
        });
        Self(methods.collect())
    }
}
