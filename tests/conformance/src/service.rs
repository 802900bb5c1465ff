//! The suite's service, as its proto describes it. Every method is a stream to tonic: only streams may say trailers after a
//! success.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream;
use prost::Message as _;
use prost_types::Any;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;

use crate::definitions::Asked;
use crate::definitions::Definition;
use crate::definitions::type_url;
use crate::generated::BidiStreamRequest;
use crate::generated::ClientStreamRequest;
use crate::generated::ConformancePayload;
use crate::generated::Header;
use crate::generated::IdempotentUnaryRequest;
use crate::generated::ServerStreamRequest;
use crate::generated::UnaryRequest;
use crate::generated::conformance_payload::RequestInfo;

const CODINGS: [CompressionEncoding; 2] = [CompressionEncoding::Gzip, CompressionEncoding::Zstd];
/// Larger than any message of the suite.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// `connectrpc.conformance.v1.ConformanceService`.
#[derive(Debug, Clone)]
pub(crate) struct Service;

impl tower::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let path = request.uri().path();
            let (_, method) = path.rsplit_once('/').unwrap_or_default();
            Ok(match method {
                "Unary" => serve::<UnaryRequest>(request).await,
                "IdempotentUnary" => serve::<IdempotentUnaryRequest>(request).await,
                "ClientStream" => serve::<ClientStreamRequest>(request).await,
                "ServerStream" => serve::<ServerStreamRequest>(request).await,
                "BidiStream" => {
                    grpc::<BidiStreamRequest>()
                        .streaming(tower::service_fn(bidi_stream), request)
                        .await
                }
                _ => Status::unimplemented("the suite wants it so").into_http(),
            })
        })
    }
}

fn grpc<R: Asked>() -> tonic::server::Grpc<ProstCodec<R::Answer, R>> {
    let grpc = tonic::server::Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    CODINGS
        .into_iter()
        .fold(grpc, |grpc, coding| grpc.accept_compressed(coding).send_compressed(coding))
}

async fn serve<R: Asked>(
    request: http::Request<tonic::body::Body>,
) -> http::Response<tonic::body::Body> {
    grpc::<R>().streaming(tower::service_fn(after_all::<R>), request).await
}

/// Reads all there is, then answers.
async fn after_all<R: Asked>(
    request: Request<Streaming<R>>,
) -> Result<Response<Answers<R::Answer>>, Status> {
    let asked = About::of(request.metadata());
    let mut messages = request.into_inner();
    let (mut definition, mut requests) = (None, Vec::new());
    while let Some(message) = messages.message().await? {
        definition.get_or_insert_with(|| message.definition());
        requests.push(message.any());
    }
    let definition = definition.unwrap_or_else(|| R::default().definition());
    answer(definition, asked, requests, None::<Streaming<R>>)
}

/// Reads all there is, or answers message by message, as the first one asks.
async fn bidi_stream(
    request: Request<Streaming<BidiStreamRequest>>,
) -> Result<Response<Answers<<BidiStreamRequest as Asked>::Answer>>, Status> {
    let asked = About::of(request.metadata());
    let mut messages = request.into_inner();
    let Some(first) = messages.message().await? else {
        return answer(
            Definition::default(),
            asked,
            Vec::new(),
            None::<Streaming<BidiStreamRequest>>,
        );
    };
    let mut requests = vec![first.any()];
    if first.full_duplex {
        return answer(first.definition(), asked, requests, Some(messages));
    }
    while let Some(message) = messages.message().await? {
        requests.push(message.any());
    }
    answer(first.definition(), asked, requests, None::<Streaming<BidiStreamRequest>>)
}

/// What a call said beside its messages.
struct About {
    headers: Vec<Header>,
    until: Option<Instant>,
}

impl About {
    fn of(metadata: &MetadataMap) -> Self {
        let map = metadata.clone().into_headers();
        let headers = map.keys().map(|name| Header {
            name: name.to_string(),
            value: map
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect(),
        });
        let timeout = map.get("grpc-timeout").and_then(|value| value.to_str().ok());
        Self {
            headers: headers.collect(),
            until: timeout.and_then(timeout_of).map(|timeout| Instant::now() + timeout),
        }
    }

