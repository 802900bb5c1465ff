//! A network that fails as a test says: a TCP proxy between a client and a server on loopback.
//!
//! What must stay true: bytes arrive in order and unchanged, or not at all, as TCP has it; a change of the faults applies to
//! connections that are open; nothing outlives the proxy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::port;

/// How many bytes are read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// How many chunks may be under way in one direction; more, and the sender's own buffers fill.
const CHUNKS_UNDER_WAY_MAX: usize = 1_024;
/// How long the port may stay someone else's when the proxy begins to listen again.
const LISTEN_RETRY_WAIT: Duration = Duration::from_millis(5);

/// What is done to those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// They are connected to the server.
    #[default]
    Forwarded,
    /// They are accepted, and nobody is behind: neither an answer nor an end, as behind a frozen or half-open peer.
    HalfOpen,
    /// They are accepted and reset at once.
    Reset,
    /// Nobody listens.
    Refused,
}

/// What is done to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They arrive.
    #[default]
    Both,
    /// Those of the server do not: requests are heard, answers are lost.
    ToServer,
    /// None arrives, and nobody is told: a black hole, or a partition.
    None,
}

/// How the network behaves; by default it does nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// What is done to those who connect.
    pub arrivals: Arrivals,
    /// What is done to bytes.
    pub flow: Flow,
    /// How long each byte is under way, in each direction.
    pub delay: Duration,
    /// One of so many chunks is lost and sent again by the kernel: to whom reads, a stall of [`Faults::stall`], of it and of all
    /// behind it. Zero: none is.
    pub lost_one_in: u32,
    /// How long a lost chunk takes: Linux waits 200 ms at least before it sends again.
    pub stall: Duration,
    /// How much arrives in a second, in each direction of each connection, in bytes; none: as much as is sent.
    pub bytes_per_second: Option<u32>,
}

impl Faults {
    /// A network that does nothing wrong.
    pub const NONE: Self = Self {
        arrivals: Arrivals::Forwarded,
        flow: Flow::Both,
        delay: Duration::ZERO,
        lost_one_in: 0,
        stall: Duration::ZERO,
        bytes_per_second: None,
    };
}

/// A proxy that runs; it ends, with all its connections, when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    weather: watch::Sender<Weather>,
    /// Counts up to break all connections that are open.
    breaks: watch::Sender<u32>,
    counts: Arc<Counts>,
    /// The one task, which ends with its set.
    _running: JoinSet<()>,
}

impl FaultProxy {
    /// Listens on a port of its own, which stays its own, and forwards to `server`, `host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: impl Into<String>) -> anyhow::Result<Self> {
        let port = port::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (weather, of_weather) = watch::channel(Weather::default());
        let (breaks, of_breaks) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let orders = Orders { weather: of_weather, breaks: of_breaks };
        let mut running = JoinSet::new();
        running.spawn(run(listener, server.into(), orders, Arc::clone(&counts)));
        Ok(Self { port, weather, breaks, counts, _running: running })
    }

    /// Where it listens, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on the network behaves like this, on open connections too.
    pub fn set(&self, faults: Faults) {
        self.weather.send_modify(|weather| weather.faults = faults);
    }

    /// From now on it does nothing wrong. What was lost stays lost: a connection that was silent goes on where it stopped.
    pub fn heal(&self) {
        self.set(Faults::NONE);
    }

    /// Connections that are open carry nothing any more, and nobody is told; new ones are as the faults say. So does a
    /// middlebox that forgot them.
    pub fn forget(&self) {
        let accepted = self.accepted();
        self.weather.send_modify(|weather| weather.forgotten = accepted);
    }

    /// Resets all connections that are open, in both directions.
    pub fn reset(&self) {
        self.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How many bytes have arrived at the server so far, over all connections.
    pub fn to_server_bytes(&self) -> usize {
        self.counts.to_server_bytes.load(Ordering::Relaxed)
    }

    /// How many bytes have arrived at clients so far, over all connections.
    pub fn to_client_bytes(&self) -> usize {
        self.counts.to_client_bytes.load(Ordering::Relaxed)
    }
}

/// What has happened so far, over all connections.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    to_server_bytes: AtomicUsize,
    to_client_bytes: AtomicUsize,
}

/// The faults, and how many connections are forgotten: those that were accepted first.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    faults: Faults,
    forgotten: usize,
}

/// What a test wants, as it changes.
#[derive(Clone)]
struct Orders {
    weather: watch::Receiver<Weather>,
    breaks: watch::Receiver<u32>,
}

async fn run(listener: TcpListener, server: String, mut orders: Orders, counts: Arc<Counts>) {
    let address = listener.local_addr().expect("it is bound");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let refused = orders.weather.borrow_and_update().faults.arrivals == Arrivals::Refused;
        listener = match listener {
            Some(_) if refused => None,
            None if !refused => Some(listen(address).await),
            unchanged => unchanged,
        };
        tokio::select! {
            changed = orders.weather.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            Some(Ok((client, _))) = accept(listener.as_ref()) => {
                let number = counts.accepted.fetch_add(1, Ordering::Relaxed);
                let (orders, counts) = (orders.clone(), Arc::clone(&counts));
                connections.spawn(connection(client, server.clone(), number, orders, counts));
            }
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_taken) => tokio::time::sleep(LISTEN_RETRY_WAIT).await,
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    match listener {
        Some(listener) => Some(listener.accept().await),
        None => std::future::pending().await,
    }
}

