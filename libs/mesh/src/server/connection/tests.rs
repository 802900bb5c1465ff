//! When a connection ends whose peer does not.

use super::*;
use crate::server::Access;
use crate::server::Server;
use crate::server::ServerOptions;
use std::convert::Infallible;
use std::future::Pending;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;

/// A service whose calls never end; it says when one has begun.
#[derive(Clone, Default)]
struct Silent {
    begun: CancellationToken,
}

impl NamedService for Silent {
    const NAME: &'static str = "test.v1.Silent";
}

impl tower::Service<http::Request<Body>> for Silent {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.begun.cancel();
        std::future::pending()
    }
}

fn admitted(peer: PeerIdentity, service: Silent) -> Admitted {
    let access = Access::new().allow(Silent::NAME, &[peer.service.as_str()]);
    let identity = Identity::plaintext_for_bench("links").unwrap();
    let options = ServerOptions { instance: "links-1".to_owned(), identity, access };
    let shared = Server::new(options, &mut Default::default()).unwrap().shared;
    Admission { shared, routes: Routes::new(service) }.of_peer(peer)
}

#[expect(clippy::disallowed_methods, reason = "a test's runtime ends its tasks")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Makes a call that has not ended when it is returned.
async fn call(io: DuplexStream) -> h2::client::ResponseFuture {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    spawn(async move { connection.await.ok() });
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post("http://links.test/test.v1.Silent/Wait");
    client.send_request(request.body(()).unwrap(), true).unwrap().0
}

#[tokio::test]
async fn a_peer_that_was_asked_to_leave_may_not_stay_for_longer_than_its_proof() {
    const PROOF: Duration = Duration::from_millis(100);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = Silent::default();
    let admitted = admitted(PeerIdentity::anonymous(), service.clone());
    let stop = CancellationToken::new();
    let life =
        Life { tasks: TaskTracker::new(), stop: stop.clone(), abort: CancellationToken::new() };
    let begun = Instant::now();
    let over = tokio::time::sleep(PROOF);
    let serving = spawn(async move { serve_http(ours, admitted, over, &life).await });
    let call = call(theirs).await;
    service.begun.cancelled().await;
    stop.cancel();
    let error = serving.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "the peer did not leave when its proof was over");
    assert!(begun.elapsed() >= PROOF + ANONYMOUS_GRACE, "{:?}", begun.elapsed());
    call.await.unwrap_err();
}
