//! The tests' own faults: a cluster that loses a member, a password, and a network that fails.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use stack::{
    Arrivals, Etcd, EtcdCluster, EtcdOptions, FaultProxy, Faults, Flow, Options, TemporaryFolder,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Long enough to say that nothing comes.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets.
async fn echo() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            echoes.spawn(async move {
                let (mut reads, mut writes) = socket.split();
                // However the test ends it.
                tokio::io::copy(&mut reads, &mut writes).await.ok();
            });
        }
    });
    (address, tasks)
}

async fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await?;
    assert_eq!(back, bytes);
    Ok(())
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    let mut one = [0];
    tokio::time::timeout(SILENCE, stream.read(&mut one)).await.is_err()
}

#[tokio::test]
async fn a_proxy_without_faults_carries_everything_and_the_end() {
    let (server, _tasks) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut reads, mut writes) = stream.split();
    let send = async {
        writes.write_all(&bytes).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (read, ()) = tokio::join!(reads.read_to_end(&mut back), send);
    read.unwrap();
    assert!(back == bytes, "unchanged and in order");
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn what_is_lost_in_a_black_hole_arrives_when_it_is_healed() {
    let (server, _tasks) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut stream, b"before").await.unwrap();
    for flow in [Flow::None, Flow::ToServer] {
        proxy.set(Faults { flow, ..Faults::NONE });
        stream.write_all(b"x").await.unwrap();
        assert!(is_silent(&mut stream).await, "{flow:?}");
        proxy.heal();
        let mut one = [0];
        stream.read_exact(&mut one).await.unwrap();
    }
}

#[tokio::test]
async fn a_forgotten_connection_is_silent_and_a_new_one_is_not() {
    let (server, _tasks) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut old, b"before").await.unwrap();
    proxy.forget();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut new, b"x").await.unwrap();
    old.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut old).await);
}

#[tokio::test]
async fn who_connects_is_refused_reset_or_left_without_an_answer() {
    let (server, _tasks) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut open = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut open, b"x").await.unwrap();

    proxy.set(Faults { arrivals: Arrivals::HalfOpen, ..Faults::NONE });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut stream).await);

    proxy.set(Faults { arrivals: Arrivals::Reset, ..Faults::NONE });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(echoed(&mut stream, b"x").await.is_err());

    proxy.set(Faults { arrivals: Arrivals::Refused, ..Faults::NONE });
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpStream::connect(proxy.address()).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            _ => assert!(Instant::now() < deadline, "it is never refused"),
        }
    }
    echoed(&mut open, b"what is open stays open").await.unwrap();
    proxy.reset();
    let mut one = [0];
    assert_eq!(open.read(&mut one).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    proxy.heal();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut again = loop {
        match TcpStream::connect(proxy.address()).await {
            Ok(stream) => break stream,
            Err(_) => assert!(Instant::now() < deadline, "nobody listens again"),
        }
    };
    echoed(&mut again, b"x").await.unwrap();
}

#[tokio::test]
async fn bytes_are_delayed_lost_and_slow_as_told() {
    let (server, _tasks) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let delayed = Faults { delay: Duration::from_millis(50), ..Faults::NONE };
    let stall = Duration::from_millis(100);
    let lossy = Faults { lost_one_in: 1, stall, ..Faults::NONE };
    let slow = Faults { bytes_per_second: Some(10_000), ..Faults::NONE };
    // Slow: what was written is paid for before the next is, so twice.
    for (faults, at_least, times) in [(delayed, 100, 1), (lossy, 200, 1), (slow, 100, 2)] {
        proxy.set(faults);
        let started = Instant::now();
        for _ in 0..times {
            echoed(&mut stream, &[7; 1_000]).await.unwrap();
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(at_least), "{faults:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_cluster_that_loses_its_leader_elects_another_and_takes_it_back() {
    let folder = TemporaryFolder::new().unwrap();
    let cluster = EtcdCluster::start(folder.path(), EtcdOptions::default()).await.unwrap();
    let first = cluster.leader().await.unwrap();
    cluster.members()[first].kill().await;
    let second = cluster.leader().await.unwrap();
    assert_ne!(first, second);
    cluster.members()[first].restart().await.unwrap();
    assert!(cluster.url().contains(&cluster.members()[first].address()));
}

#[tokio::test]
async fn an_etcd_that_asks_for_passwords_gives_no_answer_without() {
    let folder = TemporaryFolder::new().unwrap();
    let options = Options::bound(folder.path().join("etcd")).unwrap();
    let ttl = EtcdOptions { token_ttl: Some(Duration::from_secs(1)), tls: None };
    let etcd = Etcd::start_with(options, ttl).await.unwrap();
    etcd.require_passwords("mesh", "secret", "linkmesh/").await.unwrap();
    let error = etcd.require_passwords("other", "secret", "linkmesh/").await.unwrap_err();
    assert!(format!("{error:#}").contains("user name is empty"), "{error:#}");
}
