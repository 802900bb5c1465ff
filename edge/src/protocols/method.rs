//! The methods that can be called, by gRPC path.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Uri;
use http::uri::PathAndQuery;
use mesh::MethodTraits;
use prost_reflect::DescriptorPool;
use prost_reflect::MessageDescriptor;
use prost_reflect::MethodDescriptor;
use rpc::Requirement;
use transcode::Idempotency;
use transcode::JsonError;
use transcode::MessageType;
use transcode::ReadOptions;
use transcode::Schema;
use transcode::TranscodeError;
use transcode::WriteOptions;

use crate::caching;
use crate::contract;
use crate::idempotency;

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
    /// The number of the field that holds a request id; none for what changes nothing.
    pub(crate) request_id: Option<u32>,
    pub(crate) uri: Uri,
    pub(crate) path_and_query: PathAndQuery,
    /// Under what it is counted and logged.
    pub(crate) label: &'static str,
    /// What it asks of its caller; none if it does not say, and then it is for nobody.
    pub(crate) requires: Option<Requirement>,
    /// What the mesh is to know of it, where that is not what it was built with.
    pub(crate) traits: Option<MethodTraits>,
    /// What it says that caches may do with its answer.
    pub(crate) cache_control: Option<HeaderValue>,
    pub(crate) input: Message,
    pub(crate) output: Message,
}

/// A type of messages, between its wire form and JSON.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    schema: Arc<Schema>,
    of: MessageType,
}

impl Message {
    fn new(schema: &Arc<Schema>, descriptor: &MessageDescriptor) -> Self {
        let of = schema.message(descriptor.full_name()).expect("the schema is of its pool");
        Self { schema: Arc::clone(schema), of }
    }

    /// Reads a JSON object as a message, encoded.
    ///
    /// # Errors
    /// Anything that the message has no place for, and what is no JSON.
    pub(crate) fn read_json(&self, json: &[u8]) -> Result<Bytes, TranscodeError> {
        let mut message = Vec::with_capacity(json.len());
        self.schema.to_wire(self.of, json, ReadOptions::default(), &mut message)?;
        Ok(message.into())
    }

    /// Writes an encoded message as canonical ProtoJSON.
    ///
    /// # Errors
    /// The bytes are no such message, or it holds an `Any` of an unknown type.
    pub(crate) fn write_json(&self, message: &[u8]) -> Result<Bytes, JsonError> {
        let mut json = Vec::with_capacity(2 * message.len() + 64);
        self.schema.to_json(self.of, message, WriteOptions::default(), &mut json)?;
        Ok(json.into())
    }
}

impl Method {
    /// From its descriptor, and the schema of that one's pool.
    fn new(descriptor: &MethodDescriptor, schema: &Arc<Schema>) -> Self {
        let service = descriptor.parent_service();
        let path = format!("/{}/{}", service.full_name(), descriptor.name());
        let idempotency = transcode::idempotency(descriptor);
        let is_read_only = idempotency == Idempotency::NoSideEffects;
        let traits = MethodTraits {
            is_repeatable: is_read_only || idempotency == Idempotency::Idempotent,
            client_streams: descriptor.is_client_streaming(),
            server_streams: descriptor.is_server_streaming(),
        };
        let request_id = descriptor.input().get_field_by_name(idempotency::FIELD);
        let uri = Uri::try_from(&path).expect("names of protobuf need no escape");
        let requires = contract::requirement(descriptor);
        Self {
            request_id: request_id.filter(|_| !is_read_only).map(|field| field.number()),
            path_and_query: uri.path_and_query().cloned().expect("it is nothing else"),
            uri,
            label: contract::label(&path),
            requires,
            traits: Some(traits).filter(|traits| *traits != MethodTraits::built_in(&path)),
            // What is wrong is kept by nobody.
            cache_control: caching::declared(descriptor, requires).unwrap_or(Some(caching::NOBODY)),
            client_streams: descriptor.is_client_streaming(),
            server_streams: descriptor.is_server_streaming(),
            is_read_only,
            input: Message::new(schema, &descriptor.input()),
            output: Message::new(schema, &descriptor.output()),
            path,
        }
    }

    /// The service that it is of, as limits name it: `links` of `/linkmesh.links.v1.LinksService/GetLink`. Empty for none of ours.
    pub(crate) fn service(&self) -> &str {
        let package = self.path.strip_prefix("/linkmesh.").unwrap_or_default();
        package.split('.').next().unwrap_or_default()
    }

    /// Whether its caller has to prove anything.
    pub(crate) fn asks_who(&self) -> bool {
        // What says nothing is not public; were it, it would be for those who are somebody.
        self.requires != Some(Requirement::Anyone)
    }

    /// The method, for anyone to call.
    pub(crate) fn for_anyone(self) -> Self {
        Self { requires: Some(Requirement::Anyone), ..self }
    }

    /// Whether bytes are a message that the method takes.
    pub(crate) fn takes(&self, message: &[u8]) -> bool {
        self.input.schema.is_message(self.input.of, message)
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

    /// Of one pool, whose schema this is.
    pub(crate) fn with_schema<'m>(
        descriptors: impl Iterator<Item = &'m MethodDescriptor>,
        schema: &Arc<Schema>,
    ) -> Self {
        let methods = descriptors.map(|descriptor| {
            let method = Method::new(descriptor, schema);
            (method.path.clone(), method)
        });
        Self(methods.collect())
    }

    /// The same methods, for anyone to call.
    pub(crate) fn for_anyone(self) -> Self {
        Self(self.0.into_iter().map(|(path, method)| (path, method.for_anyone())).collect())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The names of the services that have one.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|path| path.trim_start_matches('/').split('/').next())
    }
}

impl FromIterator<MethodDescriptor> for Methods {
    fn from_iter<I: IntoIterator<Item = MethodDescriptor>>(descriptors: I) -> Self {
        let mut schemas: Vec<(DescriptorPool, Arc<Schema>)> = Vec::new();
        let methods = descriptors.into_iter().map(|descriptor| {
            let pool = descriptor.parent_pool();
            let known = schemas.iter().position(|(known, _)| known == pool);
            let known = known.unwrap_or_else(|| {
                schemas.push((pool.clone(), Arc::new(Schema::new(pool))));
                schemas.len() - 1
            });
            let method = Method::new(&descriptor, &schemas[known].1);
            (method.path.clone(), method)
        });
        Self(methods.collect())
    }
}
