//! What a server says on the wire to clients that are not ours: late and malformed requests, calls taken back, its end.

use crate::backend::Backend;
use crate::backend::LINKS;
use crate::backend::spawn;
use crate::world::PATIENCE;
use crate::world::eventually;
use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use std::future::Future;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// An empty message.
const MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

async fn connect(backend: &Backend) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(&backend.address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    spawn(async move { connection.await.ok() });
    client.ready().await.unwrap()
}

fn request(timeouts: &[&'static str]) -> http::Request<()> {
    let mut request = http::Request::post(format!("http://links.test/{LINKS}/GetLink"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for timeout in timeouts {
        request = request.header("grpc-timeout", *timeout);
    }
    request.body(()).unwrap()
}

/// What a refusal says, in its head: nothing follows it.
async fn refusal(client: &mut SendRequest<Bytes>, request: http::Request<()>) -> HeaderMap {
    let (response, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(MESSAGE, true).ok();
    let response = within(response).await.unwrap();
    response.headers().clone()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the server answers")
}

#[tokio::test]
async fn a_call_whose_time_is_up_is_refused_before_its_handler() {
    let backend = Backend::plaintext("links-1").await;
    let mut client = connect(&backend).await;
    let said = refusal(&mut client, request(&["0n"])).await;
    assert_eq!(said["grpc-status"], "4");
    assert_eq!(backend.calls(), 0);
}

#[tokio::test]
async fn a_malformed_timeout_is_refused_by_name() {
    let backend = Backend::plaintext("links-1").await;
    let mut client = connect(&backend).await;
    for timeouts in [&["10x"][..], &[""], &["123456789S"], &["-1S"], &["1S", "2S"]] {
        let said = refusal(&mut client, request(timeouts)).await;
        assert_eq!(said["grpc-status"], "3", "{timeouts:?}");
        let message = said["grpc-message"].to_str().unwrap();
        assert!(message.contains("grpc-timeout"), "{timeouts:?}: {message}");
    }
    assert_eq!(backend.calls(), 0);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
/// Why.
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The last stream that a GOAWAY promises to serve.
    fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, GOAWAY);
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

/// A client that writes its frames itself.
struct Wire(TcpStream);

impl Wire {
    async fn connect(backend: &Backend) -> Self {
        let mut wire = Self(TcpStream::connect(&backend.address).await.unwrap());
        wire.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        wire.write(SETTINGS, 0, 0, &[]).await;
        wire
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame that is not settings; none at the connection's end.
    async fn read(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            within(self.0.read_exact(&mut head)).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            within(self.0.read_exact(&mut payload)).await.unwrap();
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            match (head[3], head[4] & ACK) {
                (SETTINGS, 0) => self.write(SETTINGS, ACK, 0, &[]).await,
                (SETTINGS, _) => {}
                (kind, _) => return Some(Frame { kind, flags: head[4], stream, payload }),
            }
        }
    }

    async fn call(&mut self, stream: u32) {
        self.begin(stream).await;
        self.write(DATA, END_STREAM, stream, &MESSAGE).await;
    }

    async fn begin(&mut self, stream: u32) {
        let path = format!("/{LINKS}/GetLink");
        let mut block = Vec::new();
        // HPACK, literals without an index.
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path.as_str()),
            (":authority", "links.test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.write(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Reads up to the end of a call's answer.
    async fn answer(&mut self, stream: u32) {
        loop {
            let frame = self.read().await.expect("the connection is open");
            assert_ne!(frame.kind, RESET, "the call was reset");
            if frame.stream == stream && frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_ends_serves_what_crosses_its_goaway_and_then_says_what_it_has_not_touched() {
    let backend = Backend::plaintext("links-1").await;
    let mut wire = Wire::connect(&backend).await;
    wire.call(1).await;
    wire.answer(1).await;
    backend.begin_to_stop();
    // First that the end is near, without turning anything away, and a question whether that has arrived.
    let near = wire.read().await.unwrap();
    assert_eq!(near.last_stream(), u32::MAX >> 1);
    let asked = wire.read().await.unwrap();
    assert_eq!((asked.kind, asked.flags), (PING, 0));
    // A call that was on its way is served.
    wire.call(3).await;
    wire.answer(3).await;
    wire.write(PING, ACK, 0, &asked.payload).await;
    // Then which was the last; and what comes after it is not touched, so that it can go elsewhere.
    let last = wire.read().await.unwrap();
    assert_eq!(last.last_stream(), 3);
    assert!(wire.read().await.is_none(), "nothing is left to be done");
    eventually("both calls", || async { backend.calls() == 2 }).await;
}

#[tokio::test]
async fn a_caller_whose_calls_all_time_out_at_once_keeps_its_connection() {
    let backend = Backend::plaintext("links-1").await;
    let mut wire = Wire::connect(&backend).await;
    wire.call(1).await;
    wire.answer(1).await;
    // All of it is there before the server looks at any.
    for stream in (3..203).step_by(2) {
        wire.begin(stream).await;
        wire.write(RESET, 0, stream, &CANCEL).await;
    }
    wire.call(203).await;
    wire.answer(203).await;
}
