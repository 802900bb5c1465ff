//! Sees to it that mails are sent: leases them, writes them, hands them to the mailer, and tries again.
//!
//! Whether an address has an account is looked at here, and not in the call that asked: that one does the same, and takes as
//! long, for all addresses. A token is made with its mail, so it is nowhere but there.

use std::sync::Arc;
use std::time::Duration;

use auth::Token;
use jiff::{SignedDuration, Timestamp};
use service::Task;

use super::letters::{self, Letter};
use super::{Mail, Mailer};
use crate::config::MailConfig;
use crate::domain::Email;
use crate::store::{Answer, Failure, LeasedMail, MailKind, NewToken, Spends, Store, TokenKind};

/// How long the token of a sign-up is good for.
pub(crate) const SIGN_UP_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// How long the token of a password reset is.
pub(crate) const RESET_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// The scheme of a sign-up's token, of a password reset's, and of an invitation's.
pub(crate) const SIGN_UP_SCHEME: &str = "lmv";
pub(crate) const RESET_SCHEME: &str = "lmp";
pub(crate) const INVITATION_SCHEME: &str = "lmi";

/// Mails that are leased at once.
const BATCH_MAX: i64 = 16;
/// How long a mailer may take for one.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a lease lasts: a batch, each mail of which takes as long as it may.
const LEASE: SignedDuration = SignedDuration::from_mins(10);
/// The longest that a mail waits whose process died between its commit and its word.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The wait after the first failure; it doubles with each, up to the longest.
const RETRY_MIN: SignedDuration = SignedDuration::from_secs(1);
const RETRY_MAX: SignedDuration = SignedDuration::from_mins(10);

/// The post office.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) store: Store,
    pub(crate) mailer: Arc<dyn Mailer>,
    pub(crate) config: MailConfig,
}

impl Post {
    /// The task. What it is sending at the stop is sent again by the next one.
    pub(crate) fn task(self) -> Task {
        Task::new("identity-mails", move |stop| async move {
            stop.run_until_cancelled(self.run()).await;
            Ok(())
        })
    }

    async fn run(&self) {
        loop {
            let now = Timestamp::now();
            match self.store.lease_mails(now, now + LEASE, BATCH_MAX).await {
                Ok(mails) if mails.is_empty() => {
                    let waiting = self.store.mails_waiting.notified();
                    // Whichever comes first.
                    drop(tokio::time::timeout(POLL_INTERVAL, waiting).await);
                }
                Ok(mails) => {
                    for mail in mails {
                        self.send(&mail).await;
                    }
                }
                Err(failure) => {
                    tracing::warn!(failure = ?failure, "mails can't be read");
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    async fn send(&self, leased: &LeasedMail) {
        let sent = async {
            if let Some(mail) = self.written(leased).await? {
                let sending = self.mailer.send(&mail);
                if let Err(error) = tokio::time::timeout(SEND_TIMEOUT, sending)
                    .await
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("the mailer took too long")))
                {
                    return Err(Failure::Corrupt(format!("{error:#}")));
                }
            }
            self.store.delete_mail(leased.id).await
        };
        let Err(failure) = sent.await else { return };
        tracing::warn!(mail = %leased.id, attempts = leased.attempts, failure = ?failure, "a mail was not sent");
        let wait = RETRY_MIN.saturating_mul(1 << leased.attempts.clamp(0, 10)).min(RETRY_MAX);
        if let Err(failure) = self.store.retry_mail(leased.id, Timestamp::now() + wait).await {
            // Its lease ends by itself.
            tracing::warn!(mail = %leased.id, failure = ?failure, "a mail was not put off");
        }
    }

    /// What the mail says; none if there is nothing to say any more.
    async fn written(&self, leased: &LeasedMail) -> Result<Option<Mail>, Failure> {
        let user = self.store.user_by_email(&leased.email).await?;
        let letter = |letter: &Letter<'_>| {
            Some(letters::write(&self.config, leased.id, Email::as_str(&leased.email), letter))
        };
        match (leased.kind, user) {
            (MailKind::SignUp, Some(_)) => Ok(letter(&Letter::AccountExists)),
            (MailKind::SignUp, None) => {
                let token = token(SIGN_UP_SCHEME)?;
                if !self.store.set_sign_up_token(leased.id, &token.digest()).await? {
                    return Ok(None);
                }
                Ok(letter(&Letter::VerifyEmail { token: token.reveal() }))
            }
            (MailKind::PasswordReset, None) => Ok(None),
            (MailKind::PasswordReset, Some(user)) => {
                let token = token(RESET_SCHEME)?;
                let now = Timestamp::now();
                let new = NewToken {
                    kind: TokenKind::PasswordReset,
                    digest: &token.digest(),
                    user: user.id,
                    payload: None,
                    expire_time: now + RESET_LIFE,
                    spends: Spends::Nothing,
                };
                let nobody = Answer { request: None, now, response: () };
                self.store.add_token(&new, nobody).await?;
                Ok(letter(&Letter::ResetPassword { token: token.reveal() }))
            }
            (MailKind::Invitation, _) => {
                let token = token(INVITATION_SCHEME)?;
                let to = self.store.set_invitation_token(leased.id, &token.digest()).await?;
                let Some(to) = to else { return Ok(None) };
                Ok(letter(&Letter::Invitation { to: &to, token: token.reveal() }))
            }
        }
    }
}

fn token(scheme: &'static str) -> Result<Token, Failure> {
    Token::generate(scheme).map_err(|error| Failure::Sealed(error.to_string()))
}
