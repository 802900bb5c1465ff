//! The public port by itself: TLS and its reload, the limits of connections, and what a client that goes away ends.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use edge::Body;
use edge::Handler;
use edge::Listener;
use edge::Tls;
use edge::TlsFiles;
use edge::TlsMetrics;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::clients::PATIENCE;

/// Says hello, or waits until its request is given up.
#[derive(Debug, Clone, Default)]
struct Hello {
    waits: bool,
    began: Arc<Counter>,
    given_up: Arc<Counter>,
}

/// Counts, and is waited for.
#[derive(Debug)]
struct Counter(Semaphore);

impl Default for Counter {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

struct TellWhenDropped(Arc<Counter>);

impl Drop for TellWhenDropped {
    fn drop(&mut self) {
        self.0.0.add_permits(1);
    }
}

impl Handler for Hello {
    async fn answer(&self, _: SocketAddr, _: Request<Incoming>) -> Response<Body> {
        self.began.0.add_permits(1);
        if self.waits {
            let _guard = TellWhenDropped(Arc::clone(&self.given_up));
            std::future::pending::<()>().await;
        }
        Response::new(Body::Whole(Bytes::from_static(b"hello")))
    }
}

struct Port {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Port {
    async fn open(handler: Hello, tls: Option<Tls>) -> Self {
        Self::open_with(handler, tls, Duration::from_hours(1)).await
    }

    async fn open_with(handler: Hello, tls: Option<Tls>, age_max: Duration) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let acceptor = tls.as_ref().map(|tls| tls.acceptor().expect("a configuration"));
        let listener = Listener {
            socket,
            tls: acceptor,
            handler,
            connections_max: 100,
            age_max,
            drain_max: Duration::from_secs(5),
            ready: watch::Sender::new(false),
            leaving: CancellationToken::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.run(stop.clone()));
        if let Some(tls) = tls {
            tasks.spawn(tls.follow(stop.clone()));
        }
        Self { address, stop, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }
}

/// A certificate of its own for `localhost`, written where the port reads it.
pub(super) fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).expect("written");
    made.cert.der().clone()
}

pub(super) fn files(folder: &Path) -> TlsFiles {
    TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") }
}

pub(super) async fn handshake(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).await.expect("it listens");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn tls_offers_both_versions_of_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = write_certificate(folder.path());
    let tls = Tls::load(files(folder.path()), TlsMetrics::default()).expect("good files");
    let port = Port::open(Hello::default(), Some(tls)).await;
    let mut connections = JoinSet::new();
    for alpn in ["h2", "http/1.1"] {
        let stream = handshake(port.address, &root, alpn).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let io = TokioIo::new(stream);
        let request = Request::get("https://localhost/").body(Empty::<Bytes>::new()).expect("good");
        let answer = if alpn == "h2" {
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
            connections.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            connections.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        };
        let body = answer.expect("an answer").into_body().collect().await.expect("a body");
        assert_eq!(&body.to_bytes()[..], b"hello", "{alpn}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_and_one_that_is_bad_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = write_certificate(folder.path());
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = TlsMetrics::register(&mut registry);
    let reloads = |result: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        text.contains(&format!("edge_tls_reloads_total{{result=\"{result}\"}}"))
    };
    let tls = Tls::load(files(folder.path()), metrics).expect("good files");
    let port = Port::open(Hello::default(), Some(tls)).await;
    handshake(port.address, &first, "h2").await.expect("the first one serves");

    std::fs::write(folder.path().join("certificate.pem"), "no certificate").expect("written");
    until(async || reloads("refused")).await;
    handshake(port.address, &first, "h2").await.expect("the first one serves on");

    let second = write_certificate(folder.path());
    until(async || handshake(port.address, &second, "h2").await.is_ok()).await;
    assert!(reloads("used"));
    assert!(handshake(port.address, &first, "h2").await.is_err(), "the first one is gone");
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Tls::load(files(folder.path()), TlsMetrics::default()).is_err(), "no files");
    write_certificate(folder.path());
    let other = tempfile::tempdir().expect("a folder");
    write_certificate(other.path());
    let mixed = TlsFiles { key: other.path().join("key.pem"), ..files(folder.path()) };
    assert!(Tls::load(mixed, TlsMetrics::default()).is_err(), "another's key");
}

async fn until<F: Future<Output = bool>>(attempt: impl Fn() -> F) {
    let polling = async {
        while !attempt().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("in time");
}

/// R43, with ten times the time that it promises.
#[tokio::test]
async fn a_client_that_goes_away_ends_its_call() {
    for is_http2 in [false, true] {
        let hello = Hello { waits: true, ..Hello::default() };
        let port = Port::open(hello.clone(), None).await;
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).expect("good");
        let io = TokioIo::new(port.connect().await);
        let mut connections = JoinSet::new();
        if is_http2 {
            let executor = TokioExecutor::new();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
            connections.spawn(async move { drop(connection.await) });
            connections.spawn(async move { drop(sender.send_request(request).await) });
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            connections.spawn(async move { drop(connection.await) });
            connections.spawn(async move { drop(sender.send_request(request).await) });
        }
        let began = tokio::time::timeout(PATIENCE, hello.began.0.acquire()).await;
        began.expect("in time").expect("open").forget();
        let left = Instant::now();
        connections.shutdown().await;
        let ended = tokio::time::timeout(PATIENCE, hello.given_up.0.acquire()).await;
        ended.expect("the call ends").expect("open").forget();
        assert!(left.elapsed() < Duration::from_secs(1), "HTTP/2: {is_http2}");
    }
}

