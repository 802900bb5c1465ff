//! UsersService.

use auth::Token;
use jiff::Timestamp;
use proto::identity::v1::users_service_server::UsersService;
use proto::identity::v1::{
    ChangePasswordRequest, ChangePasswordResponse, EraseUserRequest, EraseUserResponse,
    ExportUserRequest, ExportUserResponse, GetUserRequest, GetUserResponse,
    RequestPasswordResetRequest, RequestPasswordResetResponse, ResetPasswordRequest,
    ResetPasswordResponse, SignUpRequest, SignUpResponse, UpdateUserRequest, UpdateUserResponse,
    VerifyEmailRequest, VerifyEmailResponse,
};
use rpc::{mask, network};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{failed, now_in_micros};
use crate::accounts::{Accounts, me, presented_password};
use crate::domain::limit::{OF_ACCOUNT, OF_ADDRESS, OF_NETWORK_MAILS};
use crate::domain::password::new_password;
use crate::domain::{Email, Error, display_name};
use crate::mail::{RESET_LIFE, RESET_SCHEME, SIGN_UP_LIFE, SIGN_UP_SCHEME};
use crate::store::{Failure, MailKind, NewMail, NewSignUp, Registered, SetPassword, TokenKind};
use crate::{export, wire};

#[tonic::async_trait]
impl UsersService for Accounts {
    async fn sign_up(
        &self,
        request: Request<SignUpRequest>,
    ) -> Result<Response<SignUpResponse>, Status> {
        answered(self.sign_up_of(&request, now_in_micros()).await)
    }

    async fn verify_email(
        &self,
        request: Request<VerifyEmailRequest>,
    ) -> Result<Response<VerifyEmailResponse>, Status> {
        answered(self.verify_email_of(&request, now_in_micros()).await)
    }

