//! What mails say.

use auth::Role;
use uuid::Uuid;

use super::Mail;
use crate::config::MailConfig;
use crate::store::InvitedTo;

/// What there is to say.
#[derive(Debug)]
pub(super) enum Letter<'a> {
    /// Prove the address.
    VerifyEmail { token: &'a str },
    /// Somebody asked for an account, and there is one.
    AccountExists,
    /// Set a new password.
    ResetPassword { token: &'a str },
    /// Become a member of a workspace.
    Invitation { to: &'a InvitedTo, token: &'a str },
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
        Letter::Invitation { to, token } => (
            "You are invited to a workspace",
            format!(
                "Someone invites you to their workspace at Linkmesh, which is called\n\n    {}\n\n\
                 {}\n\n\
                 To accept or decline, within 7 days, signed in with an account of this address:\n\n{}\n\n\
                 If you do not know it, do nothing: you will not hear of it again.\n",
                to.workspace,
                part_of(to.role),
                link("invitation", token)
            ),
        ),
    };
    Mail { id, from: config.from.clone(), to: to.to_owned(), subject: subject.to_owned(), text }
}

/// What somebody is invited to do.
fn part_of(role: Role) -> &'static str {
    match role {
        Role::Owner => "You would own it, with those who own it now.",
        Role::Admin => "You would run it, and could do everything but change how it is paid for.",
        Role::Member => "You would work with its links and their counts.",
        Role::Viewer => "You would see its links and their counts.",
        Role::Billing => "You would see to how it is paid for.",
    }
}
