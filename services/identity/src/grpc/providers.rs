//! ProvidersService.

use auth::Token;
use jiff::{SignedDuration, Timestamp};
use pg::requests::Request as RequestId;
use proto::identity::v1::confirm_provider_link_response::Outcome as ConfirmOutcome;
use proto::identity::v1::finish_provider_sign_in_response::Outcome;
use proto::identity::v1::providers_service_server::ProvidersService;
use proto::identity::v1::{
    BeginProviderSignInRequest, BeginProviderSignInResponse, ConfirmProviderLinkRequest,
    ConfirmProviderLinkResponse, FinishProviderSignInRequest, FinishProviderSignInResponse,
    LinkRequired, ListProvidersRequest, ListProvidersResponse, Provider,
};
use rpc::time;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

use super::now_in_micros;
use super::users::answered;
use crate::accounts::{Accounts, SignedIn, label, presented_password};
use crate::domain::limit::OF_NETWORK;
use crate::domain::{Email, Error, Violation, display_name};
use crate::oidc::{Proved, Providers, Secrets};
use crate::store::{Answer, Failure, Flow, NewToken, Spends, TokenKind};

/// How long a browser may stay at a provider.
const FLOW_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// How long a link waits to be confirmed.
const LINK_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// The schemes of their tokens.
const FLOW_SCHEME: &str = "lmf";
const LINK_SCHEME: &str = "lml";

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSignIns {
    pub(crate) accounts: Accounts,
    pub(crate) providers: Providers,
}

/// What a link's token stands for.
#[derive(Deserialize, Serialize)]
struct Link {
    provider: String,
    subject_hash: [u8; 32],
}

#[tonic::async_trait]
impl ProvidersService for ProviderSignIns {
    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        let providers = self.providers.iter().map(|(name, provider)| Provider {
            name: format!("providers/{name}"),
            display_name: provider.config.display_name.clone(),
        });
        Ok(Response::new(ListProvidersResponse { providers: providers.collect() }))
    }

    async fn begin_provider_sign_in(
        &self,
        request: Request<BeginProviderSignInRequest>,
    ) -> Result<Response<BeginProviderSignInResponse>, Status> {
        answered(self.begin(&request, now_in_micros()).await)
    }

    async fn finish_provider_sign_in(
        &self,
        request: Request<FinishProviderSignInRequest>,
    ) -> Result<Response<FinishProviderSignInResponse>, Status> {
        let message = request.get_ref();
        let name = "FinishProviderSignIn";
        let of = &message.flow_token;
        let id = self.accounts.anonymous(of, &message.request_id, name, message)?;
        answered(self.finish(message, id.as_request(), now_in_micros()).await)
    }

    async fn confirm_provider_link(
        &self,
        request: Request<ConfirmProviderLinkRequest>,
    ) -> Result<Response<ConfirmProviderLinkResponse>, Status> {
        let message = request.get_ref();
        let name = "ConfirmProviderLink";
        let of = &message.link_token;
        let id = self.accounts.anonymous(of, &message.request_id, name, message)?;
        answered(self.confirm(&request, id.as_request(), now_in_micros()).await)
    }
}

impl ProviderSignIns {
    async fn begin(
        &self,
        request: &Request<BeginProviderSignInRequest>,
        now: Timestamp,
    ) -> Result<BeginProviderSignInResponse, Failure> {
        let message = request.get_ref();
        let name = message.name.strip_prefix("providers/").unwrap_or_default();
        let provider = self.providers.find(name);
        let provider =
            provider.ok_or_else(|| rpc::Error::not_found(message.name.escape_debug()))?;
        // To the letter (RFC 9700, section 4.1.3): a prefix would let a code be sent elsewhere.
        if !provider.config.redirect_uris.contains(&message.redirect_uri) {
            let why = "must be one of the configured ones, to the letter";
            return Err(Error::from(Violation::new("redirect_uri", why)).into());
        }
        self.accounts.count_network(OF_NETWORK, request, now).await?;
        let (authorization_uri, secrets) = provider.begin(&message.redirect_uri).await?;
        let token = token(FLOW_SCHEME)?;
        let flow = Flow {
            provider: name.to_owned(),
            redirect_uri: message.redirect_uri.clone(),
            secrets: encoded(&secrets)?,
        };
        let expire_time = now + FLOW_LIFE;
        self.accounts.store.begin_flow(&token.digest(), &flow, expire_time).await?;
        Ok(BeginProviderSignInResponse {
            authorization_uri,
            flow_token: token.reveal().to_owned(),
            expire_time: Some(time::to_proto(expire_time)),
        })
    }

