//! Clients that mean harm, before the whole edge: each loses its connection or is refused, and the others are served meanwhile. The
//! fault list, 8 and 11.

use std::cell::Cell;
use std::time::Duration;

use proto::analytics::v1::WatchClicksResponse;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::clients::Connection;
use super::clients::PATIENCE;
use super::clients::frame;
use super::clients::request;
use super::port;
use super::raw;
use super::raw::End;
use super::world::World;
use super::world::route;

/// Attackers at once.
const ATTACKERS: usize = 8;

/// Whoever asks for a link is redirected, over a connection of their own.
async fn is_served(world: &World) {
    let answer = world.send("GET", "/sale", &[]).await;
    assert_eq!(answer.status, 302, "{answer:?}");
}

async fn serving() -> World {
    let world = World::start().await;
    world.put("sale", 1, Some(route("https://shop.example")));
    is_served(&world).await;
    world
}

/// Others are served until all attackers have lost their connections.
async fn until_all_are_ended(world: &World, mut attackers: JoinSet<()>) {
    let serving = async {
        loop {
            is_served(world).await;
            match tokio::time::timeout(Duration::from_millis(1), attackers.join_next()).await {
                Ok(Some(ended)) => ended.expect("it ended as it should"),
                Ok(None) => return,
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, serving).await.expect("they are ended");
    is_served(world).await;
}

#[tokio::test]
async fn r58_rapid_resets_end_their_connections_and_no_others() {
    let world = serving().await;
    let mut attackers = JoinSet::new();
    for _ in 0..ATTACKERS {
        let address = world.address;
        // Whoever goes on writing need not hear why.
        attackers.spawn(async move { drop(port::reset_until_ended(address, "/sale").await) });
    }
    until_all_are_ended(&world, attackers).await;
}

#[tokio::test]
async fn r58_heads_without_an_end_end_their_connections_and_no_others() {
    let world = serving().await;
    let mut attackers = JoinSet::new();
    for _ in 0..ATTACKERS {
        attackers.spawn(port::continue_until_ended(world.address));
    }
    until_all_are_ended(&world, attackers).await;
}

/// A few bytes that name a long header a thousand times: what they stand for is what is counted.
#[tokio::test]
async fn r58_a_head_that_is_small_and_decodes_to_much_is_refused() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// A field that is indexed, with a name of one character and a value of 3,000.
    const FIELD: &[u8] = &[0x40, 1, b'x', 0x7f, 0xb9, 0x16];
    const HEADERS: u8 = 1;
    /// END_STREAM and END_HEADERS.
    const WHOLE: u8 = 5;
    let world = serving().await;
    let mut stream = TcpStream::connect(world.address).await.expect("it listens");
    let request = [0x82, 0x86, 0x84, 0x41, 1, b'l'];
    // 62 is the newest field of the table; 10,000 times 3 KB.
    let head = [&request[..], FIELD, &[b'v'; 3_000], &[0x80 | 62; 10_000]].concat();
    let [_, high, middle, low] = u32::try_from(head.len()).expect("short").to_be_bytes();
    let frame = [&[high, middle, low, HEADERS, WHOLE, 0, 0, 0, 1][..], &head].concat();
    stream.write_all(&[PREFACE, SETTINGS, &frame].concat()).await.expect("written");
    let refused = async {
        let mut answer = Vec::new();
        // An answer's HEADERS, or GOAWAY.
        while !contains_frame(&answer, HEADERS) && !contains_frame(&answer, 7) {
            if stream.read_buf(&mut answer).await.expect("it is read") == 0 {
                break;
            }
        }
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, refused).await.expect("in time");
    assert!(!answer.windows(4).any(|some| some == b"302 "), "{answer:?}");
    assert!(world.clicks(1).await.len() == 1, "no click but ours");
    is_served(&world).await;
}

fn contains_frame(mut bytes: &[u8], kind: u8) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        if head[3] == kind {
            return true;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(next) = rest.get(length..) else { return false };
        bytes = next;
    }
    false
}

