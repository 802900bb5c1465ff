//! What several calls about users have in common: who calls, passwords and how often they may be tried, and sessions.

use auth::{RefreshToken, Token};
use jiff::{SignedDuration, Timestamp};
use pg::requests::Request as RequestId;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use prost::Message;
use proto::identity::v1 as api;
use rpc::{Caller, Principal, SessionId, UserId, network, time};
use tonic::Request;
use uuid::Uuid;

use crate::domain::limit::{Limit, OF_ACCOUNT, OF_FACTOR, OF_NETWORK, OF_TOKEN};
use crate::domain::password::PASSWORD_BYTES_MAX;
use crate::domain::session::{self, LABEL_CHARS_MAX};
use crate::domain::{Email, Error, Factor, User, Violation};
use crate::failures::{Failed, Failures, Proof};
use crate::identified::{Identified, Kept};
use crate::passwords::Passwords;
use crate::signer::Signer;
use crate::store::{Answer, Failure, NewSession, NewToken, Spends, Store, TokenKind};

/// How long the second step of a sign-in is waited for.
const CHALLENGE_LIFE: SignedDuration = SignedDuration::from_mins(5);
/// The scheme of its token.
const CHALLENGE_SCHEME: &str = "lmc";

/// All calls about users. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    pub(crate) store: Store,
    pub(crate) passwords: Passwords,
    pub(crate) signer: Signer,
    pub(crate) failures: Failures,
    pub(crate) registrations: Counter,
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Me {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
}

/// What came of the first step of a sign-in.
#[derive(Debug)]
pub(crate) enum SignedIn {
    Tokens(api::SessionTokens),
    Challenge(api::SecondFactorChallenge),
}

/// A session that is to begin.
struct Start<'a> {
    user: UserId,
    label: &'a str,
    spends: Spends<'a>,
}

impl Accounts {
    pub(crate) fn new(
        store: Store,
        passwords: Passwords,
        signer: Signer,
        registry: &mut Registry,
    ) -> Self {
        let registrations = Counter::default();
        let help = "Users who proved an address and have an account";
        registry.register("user_registrations", help, registrations.clone());
        let failures = Failures::new(registry);
        Self { store, passwords, signer, failures, registrations }
    }

    /// The request id of a user's call, if it has one.
    pub(crate) fn identified(
        &self,
        user: Uuid,
        id: &str,
        method: &str,
        message: &impl Message,
    ) -> Result<Identified, rpc::Error> {
        Identified::new(user, id, method, message, Kept::Keyed(&self.store))
    }

    /// The request id of a call of nobody yet, if it has one: `of` is whom it says to be of, by a token, or by an address as it is
    /// looked up and what nobody else has or could prove.
    pub(crate) fn anonymous(
        &self,
        of: &str,
        id: &str,
        method: &str,
        message: &impl Message,
    ) -> Result<Identified, rpc::Error> {
        self.identified(self.store.namespace(method, of), id, method, message)
    }

    /// Counts a call that stands on a token, before its request id is looked at: else that would tell, without a limit, whether what
    /// comes with the token is right.
    pub(crate) async fn count_token<T>(
        &self,
        token: &str,
        request: &Request<T>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.count_network(OF_NETWORK, request, now).await?;
        self.store.attempt(OF_TOKEN, token.as_bytes(), now).await
    }

    /// Counts an attempt of whoever calls from this network.
    pub(crate) async fn count_network<T>(
        &self,
        limit: Limit,
        request: &Request<T>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match network::of(request.metadata()) {
            Some(network) => self.store.attempt(limit, &network, now).await,
            None => Ok(()),
        }
    }

    /// Whose address and password these are. An address without an account takes as long and is refused alike.
    pub(crate) async fn proved<T>(
        &self,
        email: &Email,
        password: &str,
        request: &Request<T>,
        now: Timestamp,
    ) -> Result<User, Failure> {
        self.count_network(OF_NETWORK, request, now).await?;
        self.matched(email, password, now).await
    }

