//! The gRPC services: decode into domain types, let the store decide, encode.

mod api_keys;
mod audit;
mod authentication;
mod invitations;
mod json_web_keys;
mod members;
mod providers;
mod second_factors;
mod service_accounts;
mod sessions;
mod users;
mod workspaces;

pub(crate) use json_web_keys::JsonWebKeys;
pub(crate) use providers::ProviderSignIns;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use rpc::ApiKeyId;
use tonic::Code;

use crate::domain::{Error, LIVE_KEYS_MAX, LastUses, Violation};
use crate::store::{Failure, Store};

/// All of the service's calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    store: Store,
    last_uses: Arc<Mutex<LastUses>>,
}

impl Api {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, last_uses: Arc::default() }
    }

    /// Writes the uses noted so far; on failure they are kept for the next time.
    pub(crate) async fn flush_last_uses(&self) -> Result<(), Failure> {
        let uses = self.with_last_uses(LastUses::take);
        if uses.is_empty() {
            return Ok(());
        }
        let written = self.store.write_last_uses(&uses).await;
        if written.is_err() {
            self.with_last_uses(|noted| noted.put_back(uses));
        }
        written
    }

    fn note_use(&self, key: ApiKeyId, now: Timestamp) {
        if !self.with_last_uses(|noted| noted.note(key, now)) {
            tracing::debug!(key = %key, "use not noted: too many keys since the last flush");
        }
    }

    fn with_last_uses<T>(&self, work: impl FnOnce(&mut LastUses) -> T) -> T {
        // A panic while it was held left a map that is whole: at worst a use is missing.
        work(&mut self.last_uses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The one place where a domain's error becomes the wire's. `message` is the field of the request that holds what the
/// error's field belongs to, such as `api_key`; empty: the request itself.
fn refusal(message: &str, error: Error) -> rpc::Error {
    match error {
        Error::Invalid(Violation { field, why }) if message.is_empty() => {
            rpc::Error::invalid(field, why)
        }
        Error::Invalid(Violation { field, why }) => {
            rpc::Error::invalid(format!("{message}.{field}"), why)
        }
        Error::NotFound(name) => rpc::Error::not_found(name),
        Error::TooManyKeys => rpc::Error::state_conflict(format!(
            "a workspace has at most {LIVE_KEYS_MAX} live API keys; revoke one first"
        )),
        Error::EtagMismatch => rpc::Error::etag_mismatch(),
        Error::RequestIdReused => rpc::Error::request_id_reused(),
        Error::SignInRefused => rpc::Error::unauthenticated(
            ErrorReason::SignInRefused,
            "e-mail address or password is wrong",
        ),
        Error::TokenInvalid => rpc::Error::new(
            Code::PermissionDenied,
            ErrorReason::TokenInvalid,
            "the token is unknown, used, or expired; ask for another one",
        ),
        Error::SessionEnded => rpc::Error::unauthenticated(
            ErrorReason::SessionEnded,
            "the session has ended; sign in again",
        ),
        Error::FactorRefused => rpc::Error::unauthenticated(
            ErrorReason::FactorRefused,
            "the code is wrong, or was used before",
        ),
        Error::EmailTaken => rpc::Error::already_exists("email", "the e-mail address"),
        Error::Conflict(why) => rpc::Error::state_conflict(why),
        Error::RateLimited(wait) => rpc::Error::rate_limited(
            format!("too many attempts; try again in {} s", wait.as_secs()),
            wait,
        ),
        Error::PasswordsOverloaded => rpc::Error::overloaded(
            "too many passwords wait to be checked; try again",
            Duration::from_secs(1),
        ),
        Error::EmailUnverified => rpc::Error::new(
            Code::PermissionDenied,
            ErrorReason::EmailUnverified,
            "the provider has not verified the e-mail address; verify it there, or sign up here",
        ),
        Error::ProviderRefused(why) => rpc::Error::new(
            Code::PermissionDenied,
            ErrorReason::ProviderRefused,
            format!("the provider's answer proves nothing: {why}"),
        ),
        Error::ProviderUnavailable(why) => {
            rpc::Error::unavailable(ErrorReason::ProviderUnavailable, why)
        }
    }
}

/// The wire's error of a failed call; what the caller can't act on is logged here, once.
fn failed(message: &str, failure: Failure) -> rpc::Error {
    match failure {
        Failure::Domain(error) => refusal(message, error),
        Failure::Call(error) => error,
        Failure::Corrupt(what) | Failure::Sealed(what) => rpc::Error::internal(&what),
        Failure::Database(error) => match pg::Failure::of(&error) {
            pg::Failure::Unavailable => {
                tracing::warn!(error = %error, "store unavailable");
                rpc::Error::unavailable(
                    ErrorReason::StoreUnavailable,
                    "the store of identities does not answer; try again",
                )
            }
            pg::Failure::UniqueViolation { .. }
            | pg::Failure::BadData { .. }
            | pg::Failure::Other => rpc::Error::internal(&error),
        },
    }
}

/// The present, cut to the microseconds that are kept, so that the first answer is the later ones'.
pub(crate) fn now_in_micros() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond())
        .expect("it came from a timestamp")
}
