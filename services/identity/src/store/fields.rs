//! What is sealed: each field under its table, column and row, and what it is looked up by.

use seal::Place;

use super::{Failure, Store};
use crate::domain::Email;

/// A sealed column. There is one of these for each, so that sealing, opening and resealing agree on the place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
}

pub(crate) const USER_EMAIL: Field = Field { table: "identity.users", column: "email" };
pub(crate) const USER_NAME: Field = Field { table: "identity.users", column: "display_name" };
pub(crate) const USER_TOTP: Field = Field { table: "identity.users", column: "totp_secret" };
pub(crate) const SIGN_UP_EMAIL: Field = Field { table: "identity.sign_ups", column: "email" };
pub(crate) const SIGN_UP_NAME: Field = Field { table: "identity.sign_ups", column: "display_name" };
pub(crate) const TOKEN_PAYLOAD: Field = Field { table: "identity.user_tokens", column: "payload" };
pub(crate) const SESSION_LABEL: Field = Field { table: "identity.sessions", column: "label" };
pub(crate) const SESSION_ANSWER: Field =
    Field { table: "identity.sessions", column: "refresh_answer" };
pub(crate) const SIGNING_KEY: Field =
    Field { table: "identity.signing_keys", column: "private_key" };
pub(crate) const MAIL_EMAIL: Field = Field { table: "identity.mails", column: "email" };
pub(crate) const INVITATION_EMAIL: Field = Field { table: "identity.invitations", column: "email" };
pub(crate) const REQUEST_ANSWER: Field = Field { table: "identity.answers", column: "answer" };
pub(crate) const FLOW_SECRETS: Field =
    Field { table: "identity.provider_flows", column: "secrets" };

impl Store {
    /// Seals a field of a row.
    pub(crate) fn seal(&self, field: Field, row: &[u8], value: &[u8]) -> Result<Vec<u8>, Failure> {
        let place = Place { table: field.table, column: field.column, row };
        self.keyring.seal(place, value).map_err(|error| Failure::Sealed(error.to_string()))
    }

    /// Opens a field of a row.
    pub(crate) fn open(
        &self,
        field: Field,
        row: &[u8],
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
        let place = Place { table: field.table, column: field.column, row };
        let Field { table, column } = field;
        self.keyring
            .open_sealed(place, sealed)
            .map_err(|error| Failure::Sealed(format!("{table}.{column}: {error}")))
    }

    /// Opens a field that is text.
    pub(crate) fn open_text(
        &self,
        field: Field,
        row: &[u8],
        sealed: &[u8],
    ) -> Result<String, Failure> {
        let bytes = self.open(field, row, sealed)?;
        let text = std::str::from_utf8(&bytes);
        text.map(str::to_owned).map_err(|_| Failure::Sealed("a text is not UTF-8".to_owned()))
    }

    /// Opens a field that is an address.
    pub(crate) fn open_email(
        &self,
        field: Field,
        row: &[u8],
        sealed: &[u8],
    ) -> Result<Email, Failure> {
        let text = self.open_text(field, row, sealed)?;
        Email::parse(&text).map_err(|violation| Failure::Sealed(violation.why))
    }

    /// What an address is looked up by.
    pub(crate) fn email_hash(&self, email: &Email) -> [u8; 32] {
        self.keyring.hash("email", email.normalized().as_bytes())
    }
}
