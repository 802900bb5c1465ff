//! What a call passes before its handler, in order, and the only place that says so:
//!
//! tap → authorization → deadline → rate limits → concurrency → principal → handler → observe.
//!
//! All of it is decided from the request's head, so that what is refused is refused before a message is read. Nothing here
//! takes a lock; without a policy it is a few atomic operations and one look into a map.

use super::Access;
use super::Shared;
use super::authorize;
use super::authorize::Asked;
use super::body::ServerBody;
use super::body::code_of;
use super::head_start::HeadStart;
use super::principal;
use super::rate_limits;
use super::rate_limits::Counted;
use super::record::Record;
use super::request_body::RequestBody;
use super::rules::Rules;
use super::tap::Arrival;
use super::tap::TappedBody;
use crate::channel::DEADLINE_DEFAULT;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use crate::inherited::Inherited;
use crate::instance_probe;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::grpc_service;
use crate::metrics::Event;
use crate::metrics::PairMetrics;
use crate::policy::Criticality;
use crate::within::within;
use futures_util::future::Either;
use http::HeaderMap;
use http::HeaderName;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use std::future::Future;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

/// By which a server says when to try again, in milliseconds (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// When a call that was shed may be made again: what is full now has changed after a few windows.
const SHED_RETRY_AFTER: Duration = Duration::from_millis(500);

/// The header of a deadline. A name, not a text, which would be parsed at each look.
static TIMEOUT: HeaderName = HeaderName::from_static(Deadline::HEADER);

/// What a server lets in, before it is known who calls.
pub(super) struct Admission {
    pub(super) shared: Arc<Shared>,
    pub(super) routes: Routes,
}

impl Admission {
    pub(super) fn of_peer(self, peer: PeerIdentity) -> Admitted {
        let Self { shared, routes } = self;
        let metrics = shared.metrics_of(&peer.service);
        let caller_index = shared.caller_index(&peer.service);
        Admitted { shared, routes, peer, caller_index, metrics, closed: Arc::default() }
    }
}

/// The calls of one connection.
pub(super) struct Admitted {
    shared: Arc<Shared>,
    routes: Routes,
    peer: PeerIdentity,
    /// Its place among the callers.
    caller_index: usize,
    metrics: Arc<PairMetrics>,
    /// What the peer has proved is over, and it was told to leave.
    closed: Arc<AtomicBool>,
}

