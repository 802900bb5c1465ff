//! Where etcd is and how one gets in: `etcd://user:password@host:port,host:port`, or `etcds://` with TLS.
//!
//! Passwords and certificates may be in files, which are read at every connection, so that they can be replaced.

use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use etcd_client::Certificate;
use etcd_client::ConnectOptions;
use etcd_client::Identity;
use etcd_client::TlsOptions;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use tokio::fs;

/// The most members that a URI may name.
const MEMBERS_MAX: usize = 9;
/// The largest file that is read, in bytes: a larger one is neither a password nor certificates.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A cluster, as a URI names it.
#[derive(Debug)]
pub(super) struct Location {
    /// `http://host:port` or `https://host:port`.
    pub(super) members: Vec<String>,
    user: Option<User>,
    tls: Option<Tls>,
}

struct User {
    name: String,
    password: Password,
}

enum Password {
    Given(String),
    File(PathBuf),
}

/// The PEM files of TLS.
#[derive(Debug)]
struct Tls {
    /// Who vouches for etcd.
    authority: PathBuf,
    /// What this process proves itself with, and the key.
    certificate: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl Location {
    /// Reads `etcd://…` or `etcds://…`; none if it is neither.
    ///
    /// # Errors
    /// If a part of it is malformed; the message names the part and never holds a password.
    pub(super) fn parse(uri: &str) -> anyhow::Result<Option<Self>> {
        let (with_tls, rest) = match (uri.strip_prefix("etcd://"), uri.strip_prefix("etcds://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Ok(None),
        };
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let parameters = Parameters::parse(parameters)?;
        let (user, members) = match rest.rsplit_once('@') {
            Some((user, members)) => (Some(user), members),
            None => (None, rest),
        };
        let location = Self {
            members: members_of(members, with_tls)?,
            tls: parameters.tls(with_tls)?,
            user: parameters.user(user)?,
        };
        Ok(Some(location))
    }

    /// What is needed to get in, as the files have it now.
    ///
    /// # Errors
    /// If one of them can't be read.
    pub(super) async fn admit(
        &self,
        mut options: ConnectOptions,
    ) -> anyhow::Result<ConnectOptions> {
        if let Some(User { name, password }) = &self.user {
            let password = match password {
                Password::Given(password) => password.clone(),
                Password::File(path) => read_password(path).await?,
            };
            // A token runs out under a watch that is open; whatever is refused for that is sent again with another.
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        let Some(tls) = &self.tls else { return Ok(options) };
        let authority = Certificate::from_pem(read(&tls.authority).await?);
        let mut client = TlsOptions::new().ca_certificate(authority);
        if let Some((certificate, key)) = &tls.certificate {
            client =
                client.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
        }
        Ok(options.with_tls(client))
    }
}

fn members_of(text: &str, with_tls: bool) -> anyhow::Result<Vec<String>> {
    let scheme = if with_tls { "https" } else { "http" };
    let members: Vec<String> = text
        .split(',')
        .map(|member| {
            let authority: http::uri::Authority =
                member.parse().with_context(|| format!("member `{member}`"))?;
            ensure!(authority.port_u16().is_some(), "member `{member}`: must be host:port");
            Ok(format!("{scheme}://{authority}"))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(members.len() <= MEMBERS_MAX, "at most {MEMBERS_MAX} members can be named");
    Ok(members)
}

impl Parameters {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parameters = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "password_file" => &mut parameters.password_file,
                "ca_file" => &mut parameters.ca_file,
                "cert_file" => &mut parameters.cert_file,
                "key_file" => &mut parameters.key_file,
                _ => bail!(
                    "parameter `{name}`: must be password_file, ca_file, cert_file or key_file"
                ),
            };
            let path = decoded(value).with_context(|| format!("parameter `{name}`"))?;
            ensure!(!path.is_empty(), "parameter `{name}`: must name a file");
            ensure!(place.replace(path.into()).is_none(), "parameter `{name}` is given twice");
        }
        Ok(parameters)
    }

    fn tls(&self, with_tls: bool) -> anyhow::Result<Option<Tls>> {
        let certificate = match (self.cert_file.clone(), self.key_file.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("parameters `cert_file` and `key_file` need each other"),
        };
        if !with_tls {
            ensure!(
                self.ca_file.is_none() && certificate.is_none(),
                "a certificate needs etcds://"
            );
            return Ok(None);
        }
        let authority = self.ca_file.clone().context("etcds:// needs the parameter `ca_file`")?;
        Ok(Some(Tls { authority, certificate }))
    }

    fn user(&self, text: Option<&str>) -> anyhow::Result<Option<User>> {
        let Some(text) = text else {
            ensure!(self.password_file.is_none(), "parameter `password_file` needs user@");
            return Ok(None);
        };
        let (name, password) = match text.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (text, None),
        };
        let password = match (password, self.password_file.clone()) {
            (Some(password), None) => {
                Password::Given(decoded(password).context("the password is no UTF-8")?)
            }
            (None, Some(path)) => Password::File(path),
            (Some(_), Some(_)) => bail!("the password is given twice, here and in `password_file`"),
            (None, None) => bail!("user `{name}` needs a password or `password_file`"),
        };
        Ok(Some(User { name: decoded(name).context("the user is no UTF-8")?, password }))
    }
}

fn decoded(text: &str) -> anyhow::Result<String> {
    Ok(percent_decode_str(text).decode_utf8()?.into_owned())
}

async fn read_password(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(read(path).await?)
        .with_context(|| format!("{}: the password is no UTF-8", path.display()))?;
    // An editor's or an echo's line end is not part of it.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || path.display().to_string();
    let size = fs::metadata(path).await.with_context(name)?.len();
    ensure!(size <= FILE_BYTES_MAX, "{}: must have at most {FILE_BYTES_MAX} bytes", name());
    fs::read(path).await.with_context(name)
}

/// The URI without its password, for messages.
pub(crate) fn without_password(uri: &str) -> String {
    let Some((before, members)) = uri.rsplit_once('@') else { return uri.to_owned() };
    let Some((scheme, user)) = before.split_once("://") else { return uri.to_owned() };
    match user.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:…@{members}"),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(uri: &str) -> String {
        match Location::parse(uri) {
            Ok(_) => panic!("{uri} is accepted"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn members_user_and_files_are_read() {
        let location = Location::parse("etcd://127.0.0.1:2379,[::1]:2379").unwrap().unwrap();
        assert_eq!(location.members, ["http://127.0.0.1:2379", "http://[::1]:2379"]);
        assert!(location.user.is_none() && location.tls.is_none());

        let uri = "etcds://me%40work:p%3A%40%2F@a.example:1?ca_file=/ca.pem&cert_file=c&key_file=k";
        let location = Location::parse(uri).unwrap().unwrap();
        assert_eq!(location.members, ["https://a.example:1"]);
        let user = location.user.unwrap();
        assert_eq!(user.name, "me@work");
        assert!(matches!(&user.password, Password::Given(password) if password == "p:@/"));
        let tls = location.tls.unwrap();
        assert_eq!(tls.authority, PathBuf::from("/ca.pem"));
        assert_eq!(tls.certificate, Some(("c".into(), "k".into())));
        assert!(Location::parse("memory:").unwrap().is_none());
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        for (uri, part) in [
            ("etcd://", "member ``"),
            ("etcd://localhost", "host:port"),
            ("etcd://127.0.0.1:2379,", "member ``"),
            ("etcd://a b:1", "member `a b:1`"),
            ("etcd://host:99999", "host:port"),
            ("etcd://a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:10", "at most 9"),
            ("etcd://me@a:1", "user `me` needs a password"),
            ("etcd://me:secret@a:1?password_file=/p", "twice"),
            ("etcd://a:1?password_file=/p", "needs user@"),
            ("etcd://a:1?ca_file=/c", "needs etcds://"),
            ("etcds://a:1", "needs the parameter `ca_file`"),
            ("etcds://a:1?cert_file=/c", "need each other"),
            ("etcds://a:1?ca_file=", "must name a file"),
            ("etcds://a:1?ca_file=a&ca_file=b", "given twice"),
            ("etcd://a:1?timeout=3", "parameter `timeout`"),
        ] {
            let error = error_of(uri);
            assert!(error.contains(part) && !error.contains("secret"), "{uri}: {error}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let uri = "etcd://me:se@cret@a:1,b:2";
        assert_eq!(without_password(uri), "etcd://me:…@a:1,b:2");
        assert_eq!(without_password("etcd://me@a:1"), "etcd://me@a:1");
        let location = Location::parse("etcd://me:secret@a:1").unwrap();
        assert!(!format!("{location:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_password_in_a_file_may_change_and_ends_before_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "secret\r\n").await.unwrap();
        assert_eq!(read_password(&path).await.unwrap(), "secret");
        fs::write(&path, vec![b'x'; 300 << 10]).await.unwrap();
        let error = read_password(&path).await.unwrap_err();
        assert!(format!("{error:#}").contains("at most"), "{error:#}");
        assert!(read_password(&folder.path().join("none")).await.is_err());
    }
}
