//! Services behind the edge that say what a test tells them to say, and remember what they were asked.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use auth::access_token::SigningKey;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::Stream;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use proto::analytics::v1 as analytics;
use proto::identity::v1 as identity;
use proto::links::v1 as links;
use rpc::Principal;
use rpc::WorkspaceId;
use tokio::sync::Semaphore;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::raw::Answer;

/// All that the doubles know and have seen.
#[derive(Default)]
pub(super) struct State {
    /// What (domain, slug) leads to, and its version.
    pub(super) routes: HashMap<(String, String), (Option<links::Route>, i64)>,
    /// Link domains, and whether they tell slugs apart by case.
    pub(super) domains: HashMap<String, bool>,
    /// The workspace that all calls are about.
    pub(super) workspace: Option<WorkspaceId>,
    /// Valid keys and their versions.
    pub(super) keys: HashMap<String, (Principal, i64)>,
    /// While set, the resolver and `identity` can't answer.
    pub(super) is_away: bool,
    /// How old the resolver's reads claim to be.
    pub(super) read_age_seconds: i64,
    pub(super) resolves: usize,
    pub(super) authentications: usize,
    /// What came with the latest call of a public method.
    pub(super) calls: Vec<(MetadataMap, Option<Principal>)>,
    /// What a watch says before it ends, or fails.
    pub(super) clicks: Vec<Result<analytics::WatchClicksResponse, Status>>,
    /// While set, a watch does not end by itself.
    pub(super) watches_last: bool,
    /// The `etag` of every link, if they have one.
    pub(super) link_etag: String,
    /// What `CountClicks` fails with.
    pub(super) failure: Option<Status>,
    /// What is answered instead, byte by byte, to calls of the public services.
    pub(super) raw: Option<Answer>,
    /// How many pieces of that were taken.
    pub(super) raw_pieces: usize,
    /// The keys of access tokens that are published, if other than the one that `identity` signs with.
    pub(super) published: Option<Vec<identity::JsonWebKey>>,
    pub(super) publications: usize,
}

/// The doubles, under every service's name.
#[derive(Clone)]
pub(super) struct Doubles {
    pub(super) state: Arc<Mutex<State>>,
    /// Each call of `GetLink` takes one of these; none are left while a test holds them.
    pub(super) gate: Arc<Semaphore>,
    /// Calls of `GetLink` and watches that are under way.
    under_way: Arc<AtomicUsize>,
    /// As for `GetLink`, before the keys of access tokens are told.
    pub(super) keys_gate: Arc<Semaphore>,
    /// As for `GetLink`, after an answer of the resolver was made up and before it is given.
    pub(super) resolve_gate: Arc<Semaphore>,
    /// What `identity` signs access tokens with, as PKCS#8.
    signing_key: Arc<Vec<u8>>,
}

impl Doubles {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            under_way: Arc::default(),
            keys_gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            resolve_gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            signing_key: Arc::new(
                Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
                    .expect("entropy")
                    .as_ref()
                    .to_vec(),
            ),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// How many calls of `GetLink` and watches are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// What `identity` signs with.
    pub(super) fn signing_key(&self) -> SigningKey {
        SigningKey::from_pkcs8(self.key_id(), &self.signing_key)
    }

    /// Its public half, as it is published.
    pub(super) fn published_key(&self) -> identity::JsonWebKey {
        identity::JsonWebKey {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: self.public_key(),
            kid: self.key_id(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
        }
    }

    fn public_key(&self) -> String {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.signing_key);
        BASE64_URL_SAFE_NO_PAD.encode(pair.expect("it was made").public_key().as_ref())
    }

    /// Of no two keys the same.
    fn key_id(&self) -> String {
        self.public_key()[..8].to_owned()
    }

    fn called<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let principal = request.extensions().get::<Principal>().cloned();
        self.state().calls.push((request.metadata().clone(), principal));
        let workspace = self.state().workspace;
        Principal::admitted(request, workspace).map(|_| ()).map_err(Status::from)
    }

    fn answer_or_away(&self) -> Result<(), Status> {
        if self.state().is_away {
            return Err(Status::internal("told to fail"));
        }
        Ok(())
    }
}

