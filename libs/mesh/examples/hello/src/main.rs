//! A stranger's own tonic program on the mesh.
//!
//! ```text
//! hello                                          a server and a client in one process
//! hello serve etcd://127.0.0.1:2379 FOLDER       a server; start as many as you like
//! hello greet etcd://127.0.0.1:2379 FOLDER Ada   a client, which finds them
//! ```
//!
//! FOLDER holds the certificate authority that both trust; it is made if it is not there.

#![expect(clippy::print_stdout, reason = "that is what this program is for")]

use anyhow::Context as _;
use mesh::Access;
use mesh::LocalAuthority;
use mesh::Mesh;
use mesh::MeshOptions;
use mesh::Registration;
use mesh::Registry;
use mesh::Server;
use mesh::ServerOptions;
use pb::GreetRequest;
use pb::GreetResponse;
use pb::greeter_service_client::GreeterServiceClient;
use pb::greeter_service_server::GreeterService;
use pb::greeter_service_server::GreeterServiceServer;
use prometheus_client::registry::Registry as Metrics;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;

mod pb {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("hello.v1");
    /// What the mesh is told of our methods: which may be repeated.
    pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.bin"));
}

const GREETER: &str = "hello.v1.GreeterService";
/// How long calls in flight may take to end when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

struct Greeter;

#[tonic::async_trait]
impl GreeterService for Greeter {
    async fn greet(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        let text = format!("hello, {}", request.into_inner().name);
        Ok(Response::new(GreetResponse { text }))
    }
}

/// Serves until `stop`. Whoever calls proves to be `caller`, and nobody else is let in.
async fn serve(
    registry: Arc<dyn Registry>,
    authority: &LocalAuthority,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let options = ServerOptions {
        instance: address.clone(),
        identity: authority.issue("greeter")?,
        access: Access::new().allow(GREETER, &["caller"]),
    };
    let server = Server::new(options, &mut Metrics::default())?;
    let lease = registry.register(Registration::new(&address, "greeter", &address, &[GREETER]));
    println!("serving at {address}");

    let goodbye = CancellationToken::new();
    let routes = Routes::new(GreeterServiceServer::new(Greeter));
    let leave = async {
        stop.cancelled().await;
        // First nobody is sent here any more, then connections end: no call fails.
        lease.withdraw().await;
        goodbye.cancel();
    };
    tokio::join!(server.serve(listener, routes, goodbye.clone(), DRAIN_MAX), leave);
    Ok(())
}

async fn greet(
    registry: Arc<dyn Registry>,
    authority: &LocalAuthority,
    name: &str,
) -> anyhow::Result<()> {
    let options = MeshOptions::new(registry, authority.issue("caller")?);
    let mesh = Mesh::start(options, &mut Metrics::default())?;
    // The path of a call names its service, and the mesh knows who serves it.
    let mut client = GreeterServiceClient::new(mesh.clone());
    let request = GreetRequest { name: name.to_owned() };
    println!("{}", client.greet(request).await?.into_inner().text);
    mesh.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    mesh::describe(pb::DESCRIPTORS)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let authority = |folder: &str| LocalAuthority::open_or_create(Path::new(folder));
    let stop = CancellationToken::new();
    match arguments.as_slice() {
        [] => {
            let folder = std::env::temp_dir().join(format!("hello-{}", std::process::id()));
            let authority = LocalAuthority::open_or_create(&folder)?;
            let registry = mesh::registry::open("memory:")?;
            let client = async {
                let greeted = greet(Arc::clone(&registry), &authority, "world").await;
                stop.cancel();
                greeted
            };
            let served = serve(Arc::clone(&registry), &authority, stop.clone());
            tokio::try_join!(served, client)?;
            std::fs::remove_dir_all(folder)?;
            Ok(())
        }
        ["serve", registry, folder] => {
            let until_interrupted = async {
                let interrupted = tokio::signal::ctrl_c().await.context("waiting for Ctrl-C");
                stop.cancel();
                interrupted
            };
            let (registry, authority) = (mesh::registry::open(registry)?, authority(folder)?);
            tokio::try_join!(serve(registry, &authority, stop.clone()), until_interrupted)?;
            Ok(())
        }
        ["greet", registry, folder, name] => {
            greet(mesh::registry::open(registry)?, &authority(folder)?, name).await
        }
        _ => anyhow::bail!("usage: hello [serve REGISTRY FOLDER | greet REGISTRY FOLDER NAME]"),
    }
}
