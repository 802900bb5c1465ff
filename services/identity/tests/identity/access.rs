//! Every public method of this service, taken from the descriptors: it refuses whoever has no part in the workspace, lacks the
//! permission, or proved nothing.

use bytes::{Buf as _, BufMut as _};
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use proto::common::v1::ErrorReason;
use rpc::{ApiKeyId, Permissions, Principal, Requirement, WorkspaceId};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use super::harness::{Service, by, reason};

/// The methods with a REST route that this service serves.
fn methods() -> Vec<MethodDescriptor> {
    let http = proto::DESCRIPTORS.get_extension_by_name("google.api.http").unwrap();
    let served_by = proto::DESCRIPTORS.get_extension_by_name("linkmesh.mesh.v1.served_by").unwrap();
    let services = proto::DESCRIPTORS
        .services()
        .filter(|service| service.options().get_extension(&served_by).as_str() == Some("identity"));
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter(|method| method.options().has_extension(&http)).collect()
}

/// A request that names something in this workspace, by the fields that the API's names have.
fn about(method: &MethodDescriptor, workspace: WorkspaceId) -> DynamicMessage {
    let mut message = DynamicMessage::new(method.input());
    let digits = "0".repeat(31);
    let name_of = |message: &prost_reflect::MessageDescriptor| match message.name() {
        name if name.contains("ApiKey") => format!("workspaces/{workspace}/apiKeys/key_{digits}1"),
        name if name.contains("ServiceAccount") => {
            format!("workspaces/{workspace}/serviceAccounts/sva_{digits}1")
        }
        name if name.contains("Member") => format!("workspaces/{workspace}/members/usr_{digits}1"),
        name if name.contains("Invitation") => {
            format!("workspaces/{workspace}/invitations/inv_{digits}1")
        }
        _ => format!("workspaces/{workspace}"),
    };
    for field in method.input().fields() {
        if field.name() == "parent" {
            message.set_field(&field, Value::String(format!("workspaces/{workspace}")));
        } else if field.name() == "name" {
            message.set_field(&field, Value::String(name_of(&method.input())));
        } else if let Some(inner) = field.kind().as_message()
            && let Some(name) = inner.get_field_by_name("name")
        {
            let mut resource = DynamicMessage::new(inner.clone());
            resource.set_field(&name, Value::String(name_of(inner)));
            message.set_field(&field, Value::Message(resource));
        }
    }
    message
}

async fn call(
    service: &Service,
    method: &MethodDescriptor,
    request: Request<Vec<u8>>,
) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut client = tonic::client::Grpc::new(service.edge());
    client.ready().await.unwrap();
    client.unary(request, path.parse().unwrap(), Raw).await.map(drop)
}

#[tokio::test]
async fn every_method_refuses_who_may_not_call_it() {
    let service = Service::start().await;
    let (own, other) = (WorkspaceId::new(), WorkspaceId::new());
    let key = |permissions| Principal::api_key(ApiKeyId::new(), own, permissions);
    let methods = methods();
    assert!(methods.len() >= 20, "the descriptors were read");
    for method in &methods {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let bytes = |workspace| about(method, workspace).encode_to_vec();
        match Requirement::of_path(&path) {
            Some(Requirement::Permission(scope)) => {
                let stranger = by(&key(Permissions::ALL), bytes(other));
                let refused = call(&service, method, stranger).await;
                assert_eq!(reason(refused), "NOT_FOUND", "{path}");
                let lacking = key(Permissions::ALL.without(Permissions::of(&[scope])));
                let refused = call(&service, method, by(&lacking, bytes(own))).await;
                assert_eq!(reason(refused), "SCOPE_MISSING", "{path}");
                let anonymous = call(&service, method, Request::new(bytes(own))).await;
                assert_eq!(reason(anonymous), "CREDENTIALS_MISSING", "{path}");
            }
            Some(Requirement::User) => {
                let refused = call(&service, method, by(&key(Permissions::ALL), bytes(own))).await;
                assert_eq!(reason(refused), "USER_REQUIRED", "{path}");
                let anonymous = call(&service, method, Request::new(bytes(own))).await;
                assert_eq!(reason(anonymous), "CREDENTIALS_MISSING", "{path}");
            }
            Some(Requirement::Anyone) => {
                let answer = call(&service, method, Request::new(bytes(own))).await;
                let missing = ErrorReason::CredentialsMissing.as_str_name();
                assert!(answer.is_ok() || !missing.ends_with(&reason(answer)), "{path}");
            }
            Some(Requirement::Operator) | None => {
                panic!("{path} has a route and is not for clients")
            }
        }
    }
    service.stop().await;
}

/// Messages as the bytes they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
