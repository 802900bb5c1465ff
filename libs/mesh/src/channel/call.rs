//! The stack that every call passes, in order, and the only place that says so:
//!
//! deadline → route → fault → mirror → retry or hedge under a budget → subset → locality → pick → breaker → connection → observe.
//!
//! What a policy does not use costs a branch. How long a call may take depends on its route too, so the route is looked up
//! first, and the deadline is around everything after that.

use super::attempt::Attempt;
use super::attempt::Outcome;
use super::budget::Budget;
use super::endpoint::Endpoint;
use super::fault;
use super::flight::code_of;
use super::health::Verdict;
use super::hedge::Hedging;
use super::mirror::Original;
use super::payload::Payload;
use super::pick;
use super::pick::Choice;
use super::pick::Place;
use super::record::Record;
use super::retry;
use super::retry::Again;
use super::retry::Answer;
use super::retry::Waits;
use super::routes::Picked;
use super::routes::Route;
use super::shared::Shared;
use super::subset::Target;
use crate::inherited::Inherited;
use crate::methods::METHODS;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::Safety;
use crate::methods::grpc_service;
use crate::metrics::Event;
use crate::policy::Criticality;
use crate::policy::RoutePolicy;
use crate::traits::MethodTraits;
use crate::within::within;
use http::HeaderMap;
use http::HeaderName;
use http::request::Parts;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;
use tonic::body::Body;

/// How long a unary call may take if neither its caller nor the policy says.
pub(crate) const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// A name that is parsed once, not for each call.
const TIMEOUT: HeaderName = HeaderName::from_static(Deadline::HEADER);
/// How long a call waits for another attempt at most, whatever a server asks for.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Makes a call.
pub(super) async fn call(shared: &Arc<Shared>, request: http::Request<Body>) -> Answer {
    let (mut parts, body) = request.into_parts();
    rpc::trace::inject(&mut parts.headers);
    let started = Instant::now();
    let method = match parts.extensions.get::<MethodTraits>() {
        Some(told) => told.method(),
        None => METHODS.of_path(parts.uri.path()),
    };
    let record = Record { metrics: Arc::clone(&shared.unrouted), method, started, finished: false };
    let mut call = Call { shared, method, record, deadline: None };

    // Pinned where it is: an awaited call is first moved, and each of these is as large as all that it awaits.
    let answer = pin!(call.route(parts, body)).await;

    // Observe. A response that has begun is observed when its body ends.
    let Call { record, deadline, .. } = call;
    match answer {
        Ok(response) => Ok(match code_of(response.headers()) {
            None => response.map(|body| body.observed(record, deadline.map(|deadline| deadline.0))),
            Some(code) => {
                record.finish(code);
                response
            }
        }),
        Err(status) => {
            record.finish(status.code());
            Err(status)
        }
    }
}

/// A call on its way through the stack.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    method: &'static Method,
    record: Record,
    deadline: Option<Deadline>,
}

/// Where a call goes and on which terms.
#[derive(Clone, Copy)]
struct Terms<'a> {
    service: &'a str,
    route: &'a Arc<Route>,
    policy: &'a RoutePolicy,
    parts: &'a Parts,
}

