//! AuthenticationService: what the edge asks about a key that it does not remember.

use jiff::Timestamp;
use proto::identity::v1::authentication_service_server::AuthenticationService;
use proto::identity::v1::{AuthenticateRequest, AuthenticateResponse};
use rpc::time;
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
            principal: is_live.then(|| wire::principal(&known.key)),
            expire_time: known.key.expire_time.map(time::to_proto),
            read_time: unknown.read_time,
            version: known.key.version,
        }))
    }
}