/// Bodies that come byte by byte hold nothing that others need, and are given up at the call's own time.
#[tokio::test]
async fn a_body_that_never_comes_ends_at_its_deadline_while_others_are_served() {
    let world = serving().await;
    let bearer = world.bearer();
    let path = format!("{}/links", world.workspace());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: l.example\r\nauthorization: {bearer}\r\ncontent-type: \
         application/json\r\nx-server-timeout: 1\r\ncontent-length: 1000\r\n\r\n"
    );
    let mut attackers = JoinSet::new();
    for _ in 0..ATTACKERS {
        let (address, head) = (world.address, head.clone());
        attackers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(head.as_bytes()).await.expect("written");
            let (mut answers, mut body) = stream.into_split();
            let mut dripping = JoinSet::new();
            dripping.spawn(async move {
                while body.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            let mut answer = [0; 12];
            answers.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 504");
        });
    }
    until_all_are_ended(&world, attackers).await;
    assert!(world.doubles.state().calls.is_empty(), "no service heard of any");
}

/// What a client does not read the edge does not read either, but for what fits into bounded buffers.
#[tokio::test]
async fn a_client_that_reads_nothing_makes_the_edge_hold_little() {
    const MESSAGE_BYTES: usize = 64 << 10;
    const MESSAGES: usize = 4_000;
    /// Of the kernel's buffers most.
    const HELD_BYTES_MAX: usize = 32 << 20;
    /// Looks in a row at which nothing more was read.
    const STILL: u32 = 30;
    let world = serving().await;
    let bearer = world.bearer();
    let message = WatchClicksResponse {
        resume_token: "x".repeat(MESSAGE_BYTES),
        ..WatchClicksResponse::default()
    };
    let frames = vec![frame(&message); MESSAGES];
    let end = End::saying(&[("grpc-status", b"0")]);
    world.doubles.state().raw = Some(raw::Answer { frames, end });
    let path = format!("{}/clicks:watch", world.workspace());
    let headers = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    for version in [1, 2] {
        world.doubles.state().raw_pieces = 0;
        let (mut connection, uri) = match version {
            1 => (Connection::http1(world.address).await, path.clone()),
            _ => (Connection::http2(world.address).await, world.uri(&path)),
        };
        let answer = connection.head(request("GET", &uri, &headers, "")).await;
        assert_eq!(answer.status(), 200);
        let seen = Cell::new((0, 0));
        let is_still = async || {
            let (before, still) = seen.get();
            let now = world.doubles.state().raw_pieces;
            seen.set((now, if now == before { still + 1 } else { 0 }));
            still >= STILL
        };
        world.eventually("nothing more is read", is_still).await;
        let held = seen.get().0 * MESSAGE_BYTES;
        assert!((1..HELD_BYTES_MAX).contains(&held), "HTTP/{version}: {held} bytes");
        is_served(&world).await;
        drop(answer);
    }
}

/// Who leaves in the middle of a stream, or of a call, leaves nothing running behind the edge: R43.
#[tokio::test]
async fn r43_a_client_that_goes_away_ends_what_it_asked_for_behind_the_edge() {
    let world = serving().await;
    world.doubles.state().watches_last = true;
    world.doubles.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bearer = world.bearer();
    let watch = format!("{}/clicks:watch", world.workspace());
    let link = format!("{}/links/lnk_1", world.workspace());
    for path in [&watch, &link] {
        for version in [1, 2] {
            let headers = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
            let before = world.doubles.state().calls.len();
            let mut asking = JoinSet::new();
            let (address, uri) = (world.address, world.uri(path));
            let asked = match version {
                1 => request("GET", path, &headers, ""),
                _ => request("GET", &uri, &headers, ""),
            };
            asking.spawn(async move {
                let mut connection = match version {
                    1 => Connection::http1(address).await,
                    _ => Connection::http2(address).await,
                };
                connection.send(asked).await
            });
            let is_called = async || world.doubles.state().calls.len() > before;
            world.eventually("it is called", is_called).await;
            let is_open = async || world.doubles.under_way() == 1;
            world.eventually("it is open", is_open).await;
            asking.shutdown().await;
            let is_over = async || world.doubles.under_way() == 0;
            world.eventually("it is over", is_over).await;
        }
    }
    world.doubles.gate.add_permits(10);
}