    fn info(&self, requests: Vec<Any>) -> RequestInfo {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        RequestInfo {
            request_headers: self.headers.clone(),
            timeout_ms: left.map(|left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
            requests,
            connect_get_info: None,
        }
    }
}

fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        _ => Duration::from_nanos(value),
    })
}

/// An answer under way.
struct Answering<R> {
    definition: Definition,
    asked: About,
    /// Read and not yet told of.
    requests: Vec<Any>,
    /// Of a full-duplex stream: what is still to come.
    messages: Option<Streaming<R>>,
    sent: usize,
    is_over: bool,
}

fn answer<R: Asked>(
    definition: Definition,
    asked: About,
    requests: Vec<Any>,
    messages: Option<Streaming<R>>,
) -> Result<Response<Answers<R::Answer>>, Status> {
    let headers = metadata(&definition.headers)?;
    let answering = Answering { definition, asked, requests, messages, sent: 0, is_over: false };
    let answers = stream::unfold(answering, |mut answering| async move {
        let next = answering.next().await?;
        Some((next, answering))
    });
    let mut response = Response::new(Box::pin(answers) as Answers<R::Answer>);
    *response.metadata_mut() = headers;
    Ok(response)
}

impl<R: Asked> Answering<R> {
    async fn next(&mut self) -> Option<Result<R::Answer, Status>> {
        if self.is_over {
            return None;
        }
        if self.sent > 0
            && let Some(messages) = &mut self.messages
        {
            match messages.message().await {
                Ok(Some(message)) => self.requests.push(message.any()),
                Ok(None) => self.messages = None,
                Err(status) => {
                    self.is_over = true;
                    return Some(Err(status));
                }
            }
        }
        let Some(data) = self.definition.data.get(self.sent).cloned() else {
            self.is_over = true;
            return Some(Err(self.end().unwrap_or_else(|status| status)));
        };
        let requests = std::mem::take(&mut self.requests);
        let info = match (self.sent, requests.is_empty()) {
            (0, _) => Some(self.asked.info(requests)),
            (_, false) => Some(RequestInfo { requests, ..RequestInfo::default() }),
            (_, true) => None,
        };
        self.sent += 1;
        tokio::time::sleep(Duration::from_millis(self.definition.delay_ms.into())).await;
        Some(Ok(ConformancePayload { data, request_info: info }.into()))
    }

    /// How it went, with the trailers: tonic sends them from a status alone.
    fn end(&mut self) -> Result<Status, Status> {
        let trailers = metadata(&self.definition.trailers)?;
        let Some(mut error) = self.definition.error.take() else {
            return Ok(Status::with_metadata(Code::Ok, "", trailers));
        };
        if self.sent == 0 {
            let info = self.asked.info(std::mem::take(&mut self.requests));
            let type_url = type_url("ConformancePayload.RequestInfo");
            error.details.push(Any { type_url, value: info.encode_to_vec() });
        }
        let message = error.message.unwrap_or_default();
        let details = proto::google::rpc::Status {
            code: error.code,
            message: message.clone(),
            details: error.details,
        };
        let details = details.encode_to_vec().into();
        let code = Code::from_i32(error.code);
        Ok(Status::with_details_and_metadata(code, message, details, trailers))
    }
}

fn metadata(headers: &[Header]) -> Result<MetadataMap, Status> {
    let mut map = http::HeaderMap::new();
    for Header { name, value } in headers {
        for value in value {
            let wrong = |_| Status::invalid_argument(format!("`{name}` makes no header"));
            let name =
                http::HeaderName::try_from(name).map_err(|error| wrong(error.to_string()))?;
            let value =
                http::HeaderValue::try_from(value).map_err(|error| wrong(error.to_string()))?;
            map.append(name, value);
        }
    }
    Ok(MetadataMap::from_headers(map))
}
