//! ApiKeysService.

use jiff::Timestamp;
use proto::identity::v1::api_keys_service_server::ApiKeysService;
use proto::identity::v1::{
    CreateApiKeyRequest, CreateApiKeyResponse, GetApiKeyRequest, GetApiKeyResponse,
    ListApiKeysRequest, ListApiKeysResponse, RevokeApiKeyRequest, RevokeApiKeyResponse,
    RotateApiKeyRequest, RotateApiKeyResponse,
};
use rpc::{ApiKeyId, Principal, WorkspaceId, kind, name, page, time};
use tonic::{Request, Response, Status};

use super::{Api, failed, refusal, service_accounts};
use crate::domain::{ApiKey, Error, Violation, display_name, expiry, overlap, scopes};
use crate::identified::{Identified, Kept};
use crate::wire;

#[tonic::async_trait]
impl ApiKeysService for Api {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        let principal = Principal::admitted(&request, workspace)?;
        let wanted = message.api_key.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid("api_key", "is required"))?;
        let id = Identified::new(
            workspace.uuid(),
            &message.request_id,
            "CreateApiKey",
            message,
            Kept::Hashed,
        )?;
        let act = id.act(principal);
        let secret = auth::ApiKey::generate().map_err(|error| rpc::Error::internal(&error))?;
        let key = new_key(workspace, wanted, secret.prefix(), act.now)
            .map_err(|error| refusal("api_key", error))?;
        principal.may_grant(workspace, key.scopes)?;

        let created = self.store.create_api_key(&act, &key, secret.digest()).await;
        let (mut response, is_new) = created.map_err(|failure| failed("api_key", failure))?;
        if is_new {
            secret.reveal().clone_into(&mut response.secret);
        }
        Ok(Response::new(response))
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        let message = request.get_ref();
        let (workspace, key) = name::child::<kind::ApiKey>("name", "apiKeys", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let wanted = message.overlap.unwrap_or_default();
        let overlap = overlap(wanted.seconds, wanted.nanos)
            .map_err(|violation| refusal("", violation.into()))?;
        let id = Identified::new(
            workspace.uuid(),
            &message.request_id,
            "RotateApiKey",
            message,
            Kept::Hashed,
        )?;
        let act = id.act(principal);
        let secret = auth::ApiKey::generate().map_err(|error| rpc::Error::internal(&error))?;
        let renew = |old: &ApiKey| {
            principal.may_grant(workspace, old.scopes)?;
            Ok(ApiKey {
                id: ApiKeyId::new(),
                prefix: secret.prefix().to_owned(),
                create_time: act.now,
                last_use_time: None,
                version: act.now.as_microsecond(),
                ..old.clone()
            })
        };

        let expire_time = act.now + overlap;
        let rotated = self
            .store
            .rotate_api_key(&act, (workspace, key), expire_time, secret.digest(), renew)
            .await;
        let (mut response, is_new) = rotated.map_err(|failure| failed("", failure))?;
        if is_new {
            secret.reveal().clone_into(&mut response.secret);
        }
        Ok(Response::new(response))
    }

    async fn get_api_key(
        &self,
        request: Request<GetApiKeyRequest>,
    ) -> Result<Response<GetApiKeyResponse>, Status> {
        let (workspace, key) =
            name::child::<kind::ApiKey>("name", "apiKeys", &request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let key = self.store.api_key(workspace, key).await;
        let key = key.map_err(|failure| failed("api_key", failure))?;
        Ok(Response::new(GetApiKeyResponse { api_key: Some(wire::api_key(&key)) }))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent];
        let behind = page::cursor("ListApiKeys", &parameters, &message.page_token)?
            .map(|bytes| decode_cursor(&bytes).ok_or_else(rpc::Error::invalid_page_token))
            .transpose()?;

        let listed = self.store.list_api_keys(workspace, behind, size).await;
        let (keys, more) = listed.map_err(|failure| failed("api_key", failure))?;
        let next = keys
            .last()
            .filter(|_| more)
            .map(|last| page::token("ListApiKeys", &parameters, &encode_cursor(last)));
        Ok(Response::new(ListApiKeysResponse {
            api_keys: keys.iter().map(wire::api_key).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let message = request.get_ref();
        let (workspace, key) = name::child::<kind::ApiKey>("name", "apiKeys", &message.name)?;
        let principal = Principal::admitted(&request, workspace)?;
        let id = Identified::new(
            workspace.uuid(),
            &message.request_id,
            "RevokeApiKey",
            message,
            Kept::Hashed,
        )?;
        let revoked = self.store.revoke_api_key(&id.act(principal), (workspace, key)).await;
        Ok(Response::new(revoked.map_err(|failure| failed("api_key", failure))?))
    }
}

fn new_key(
    workspace: WorkspaceId,
    wanted: &proto::identity::v1::ApiKey,
    prefix: &str,
    now: Timestamp,
) -> Result<ApiKey, Error> {
    let expire_time = match &wanted.expire_time {
        None => None,
        Some(given) => {
            let given = time::from_proto("expire_time", given).map_err(|_| {
                Violation::new("expire_time", "must lie between the years 1 and 9999")
            })?;
            Some(expiry(given, now)?)
        }
    };
    let service_account = match wanted.service_account.as_str() {
        "" => None,
        name => {
            let (of, account) = service_accounts::named("service_account", name).map_err(|_| {
                let why = "must be `workspaces/{workspace}/serviceAccounts/{service_account}`";
                Violation::new("service_account", why)
            })?;
            if of != workspace {
                return Err(Error::NotFound(name.to_owned()));
            }
            Some(account)
        }
    };
    Ok(ApiKey {
        id: ApiKeyId::new(),
        workspace,
        service_account,
        display_name: display_name(&wanted.display_name)?,
        prefix: prefix.to_owned(),
        scopes: scopes(&wanted.scopes)?,
        expire_time,
        create_time: now,
        last_use_time: None,
        revoke_time: None,
        version: now.as_microsecond(),
    })
}

fn encode_cursor(last: &ApiKey) -> Vec<u8> {
    let mut bytes = last.id.as_bytes().to_vec();
    bytes.extend_from_slice(&last.create_time.as_microsecond().to_be_bytes());
    bytes
}

fn decode_cursor(bytes: &[u8]) -> Option<(i64, ApiKeyId)> {
    let (id, micros) = bytes.split_at_checked(16)?;
    Some((i64::from_be_bytes(micros.try_into().ok()?), ApiKeyId::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::now_in_micros;

    #[test]
    fn a_cursor_reads_back_and_other_bytes_are_none() {
        let wanted = proto::identity::v1::ApiKey {
            display_name: "k".to_owned(),
            scopes: vec![1],
            ..Default::default()
        };
        let key = new_key(WorkspaceId::new(), &wanted, "p", now_in_micros()).unwrap();
        let cursor = encode_cursor(&key);
        assert_eq!(decode_cursor(&cursor), Some((key.create_time.as_microsecond(), key.id)));
        for length in (0..cursor.len()).chain([cursor.len() + 1]) {
            assert_eq!(decode_cursor(&vec![0; length]), None, "{length}");
        }
    }

    #[test]
    fn each_field_of_a_new_key_is_checked_under_its_name() {
        let good = proto::identity::v1::ApiKey {
            display_name: "k".to_owned(),
            scopes: vec![1],
            ..Default::default()
        };
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let cases = [
            (
                "display_name",
                proto::identity::v1::ApiKey { display_name: String::new(), ..good.clone() },
            ),
            ("scopes", proto::identity::v1::ApiKey { scopes: vec![], ..good.clone() }),
            ("scopes", proto::identity::v1::ApiKey { scopes: vec![77], ..good.clone() }),
            ("expire_time", proto::identity::v1::ApiKey { expire_time: time(1), ..good.clone() }),
            (
                "expire_time",
                proto::identity::v1::ApiKey { expire_time: time(i64::MAX), ..good.clone() },
            ),
            (
                "service_account",
                proto::identity::v1::ApiKey { service_account: "x".to_owned(), ..good.clone() },
            ),
        ];
        for (field, wanted) in cases {
            let Err(Error::Invalid(violation)) =
                new_key(WorkspaceId::new(), &wanted, "p", now_in_micros())
            else {
                panic!("{field} was taken");
            };
            assert_eq!(violation.field, field);
        }
    }
}
