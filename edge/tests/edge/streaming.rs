//! A service whose methods stream in every way, by descriptors that the edge was not built with.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::task::Context;
use std::task::Poll;

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::stream::BoxStream;
use http::Request;
use http::Response;
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::Streaming;
use tonic::codec::DecodeBuf;
use tonic::codec::EncodeBuf;
use tonic::server::NamedService;

pub(super) const SERVICE: &str = "test.streams.v1.StreamsService";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// `test.streams.v1.Piece`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Piece {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    #[prost(string, tag = "3")]
    pub(super) request_id: String,
}

/// `test.streams.v1.UploadRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UploadRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) note: String,
    #[prost(message, optional, tag = "3")]
    pub(super) file: Option<HttpBody>,
}

/// `google.api.HttpBody`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpBody {
    #[prost(string, tag = "1")]
    pub(super) content_type: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

/// `test.streams.v1.Summary`.
#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(int32, tag = "2")]
    messages: i32,
    #[prost(int64, tag = "3")]
    bytes: i64,
}

/// The descriptors of the API, as a file in a folder.
pub(super) fn write_descriptors(folder: &Path) -> std::path::PathBuf {
    let folders = ["edge/tests/protos", "libs/transcode/tests/protos", "proto"];
    let folders = folders.into_iter().chain(["proto/third_party"]);
    let compiler = protox::Compiler::new(folders.map(|folder| format!("{ROOT}/{folder}")));
    let mut compiler = compiler.expect("the folders exist");
    compiler.include_imports(true).open_file("streams.proto").expect("it compiles");
    let file = folder.join("streams.binpb");
    std::fs::write(&file, compiler.encode_file_descriptor_set()).expect("written");
    file
}

/// How a client's stream ended, as its service sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Broken,
}

/// A call, as far as it has come.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) messages: Vec<Bytes>,
    pub(super) end: Option<End>,
}

#[derive(Default)]
pub(super) struct Told {
    pub(super) calls: Vec<Call>,
    /// What every call fails with, before it reads anything.
    pub(super) failure: Option<Status>,
    /// What `Download` says.
    pub(super) download: Vec<Result<HttpBody, Status>>,
    /// Whether `Download` goes on for ever after that.
    pub(super) download_lasts: bool,
}

/// The service.
#[derive(Clone)]
pub(super) struct Streams {
    told: Arc<Mutex<Told>>,
    /// `Download` takes one of these for each failure that it says.
    pub(super) failures: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { told: Arc::default(), failures: Arc::new(Semaphore::new(0)) }
    }
}

impl Streams {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no test panics with it")
    }

    /// What the only call has heard.
    pub(super) fn heard<M: prost::Message + Default>(&self) -> Vec<M> {
        let told = self.told();
        assert!(told.calls.len() <= 1, "one call at a time");
        let messages = told.calls.iter().flat_map(|call| &call.messages);
        messages.map(|message| M::decode(message.clone()).expect("a message")).collect()
    }

    pub(super) fn end(&self) -> Option<End> {
        self.told().calls.last().and_then(|call| call.end)
    }
}

/// Notes what a call hears, and that it is broken off if nothing else is noted.
struct Hearing {
    streams: Streams,
    index: usize,
}

impl Hearing {
    fn begin(streams: &Streams) -> Self {
        let mut told = streams.told();
        told.calls.push(Call { messages: Vec::new(), end: None });
        Self { streams: streams.clone(), index: told.calls.len() - 1 }
    }

    fn note(&self, message: Option<&Bytes>) {
        let mut told = self.streams.told();
        // A test may have forgotten it meanwhile.
        let Some(call) = told.calls.get_mut(self.index) else { return };
        match message {
            Some(message) => call.messages.push(message.clone()),
            None => call.end = Some(End::Whole),
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(call) = self.streams.told().calls.get_mut(self.index) {
            call.end.get_or_insert(End::Broken);
        }
    }
}

impl NamedService for Streams {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<Request<tonic::body::Body>> for Streams {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().expect("a method").to_owned();
        let handler = Handler { streams: self.clone(), method };
        async move { Ok(tonic::server::Grpc::new(Codec).streaming(handler, request).await) }.boxed()
    }
}

struct Handler {
    streams: Streams,
    method: String,
}

type Said = BoxStream<'static, Result<Bytes, Status>>;

impl tonic::server::StreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = Said;
    type Future = BoxFuture<'static, Result<tonic::Response<Said>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let hearing = Hearing::begin(&self.streams);
        let (streams, method) = (self.streams.clone(), self.method.clone());
        async move {
            let failure = streams.told().failure.clone();
            if let Some(failure) = failure {
                return Err(failure);
            }
            let messages = request.into_inner();
            let said = match method.as_str() {
                "Converse" => converse(messages, hearing),
                "Download" => download(messages, hearing).await?,
                _ => stream::once(collect(messages, hearing)).boxed(),
            };
            Ok(tonic::Response::new(said))
        }
        .boxed()
    }
}

/// Says each message again.
fn converse(messages: Streaming<Bytes>, hearing: Hearing) -> Said {
    stream::unfold((messages, hearing), |(mut messages, hearing)| async move {
        let message = messages.message().await.transpose();
        match message {
            None => hearing.note(None),
            Some(Ok(ref message)) => hearing.note(Some(message)),
            Some(Err(_)) => {}
        }
        Some((message?, (messages, hearing)))
    })
    .boxed()
}

async fn collect(mut messages: Streaming<Bytes>, hearing: Hearing) -> Result<Bytes, Status> {
    let mut summary = Summary::default();
    while let Some(message) = messages.message().await? {
        hearing.note(Some(&message));
        summary.messages += 1;
        summary.text += &Piece::decode(message.clone()).map(|it| it.text).unwrap_or_default();
        let upload = UploadRequest::decode(message).ok().and_then(|it| it.file);
        summary.bytes += upload.map_or(0, |file| i64::try_from(file.data.len()).expect("small"));
    }
    hearing.note(None);
    Ok(summary.encode_to_vec().into())
}

async fn download(mut messages: Streaming<Bytes>, hearing: Hearing) -> Result<Said, Status> {
    let asked = messages.message().await?;
    hearing.note(asked.as_ref());
    let (said, lasts) = {
        let mut told = hearing.streams.told();
        (std::mem::take(&mut told.download), told.download_lasts)
    };
    let said = stream::unfold((said.into_iter(), hearing), move |(mut said, hearing)| async move {
        match said.next() {
            Some(next) => {
                if next.is_err() {
                    let failures = &hearing.streams.failures;
                    failures.acquire().await.expect("it is never closed").forget();
                }
                Some((next.map(|body| body.encode_to_vec().into()), (said, hearing)))
            }
            None if lasts => std::future::pending().await,
            None => {
                hearing.note(None);
                None
            }
        }
    });
    Ok(said.boxed())
}

/// Messages as the bytes they are.
#[derive(Clone, Copy)]
struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Codec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