/// The fault list, 10: an idle HTTP/2 connection hears of a drain at once.
#[tokio::test]
async fn an_idle_connection_is_told_to_go_when_the_port_closes() {
    let mut port = Port::open(Hello::default(), None).await;
    let (mut sender, connection) =
        h2::client::handshake(port.connect().await).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("http://localhost/").body(()).expect("good");
    let (answer, _) = sender.send_request(request, true).expect("sent");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    port.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, driver.join_next()).await.expect("in time");
    assert!(ended.expect("driven").expect("no panic").is_ok(), "a clean end");
    let stopped = tokio::time::timeout(PATIENCE, port.tasks.join_next()).await.expect("in time");
    stopped.expect("it ran").expect("no panic").expect("it stops");
}

/// What is in flight goes on, and what is new is for another connection.
#[tokio::test]
async fn a_connection_that_is_old_is_told_to_go() {
    let hello = Hello { waits: true, ..Hello::default() };
    let port = Port::open_with(hello.clone(), None, Duration::from_millis(50)).await;
    let (mut sender, connection) =
        h2::client::handshake(port.connect().await).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = || Request::get("http://localhost/").body(()).expect("good");
    let (answer, _) = sender.send_request(request(), true).expect("sent");
    let began = tokio::time::timeout(PATIENCE, hello.began.0.acquire()).await;
    began.expect("in time").expect("open").forget();
    let told = async {
        while sender.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told in time");
    assert_eq!(hello.given_up.0.available_permits(), 0, "the call goes on");
    drop(answer);
    let ended = tokio::time::timeout(PATIENCE, driver.join_next()).await.expect("in time");
    assert!(ended.expect("driven").expect("no panic").is_ok(), "a clean end");
}

/// R58.
#[tokio::test]
async fn a_client_is_told_how_many_streams_it_may_open() {
    let port = Port::open(Hello::default(), None).await;
    let (mut sender, connection) =
        h2::client::handshake(port.connect().await).await.expect("HTTP/2");
    let mut connection = pin!(connection);
    let request = Request::get("http://localhost/").body(()).expect("good");
    let (answer, _) = sender.send_request(request, true).expect("sent");
    tokio::select! {
        answer = answer => assert_eq!(answer.expect("an answer").status(), 200),
        ended = connection.as_mut() => panic!("it ended: {ended:?}"),
    }
    assert_eq!(connection.max_concurrent_send_streams(), 250);
}

/// R58: 431, and the connection lives.
#[tokio::test]
async fn heads_over_their_limit_are_refused() {
    let port = Port::open(Hello::default(), None).await;
    let (mut sender, connection) =
        h2::client::handshake(port.connect().await).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    for (length, status) in [(1_000, 200), (40_000, 431), (1_000, 200)] {
        let request = Request::get("http://localhost/").header("x-long", "x".repeat(length));
        let request = request.body(()).expect("good");
        sender = sender.ready().await.expect("it is open");
        let (answer, _) = sender.send_request(request, true).expect("sent");
        assert_eq!(answer.await.expect("an answer").status(), status, "{length}");
    }
    let mut stream = port.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(100_000));
    // The port may close before it has read all of it.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    drop(read.expect("it closes"));
    let said = String::from_utf8_lossy(&answer);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
}

/// R58, CVE-2023-44487: streams that are opened and reset at once end the connection.
#[tokio::test]
async fn a_client_that_resets_what_it_opens_loses_its_connection() {
    let port = Port::open(Hello { waits: true, ..Hello::default() }, None).await;
    let error = reset_until_ended(port.address, "/").await;
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
}

/// Opens streams for a path and resets them, until the connection is ended for that; says how.
pub(super) async fn reset_until_ended(address: SocketAddr, path: &'static str) -> h2::Error {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let resetting = async {
        loop {
            // All of these go out before the server is heard.
            for _ in 0..100 {
                let uri = format!("http://localhost{path}");
                let request = Request::get(uri).body(()).expect("good");
                match sender.send_request(request, false) {
                    Ok((_, mut stream)) => stream.send_reset(h2::Reason::CANCEL),
                    Err(_) => return,
                }
            }
            match sender.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(PATIENCE, resetting).await.expect("it is ended");
    let ended = driver.join_next().await.expect("driven").expect("no panic");
    ended.expect_err("not a clean end")
}

/// R58: CONTINUATION frames without an end.
#[tokio::test]
async fn a_head_that_never_ends_loses_its_connection() {
    let port = Port::open(Hello::default(), None).await;
    continue_until_ended(port.address).await;
}

/// Goes on with a head, until the connection is ended for that.
pub(super) async fn continue_until_ended(address: SocketAddr) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // A literal header with a name of one character and a value of 1,000, never indexed.
    let field = [&[0x10, 1, b'x', 0x7f, 0xe9, 0x06][..], &[b'v'; 1_000]].concat();
    let length = u8::try_from(field.len() >> 8).expect("short");
    let low = u8::try_from(field.len() & 0xff).expect("a byte");
    let frame = |kind: u8| [&[0, length, low, kind, 0, 0, 0, 0, 1][..], &field].concat();
    stream.write_all(&[PREFACE, SETTINGS, &frame(1)].concat()).await.expect("written");
    let flooding = async {
        while stream.write_all(&frame(9)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, flooding).await.expect("it is ended");
}