/// Serves one client until either side ends it or the test does.
async fn connection(
    mut client: TcpStream,
    server: String,
    number: usize,
    mut orders: Orders,
    counts: Arc<Counts>,
) {
    orders.breaks.mark_unchanged();
    let arrivals = orders.weather.borrow().faults.arrivals;
    match arrivals {
        Arrivals::Refused | Arrivals::Reset => return reset(client),
        Arrivals::HalfOpen => {
            // Not even the end of the client is noticed before the test ends it.
            orders.breaks.changed().await.ok();
            return reset(client);
        }
        Arrivals::Forwarded => {}
    }
    let Ok(mut server) = TcpStream::connect(&server).await else { return reset(client) };
    let ended = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let to_server = Way {
            number,
            direction: Direction::ToServer,
            weather: orders.weather.clone(),
            arrived_bytes: &counts.to_server_bytes,
        };
        let to_client = Way {
            direction: Direction::ToClient,
            arrived_bytes: &counts.to_client_bytes,
            ..to_server.clone()
        };
        let there = forward(client_reads, server_writes, to_server);
        let back = forward(server_reads, client_writes, to_client);
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.map(drop),
            _ = orders.breaks.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        reset(client);
        reset(server);
    }
}

/// Closes without a goodbye.
fn reset(stream: TcpStream) {
    // It fails if the peer was faster, which is as good.
    stream.set_zero_linger().ok();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// One direction of one connection.
#[derive(Debug, Clone)]
struct Way<'a> {
    number: usize,
    direction: Direction,
    weather: watch::Receiver<Weather>,
    arrived_bytes: &'a AtomicUsize,
}

impl Way<'_> {
    /// Waits until bytes arrive; how many a second then do.
    async fn open(&mut self) -> io::Result<Option<u32>> {
        let (number, direction) = (self.number, self.direction);
        let is_open = |weather: &Weather| {
            let flows = match weather.faults.flow {
                Flow::Both => true,
                Flow::ToServer => direction == Direction::ToServer,
                Flow::None => false,
            };
            flows && number >= weather.forgotten
        };
        let open = self.weather.wait_for(is_open).await;
        Ok(open.map_err(|_| io::ErrorKind::ConnectionReset)?.faults.bytes_per_second)
    }
}

/// What is under way in one direction.
enum Chunk {
    Bytes(Instant, Vec<u8>),
    /// The sender said that this was all.
    End,
    /// The sender broke the connection.
    Broken(io::Error),
}

/// Carries bytes in one direction until the sender's end has arrived.
async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut way: Way<'_>,
) -> io::Result<()> {
    let (sender, mut under_way) = mpsc::channel(CHUNKS_UNDER_WAY_MAX);
    let weather = way.weather.clone();
    let read = async {
        let (mut count, mut due) = (0_u32, Instant::now());
        loop {
            let mut bytes = vec![0; CHUNK_BYTES];
            let chunk = match from.read(&mut bytes).await {
                Ok(0) => Chunk::End,
                Err(error) => Chunk::Broken(error),
                Ok(length) => {
                    bytes.truncate(length);
                    let faults = weather.borrow().faults;
                    count = count.wrapping_add(1);
                    let is_lost = faults.lost_one_in > 0 && count % faults.lost_one_in == 0;
                    let stall = if is_lost { faults.stall } else { Duration::ZERO };
                    // Nothing overtakes what is before it.
                    due = due.max(Instant::now() + faults.delay + stall);
                    Chunk::Bytes(due, bytes)
                }
            };
            let is_last = !matches!(chunk, Chunk::Bytes(..));
            if sender.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    };
    let write = async {
        while let Some(chunk) = under_way.recv().await {
            if let Chunk::Bytes(due, _) = &chunk {
                tokio::time::sleep_until(*due).await;
            }
            let rate = way.open().await?;
            match chunk {
                Chunk::Bytes(_, bytes) => {
                    write_paced(&mut to, &bytes, rate).await?;
                    way.arrived_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
                }
                Chunk::End => return to.shutdown().await,
                Chunk::Broken(error) => return Err(error),
            }
        }
        Ok(())
    };
    let ((), written) = tokio::join!(read, write);
    written
}

async fn write_paced(to: &mut WriteHalf<'_>, bytes: &[u8], rate: Option<u32>) -> io::Result<()> {
    to.write_all(bytes).await?;
    let Some(rate) = rate else { return Ok(()) };
    let length = u32::try_from(bytes.len()).expect("a chunk is small");
    tokio::time::sleep(Duration::from_secs(1) * length / rate.max(1)).await;
    Ok(())
}
