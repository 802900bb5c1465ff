//! A caller from outside: REST over HTTP/1.1, and any gRPC method by its descriptor, with JSON in and out.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::MethodDescriptor;
use serde_json::Value;
use std::time::Duration;
use tonic::Status;

/// How often a client waits that is told to.
const WAITS_MAX: usize = 20;
/// How long any one call of a test may take; generous, since tests run in debug builds on busy machines.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A workspace's way in.
#[derive(Debug, Clone)]
pub struct Api {
    /// Of an edge, as `http://127.0.0.1:8080`.
    pub url: String,
    /// The secret to present; empty: none.
    pub key: String,
    /// `workspaces/wsp_…`.
    pub workspace: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// What a plain HTTP request was answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// How long to wait, if this refuses an attempt to prove something because there were too many; gRPC-Web has no header for it.
    fn wait_between_attempts(&self) -> Option<Duration> {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let body = String::from_utf8_lossy(&self.body);
        let message = text("grpc-message").unwrap_or(&body);
        let is_refused = ["too many attempts", "too%20many%20attempts"]
            .iter()
            .any(|words| message.contains(words) || body.contains(words));
        let seconds = text("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
        is_refused.then_some(Duration::from_secs(seconds))
    }

    /// The body as JSON; null if it is empty or is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Api {
    pub fn new(
        url: impl Into<String>,
        key: impl Into<String>,
        workspace: impl Into<String>,
    ) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.into(), key: key.into(), workspace: workspace.into(), http }
    }

    /// The same workspace through another edge.
    pub fn at(&self, url: impl Into<String>) -> Self {
        Self { url: url.into(), ..self.clone() }
    }

    /// The same workspace with another key.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self.clone() }
    }

    /// The same from another address of this machine, which is another network to whoever counts by network.
    pub fn at_address(&self, address: std::net::IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(address));
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Self { http, ..self.clone() }
    }

    /// Any HTTP request. Who tries to sign in is limited by their address, which all tests share: told to wait, it waits.
    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let body = body.into();
        for _ in 0..WAITS_MAX {
            let answer = self.once(method, path, headers, body.clone()).await?;
            let Some(wait) = answer.wait_between_attempts() else { return Ok(answer) };
            tokio::time::sleep(wait).await;
        }
        anyhow::bail!("{method} {path}: still too many attempts after {WAITS_MAX} waits")
    }

    async fn once(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let (head, body) = self.http.request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        let (head, body) = tokio::time::timeout(CALL_TIMEOUT, exchange)
            .await
            .with_context(|| format!("{method} {path} took longer than {CALL_TIMEOUT:?}"))??;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// A REST call with the key, `{w}` in the path standing for the workspace's name.
    pub async fn rest(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let path = path.replace("{w}", &self.workspace);
        let bearer = format!("Bearer {}", self.key);
        let mut headers = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.http(method, &path, &headers, body).await
    }

    /// A click by a browser on a slug of the domain; answers with what the edge answered.
    pub async fn click(&self, domain: &str, slug: &str) -> anyhow::Result<Answer> {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        self.http("GET", &format!("/{slug}"), &[("host", domain), ("user-agent", agent)], "").await
    }

    /// A unary gRPC call by full method name, as `linkmesh.links.v1.LinksService/GetLink`, with the request as JSON.
    pub async fn grpc(&self, method: &str, request: Value) -> Result<Value, Status> {
        let descriptor = method_descriptor(method);
        let message = DynamicMessage::deserialize(descriptor.input(), request)
            .map_err(|error| Status::internal(format!("the test's request: {error}")))?;
        let reply = self.grpc_bytes(method, message.encode_to_vec().into()).await?;
        let reply = DynamicMessage::decode(descriptor.output(), reply)
            .map_err(|error| Status::internal(format!("the reply: {error}")))?;
        serde_json::to_value(&reply).map_err(|error| Status::internal(error.to_string()))
    }

    /// The same with the message encoded already, for malformed ones.
    pub async fn grpc_bytes(&self, method: &str, message: Bytes) -> Result<Bytes, Status> {
        let channel = tonic::transport::Endpoint::from_shared(self.url.clone())
            .map_err(|error| Status::internal(error.to_string()))?
            .connect()
            .await
            .map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = tonic::Request::new(message);
        request.set_timeout(CALL_TIMEOUT);
        if !self.key.is_empty() {
            let bearer = format!("Bearer {}", self.key);
            let bearer = bearer.parse().map_err(|_| Status::internal("the key is no header"))?;
            request.metadata_mut().insert("authorization", bearer);
        }
        let path = format!("/{method}").parse().expect("a method's name is a path");
        Ok(client.unary(request, path, raw::RawCodec).await?.into_inner())
    }
}

/// Every method that has `google.api.http`: what can be called from outside.
pub fn public_methods() -> Vec<MethodDescriptor> {
    let http = proto::DESCRIPTORS
        .get_extension_by_name("google.api.http")
        .expect("the annotations are part of the set");
    let services = proto::DESCRIPTORS.services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.filter(|method| method.options().has_extension(&http)).collect()
}

pub fn method_descriptor(method: &str) -> MethodDescriptor {
    let (service, name) = method.split_once('/').expect("service/method");
    let service = proto::DESCRIPTORS.get_service_by_name(service).expect("a known service");
    service.methods().find(|method| method.name() == name).expect("a known method")
}

pub mod raw {
    //! Messages as the bytes they are.

    use hyper::body::Buf as _;
    use hyper::body::Bytes;
    use prost::bytes::BufMut as _;
    use tonic::Status;
    use tonic::codec::Codec;
    use tonic::codec::DecodeBuf;
    use tonic::codec::Decoder;
    use tonic::codec::EncodeBuf;
    use tonic::codec::Encoder;

    #[derive(Debug, Clone, Copy)]
    pub struct RawCodec;

    impl Codec for RawCodec {
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

    impl Encoder for RawCodec {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for RawCodec {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }
}
