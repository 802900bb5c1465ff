//! grpc-gateway, which `scripts/bench/grpc-gateway` holds: Go code that was made of our protos, where the edge goes by
//! descriptors.

use super::Side;
use crate::listening;
use crate::mesh::certificates;
use crate::mesh::certificates::Pem;
use anyhow::Context as _;
use std::path::Path;
use tokio::process::Child;
use tokio::process::Command;

const NAME: &str = "grpc-gateway";
/// Before whose instance it stands.
const SERVICE: &str = "links";

/// A grpc-gateway that runs; it ends when dropped.
#[derive(Debug)]
pub(super) struct GrpcGateway {
    pub(super) side: Side,
    _process: Child,
}

impl GrpcGateway {
    /// Starts it before an instance of `links`, with a header for each call that says for whom it is.
    pub(super) async fn start(
        folder: &Path,
        pem: &Pem,
        to: u16,
        principal: &str,
    ) -> anyhow::Result<Self> {
        let executable = stack::locate::tool("bin/grpc-gateway")
            .context("there is no grpc-gateway; build it with `scripts/setup.sh bench`")?;
        let port = stack::port::free()?;
        let mut command = Command::new(executable);
        command
            .args(["-listen", &format!("127.0.0.1:{port}")])
            .args(["-upstream", &format!("127.0.0.1:{to}")])
            .args(["-name", &certificates::dns_name(SERVICE)]);
        for (name, text) in [("cert", &pem.certificate), ("key", &pem.key), ("root", &pem.root)] {
            let path = folder.join(format!("{NAME}-{name}.pem"));
            std::fs::write(&path, text)?;
            command.arg(format!("-{name}")).arg(path);
        }
        let process = listening::start(command, folder, NAME, port).await?;
        let pid = process.id().context("grpc-gateway has ended")?;
        Ok(Self { side: Side::peer(NAME, port, principal, pid), _process: process })
    }
}
