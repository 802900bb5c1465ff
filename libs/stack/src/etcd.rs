//! One etcd server.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::Duration;

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
const HEALTH_TIME_MAX: Duration = Duration::from_secs(1);
const HEALTH_BYTES_MAX: u64 = 4096;

impl Etcd {
    /// Starts a single node, on the data in `options.folder` or on fresh ones, and returns when it is healthy.
    ///
    /// # Errors
    /// etcd is not installed, or does not serve in time.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let executable = locate::executable("etcd")?;
        fs::create_dir_all(&options.folder)?;
        let folder = options.folder.canonicalize()?;
        // Nobody else talks to it, but it insists on one.
        let peer_port = port::kept(&folder.join("peer.port"))?;
        let clients = format!("http://127.0.0.1:{}", options.port);
        let peers = format!("http://127.0.0.1:{peer_port}");
        let arguments = [
            "--name=linkmesh".to_owned(),
            format!("--data-dir={}", folder.join("data").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=linkmesh={peers}"),
            "--log-level=warn".to_owned(),
            "--logger=zap".to_owned(),
        ];
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
        let ready = Ready::Etcd { port: options.port };
        let server = Server::start("etcd", program, ready, LIMITS).await?;
        Ok(Self { server, port: options.port })
    }

    /// As the mesh's registry takes it: `etcd://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Deref for Etcd {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Healthy means: it has a leader and commits. An open port comes earlier.
pub(crate) async fn is_healthy(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(HEALTH_BYTES_MAX).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(HEALTH_TIME_MAX, asked).await;
    matches!(answer, Ok(Ok(text)) if text.contains(r#""health":"true""#))
}
