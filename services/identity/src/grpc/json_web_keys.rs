//! JsonWebKeysService: what access tokens can be checked with, read from the primary.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proto::identity::v1::json_web_keys_service_server::JsonWebKeysService;
use proto::identity::v1::{GetJsonWebKeysRequest, GetJsonWebKeysResponse, JsonWebKey};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::now_in_micros;
use super::users::answered;
use crate::store::Store;

/// How old an answer may be: anyone may ask, and the primary is for others too.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct JsonWebKeys {
    store: Store,
    /// Held while one asks, so that others wait for its answer.
    last: Arc<Mutex<Option<(Instant, GetJsonWebKeysResponse)>>>,
}

impl JsonWebKeys {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, last: Arc::default() }
    }
}

#[tonic::async_trait]
impl JsonWebKeysService for JsonWebKeys {
    async fn get_json_web_keys(
        &self,
        _: Request<GetJsonWebKeysRequest>,
    ) -> Result<Response<GetJsonWebKeysResponse>, Status> {
        let mut last = self.last.lock().await;
        if let Some((at, response)) = &*last
            && at.elapsed() < AGE_MAX
        {
            return Ok(Response::new(response.clone()));
        }
        let asked = Instant::now();
        let keys = self.store.signing_keys(now_in_micros()).await;
        let response = keys.map(|keys| GetJsonWebKeysResponse {
            keys: keys
                .into_iter()
                .map(|key| JsonWebKey {
                    kty: "OKP".to_owned(),
                    crv: "Ed25519".to_owned(),
                    x: BASE64_URL_SAFE_NO_PAD.encode(key.public_key),
                    kid: key.kid,
                    alg: "EdDSA".to_owned(),
                    r#use: "sig".to_owned(),
                })
                .collect(),
        });
        if let Ok(response) = &response {
            *last = Some((asked, response.clone()));
        }
        answered(response)
    }
}
