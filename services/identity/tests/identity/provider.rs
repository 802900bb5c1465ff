//! An OpenID provider that does as a test tells it, badly too.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

pub(super) const CLIENT_ID: &str = "linkmesh-test";
pub(super) const CLIENT_SECRET: &str = "a secret: with/odd characters";
pub(super) const REDIRECT_URI: &str = "https://app.example/callback";

/// How it behaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    /// Laid over the claims that it should make.
    pub(super) claims: Value,
    /// Laid over the header of its ID token.
    pub(super) header: Value,
    /// Signs with a key that it does not publish.
    pub(super) forges: bool,
    /// Answers nothing at this path.
    pub(super) hangs_at: Option<&'static str>,
    /// Answers 500 at this path.
    pub(super) fails_at: Option<&'static str>,
    /// Sends a token without a signature.
    pub(super) unsigned: bool,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    key: Vec<u8>,
    other_key: Vec<u8>,
    manner: Mutex<Manner>,
    /// What the browser brought: nonce and code challenge.
    asked: Mutex<(String, String)>,
}

/// A running one; dropped, it is down.
#[derive(Debug)]
pub(super) struct Provider {
    inner: Arc<Inner>,
    _serving: JoinSet<()>,
}

impl Provider {
    pub(super) async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = || {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
            pkcs8.as_ref().to_vec()
        };
        let inner = Arc::new(Inner {
            address: socket.local_addr().unwrap(),
            key: key(),
            other_key: key(),
            manner: Mutex::default(),
            asked: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(socket, inner.clone()));
        Self { inner, _serving: serving }
    }

    pub(super) fn issuer(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    pub(super) fn behave(&self, manner: Manner) {
        *self.inner.manner.lock().unwrap() = manner;
    }

    /// What a browser does: follows the address, and comes back with code and state.
    pub(super) fn visited(&self, authorization_uri: &str) -> (String, String) {
        let uri = Url::parse(authorization_uri).unwrap();
        assert_eq!(uri.path(), "/authorize");
        let given = |name: &str| {
            let found = uri.query_pairs().find(|(key, _)| key == name);
            found.unwrap_or_else(|| panic!("no {name} in {uri}")).1.into_owned()
        };
        assert_eq!(given("response_type"), "code");
        assert_eq!(given("client_id"), CLIENT_ID);
        assert_eq!(given("redirect_uri"), REDIRECT_URI);
        assert_eq!(given("code_challenge_method"), "S256");
        assert!(given("scope").split(' ').any(|scope| scope == "openid"));
        *self.inner.asked.lock().unwrap() = (given("nonce"), given("code_challenge"));
        ("the-code".to_owned(), given("state"))
    }
}

async fn serve(socket: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let inner = inner.clone();
        connections.spawn(async move {
            let answering = service_fn(move |request| answer(inner.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new();
            drop(connection.serve_connection(TokioIo::new(stream), answering).await);
        });
    }
}

async fn answer(
    inner: Arc<Inner>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let manner = inner.manner.lock().unwrap().clone();
    if manner.hangs_at == Some(path.as_str()) {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let issuer = format!("http://{}", inner.address);
    let (status, answer) = match path.as_str() {
        path if manner.fails_at == Some(path) => (500, json!({})),
        "/.well-known/openid-configuration" => (
            200,
            json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
            }),
        ),
        "/jwks" => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&inner.key).unwrap();
            let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            (
                200,
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "p1", "use": "sig"}]}),
            )
        }
        "/token" => {
            let form = body.collect().await.unwrap().to_bytes();
            token(&inner, &manner, &issuer, &head.headers, &form)
        }
        _ => (404, json!({})),
    };
    let response =
        http::Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(answer.to_string().into())).unwrap())
}

fn token(
    inner: &Inner,
    manner: &Manner,
    issuer: &str,
    headers: &http::HeaderMap,
    form: &[u8],
) -> (u16, Value) {
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = format!("{}:{}", encode(CLIENT_ID), encode(CLIENT_SECRET));
    let is_client = headers.get("authorization").and_then(|value| value.to_str().ok())
        == Some(format!("Basic {}", BASE64_STANDARD.encode(basic)).as_str());
    let given = |name: &str| {
        let found = url::form_urlencoded::parse(form).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (nonce, challenge) = inner.asked.lock().unwrap().clone();
    let hash = digest::digest(&digest::SHA256, given("code_verifier").as_bytes());
    let is_right = is_client
        && given("grant_type") == "authorization_code"
        && given("code") == "the-code"
        && given("redirect_uri") == REDIRECT_URI
        && BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref()) == challenge;
    if !is_right {
        return (400, json!({"error": "invalid_grant"}));
    }
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": issuer, "sub": "248289761001", "aud": CLIENT_ID, "nonce": nonce, "iat": now, "exp": now + 300,
        "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace",
    });
    let mut header = json!({"alg": "EdDSA", "kid": "p1", "typ": "JWT"});
    for (value, over) in [(&mut claims, &manner.claims), (&mut header, &manner.header)] {
        for (name, one) in over.as_object().into_iter().flatten() {
            value[name] = one.clone();
        }
    }
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(&claims));
    let key = if manner.forges { &inner.other_key } else { &inner.key };
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref());
    let signature = if manner.unsigned { String::new() } else { signature };
    (
        200,
        json!({"access_token": "x", "token_type": "Bearer", "id_token": format!("{message}.{signature}")}),
    )
}
