//! A Kubernetes service account's projected token as the proof by which a pod joins.
//!
//! The token must be signed by the cluster, for control, not expired, and of a service account that the configuration lets join as
//! that service. Control asks the Kubernetes API for nothing but its public keys.

use super::jwks::Jwks;
use super::jwks::Source;
use crate::config::KubernetesConfig;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use proto::common::v1::ErrorReason;
use rpc::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use tonic::Code;

/// What clusters sign with: RSA by default, ECDSA by choice. Nothing symmetric, and nothing that is none.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The cluster whose accounts may join.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    keys: Jwks,
    issuer: String,
    audience: String,
    accounts: BTreeMap<String, Vec<String>>,
}

/// What a token says, as far as it counts.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaims,
}

#[derive(Debug, Deserialize)]
struct KubernetesClaims {
    namespace: String,
    serviceaccount: Named,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl Kubernetes {
    pub(crate) fn new(config: KubernetesConfig) -> anyhow::Result<Self> {
        let source = Source::parse(&config.jwks)?;
        Ok(Self {
            keys: Jwks::new(source, config.jwks_root, config.jwks_token),
            issuer: config.issuer,
            audience: config.audience,
            accounts: config.accounts,
        })
    }

    /// Whether who shows `token` may join as `service`.
    pub(super) async fn check(
        &self,
        token: &str,
        service: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let claims = self.claims(token, now).await?;
        let KubernetesClaims { namespace, serviceaccount } = claims.kubernetes;
        let account = format!("{namespace}/{}", serviceaccount.name);
        // The two say the same in every token that a cluster has issued.
        if claims.sub != format!("system:serviceaccount:{namespace}:{}", serviceaccount.name) {
            return Err(invalid(format!("the token's subject is not {account}")));
        }
        let may = self.accounts.get(&account).map(Vec::as_slice).unwrap_or_default();
        if may.iter().any(|named| named == service) {
            return Ok(());
        }
        let message = format!(
            "the service account {account} may not join as `{service}`: see control.kubernetes.accounts"
        );
        Err(Error::new(Code::PermissionDenied, ErrorReason::JoinNotAllowed, message))
    }

    async fn claims(&self, token: &str, now: Timestamp) -> Result<Claims, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(format!("the token has more than {TOKEN_BYTES_MAX} bytes")));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|error| invalid(format!("the token is malformed: {error}")))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid(format!("the token is signed with {:?}", header.alg)));
        }
        let kid = header.kid.ok_or_else(|| invalid("the token does not name its key"))?;
        let key = self.keys.find(&kid).await.map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "the cluster's keys can't be read");
            let message = "the cluster's keys can't be read now; try again";
            Error::unavailable(ErrorReason::StoreUnavailable, message)
        })?;
        let key = key.ok_or_else(|| invalid("the token's key is none of the cluster's"))?;
        let key = DecodingKey::from_jwk(&key)
            .map_err(|error| invalid(format!("the token's key can't be used: {error}")))?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared here, with the clock that everything is compared with.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| invalid(refusal(error.kind(), &self.issuer, &self.audience)))?
            .claims;
        let skew = i64::try_from(mesh::identity::CLOCK_SKEW_MAX.as_secs()).unwrap_or_default();
        let now = now.as_second();
        if now >= claims.exp.saturating_add(skew) {
            return Err(invalid("the token has run out"));
        }
        if claims.nbf.is_some_and(|from| now < from.saturating_sub(skew)) {
            return Err(invalid("the token is not valid yet"));
        }
        Ok(claims)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's list is open")]
fn refusal(kind: &ErrorKind, issuer: &str, audience: &str) -> String {
    match kind {
        ErrorKind::InvalidSignature => "the token's signature is not the cluster's".to_owned(),
        ErrorKind::InvalidIssuer => format!("the token is not issued by {issuer}"),
        ErrorKind::InvalidAudience => format!("the token's audience is not {audience}"),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token does not say `{claim}`"),
        _ => "the token is not one of a service account".to_owned(),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::unauthenticated(ErrorReason::KubernetesTokenInvalid, message)
}
