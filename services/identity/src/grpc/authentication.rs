//! AuthenticationService: what the edge asks about a key or a user that it does not remember.

use jiff::Timestamp;
use proto::identity::v1::authentication_service_server::AuthenticationService;
use proto::identity::v1::{
    AuthenticateRequest, AuthenticateResponse, GetUserGrantsRequest, GetUserGrantsResponse,
};
use rpc::{Grant, UserId, time};
use tonic::{Request, Response, Status};

use super::{Api, failed};
use crate::wire;

#[tonic::async_trait]
impl AuthenticationService for Api {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let text = request.into_inner().api_key;
        if text.is_empty() {
            return Err(rpc::Error::invalid("api_key", "is required").into());
        }
        // Before the read: whoever counts a time to live from here never counts too little.
        let now = Timestamp::now();
        let unknown = AuthenticateResponse {
            read_time: Some(time::to_proto(now)),
            ..AuthenticateResponse::default()
        };
        // What is no key at all is an unknown one, which the edge may remember just as well.
        let Ok(presented) = auth::ApiKey::parse(&text) else { return Ok(Response::new(unknown)) };
        let found = self.store.api_key_by_prefix(presented.prefix()).await;
        let found = found.map_err(|failure| failed("api_key", failure))?;
        // A wrong secret learns nothing of the key whose prefix it borrowed.
        let Some(known) = found.filter(|known| known.digest.matches(&presented.digest())) else {
            return Ok(Response::new(unknown));
        };
        let is_live = known.key.is_live(now);
        if is_live {
            self.note_use(known.key.id, now);
        }
        Ok(Response::new(AuthenticateResponse {
            principal: is_live.then(|| wire::principal(&known)),
            expire_time: known.key.expire_time.map(time::to_proto),
            read_time: unknown.read_time,
            version: known.key.version,
        }))
    }

    async fn get_user_grants(
        &self,
        request: Request<GetUserGrantsRequest>,
    ) -> Result<Response<GetUserGrantsResponse>, Status> {
        let user = UserId::from_slice(&request.get_ref().user_id)
            .map_err(|_| rpc::Error::invalid("user_id", "must have 16 bytes"))?;
        // Before the read, as above.
        let now = Timestamp::now();
        let found = self.store.user_grants(user).await;
        let found = found.map_err(|failure| failed("", failure))?;
        Ok(Response::new(GetUserGrantsResponse {
            grants: found.grants.iter().map(Grant::to_proto).collect(),
            tier: found.tier.into(),
            read_time: Some(time::to_proto(now)),
            version: found.version,
        }))
    }
}
