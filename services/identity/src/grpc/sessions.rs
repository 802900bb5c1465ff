//! SessionsService.

use proto::identity::v1::complete_sign_in_request::Factor as WireFactor;
use proto::identity::v1::sessions_service_server::SessionsService;
use proto::identity::v1::sign_in_response::Outcome;
use proto::identity::v1::{
    CompleteSignInRequest, CompleteSignInResponse, EndAllSessionsRequest, EndAllSessionsResponse,
    EndSessionRequest, EndSessionResponse, ListSessionsRequest, ListSessionsResponse,
    RefreshSessionRequest, RefreshSessionResponse, SignInRequest, SignInResponse,
};
use rpc::{SessionId, request_id};
use tonic::{Request, Response, Status};

use super::now_in_micros;
use super::users::answered;
use crate::accounts::{Accounts, SignedIn, label, me, presented_password};
use crate::domain::{Email, Error, Factor, Violation};
use crate::store::{Failure, Spends};
use crate::wire;

#[tonic::async_trait]
impl SessionsService for Accounts {
    async fn sign_in(
        &self,
        request: Request<SignInRequest>,
    ) -> Result<Response<SignInResponse>, Status> {
        let message = request.get_ref();
        let now = now_in_micros();
        let signed_in = async {
            let email = Email::parse(&message.email).map_err(Error::from)?;
            let of = email.normalized();
            let id = self.anonymous(&of, &message.request_id, "SignIn", message)?;
            let password = presented_password("password", &message.password)?;
            let label = label(&message.label)?;
            // Before the request id is looked at: else it would tell, without a limit, whether a guess is right.
            let user = self.proved(&email, password, &request, now).await?;
            let respond = |signed_in| {
                let outcome = match signed_in {
                    SignedIn::Tokens(tokens) => Outcome::Tokens(tokens),
                    SignedIn::Challenge(challenge) => Outcome::Challenge(challenge),
                };
                SignInResponse { outcome: Some(outcome) }
            };
            self.sign_in(&user, label, Spends::Nothing, (id.as_request(), now), respond).await
        };
        answered(signed_in.await)
    }

    async fn complete_sign_in(
        &self,
        request: Request<CompleteSignInRequest>,
    ) -> Result<Response<CompleteSignInResponse>, Status> {
        let message = request.get_ref();
        let now = now_in_micros();
        let completed = async {
            let challenge = &message.challenge_token;
            let id = self.anonymous(challenge, &message.request_id, "CompleteSignIn", message)?;
            self.count_token(challenge, &request, now).await?;
            let factor = match message.factor.clone() {
                Some(WireFactor::TotpCode(code)) => Factor::Totp(code),
                Some(WireFactor::RecoveryCode(code)) => Factor::Recovery(code),
                None => return Err(factor_missing()),
            };
            self.complete_sign_in(challenge, &factor, id.as_request(), now).await
        };
        answered(completed.await)
    }

    async fn refresh_session(
        &self,
        request: Request<RefreshSessionRequest>,
    ) -> Result<Response<RefreshSessionResponse>, Status> {
        let message = request.get_ref();
        let id = request_id::optional(&message.request_id)?;
        let tokens = self.refresh(&message.refresh_token, id, now_in_micros()).await;
        answered(tokens.map(|tokens| RefreshSessionResponse { tokens: Some(tokens) }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let me = me(&request, "parent", &request.get_ref().parent)?;
        let sessions = self.store.sessions(me.user, now_in_micros()).await;
        answered(sessions.map(|sessions| ListSessionsResponse {
            sessions: sessions.iter().map(|one| wire::session(one, me.session)).collect(),
        }))
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let name = &request.get_ref().name;
        let malformed = || {
            let why =
                "must be `users/{user}/sessions/{session}`; `me` and `current` are the caller's";
            rpc::Error::invalid("name", why)
        };
        let (user, session) = name.split_once("/sessions/").unwrap_or((name, ""));
        let me = me(&request, "name", user)?;
        let session = match session {
            "current" => me.session,
            id => SessionId::parse(id).map_err(|_| malformed())?,
        };
        let message = request.get_ref();
        let id = self.identified(me.user.uuid(), &message.request_id, "EndSession", message)?;
        let id = id.as_request();
        let now = now_in_micros();
        let ended = self.store.end_session(me.user, session, now, id.as_ref()).await;
        answered(ended.map(|()| EndSessionResponse {}))
    }

    async fn end_all_sessions(
        &self,
        request: Request<EndAllSessionsRequest>,
    ) -> Result<Response<EndAllSessionsResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "parent", &message.parent)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "EndAllSessions", message)?;
        let id = id.as_request();
        answered(self.store.end_all_sessions(me.user, now_in_micros(), id.as_ref()).await)
    }
}

pub(super) fn factor_missing() -> Failure {
    let why = "is required: `totp_code` or `recovery_code`";
    Error::from(Violation::new("factor", why)).into()
}
