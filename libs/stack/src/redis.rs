//! One Redis server: a cache, so it keeps nothing on disk.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Limits, Ready};
use crate::{Options, Program, Server, Signal, locate};

/// A running server; see [`Server`] for what can be done to it.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: u16,
}

const LIMITS: Limits = Limits {
    start_max: Duration::from_secs(20),
    stop_max: Duration::from_secs(5),
    stop_signal: Signal::Terminate,
};
const PING_TIME_MAX: Duration = Duration::from_secs(1);

impl Redis {
    /// Starts a single node, empty, and returns when it answers.
    ///
    /// # Errors
    /// Redis is not installed, or does not serve in time.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let executable = locate::executable("redis-server")?;
        fs::create_dir_all(&options.folder)?;
        let folder = options.folder.canonicalize()?;
        let port = options.port.to_string();
        let arguments = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            // Least recently used keys go first: it is a cache.
            "--maxmemory",
            "256mb",
            "--maxmemory-policy",
            "allkeys-lru",
        ];
        let program = Program {
            executable,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            log: folder.join("redis.log"),
            folder,
            account: None,
            lifetime: options.lifetime,
            farewell: Signal::Kill,
        };
        let ready = Ready::Redis { port: options.port };
        let server = Server::start("redis", program, ready, LIMITS).await?;
        Ok(Self { server, port: options.port })
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

pub(crate) async fn answers(port: u16) -> bool {
    const PONG: &[u8] = b"+PONG\r\n";
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; PONG.len()];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PING_TIME_MAX, asked).await;
    matches!(answer, Ok(Ok(bytes)) if bytes == PONG)
}
