//! The default mailer: a file for each mail, to be read by people who develop, by tests, or by a program that delivers them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::{Mail, Mailer};

/// Mails that lie in the folder; while there are as many, none is taken.
const MAILS_MAX: usize = 10_000;

/// Writes mails as `<id>.eml` (RFC 5322), each whole or not at all, readable by its owner alone.
#[derive(Debug)]
pub(crate) struct FolderMailer {
    folder: PathBuf,
}

impl FolderMailer {
    /// Writes into this folder, which is made with the first mail.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

#[tonic::async_trait]
impl Mailer for FolderMailer {
    async fn send(&self, mail: &Mail) -> anyhow::Result<()> {
        let (folder, mail) = (self.folder.clone(), mail.clone());
        tokio::task::spawn_blocking(move || write(&folder, &mail, Timestamp::now())).await?
    }
}

fn write(folder: &std::path::Path, mail: &Mail, now: Timestamp) -> anyhow::Result<()> {
    let shown = folder.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("making {shown}"))?;
    let count = fs::read_dir(folder).with_context(|| format!("reading {shown}"))?.count();
    ensure!(count < MAILS_MAX, "{shown} holds {count} mails, the limit; take some away");
    // A name that nobody looks for until it is whole.
    let fresh = folder.join(format!(".{}.new", mail.id));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("writing into {shown}"))?;
    file.write_all(render(mail, now).as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(format!("{}.eml", mail.id)))?;
    fs::File::open(folder)?.sync_all().context("syncing the folder")
}

/// The mail by RFC 5322. Addresses and subject have no line ends: the former were parsed, the latter is ours.
fn render(mail: &Mail, now: Timestamp) -> String {
    let date = now.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
    let domain = mail.from.rsplit('@').next().unwrap_or("localhost");
    let head = format!(
        "From: {}\nTo: {}\nSubject: {}\nDate: {date}\nMessage-ID: <{}@{domain}>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n",
        mail.from, mail.to, mail.subject, mail.id
    );
    format!("{head}{}", mail.text).replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_mail_is_a_whole_file_of_its_owners_and_twice_the_same_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mails");
        let mailer = FolderMailer::new(path.clone());
        let mail = Mail {
            id: uuid::Uuid::from_u128(7),
            from: "no-reply@linkmesh.example".to_owned(),
            to: "ada@example.com".to_owned(),
            subject: "Hello".to_owned(),
            text: "One\nTwo\n".to_owned(),
        };
        mailer.send(&mail).await.unwrap();
        mailer.send(&mail).await.unwrap();
        let files: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let text = fs::read_to_string(file).unwrap();
        assert!(
            text.starts_with("From: no-reply@linkmesh.example\r\nTo: ada@example.com\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\nOne\r\nTwo\r\n"), "{text}");
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{mail:?}").contains("ada"));
    }
}
