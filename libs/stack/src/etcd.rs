//! One etcd server.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Limits, Ready};
use crate::{Options, Program, Server, Signal, locate, port};

/// A running server; see [`Server`] for what can be done to it.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
    port: u16,
}

const LIMITS: Limits = Limits {
    start_max: Duration::from_secs(30),
    stop_max: Duration::from_secs(10),
    stop_signal: Signal::Terminate,
};
/// How long a question may take, and how much its answer may be.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How long a command may take: a password is hashed for a moment, and a leader may have to be found first.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// What a server is told beyond where it lives.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// How long a token that was given for a password is valid without being used, in whole seconds; none: etcd's own 5 min.
    pub token_ttl: Option<Duration>,
    /// Speaks TLS to its clients, and only to those with a certificate; none: plaintext.
    pub tls: Option<EtcdTls>,
}

/// The PEM files of a server that speaks TLS.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who vouches for clients.
    pub authority: PathBuf,
}

/// A server's place in its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) peer_port: u16,
    /// All members, as `name=url,…`.
    pub(crate) cluster: String,
}

impl Member {
    pub(crate) fn url(peer_port: u16) -> String {
        format!("http://127.0.0.1:{peer_port}")
    }
}

impl Etcd {
    /// Starts a single node, on the data in `options.folder` or on fresh ones, and returns when it is healthy.
    ///
    /// # Errors
    /// etcd is not installed, or does not serve in time.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_with(options, EtcdOptions::default()).await
    }

    /// As [`Self::start`], with more to say.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(options: Options, etcd: EtcdOptions) -> anyhow::Result<Self> {
        fs::create_dir_all(&options.folder)?;
        // Nobody else talks to it, but it insists on one.
        let peer_port = port::kept(&options.folder.join("peer.port"))?;
        let cluster = format!("linkmesh={}", Member::url(peer_port));
        let member = Member { name: "linkmesh".to_owned(), peer_port, cluster };
        Self::start_member(options, etcd, member).await
    }

    pub(crate) async fn start_member(
        options: Options,
        etcd: EtcdOptions,
        member: Member,
    ) -> anyhow::Result<Self> {
        let executable = locate::executable("etcd")?;
        fs::create_dir_all(&options.folder)?;
        let folder = options.folder.canonicalize()?;
        let scheme = if etcd.tls.is_some() { "https" } else { "http" };
        let clients = format!("{scheme}://127.0.0.1:{}", options.port);
        let peers = Member::url(member.peer_port);
        let mut arguments = vec![
            format!("--name={}", member.name),
            format!("--data-dir={}", folder.join("data").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster={}", member.cluster),
            "--log-level=warn".to_owned(),
            "--logger=zap".to_owned(),
        ];
        if let Some(ttl) = etcd.token_ttl {
            arguments.push(format!("--auth-token-ttl={}", ttl.as_secs()));
            // Short tokens mean many passwords: the cheapest hash there is.
            arguments.push("--bcrypt-cost=4".to_owned());
        }
        let mut health_port = options.port;
        if let Some(tls) = &etcd.tls {
            health_port = port::kept(&folder.join("health.port"))?;
            arguments.extend([
                format!("--listen-metrics-urls=http://127.0.0.1:{health_port}"),
                format!("--cert-file={}", tls.certificate.display()),
                format!("--key-file={}", tls.key.display()),
                format!("--trusted-ca-file={}", tls.authority.display()),
                "--client-cert-auth".to_owned(),
            ]);
        }
        let program = Program {
            executable,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            log: folder.join("etcd.log"),
            folder,
            account: None,
            lifetime: options.lifetime,
            farewell: Signal::Kill,
        };
        let ready = Ready::Etcd { port: health_port };
        let server = Server::start("etcd", program, ready, LIMITS).await?;
        Ok(Self { server, port: options.port })
    }

    /// As the mesh's registry takes it: `etcd://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.address())
    }

    /// Where its clients find it, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on a password is asked for: of `root`, and of `user`, who may read and write everything below `prefix`. Not for
    /// a server that speaks TLS.
    ///
    /// # Errors
    /// etcd refuses, or does not answer.
    pub async fn require_passwords(
        &self,
        user: &str,
        password: &str,
        prefix: &str,
    ) -> anyhow::Result<()> {
        let after = prefix.bytes().last().context("a prefix is not empty")? + 1;
        let end = [&prefix.as_bytes()[..prefix.len() - 1], &[after]].concat();
        let (key, range_end) = (base64(prefix.as_bytes()), base64(&end));
        let permission = json!({"permType": "READWRITE", "key": key, "range_end": range_end});
        for (path, body) in [
            ("auth/role/add", json!({"name": "root"})),
            ("auth/role/add", json!({"name": user})),
            ("auth/role/grant", json!({"name": user, "perm": permission})),
            ("auth/user/add", json!({"name": "root", "password": password})),
            ("auth/user/add", json!({"name": user, "password": password})),
            ("auth/user/grant", json!({"user": "root", "role": "root"})),
            ("auth/user/grant", json!({"user": user, "role": user})),
            ("auth/enable", json!({})),
        ] {
            ask(self.port, path, &body, COMMAND_TIME_MAX).await?;
        }
        Ok(())
    }

    /// The ids of this member and of the leader it follows; zero: it knows none.
    pub(crate) async fn member_and_leader(&self) -> anyhow::Result<(u64, u64)> {
        let status = ask(self.port, "maintenance/status", &json!({}), ANSWER_TIME_MAX).await?;
        // Numbers of 64 bits are strings in JSON, and zero is left out.
        let id = |value: &Value| value.as_str().unwrap_or("0").parse::<u64>();
        Ok((id(&status["header"]["member_id"])?, id(&status["leader"])?))
    }
}

impl Deref for Etcd {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Asks etcd's JSON gateway.
async fn ask(port: u16, path: &str, body: &Value, patience: Duration) -> anyhow::Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST /v3/{path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = tokio::time::timeout(patience, exchange(port, &request))
        .await
        .with_context(|| format!("etcd did not answer {path} within {patience:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("etcd's answer has no body")?;
    ensure!(head.contains(" 200 "), "etcd refused {path}: {body}");
    serde_json::from_str(body).with_context(|| format!("etcd answered {path} with `{body}`"))
}

async fn exchange(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Healthy means: it has a leader and commits. An open port comes earlier.
pub(crate) async fn is_healthy(port: u16) -> bool {
    let asked = exchange(port, "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
    matches!(answer, Ok(Ok(text)) if text.contains(r#""health":"true""#))
}