    /// The same, for a call that was counted for its network.
    pub(crate) async fn matched(
        &self,
        email: &Email,
        password: &str,
        now: Timestamp,
    ) -> Result<User, Failure> {
        let of = email.normalized();
        // Before it is looked at: guesses that come at once are counted as many.
        self.store.attempt(OF_ACCOUNT, of.as_bytes(), now).await?;
        let found = self.store.user_by_email(email).await?;
        let kept = found.as_ref().and_then(|user| user.password.as_deref());
        let is_right = self.passwords.verify(password, kept).await?;
        match found {
            Some(user) if is_right => {
                self.store.forgive(OF_ACCOUNT, of.as_bytes()).await?;
                Ok(user)
            }
            found => {
                let user = found.map(|user| user.id);
                self.failures.note(Failed { user, proof: Proof::Password, at: now });
                Err(Error::SignInRefused.into())
            }
        }
    }

    /// The account of a caller who proves it again, by password if it has one.
    pub(crate) async fn proved_again<T>(
        &self,
        me: Me,
        password: &str,
        request: &Request<T>,
        now: Timestamp,
    ) -> Result<User, Failure> {
        let user = self.store.user(me.user).await?;
        if user.password.is_none() {
            return Ok(user);
        }
        self.proved(&user.email, password, request, now).await
    }

    /// Passes on what came of a user's code; a wrong one is noted.
    pub(crate) fn noted<T>(
        &self,
        user: UserId,
        proved: Result<T, Failure>,
        now: Timestamp,
    ) -> Result<T, Failure> {
        if matches!(proved, Err(Failure::Domain(Error::FactorRefused))) {
            self.failures.note(Failed { user: Some(user), proof: Proof::Factor, at: now });
        }
        proved
    }