impl Admitted {
    /// Makes a call, up to the beginning of its response.
    pub(super) fn call(
        &self,
        method: &'static Method,
        request: http::Request<RequestBody>,
    ) -> impl Future<Output = http::Response<ServerBody>> + Send + 'static {
        if instance_probe::is_asked(&request) {
            return Either::Left(ready(instance_probe::response(&self.shared.instance)));
        }
        if self.closed.load(Ordering::Relaxed) {
            let message = "the caller's certificate has run out: it has to connect anew";
            let error = rpc::Error::unavailable(ErrorReason::NoEndpoint, message);
            return Either::Left(ready(Status::from(error).into_http()));
        }
        let started = Instant::now();
        let mut record = Record {
            shared: Arc::clone(&self.shared),
            metrics: Arc::clone(&self.metrics),
            method,
            started,
            tap: None,
            permit: None,
            finished: false,
        };
        record.tap = self.shared.taps.begin(&Arrival {
            caller: self.peer.service.as_str(),
            method,
            path: request.uri().path(),
            headers: request.headers(),
            now: started,
        });
        match self.admit(request, &mut record) {
            Err(error) => Either::Left(ready(refusal(error, record))),
            Ok((request, inherited)) => {
                let request = match record.tap.clone() {
                    None => request.map(Body::new),
                    Some(call) => request.map(|body| Body::new(TappedBody { body, call })),
                };
                Either::Right(handle(self.routes.clone(), request, inherited, record))
            }
        }
    }

    /// Whether a call is to be begun where it comes in.
    pub(super) fn head_start(&self, method: &Method) -> Option<HeadStart<'_>> {
        self.shared.head_starts.of(method)
    }

    pub(super) fn role(&self) -> Role {
        self.peer.role
    }

    /// To be set when no more calls are to be taken.
    pub(super) fn closed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.closed)
    }

    /// How old the policy lets a connection of a caller become.
    pub(super) fn connection_age_max(&self) -> Option<Duration> {
        self.shared.rules().policy.connections.age_max
    }

    fn admit(
        &self,
        mut request: http::Request<RequestBody>,
        record: &mut Record,
    ) -> Result<(http::Request<RequestBody>, Inherited), rpc::Error> {
        let (method, now) = (record.method, record.started);
        let since = now.saturating_duration_since(self.shared.started);
        let path = request.uri().path();
        let grpc_service = grpc_service(path).ok_or_else(|| {
            let message = "the path names no gRPC method";
            rpc::Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, message)
        })?;
        let rules = self.shared.rules();

        self.authorize(&rules, &Asked { peer: &self.peer, method, path, grpc_service }, record)?;

        let deadline = deadline(request.headers(), method, now)?;
        if deadline.is_some_and(|deadline| deadline.left(now).is_zero()) {
            record.count(Event::Expired);
            return Err(rpc::Error::deadline_exceeded());
        }

        let stated = self.criticality(&rules, path, request.headers());
        // What tells how a process is must be there when nothing else is.
        if !Access::is_for_operation(grpc_service) {
            self.limit_rate(&rules, method, path, request.headers(), since, record)?;
            self.limit_concurrency(&rules, stated, record)?;
        }

        let principal = principal::take(request.headers_mut(), &self.peer)?;
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        if let Some(deadline) = deadline {
            extensions.insert(deadline);
        }
        if let Some(principal) = principal {
            extensions.insert(principal);
        }
        if let Some(requires) = method.requires {
            extensions.insert(requires);
        }
        Ok((request, Inherited { deadline, criticality: stated }))
    }

    fn authorize(
        &self,
        rules: &Rules,
        asked: &Asked<'_>,
        record: &Record,
    ) -> Result<(), rpc::Error> {
        let now = record.started.saturating_duration_since(self.shared.started);
        let authorizations = &rules.policy.authorizations;
        let decision = authorize::decide(&self.shared.access, authorizations, asked);
        for rule in decision.would_change {
            if decision.denied.is_none() {
                record.count(Event::DeniedDryRun);
            }
            self.shared.reports.would_change(rule, asked, now);
        }
        let Some(why) = decision.denied else { return Ok(()) };
        record.count(Event::Denied);
        self.shared.reports.denied(why, asked, now);
        Err(why.error(asked))
    }

    fn limit_rate(
        &self,
        rules: &Rules,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now: Duration,
        record: &Record,
    ) -> Result<(), rpc::Error> {
        if rules.limits.is_empty() {
            return Ok(());
        }
        let caller = self.peer.service.as_str();
        let call = Counted { caller, caller_index: self.caller_index, method, path, headers };
        let limits = rules.limits.iter().map(|limit| &**limit);
        rate_limits::take(limits, &call, now).map_err(|(limit, wait)| {
            record.count(Event::RateLimited);
            rate_limits::error(limit, caller, wait)
        })
    }

    fn limit_concurrency(
        &self,
        rules: &Rules,
        criticality: Option<Criticality>,
        record: &mut Record,
    ) -> Result<(), rpc::Error> {
        let criticality = criticality.unwrap_or(Criticality::Normal);
        let policy = &rules.policy.concurrency;
        let permit = self.shared.limiter.admit(record.method, criticality, policy);
        let permit = permit.map_err(|shed| {
            record.count(Event::Shed);
            let message = format!(
                "`{}` works on {} calls and takes {} of this criticality",
                self.shared.service, shed.in_flight, shed.limit
            );
            rpc::Error::overloaded(message, SHED_RETRY_AFTER)
        })?;
        record.permit = Some(permit);
        Ok(())
    }

    /// What the policy says of the call, else what its caller says; none if neither says anything.
    fn criticality(&self, rules: &Rules, path: &str, headers: &HeaderMap) -> Option<Criticality> {
        let policy = &rules.policy;
        let by_policy = match policy.routes.is_empty() {
            true => None,
            false => policy.route(path, headers, self.peer.service.as_str()).criticality,
        };
        let trusted = self.peer.role != Role::Anonymous;
        by_policy.or_else(|| Criticality::of_headers(headers).filter(|_| trusted))
    }
}

/// What the caller says; otherwise the default, for a unary call.
fn deadline(
    headers: &HeaderMap,
    method: &Method,
    now: Instant,
) -> Result<Option<Deadline>, rpc::Error> {
    let mut stated = headers.get_all(&TIMEOUT).iter();
    if let Some(value) = stated.next() {
        if stated.next().is_some() {
            return Err(rpc::Error::invalid(Deadline::HEADER, "must be there once"));
        }
        return Deadline::parse(value.to_str().unwrap_or_default(), now).map(Some);
    }
    let unary = method.requests == Messages::One && method.responses == Messages::One;
    Ok(unary.then_some(Deadline(now + DEADLINE_DEFAULT)))
}

/// The answer to a call that is not let in. One that says when to try again says it in the way that gRPC's retries read, too.
fn refusal(error: rpc::Error, record: Record) -> http::Response<ServerBody> {
    let pushback = error.retry_after;
    let status = Status::from(error);
    record.refused(&status);
    let mut response = status.into_http();
    if let Some(wait) = pushback {
        let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        response.headers_mut().insert(PUSHBACK, millis.into());
    }
    response
}

async fn handle(
    mut routes: Routes,
    request: http::Request<Body>,
    inherited: Inherited,
    mut record: Record,
) -> http::Response<ServerBody> {
    let deadline = inherited.deadline;
    let handling = inherited.scope(routes.call(request));
    let handled = match deadline {
        None => Some(handling.await),
        Some(deadline) => within(deadline, handling).await,
    };
    let Some(Ok(response)) = handled else {
        let status = Status::from(rpc::Error::deadline_exceeded());
        record.refused(&status);
        return status.into_http();
    };
    let (head, body) = response.into_parts();
    let body = match record.method.responses {
        Messages::One => {
            // The work is done; how fast its answer is read is the caller's business.
            record.worked(code_of(&head.headers).unwrap_or(Code::Ok));
            body
        }
        Messages::Stream => inherited.scope_body(body),
    };
    let body = ServerBody::new(body, &head.headers, deadline, record);
    http::Response::from_parts(head, body)
}