    async fn request_password_reset(
        &self,
        request: Request<RequestPasswordResetRequest>,
    ) -> Result<Response<RequestPasswordResetResponse>, Status> {
        answered(self.request_reset_of(&request, now_in_micros()).await)
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        answered(self.reset_password_of(&request, now_in_micros()).await)
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let me = me(&request, "name", &request.get_ref().name)?;
        let user = self.store.user(me.user).await;
        answered(user.map(|user| GetUserResponse { user: Some(wire::user(&user)) }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UpdateUserResponse>, Status> {
        let wanted = request.get_ref().user.as_ref();
        let wanted = wanted.ok_or_else(|| rpc::Error::invalid("user", "is required"))?;
        let me = me(&request, "user.name", &wanted.name)?;
        let populated: &[&str] =
            if wanted.display_name.is_empty() { &[] } else { &["display_name"] };
        let update_mask = request.get_ref().update_mask.as_ref();
        let fields = mask::fields(update_mask, &["display_name"], populated)?;
        let display_name = match fields.is_empty() {
            true => None,
            false => Some(
                display_name(&wanted.display_name)
                    .map_err(|violation| failed("user", Error::Invalid(violation).into()))?,
            ),
        };
        let message = request.get_ref();
        let id = self.identified(me.user.uuid(), &message.request_id, "UpdateUser", message)?;
        let act = (id.as_request(), now_in_micros());
        let name = display_name.as_deref();
        answered(self.store.update_user(me.user, &wanted.etag, name, act).await)
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "ChangePassword", message)?;
        let now = now_in_micros();
        let changed = async {
            let id = id.as_request();
            let email = self.store.user(me.user).await?.email;
            let of = email.normalized();
            // Before the request id is looked at, which is right for the right passwords alone.
            self.store.attempt(OF_ACCOUNT, of.as_bytes(), now).await?;
            if self.store.replayed(id.as_ref(), now).await?.is_some() {
                self.store.forgive(OF_ACCOUNT, of.as_bytes()).await?;
                return Ok(ChangePasswordResponse {});
            }
            let old = presented_password("old_password", &message.old_password)?;
            new_password("new_password", &message.new_password, &email).map_err(Error::from)?;
            let user = self.proved(&email, old, &request, now).await?;
            let password = self.passwords.hash(&message.new_password).await?;
            let new = SetPassword {
                user: me.user,
                password: &password,
                token: None,
                replaces: user.password.as_deref(),
                keep: Some(me.session),
                now,
                request: id,
            };
            self.store.set_password(new).await?;
            Ok(ChangePasswordResponse {})
        };
        answered(changed.await)
    }

    async fn export_user(
        &self,
        request: Request<ExportUserRequest>,
    ) -> Result<Response<ExportUserResponse>, Status> {
        let me = me(&request, "name", &request.get_ref().name)?;
        let exported = async {
            let now = now_in_micros();
            let user = self.store.user(me.user).await?;
            let sessions = self.store.sessions(me.user, now).await?;
            let holdings = self.store.holdings(me.user, now).await?;
            Ok(ExportUserResponse {
                content_type: "application/json".to_owned(),
                document: export::document(&user, &sessions, &holdings, now),
            })
        };
        answered(exported.await)
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        let message = request.get_ref();
        let me = me(&request, "name", &message.name)?;
        let id = self.identified(me.user.uuid(), &message.request_id, "EraseUser", message)?;
        let now = now_in_micros();
        let erased = async {
            let id = id.as_request();
            if self.store.replayed(id.as_ref(), now).await?.is_some() {
                return Ok(EraseUserResponse {});
            }
            let user = self.proved_again(me, &message.password, &request, now).await?;
            self.store.erase_user(user.id, now, id.as_ref()).await?;
            Ok(EraseUserResponse {})
        };
        answered(erased.await)
    }
}

impl Accounts {
    async fn sign_up_of(
        &self,
        request: &Request<SignUpRequest>,
        now: Timestamp,
    ) -> Result<SignUpResponse, Failure> {
        let message = request.get_ref();
        let email = Email::parse(&message.email).map_err(Error::from)?;
        // Whoever signs up with another's address knows no password of theirs, and so none of their ids.
        let of = format!("{}\0{}", email.normalized(), message.password);
        let id = self.anonymous(&of, &message.request_id, "SignUp", message)?;
        new_password("password", &message.password, &email).map_err(Error::from)?;
        let display_name = display_name(&message.display_name).map_err(Error::from)?;
        self.count_network(OF_NETWORK_MAILS, request, now).await?;
        self.store.attempt(OF_ADDRESS, email.normalized().as_bytes(), now).await?;
        let password = self.passwords.hash(&message.password).await?;
        let new = NewSignUp {
            id: Uuid::now_v7(),
            email: &email,
            display_name: &display_name,
            password: &password,
            now,
            expire_time: now + SIGN_UP_LIFE,
            request: id.as_request(),
        };
        self.store.sign_up(new).await?;
        Ok(SignUpResponse {})
    }

    async fn verify_email_of(
        &self,
        request: &Request<VerifyEmailRequest>,
        now: Timestamp,
    ) -> Result<VerifyEmailResponse, Failure> {
        let message = request.get_ref();
        let response =
            |done: Registered| VerifyEmailResponse { user: format!("users/{}", done.user) };
        let id = self.anonymous(&message.token, &message.request_id, "VerifyEmail", message)?;
        let id = id.as_request();
        self.count_token(&message.token, request, now).await?;
        if let Some(bytes) = self.store.replayed(id.as_ref(), now).await? {
            return Ok(response(Registered::before(&bytes)?));
        }
        let password = presented_password("password", &message.password)?;
        let token = Token::parse(SIGN_UP_SCHEME, &message.token).ok_or(Error::TokenInvalid)?;
        let sign_up = self.store.sign_up_by_token(&token.digest(), now).await?;
        let sign_up = sign_up.ok_or(Error::TokenInvalid)?;
        self.store.attempt(OF_ACCOUNT, sign_up.email.normalized().as_bytes(), now).await?;
        if !self.passwords.verify(password, Some(&sign_up.password)).await? {
            return Err(Error::SignInRefused.into());
        }
        let done = self.store.register(&sign_up, now, id.as_ref()).await?;
        if done.is_new {
            self.registrations.inc();
        }
        Ok(response(done))
    }

    async fn request_reset_of(
        &self,
        request: &Request<RequestPasswordResetRequest>,
        now: Timestamp,
    ) -> Result<RequestPasswordResetResponse, Failure> {
        let message = request.get_ref();
        let email = Email::parse(&message.email).map_err(Error::from)?;
        // The address is no secret, and who asks proves nothing: another network's ids are another's.
        let network = network::of(request.metadata()).unwrap_or_default();
        let of = format!("{}\0{:032x}", email.normalized(), u128::from_be_bytes(network));
        let id = self.anonymous(&of, &message.request_id, "RequestPasswordReset", message)?;
        self.count_network(OF_NETWORK_MAILS, request, now).await?;
        self.store.attempt(OF_ADDRESS, email.normalized().as_bytes(), now).await?;
        let mail = NewMail {
            id: Uuid::now_v7(),
            kind: MailKind::PasswordReset,
            email: &email,
            now,
            expire_time: now + RESET_LIFE,
        };
        self.store.request_mail(&mail, id.as_request().as_ref()).await?;
        Ok(RequestPasswordResetResponse {})
    }

    async fn reset_password_of(
        &self,
        request: &Request<ResetPasswordRequest>,
        now: Timestamp,
    ) -> Result<ResetPasswordResponse, Failure> {
        let message = request.get_ref();
        let id = self.anonymous(&message.token, &message.request_id, "ResetPassword", message)?;
        let id = id.as_request();
        self.count_token(&message.token, request, now).await?;
        if self.store.replayed(id.as_ref(), now).await?.is_some() {
            return Ok(ResetPasswordResponse {});
        }
        let token = Token::parse(RESET_SCHEME, &message.token).ok_or(Error::TokenInvalid)?.digest();
        let found = self.store.token(TokenKind::PasswordReset, &token, now).await?;
        let user = self.store.user(found.ok_or(Error::TokenInvalid)?.user).await?;
        new_password("new_password", &message.new_password, &user.email).map_err(Error::from)?;
        let password = self.passwords.hash(&message.new_password).await?;
        let new = SetPassword {
            user: user.id,
            password: &password,
            token: Some(&token),
            replaces: None,
            keep: None,
            now,
            request: id,
        };
        self.store.set_password(new).await?;
        Ok(ResetPasswordResponse {})
    }
}

pub(super) fn answered<T>(outcome: Result<T, Failure>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|failure| failed("", failure).into())
}