/// A call that is under way until this is dropped.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[tonic::async_trait]
impl links::resolver_service_server::ResolverService for Doubles {
    async fn resolve(
        &self,
        request: Request<links::ResolveRequest>,
    ) -> Result<Response<links::ResolveResponse>, Status> {
        let request = request.into_inner();
        let answer = {
            let mut state = self.state();
            state.resolves += 1;
            let case_sensitive = state.domains.get(&request.domain).copied();
            let slug = match case_sensitive {
                Some(true) => request.slug,
                Some(false) | None => request.slug.to_lowercase(),
            };
            let found = state.routes.get(&(request.domain, slug.clone())).cloned();
            let (route, version) = found.unwrap_or((None, 0));
            let age = jiff::SignedDuration::from_secs(state.read_age_seconds);
            links::ResolveResponse {
                route,
                version,
                read_time: Some(rpc::time::to_proto(now() - age)),
                normalized_slug: slug,
                domain_known: case_sensitive.is_some(),
                case_sensitive: case_sensitive.unwrap_or_default(),
            }
        };
        self.resolve_gate.acquire().await.expect("open").forget();
        self.answer_or_away()?;
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl identity::authentication_service_server::AuthenticationService for Doubles {
    async fn authenticate(
        &self,
        request: Request<identity::AuthenticateRequest>,
    ) -> Result<Response<identity::AuthenticateResponse>, Status> {
        self.state().authentications += 1;
        self.answer_or_away()?;
        let found = self.state().keys.get(&request.into_inner().api_key).cloned();
        let (principal, version) = match found {
            Some((principal, version)) => (Some(principal), version),
            None => (None, 0),
        };
        Ok(Response::new(identity::AuthenticateResponse {
            principal: principal.map(|principal| principal.to_proto()),
            expire_time: None,
            read_time: Some(rpc::time::to_proto(now())),
            version,
        }))
    }

    async fn get_user_grants(
        &self,
        _request: Request<identity::GetUserGrantsRequest>,
    ) -> Result<Response<identity::GetUserGrantsResponse>, Status> {
        self.answer_or_away()?;
        // Nobody here is a member of anything.
        Ok(Response::new(identity::GetUserGrantsResponse {
            read_time: Some(rpc::time::to_proto(now())),
            ..identity::GetUserGrantsResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl identity::json_web_keys_service_server::JsonWebKeysService for Doubles {
    async fn get_json_web_keys(
        &self,
        _: Request<identity::GetJsonWebKeysRequest>,
    ) -> Result<Response<identity::GetJsonWebKeysResponse>, Status> {
        self.state().publications += 1;
        self.keys_gate.acquire().await.expect("open").forget();
        self.answer_or_away()?;
        let keys = self.state().published.clone();
        let keys = keys.unwrap_or_else(|| vec![self.published_key()]);
        Ok(Response::new(identity::GetJsonWebKeysResponse { keys }))
    }
}

#[tonic::async_trait]
impl links::links_service_server::LinksService for Doubles {
    async fn get_link(
        &self,
        request: Request<links::GetLinkRequest>,
    ) -> Result<Response<links::GetLinkResponse>, Status> {
        self.called(&request)?;
        let _under_way = self.begin();
        self.gate.acquire().await.expect("open").forget();
        let name = request.into_inner().name;
        if name.ends_with("missing") {
            return Err(rpc::Error::not_found(name).into());
        }
        let etag = self.state().link_etag.clone();
        let link = links::Link { name, etag, ..links::Link::default() };
        Ok(Response::new(links::GetLinkResponse { link: Some(link) }))
    }

    async fn create_link(
        &self,
        request: Request<links::CreateLinkRequest>,
    ) -> Result<Response<links::CreateLinkResponse>, Status> {
        self.called(&request)?;
        Ok(Response::new(links::CreateLinkResponse { link: request.into_inner().link }))
    }

    async fn batch_create_links(
        &self,
        _: Request<links::BatchCreateLinksRequest>,
    ) -> Result<Response<links::BatchCreateLinksResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn list_links(
        &self,
        _: Request<links::ListLinksRequest>,
    ) -> Result<Response<links::ListLinksResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    /// Every change makes the `etag` one character longer.
    async fn update_link(
        &self,
        request: Request<links::UpdateLinkRequest>,
    ) -> Result<Response<links::UpdateLinkResponse>, Status> {
        self.called(&request)?;
        let mut link = request.into_inner().link.unwrap_or_default();
        let mut state = self.state();
        if link.name.ends_with("missing") {
            return Err(rpc::Error::not_found(link.name).into());
        }
        if link.etag == "taken" {
            return Err(rpc::Error::request_id_reused().into());
        }
        if !link.etag.is_empty() && link.etag != state.link_etag {
            return Err(rpc::Error::etag_mismatch().into());
        }
        state.link_etag.push('x');
        link.etag = state.link_etag.clone();
        Ok(Response::new(links::UpdateLinkResponse { link: Some(link) }))
    }

    async fn delete_link(
        &self,
        request: Request<links::DeleteLinkRequest>,
    ) -> Result<Response<links::DeleteLinkResponse>, Status> {
        self.called(&request)?;
        let etag = request.into_inner().etag;
        if !etag.is_empty() && etag != self.state().link_etag {
            return Err(rpc::Error::etag_mismatch().into());
        }
        Ok(Response::new(links::DeleteLinkResponse {}))
    }
}

type Clicks = Pin<Box<dyn Stream<Item = Result<analytics::WatchClicksResponse, Status>> + Send>>;

#[tonic::async_trait]
impl analytics::analytics_service_server::AnalyticsService for Doubles {
    async fn count_clicks(
        &self,
        _: Request<analytics::CountClicksRequest>,
    ) -> Result<Response<analytics::CountClicksResponse>, Status> {
        let failure = self.state().failure.clone();
        Err(failure.unwrap_or_else(|| Status::unimplemented("not in these tests")))
    }

    async fn list_click_intervals(
        &self,
        _: Request<analytics::ListClickIntervalsRequest>,
    ) -> Result<Response<analytics::ListClickIntervalsResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn break_down_clicks(
        &self,
        _: Request<analytics::BreakDownClicksRequest>,
    ) -> Result<Response<analytics::BreakDownClicksResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    type WatchClicksStream = Clicks;

    async fn watch_clicks(
        &self,
        request: Request<analytics::WatchClicksRequest>,
    ) -> Result<Response<Clicks>, Status> {
        self.called(&request)?;
        let token = request.into_inner().resume_token;
        let resumed = analytics::WatchClicksResponse { click: None, resume_token: token };
        let clicks = std::mem::take(&mut self.state().clicks);
        // What it was asked to resume from comes first, if it was asked.
        let first = (!resumed.resume_token.is_empty()).then_some(Ok(resumed));
        let all = futures_util::stream::iter(first.into_iter().chain(clicks));
        if self.state().watches_last {
            let under_way = self.begin();
            let lasting = all.chain(futures_util::stream::poll_fn(move |_| {
                let _ = &under_way;
                std::task::Poll::Pending
            }));
            return Ok(Response::new(lasting.boxed()));
        }
        Ok(Response::new(all.boxed()))
    }
}

#[tonic::async_trait]
impl analytics::salts_service_server::SaltsService for Doubles {
    async fn get_salts(
        &self,
        _: Request<analytics::GetSaltsRequest>,
    ) -> Result<Response<analytics::GetSaltsResponse>, Status> {
        let today = i32::try_from(now().as_second() / 86_400).expect("before the year 5,000,000");
        let salts = [today - 1, today, today + 1];
        let salts = salts.map(|day| analytics::Salt { day, key: vec![7; 16] });
        Ok(Response::new(analytics::GetSaltsResponse { salts: salts.into() }))
    }
}
