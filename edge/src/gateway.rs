//! What every API call needs, whatever its protocol.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::request::Parts;
use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use rpc::Error;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tower::ServiceExt as _;

use crate::contract::Contracts;
use crate::cors::Cors;
use crate::grants::Grants;
use crate::health;
use crate::keys;
use crate::keys::Keys;
use crate::limits::Charge;
use crate::limits::Client;
use crate::limits::Limits;
use crate::limits::Verdict;
use crate::protocols::Backend;
use crate::protocols::Codings;
use crate::protocols::Method;
use crate::proved::Proved;
use crate::statuses;
use crate::tokens;
use crate::tokens::Tokens;
use crate::upstream;

/// The way from clients to services. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) mesh: mesh::Mesh,
    pub(crate) keys: Keys,
    pub(crate) tokens: Tokens,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) body_bytes_max: usize,
    pub(crate) stream_bytes_max: u64,
    pub(crate) cors: Cors,
    pub(crate) contracts: Contracts,
    /// Health, which the edge answers itself, as it does reflection.
    pub(crate) health: Routes,
    /// Cancelled when the edge stops: streams end then, which would otherwise hold the stop for as long as it may take.
    pub(crate) leaving: CancellationToken,
}

impl Gateway {
    /// The principal of whoever sent this head, whose limits have room for it; none for a method that does not ask.
    ///
    /// An address is charged before anything is proved, unless these credentials were found good here before: that is a look
    /// into a table, and nobody's guess. What turns out to be good is given back, and what turns out to be good no more is
    /// charged then, so that an address pays for all that fails and for nothing else.
    async fn principal(
        &self,
        method: &Method,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Option<HeaderValue>, Status> {
        if health::is_health(&method.path) && !method.server_streams {
            // Whether anyone is there is asked most when too much is asked. Who wants to be told for an hour can be told later.
            return Ok(None);
        }
        let client = head.extensions.get::<Client>();
        let client = client.ok_or_else(|| Error::internal(&"a request without its client"))?;
        let service = method.service();
        if !method.asks_who() {
            Box::pin(self.charge(client, Some(service), now)).await?;
            return Ok(None);
        }
        let credentials = Credentials::of(&head.headers);
        if let Some((proved, verdict)) = self.known(&credentials, service, now) {
            let_in(client, verdict)?;
            return Ok(Some(proved.metadata));
        }
        // On the heap: it asks others, and is larger than all that an answer needs where nobody is asked.
        Box::pin(self.asked(credentials, service, client, now)).await
    }

    /// The sender and what its limits say, where nobody need be asked.
    fn known(
        &self,
        credentials: &Credentials<'_>,
        service: &str,
        now: Timestamp,
    ) -> Option<(Proved, Verdict)> {
        let Credentials::Key(key) = credentials else { return None };
        let proved = self.keys.peek(key, now.as_microsecond())?;
        let verdict = self.limits.caller_at_once(&proved, service)?;
        Some((proved, verdict))
    }

    async fn asked(
        &self,
        credentials: Credentials<'_>,
        service: &str,
        client: &Client,
        now: Timestamp,
    ) -> Result<Option<HeaderValue>, Status> {
        let charge = if self.knows(&credentials, now) {
            None
        } else {
            Some(self.charge(client, None, now).await?)
        };
        let proved = match self.prove(credentials, now).await {
            Ok(proved) => proved,
            Err(refused) => {
                if charge.is_none() {
                    self.charge(client, None, now).await?;
                }
                return Err(refused);
            }
        };
        let (verdict, ()) = tokio::join!(self.limits.caller(&proved, service), async {
            if let Some(charge) = charge {
                self.limits.give_back(charge).await;
            }
        });
        let_in(client, verdict)?;
        Ok(Some(proved.metadata))
    }

    async fn charge(
        &self,
        client: &Client,
        service: Option<&str>,
        now: Timestamp,
    ) -> Result<Charge, Status> {
        let charged = self.limits.address(client.address, service, now.as_microsecond());
        let (verdict, charge) = charged.await;
        let_in(client, verdict)?;
        Ok(charge)
    }

    /// Whether these credentials were found good here before, and may be so still.
    fn knows(&self, credentials: &Credentials<'_>, now: Timestamp) -> bool {
        match credentials {
            Credentials::Token(token) => self.tokens.knows(token, now.as_second()),
            Credentials::Key(key) => self.keys.knows(key, now.as_microsecond()),
            Credentials::None(_) => false,
        }
    }

    async fn prove(&self, credentials: Credentials<'_>, now: Timestamp) -> Result<Proved, Status> {
        let now_micros = now.as_microsecond();
        match credentials {
            Credentials::Token(token) => {
                let who = self.tokens.signed_in(&token, now.as_second()).await?;
                self.grants.proved(who.user, who.session, now_micros).await
            }
            Credentials::Key(key) => self.keys.proved(&key, now_micros).await,
            Credentials::None(why) => Err(why.into()),
        }
    }
}

/// What a request proves its caller by, hashed once.
enum Credentials<'h> {
    Token(tokens::Presented<'h>),
    Key(keys::Presented),
    /// Neither, and why.
    None(Error),
}

impl<'h> Credentials<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        match tokens::presented(headers) {
            Some(token) => Self::Token(token),
            None => keys::presented(headers).map_or_else(Self::None, Self::Key),
        }
    }
}

/// Has the answer say how its client stands with its limits, and goes on if they have room.
fn let_in(client: &Client, verdict: Verdict) -> Result<(), Error> {
    let checked = verdict.check();
    client.tell(verdict);
    checked
}

impl Backend for Gateway {
    const REFUSAL: fn(Status) -> Status = statuses::fit;

    fn message_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    fn codings(&self) -> Codings {
        // Services are near: what they would save on the way they would spend on the work.
        Codings::NONE
    }

    fn timeout_max(&self, method: &Method) -> Option<Duration> {
        Some(upstream::timeout_max(method))
    }

    /// Nothing of a client's own metadata passes, so that nothing can pass for ours: no `linkmesh-*`, no `grpc-internal-*`, no
    /// forwarding header.
    async fn admit(&self, method: &Method, head: &Parts) -> Result<HeaderMap, Status> {
        let principal = self.principal(method, head, Timestamp::now()).await?;
        Ok(upstream::metadata(principal, &head.extensions))
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        if health::local_service(path).is_some() {
            let mut local = match health::is_health(path) {
                true => self.health.clone(),
                false => self.contracts.current().reflection.clone(),
            };
            return Ok(local.call(request).await.unwrap_or_else(|never| match never {}));
        }
        let mut mesh = self.mesh.clone();
        Ok(statuses::answer(mesh.ready().await?.call(request).await?))
    }

    fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }
}

/// How a stream ends that its client did not end: it can be had again elsewhere, from where it was.
pub(crate) fn leaving() -> Status {
    let why =
        "this edge is stopping; call again, and with the last resume token where there is one";
    Error::unavailable(ErrorReason::NoEndpoint, why).into()
}
