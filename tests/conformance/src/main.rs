//! The server under the test of `connectconformance` (`make conformance`): a service of the suite's own, served by tonic, and before
//! it the edge's listener and protocols, as they ship. What the edge adds for Linkmesh (keys, routes, the mesh) is left out.
//!
//! With `edge PORT` or `hyper PORT` as arguments it is one of the two servers that `scripts/http2.sh` compares: the edge's listener,
//! or hyper as it comes.

mod backend;
mod definitions;
mod greeting;
mod service;

use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use edge::Listener;
use edge::Tls;
use edge::TlsFiles;
use edge::TlsMetrics;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::backend::Suite;
use crate::generated::ServerCompatRequest;
use crate::generated::ServerCompatResponse;
use crate::service::Service;

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the documentation is in the protos"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/connectrpc.conformance.v1.rs"));
}

/// More than any case needs.
pub(crate) const CONNECTIONS_MAX: usize = 1_000;
/// No connection of a suite gets this old.
pub(crate) const AGE_MAX: Duration = Duration::from_hours(1);
/// How long the suite may wait for a server to go.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(1);
/// For cases that have no limit of their own.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve_suite().await,
        ["edge", port] => greeting::edge(port.parse()?).await,
        ["hyper", port] => greeting::hyper(port.parse()?).await,
        _ => anyhow::bail!("takes nothing, or `edge PORT`, or `hyper PORT`"),
    }
}

async fn serve_suite() -> anyhow::Result<()> {
    let asked = read()?;
    let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let channel = Channel::from_shared(format!("http://{}", behind.local_addr()?))?;
    let server = tonic::transport::Server::builder()
        .serve_with_incoming(Service, TcpListenerStream::new(behind));

    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    let credentials = asked.server_creds.unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let tls = if asked.use_tls {
        let files = TlsFiles {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        std::fs::write(&files.certificate, &credentials.cert)?;
        std::fs::write(&files.key, &credentials.key)?;
        Some(Tls::load(files, TlsMetrics::default())?.acceptor()?)
    } else {
        None
    };
    let message_bytes_max = match asked.message_receive_limit {
        0 => MESSAGE_BYTES_MAX,
        limit => usize::try_from(limit)?,
    };
    let stop = CancellationToken::new();
    let listener = Listener {
        socket,
        tls,
        handler: Suite {
            channel: channel.connect_lazy(),
            message_bytes_max,
            leaving: CancellationToken::new(),
        },
        connections_max: CONNECTIONS_MAX,
        age_max: AGE_MAX,
        drain_max: DRAIN_MAX,
        ready: watch::Sender::new(false),
        leaving: CancellationToken::new(),
    };
    write(&ServerCompatResponse {
        host: address.ip().to_string(),
        port: address.port().into(),
        pem_cert: if asked.use_tls { credentials.cert } else { Vec::new() },
    })?;
    tokio::select! {
        served = server => served.context("the service ended"),
        ran = listener.run(stop) => ran.context("the edge ended"),
    }
}

/// What kind of server is asked for: a length of four bytes, and a message.
fn read() -> anyhow::Result<ServerCompatRequest> {
    let mut length = [0; 4];
    std::io::stdin().read_exact(&mut length)?;
    let mut message = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    std::io::stdin().read_exact(&mut message)?;
    Ok(ServerCompatRequest::decode(message.as_slice())?)
}

fn write(response: &ServerCompatResponse) -> anyhow::Result<()> {
    let message = response.encode_to_vec();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&u32::try_from(message.len())?.to_be_bytes())?;
    stdout.write_all(&message)?;
    Ok(stdout.flush()?)
}