impl Call<'_> {
    /// Route: the path names the service, and the service's policy says how the call is made.
    async fn route(&mut self, mut parts: Parts, body: Body) -> Answer {
        let Some(service) = grpc_service(parts.uri.path()) else {
            let message = "the path names no gRPC method";
            let error = rpc::Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, message);
            return Err(error.into());
        };
        let inherited = Inherited::here();
        let stated = stated(&parts, inherited, self.record.started)?;
        let route = match self.shared.route(service) {
            Some(route) => route,
            None => Box::pin(self.await_route(service, stated)).await?,
        };
        self.record.metrics = Arc::clone(&route.metrics);
        let policy = route.policy.route(parts.uri.path(), &parts.headers, &self.shared.caller);
        stamp(&mut parts.headers, policy, inherited);

        policy.counts.call();
        self.deadline = self.until(stated, policy);
        let terms = Terms { service, route: &route, policy, parts: &parts };
        let answer = pin!(self.within_deadline(terms, body)).await;
        if code(&answer).is_some_and(|code| Verdict::of(code) == Verdict::Failed) {
            policy.counts.failure();
        }
        answer
    }

    /// Deadline: one for all attempts; each sends what is left of it.
    async fn within_deadline(&mut self, terms: Terms<'_>, body: Body) -> Answer {
        let Some(deadline) = self.deadline else {
            return Box::pin(self.fault(terms, body)).await;
        };
        if deadline.0 <= self.record.started {
            return Err(rpc::Error::deadline_exceeded().into());
        }
        let answer = pin!(within(deadline, self.fault(terms, body))).await;
        answer.unwrap_or_else(|| Err(rpc::Error::deadline_exceeded().into()))
    }

    /// No instance of the service was ever heard of, so neither was its policy.
    async fn await_route(
        &self,
        service: &str,
        stated: Option<Deadline>,
    ) -> Result<Arc<Route>, Status> {
        let route = pick::route(self.shared, service, stated.map(|deadline| deadline.0)).await;
        if route.is_err() {
            self.record.count(Event::Unroutable);
            if stated.is_some_and(|deadline| deadline.left(Instant::now()).is_zero()) {
                return Err(rpc::Error::deadline_exceeded().into());
            }
        }
        route
    }

    /// The earlier of what was stated and what the policy says; otherwise the default, for a unary call.
    fn until(&self, stated: Option<Deadline>, policy: &RoutePolicy) -> Option<Deadline> {
        let default = Some(DEADLINE_DEFAULT).filter(|_| self.is_unary() && stated.is_none());
        let timeout = policy.timeout.or(default);
        let timed = timeout.map(|timeout| Deadline(self.record.started + timeout));
        stated.into_iter().chain(timed).min()
    }

    fn is_unary(&self) -> bool {
        self.method.requests == Messages::One && self.method.responses == Messages::One
    }

    /// Fault: what the policy does to calls on purpose, before anything is sent.
    async fn fault(&mut self, terms: Terms<'_>, body: Body) -> Answer {
        if let Some(fault) = &terms.policy.fault {
            let headers = &terms.parts.headers;
            Box::pin(fault::inject(fault, headers, &self.shared.faults, &self.record)).await?;
        }
        let payload = match self.method.requests {
            Messages::One => Payload::read(body, &self.shared.replays).await?,
            Messages::Stream => Payload::stream(body),
        };
        self.mirror(terms, &payload);
        pin!(self.retry(terms, payload)).await
    }

    /// Mirror: a copy that nobody waits for.
    fn mirror(&self, terms: Terms<'_>, payload: &Payload) {
        let Some(mirror) = &terms.policy.mirror else { return };
        let (true, Some(bytes)) = (self.is_unary(), payload.bytes()) else { return };
        if !fault::hits(mirror.share) {
            return;
        }
        let Terms { service, route, parts, .. } = terms;
        let original = Original { service, method: self.method, route, parts, bytes };
        let copied = self.shared.mirrors.copy(self.shared, mirror, &original);
        self.record.count(if copied { Event::Mirrored } else { Event::MirrorSkipped });
    }

    /// Retry or hedge: what was provably not processed, and what may be done twice, under a budget.
    async fn retry(&mut self, terms: Terms<'_>, mut payload: Payload) -> Answer {
        let Terms { service, route, policy, parts } = terms;
        let budget = &*route.budget;
        let target = Target::Split(&policy.split);
        let hash = pick::hash(&route.policy, &parts.headers);
        let choice = Choice { shared: self.shared, service, policy: &route.policy, target, hash };
        let attempt = Attempt { method: self.method, parts, policy, deadline: self.deadline };
        let hedge = policy.hedge.as_ref().filter(|_| self.method.safety == Safety::Repeatable);

        let mut tried = Vec::new();
        let mut waits = Waits::new(&policy.retry);
        let mut now = Instant::now();
        budget.deposit(now);
        // Subset, locality, pick and breaker: an endpoint that fails or is not connected is not picked. Connection: a stream of it is
        // reserved.
        let mut place: Place = match choice.try_pick(route, &tried, now) {
            Picked::Endpoint(endpoint, stream) => (endpoint, stream),
            Picked::Full | Picked::Unready | Picked::AllUnhealthy => {
                let place = Box::pin(self.await_place(&choice, &tried)).await?;
                now = Instant::now();
                place
            }
        };
        loop {
            if !Arc::ptr_eq(&self.record.metrics, &place.0.metrics) {
                self.record.metrics = Arc::clone(&place.0.metrics);
            }
            if route.is_panicking() {
                self.record.count(Event::Panic);
            }
            let mut outcome = match (hedge, payload.bytes()) {
                (Some(hedge), Some(bytes)) => {
                    let left = policy.retry.attempts_max.saturating_sub(tried.len());
                    let first = tried.is_empty();
                    let attempts_max = hedge.attempts_max;
                    let hedging = Hedging {
                        hedge,
                        attempt,
                        choice,
                        budget,
                        record: &self.record,
                        latency: hedge
                            .percentile
                            .and_then(|_| self.shared.latencies.of(self.method, now)),
                        attempts_max: if first { attempts_max } else { attempts_max.min(left) },
                    };
                    Box::pin(hedging.send(place, bytes, &mut tried)).await
                }
                (None, _) | (_, None) => {
                    tried.push(Arc::clone(&place.0));
                    let sending = payload.take().expect("what was sent once is not sent again");
                    pin!(attempt.send(place, sending, now)).await
                }
            };
            let Some(again) = retry::again(&outcome, self.method, &policy.retry) else {
                return retry::answer(outcome);
            };
            if let Outcome::Unprocessed { unsent: unsent @ Some(_), .. } = &mut outcome {
                unsent.take().into_iter().for_each(|unsent| payload.put_back(unsent));
            }
            let wait = waits.before(tried.len() + 1, again.pushback);
            // What no server looked at may go once more, whatever the policy says, as in gRPC (A6).
            let free = again.unprocessed && tried.len() == 1;
            let attempts_left =
                (free || tried.len() < policy.retry.attempts_max) && payload.is_there();
            if !attempts_left || !self.has_time_for(wait) || !self.may_retry(again, &tried, budget)
            {
                return retry::answer(outcome);
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            place = match Box::pin(self.await_place(&choice, &tried)).await {
                Ok(place) => place,
                // What a server said is worth more than that no other can be reached.
                Err(why) => {
                    let said = matches!(outcome, Outcome::Failed { .. });
                    return if said { retry::answer(outcome) } else { Err(why) };
                }
            };
            self.record.count(Event::Retry);
            now = Instant::now();
        }
    }

    async fn await_place(
        &self,
        choice: &Choice<'_>,
        tried: &[Arc<Endpoint>],
    ) -> Result<Place, Status> {
        let place = choice.pick(tried).await;
        if place.is_err() {
            self.record.count(Event::Unroutable);
        }
        place
    }

    /// Whether there would be time left for another attempt after a wait.
    fn has_time_for(&self, wait: Duration) -> bool {
        let left = self.deadline.map(|deadline| deadline.left(Instant::now()));
        wait <= RETRY_WAIT_MAX && left.is_none_or(|left| wait < left)
    }

    /// Whether the budget has another attempt. The first after one that no server looked at is free, as in gRPC (A6): nobody has more
    /// work with it.
    fn may_retry(&self, again: Again, tried: &[Arc<Endpoint>], budget: &Budget) -> bool {
        if again.unprocessed && tried.len() == 1 {
            return true;
        }
        let may = budget.withdraw(Instant::now());
        if !may {
            self.record.count(Event::BudgetExhausted);
        }
        may
    }
}

/// How a call ended, if that is known before its answer is read.
fn code(answer: &Answer) -> Option<Code> {
    match answer {
        Err(status) => Some(status.code()),
        Ok(response) => code_of(response.headers()).or_else(|| response.body().code()),
    }
}

/// What the caller's metadata says of the deadline, what it handed over, and what the call that it handles for has left: the earliest.
fn stated(parts: &Parts, inherited: Inherited, now: Instant) -> Result<Option<Deadline>, Status> {
    let header = match parts.headers.get(TIMEOUT) {
        None => None,
        Some(value) => Some(Deadline::parse(value.to_str().unwrap_or_default(), now)?),
    };
    let given = parts.extensions.get::<Deadline>().copied();
    Ok(header.into_iter().chain(given).chain(inherited.deadline).min())
}

/// Says how much the call matters: as the policy has it, as the caller says, or as the call that it is made for.
fn stamp(headers: &mut HeaderMap, policy: &RoutePolicy, inherited: Inherited) {
    let passed_on = inherited.criticality.filter(|_| !headers.contains_key(Criticality::HEADER));
    let criticality = policy.criticality.or(passed_on);
    if let Some(criticality) = criticality {
        headers.insert(Criticality::HEADER, criticality.header());
    }
}
