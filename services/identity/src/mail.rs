//! Mails: what they say, who delivers them, and the task that sees to it.

mod folder;
mod letters;
mod post;

pub(crate) use folder::FolderMailer;
pub(crate) use post::{
    INVITATION_SCHEME, Post, RESET_LIFE, RESET_SCHEME, SIGN_UP_LIFE, SIGN_UP_SCHEME,
};

use uuid::Uuid;

/// A mail that is ready to be delivered. `Debug` does not show what it says, nor to whom.
#[derive(Clone)]
pub struct Mail {
    /// The same at every attempt, so that a mailer may recognise what it has taken before.
    pub id: Uuid,
    /// The sender's address.
    pub from: String,
    /// The recipient's address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text, lines ended by `\n`.
    pub text: String,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mail").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whoever delivers mails. A mail that is not taken is offered again, for as long as what it is about is good for.
#[tonic::async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug + 'static {
    /// Takes a mail; once this returns, it must not be lost.
    ///
    /// # Errors
    /// It was not taken; nothing of the mail may be in the error, which is logged.
    async fn send(&self, mail: &Mail) -> anyhow::Result<()>;
}