    /// Signs in a user who is proved by a first factor, and answers with what `respond` makes of that, or made of it before under the
    /// same request id.
    pub(crate) async fn sign_in<R: Message + Default>(
        &self,
        user: &User,
        label: &str,
        spends: Spends<'_>,
        (request, now): (Option<RequestId<'_>>, Timestamp),
        respond: impl FnOnce(SignedIn) -> R,
    ) -> Result<R, Failure> {
        if !user.totp_enabled {
            let start = Start { user: user.id, label, spends };
            let respond = |tokens| respond(SignedIn::Tokens(tokens));
            return self.begin_session(&start, request, now, respond).await;
        }
        let token = token(CHALLENGE_SCHEME)?;
        let expire_time = now + CHALLENGE_LIFE;
        let new = NewToken {
            kind: TokenKind::Challenge,
            digest: &token.digest(),
            user: user.id,
            payload: Some(label.as_bytes()),
            expire_time,
            spends,
        };
        let response = respond(SignedIn::Challenge(api::SecondFactorChallenge {
            challenge_token: token.reveal().to_owned(),
            expire_time: Some(time::to_proto(expire_time)),
        }));
        self.store.add_token(&new, Answer { request, now, response }).await
    }

    /// The second step.
    pub(crate) async fn complete_sign_in(
        &self,
        challenge: &str,
        factor: &Factor,
        request: Option<RequestId<'_>>,
        now: Timestamp,
    ) -> Result<api::CompleteSignInResponse, Failure> {
        let digest = Token::parse(CHALLENGE_SCHEME, challenge).ok_or(Error::TokenInvalid)?.digest();
        let Some(found) = self.store.tried_token(TokenKind::Challenge, &digest, now).await? else {
            // It is used up, with the code, by the call that this one may repeat.
            let repeated = self.store.repeated(request.as_ref(), now).await?;
            return repeated.ok_or_else(|| Error::TokenInvalid.into());
        };
        self.store.attempt(OF_FACTOR, found.user.as_bytes(), now).await?;
        let label = found.payload.as_deref().map(|bytes| String::from_utf8_lossy(bytes));
        let label = label.unwrap_or_default();
        let spends = Spends::Challenge { digest: &digest, factor };
        let start = Start { user: found.user, label: &label, spends };
        let respond = |tokens| api::CompleteSignInResponse { tokens: Some(tokens) };
        let begun = self.begin_session(&start, request, now, respond).await;
        let response = self.noted(found.user, begun, now)?;
        self.store.forgive(OF_FACTOR, found.user.as_bytes()).await?;
        Ok(response)
    }

    async fn begin_session<R: Message + Default>(
        &self,
        start: &Start<'_>,
        request: Option<RequestId<'_>>,
        now: Timestamp,
        respond: impl FnOnce(api::SessionTokens) -> R,
    ) -> Result<R, Failure> {
        let id = SessionId::new();
        let token = self.refresh_token(id.as_bytes())?;
        let Start { user, label, spends } = *start;
        let new = NewSession { id, user, token: token.digest(), label, now, spends };
        let (refresh, expire_time) = (token.reveal().to_string(), session::expiry(now, now));
        let tokens = self.session_tokens(user, id, refresh, expire_time, now)?;
        self.store.begin_session(&new, Answer { request, now, response: respond(tokens) }).await
    }

    /// Replaces a refresh token.
    pub(crate) async fn refresh(
        &self,
        presented: &str,
        request: Option<Uuid>,
        now: Timestamp,
    ) -> Result<api::SessionTokens, Failure> {
        let tag = |signed: &[u8]| self.store.refresh_tag(signed);
        let token = RefreshToken::parse(presented, tag).ok_or(Error::SessionEnded)?;
        let next = self.refresh_token(&token.session())?;
        let session = self.store.refresh_session(&token, &next, request, now).await?;
        self.session_tokens(session.user, session.id, session.token, session.expire_time, now)
    }

    fn refresh_token(&self, session: &[u8; 16]) -> Result<RefreshToken, Failure> {
        let issued = RefreshToken::issue(session, |signed| self.store.refresh_tag(signed));
        issued.map_err(|error| Failure::Sealed(error.to_string()))
    }

    fn session_tokens(
        &self,
        user: UserId,
        session: SessionId,
        refresh_token: String,
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<api::SessionTokens, Failure> {
        let (access_token, access_expire_time) = self.signer.sign(user, session, now)?;
        Ok(api::SessionTokens {
            session: format!("users/{user}/sessions/{session}"),
            access_token,
            access_expire_time: Some(time::to_proto(access_expire_time)),
            refresh_token,
            refresh_expire_time: Some(time::to_proto(expire_time)),
        })
    }
}

/// Lets the caller on if `name` is their own, `users/me` included. Another's does not exist for them.
pub(crate) fn me<T>(
    request: &Request<T>,
    field: &'static str,
    name: &str,
) -> Result<Me, rpc::Error> {
    let principal = Principal::admitted(request, None)?;
    let user = principal.user()?;
    let Caller::User { session, .. } = principal.caller else {
        return Err(rpc::Error::internal(&"a user without a session"));
    };
    let malformed = || rpc::Error::invalid(field, "must be `users/{user}` or `users/me`");
    let id = name.strip_prefix("users/").ok_or_else(malformed)?;
    if id == "me" || UserId::parse(id).map_err(|_| malformed())? == user {
        return Ok(Me { user, session });
    }
    Err(rpc::Error::not_found(name))
}

/// Checks the length of a password that is to be compared: a longer one is nobody's.
pub(crate) fn presented_password<'a>(
    field: &'static str,
    password: &'a str,
) -> Result<&'a str, Error> {
    if password.is_empty() {
        return Err(Violation::new(field, "is required").into());
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Violation::new(field, "must have at most 256 bytes").into());
    }
    Ok(password)
}

/// Checks what a session is to be called.
pub(crate) fn label(text: &str) -> Result<&str, Error> {
    if text.chars().count() > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
        let why = "must have at most 100 characters, none of them a control character";
        return Err(Violation::new("label", why).into());
    }
    Ok(text)
}

fn token(scheme: &'static str) -> Result<Token, Failure> {
    Token::generate(scheme).map_err(|error| Failure::Sealed(error.to_string()))
}