    async fn finish(
        &self,
        message: &FinishProviderSignInRequest,
        id: Option<RequestId<'_>>,
        now: Timestamp,
    ) -> Result<FinishProviderSignInResponse, Failure> {
        let label = label(&message.label)?;
        let token = Token::parse(FLOW_SCHEME, &message.flow_token).ok_or(Error::TokenInvalid)?;
        if let Some(response) = self.accounts.store.repeated(id.as_ref(), now).await? {
            return Ok(response);
        }
        // Used up whatever comes of it: a code and a state are good for one attempt.
        let flow = self.accounts.store.take_flow(&token.digest(), now).await?;
        let flow = flow.ok_or(Error::TokenInvalid)?;
        let secrets: Secrets = decoded(&flow.secrets)?;
        if !secrets.is_state(&message.state) {
            return Err(Error::TokenInvalid.into());
        }
        let provider = self.providers.find(&flow.provider).ok_or(Error::TokenInvalid)?;
        let proved = provider.finish(&flow.redirect_uri, &message.code, &secrets).await?;
        self.signed_in(&flow.provider, proved, label, (id, now)).await
    }

    /// The rules of who is signed in, as the API states them.
    async fn signed_in(
        &self,
        provider: &str,
        proved: Proved,
        label: &str,
        (id, now): (Option<RequestId<'_>>, Timestamp),
    ) -> Result<FinishProviderSignInResponse, Failure> {
        let store = &self.accounts.store;
        let subject_hash = store.subject_hash(&proved.issuer, &proved.subject);
        if let Some(user) = store.linked_user(provider, &subject_hash).await? {
            let user = store.user(user).await?;
            return self.accounts.sign_in(&user, label, Spends::Nothing, (id, now), finished).await;
        }
        let email = proved.email.ok_or(Error::EmailUnverified)?;
        let name = name_of(proved.display_name.as_deref(), &email);
        let registered =
            store.register_by_provider(provider, &subject_hash, &email, &name, now).await?;
        if let Some(user) = registered {
            self.accounts.registrations.inc();
            let user = store.user(user).await?;
            return self.accounts.sign_in(&user, label, Spends::Nothing, (id, now), finished).await;
        }
        let user = store.user_by_email(&email).await?.ok_or(Error::TokenInvalid)?;
        let token = token(LINK_SCHEME)?;
        let link = Link { provider: provider.to_owned(), subject_hash };
        let expire_time = now + LINK_LIFE;
        let payload = encoded(&link)?;
        let new = NewToken {
            kind: TokenKind::ProviderLink,
            digest: &token.digest(),
            user: user.id,
            payload: Some(payload.as_slice()),
            expire_time,
            spends: Spends::Nothing,
        };
        let required = Outcome::LinkRequired(LinkRequired {
            link_token: token.reveal().to_owned(),
            expire_time: Some(time::to_proto(expire_time)),
        });
        let response = FinishProviderSignInResponse { outcome: Some(required) };
        store.add_token(&new, Answer { request: id, now, response }).await
    }

    async fn confirm(
        &self,
        request: &Request<ConfirmProviderLinkRequest>,
        id: Option<RequestId<'_>>,
        now: Timestamp,
    ) -> Result<ConfirmProviderLinkResponse, Failure> {
        let message = request.get_ref();
        let label = label(&message.label)?;
        let password = presented_password("password", &message.password)?;
        let store = &self.accounts.store;
        self.accounts.count_token(&message.link_token, request, now).await?;
        let digest =
            Token::parse(LINK_SCHEME, &message.link_token).ok_or(Error::TokenInvalid)?.digest();
        let Some(found) = store.tried_token(TokenKind::ProviderLink, &digest, now).await? else {
            // It is used up by the call that this one may repeat.
            let repeated = store.repeated(id.as_ref(), now).await?;
            return repeated.ok_or_else(|| Error::TokenInvalid.into());
        };
        let link: Link = decoded(&found.payload.ok_or(Error::TokenInvalid)?)?;
        let user = store.user(found.user).await?;
        let user = self.accounts.matched(&user.email, password, now).await?;
        let Link { provider, subject_hash } = &link;
        let spends = Spends::Link { digest: &digest, provider, subject_hash };
        let respond = |signed_in| {
            let outcome = match signed_in {
                SignedIn::Tokens(tokens) => ConfirmOutcome::Tokens(tokens),
                SignedIn::Challenge(challenge) => ConfirmOutcome::Challenge(challenge),
            };
            ConfirmProviderLinkResponse { outcome: Some(outcome) }
        };
        self.accounts.sign_in(&user, label, spends, (id, now), respond).await
    }
}

fn finished(signed_in: SignedIn) -> FinishProviderSignInResponse {
    let outcome = match signed_in {
        SignedIn::Tokens(tokens) => Outcome::Tokens(tokens),
        SignedIn::Challenge(challenge) => Outcome::Challenge(challenge),
    };
    FinishProviderSignInResponse { outcome: Some(outcome) }
}

/// What the provider calls them, if that is a name here; else what stands before the @.
fn name_of(given: Option<&str>, email: &Email) -> String {
    let local = email.as_str().split('@').next().unwrap_or_default();
    given.and_then(|name| display_name(name).ok()).unwrap_or_else(|| local.to_owned())
}

fn token(scheme: &'static str) -> Result<Token, Failure> {
    Token::generate(scheme).map_err(|error| Failure::Sealed(error.to_string()))
}

fn encoded(value: &impl Serialize) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Into::into).map_err(|error| Failure::Corrupt(error.to_string()))
}

fn decoded<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::Corrupt(error.to_string()))
}
