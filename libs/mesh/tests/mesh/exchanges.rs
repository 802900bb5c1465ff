//! What calls on one connection do to each other, whether they are begun where they come in or in tasks of their own.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::LINKS;
use crate::backend::spawn;
use crate::world::PATIENCE;
use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::HeaderMap;
use prost::Message as _;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::GetLinkResponse;
use std::time::Instant;
use tokio::net::TcpStream;

/// A client whose peer may send it little at a time.
async fn connect(backend: &Backend, window: u32) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(&backend.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder.initial_window_size(window).handshake(socket).await.unwrap();
    spawn(async move { connection.await.ok() });
    client.ready().await.unwrap()
}

/// Calls a method, and reads its answer at once: data and trailers, or why the stream was reset.
async fn call(
    client: &mut SendRequest<Bytes>,
    method: &str,
    name: &str,
) -> Result<(Bytes, HeaderMap), h2::Error> {
    let uri = format!("http://links.test/{LINKS}/{method}");
    let request = http::Request::post(uri).header("content-type", "application/grpc");
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let message = GetLinkRequest { name: name.to_owned() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    stream.send_data([&[0][..], &length, &message].concat().into(), true).unwrap();
    let read = async {
        let mut body = response.await?.into_body();
        let mut data = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            data.extend_from_slice(&piece);
        }
        Ok((data.into(), body.trailers().await?.unwrap_or_default()))
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the server answers")
}

#[tokio::test]
async fn a_handler_that_panics_takes_nothing_with_it_but_its_own_call() {
    let backend = Backend::plaintext("links-1").await;
    let mut client = connect(&backend, 1 << 16).await;
    backend.behave(Behaviour::Panic);
    for _ in 0..2 {
        let error = call(&mut client, "GetLink", "").await.unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(error.reason(), Some(Reason::CANCEL));
    }
    backend.behave(Behaviour::Answer);
    let (_, trailers) = call(&mut client, "GetLink", "").await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_computes_for_long_keeps_no_other_call_of_its_connection_waiting() {
    let backend = Backend::plaintext("links-1").await;
    let mut client = connect(&backend, 1 << 16).await;
    // The first one may; it shows how long the method takes.
    backend.behave(Behaviour::Compute);
    backend.let_compute(true);
    call(&mut client, "GetLink", "").await.unwrap();
    backend.let_compute(false);
    let mut other = client.clone();
    let computing = spawn(async move { call(&mut other, "GetLink", "").await });
    // This thread is none of the runtime's, whose timers may be with the worker that computes until another has to do.
    let begun = Instant::now();
    while backend.calls() < 2 {
        assert!(begun.elapsed() < PATIENCE, "it computes");
        std::thread::yield_now();
    }
    backend.behave(Behaviour::Answer);
    let (_, trailers) = call(&mut client, "CreateLink", "").await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(!computing.is_finished());
    backend.let_compute(true);
    computing.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_is_sent_as_its_reader_makes_room() {
    let backend = Backend::plaintext("links-1").await;
    for (window, bytes) in [(1, 100), (1_000, 100_000), (1 << 16, 300_000), (1 << 20, 3_000_000)] {
        let mut client = connect(&backend, window).await;
        let (data, trailers) = call(&mut client, "GetLink", &"x".repeat(bytes)).await.unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        let link = GetLinkResponse::decode(&data[5..]).unwrap().link.unwrap();
        assert_eq!(link.destination_uri.len(), bytes);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_at_the_call_s_deadline() {
    let backend = Backend::plaintext("links-1").await;
    let mut client = connect(&backend, 100).await;
    let uri = format!("http://links.test/{LINKS}/GetLink");
    let request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "200m");
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let message = GetLinkRequest { name: "x".repeat(100_000) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    stream.send_data([&[0][..], &length, &message].concat().into(), true).unwrap();
    let read = async {
        let mut body = response.await.unwrap().into_body();
        // What is read is not released: there is room for nothing more.
        loop {
            if let Err(error) = body.data().await.expect("it does not end well") {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, read).await.expect("it ends");
    assert!(error.is_reset() && error.is_remote(), "{error}");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}
