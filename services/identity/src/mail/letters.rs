//! What mails say.

use uuid::Uuid;

use super::Mail;
use crate::config::MailConfig;

/// What there is to say.
#[derive(Debug)]
pub(super) enum Letter<'a> {
    /// Prove the address.
    VerifyEmail { token: &'a str },
    /// Somebody asked for an account, and there is one.
    AccountExists,
    /// Set a new password.
    ResetPassword { token: &'a str },
}

/// Writes it.
pub(super) fn write(config: &MailConfig, id: Uuid, to: &str, letter: &Letter<'_>) -> Mail {
    let link = |path: &str, token: &str| match &config.link_base {
        // In the fragment: it reaches no server and no log.
        Some(base) => format!("{}/{path}#token={token}", base.trim_end_matches('/')),
        None => format!("Token: {token}"),
    };
    let (subject, text) = match letter {
        Letter::VerifyEmail { token } => (
            "Confirm your e-mail address",
            format!(
                "Someone, hopefully you, asked for a Linkmesh account with this address.\n\n\
                 To confirm it, within 24 hours:\n\n{}\n\n\
                 If it was not you, do nothing: there will be no account.\n",
                link("verify-email", token)
            ),
        ),
        Letter::AccountExists => (
            "You already have an account",
            "Someone, hopefully you, asked for a Linkmesh account with this address, which has one.\n\n\
             If you do not know your password, ask for a new one.\n\
             If it was not you, do nothing: nothing has changed.\n"
                .to_owned(),
        ),
        Letter::ResetPassword { token } => (
            "Set a new password",
            format!(
                "Someone, hopefully you, asked for a new password of your Linkmesh account.\n\n\
                 To set it, within an hour:\n\n{}\n\n\
                 If it was not you, do nothing: your password stays.\n",
                link("reset-password", token)
            ),
        ),
    };
    Mail { id, from: config.from.clone(), to: to.to_owned(), subject: subject.to_owned(), text }
}
