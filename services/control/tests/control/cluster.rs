//! A Kubernetes cluster as far as control sees one: keys that sign service accounts' tokens, and a server that shows them.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key of a cluster.
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    kid: String,
    key: EncodingKey,
    jwk: Value,
}

impl SigningKey {
    pub(crate) fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // Uncompressed: 4, then both coordinates.
        let point = pair.public_key().as_ref();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { algorithm: Algorithm::ES256, kid: kid.to_owned(), key, jwk }
    }

    pub(crate) fn rs256(kid: &str) -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        });
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // The library wants PKCS#1, which PKCS#8 wraps.
        let key = EncodingKey::from_rsa_der(pkcs1(der.as_ref()));
        Self { algorithm: Algorithm::RS256, kid: kid.to_owned(), key, jwk }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// The RSA key in a PKCS#8 document: the last octet string of its sequence.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    // SEQUENCE { version, AlgorithmIdentifier, OCTET STRING }: for a 2,048 bit key all lengths are of two bytes.
    const HEAD: usize = 4 + 3 + 15 + 4;
    &pkcs8[HEAD..]
}

/// The claims of a good token of `namespace/name`.
pub(crate) fn claims(account: &str, now: i64) -> Value {
    let (namespace, name) = account.split_once('/').unwrap();
    json!({
        "iss": ISSUER, "aud": ["linkmesh"], "iat": now, "nbf": now, "exp": now + 600,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "1"}},
    })
}

/// A server that shows keys, as the API server does.
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl KeyServer {
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (count, state) = (Arc::clone(&asked), Arc::clone(&shown));
        let serving = crate::harness::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                if socket.read(&mut head).await.is_err() {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let body = json!({"keys": *state.lock().unwrap()}).to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/jwk-set+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.ok();
            }
        });
        let server = Self { address, keys: shown, asked, serving };
        server.show(keys);
        server
    }

    pub(crate) fn show(&self, keys: &[&SigningKey]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    /// What it shows.
    pub(crate) fn text(&self) -> String {
        json!({"keys": *self.keys.lock().unwrap()}).to_string()
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
