//! The stack that every call passes, in order, and the only place that says so:
//!
//! deadline → route → retry under a budget → pick → breaker → connection → observe.
//!
//! Policy (faults, mirrors, hedges, subsets, zones) has its place in the same order: fault and mirror after the route, hedge with
//! the retry, subset and locality before the pick.

use super::attempt::Outcome;
use super::attempt::Pushback;
use super::attempt::attempt;
use super::body::Body;
use super::connection::Stream;
use super::endpoint::Endpoint;
use super::flight::Flight;
use super::flight::code_of;
use super::payload::Payload;
use super::record::Record;
use super::routes::Picked;
use super::routes::Selection;
use super::shared::Shared;
use crate::backoff::Backoff;
use crate::inherited::Inherited;
use crate::methods::METHODS;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::Safety;
use crate::methods::grpc_service;
use crate::metrics::Event;
use http::request::Parts;
use proto::common::v1::ErrorReason;
use rpc::Deadline;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Status;

/// How long a unary call may take if its caller says nothing.
pub(crate) const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How long a call waits for an endpoint, deadline permitting: longer than one that restarts is away from its peers.
const ENDPOINT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often a call is sent at most.
const ATTEMPTS_MAX: usize = 5;
/// The waits between attempts.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

type Response = http::Response<Body>;

/// Makes a call.
pub(super) async fn call(
    shared: Arc<Shared>,
    request: http::Request<tonic::body::Body>,
) -> Result<Response, Status> {
    let (mut parts, body) = request.into_parts();
    rpc::trace::inject(&mut parts.headers);
    let started = Instant::now();
    let method = METHODS.of_path(parts.uri.path());
    let record = Record { metrics: Arc::clone(&shared.unrouted), method, started, finished: false };
    let mut call = Call { shared: &shared, method, record, deadline: None, tried: Vec::new() };

    // Deadline. One for all attempts; each sends what is left of it.
    let outcome = match deadline(&parts, method, started) {
        Err(status) => Err(status),
        Ok(None) => call.route(parts, body).await,
        Ok(Some(deadline)) if deadline.0 <= started => Err(rpc::Error::deadline_exceeded().into()),
        Ok(Some(deadline)) => {
            call.deadline = Some(deadline);
            tokio::time::timeout_at(deadline.0.into(), call.route(parts, body))
                .await
                .unwrap_or_else(|_| Err(rpc::Error::deadline_exceeded().into()))
        }
    };

    // Observe. A response that has begun is observed when its body ends.
    let Call { record, deadline, .. } = call;
    match outcome {
        Ok(response) => Ok(observed(response, record, deadline)),
        Err(status) => {
            record.finish(status.code());
            Err(status)
        }
    }
}

fn observed(response: Response, record: Record, deadline: Option<Deadline>) -> Response {
    if let Some(code) = code_of(response.headers()) {
        record.finish(code);
        return response;
    }
    response.map(|body| body.observed(record, deadline.map(|deadline| deadline.0)))
}

/// The earliest of what the caller's metadata and its own caller's deadline say; otherwise the default, for a unary call.
fn deadline(parts: &Parts, method: &Method, now: Instant) -> Result<Option<Deadline>, Status> {
    let stated = match parts.headers.get(Deadline::HEADER) {
        None => None,
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            Some(Deadline::parse(text, now).map_err(Status::from)?)
        }
    };
    let given = parts.extensions.get::<Deadline>().copied();
    let inherited = Inherited::here().deadline;
    let unary = method.requests == Messages::One && method.responses == Messages::One;
    let default = unary.then_some(Deadline(now + DEADLINE_DEFAULT));
    Ok(stated.into_iter().chain(given).chain(inherited).min().or(default))
}

struct Call<'a> {
    shared: &'a Shared,
    method: &'static Method,
    record: Record,
    deadline: Option<Deadline>,
    /// Endpoints that this call was sent to.
    tried: Vec<Arc<Endpoint>>,
}

/// What to do after an attempt.
enum Next {
    Return(Result<Response, Status>),
    /// Try again, after what the server asked for; and what to answer if that can't be.
    Retry(Pushback, Result<Response, Status>),
}

impl Call<'_> {
    /// Route: the path names the service.
    async fn route(&mut self, parts: Parts, body: tonic::body::Body) -> Result<Response, Status> {
        let Some(service) = grpc_service(parts.uri.path()) else {
            let message = "the path names no gRPC method";
            return Err(
                rpc::Error::new(Code::Unimplemented, ErrorReason::MethodUnknown, message).into()
            );
        };
        let payload = match self.method.requests {
            Messages::One => Payload::read(body).await?,
            Messages::Stream => Payload::stream(body),
        };
        self.retry(service, &parts, payload).await
    }

    /// Retry: what was provably not processed, and what may be done twice, under a budget.
    async fn retry(
        &mut self,
        service: &str,
        parts: &Parts,
        mut payload: Payload,
    ) -> Result<Response, Status> {
        let mut backoff = Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1);
        for number in 1..=ATTEMPTS_MAX {
            let (endpoint, stream) = self.pick(service).await?;
            self.record.metrics = Arc::clone(&endpoint.metrics);
            self.deposit_or_count(service, number, &endpoint);

            // Breaker: an endpoint without a working connection was not picked. Connection: the stream that was reserved.
            let deadline = self.deadline.map(|deadline| deadline.0);
            let flight = Flight::begin(Arc::clone(&endpoint), stream, Instant::now(), deadline);
            let outcome = attempt(flight, self.method, parts, &mut payload, self.deadline).await;

            let (pushback, answer) = match self.next(outcome) {
                Next::Return(answer) => return answer,
                Next::Retry(pushback, answer) => (pushback, answer),
            };
            self.tried.push(endpoint);
            if number == ATTEMPTS_MAX || !payload.is_there() || !self.may_retry(service) {
                return answer;
            }
            let wait = match pushback {
                Pushback::After(wait) => wait,
                // Another endpoint is tried at once, and those who were refused together spread after that.
                Pushback::None | Pushback::Never if number == 1 => Duration::ZERO,
                Pushback::None | Pushback::Never => backoff.next(),
            };
            if self.deadline.is_some_and(|deadline| deadline.left(Instant::now()) <= wait) {
                return answer;
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        unreachable!("the last attempt returns");
    }

    fn next(&self, outcome: Outcome) -> Next {
        let repeatable = self.method.safety == Safety::Repeatable;
        match outcome {
            Outcome::Begun(response) => Next::Return(Ok(response)),
            Outcome::Unprocessed(status) => Next::Retry(Pushback::None, Err(status)),
            Outcome::Lost(status) if repeatable && status.code() == Code::Unavailable => {
                Next::Retry(Pushback::None, Err(status))
            }
            Outcome::Lost(status) => Next::Return(Err(status)),
            Outcome::Failed { code, pushback, response }
                if repeatable && code == Code::Unavailable && pushback != Pushback::Never =>
            {
                Next::Retry(pushback, Ok(response))
            }
            Outcome::Failed { response, .. } => Next::Return(Ok(response)),
        }
    }

    /// The first attempt earns a share of a retry, each further one is counted.
    fn deposit_or_count(&self, service: &str, number: usize, endpoint: &Endpoint) {
        if number > 1 {
            endpoint.metrics.count(self.method, Event::Retry);
        } else if let Some(route) = self.shared.routes.load().by_service.get(service) {
            route.budget.deposit(Instant::now());
        }
    }

    fn may_retry(&self, service: &str) -> bool {
        let routes = self.shared.routes.load();
        routes.by_service.get(service).is_some_and(|route| route.budget.withdraw(Instant::now()))
    }

    /// Pick: an endpoint with a stream reserved on it; if there is none, wait a little for one.
    async fn pick(&self, service: &str) -> Result<(Arc<Endpoint>, Stream), Status> {
        if let Picked::Endpoint(endpoint, stream) = self.try_pick(service) {
            return Ok((endpoint, stream));
        }
        let Some(ticket) = self.shared.waiting.enter() else {
            let message = format!("too many calls wait for `{service}`");
            return Err(rpc::Error::overloaded(message, Duration::from_secs(1)).into());
        };
        let until = tokio::time::Instant::now() + ENDPOINT_WAIT_MAX;
        loop {
            // Before looking again, so that no change is missed in between.
            let changed = ticket.changed();
            let why = match self.try_pick(service) {
                Picked::Endpoint(endpoint, stream) => return Ok((endpoint, stream)),
                Picked::Full => rpc::Error::overloaded(
                    format!("all instances of `{service}` have as many calls as they take"),
                    Duration::from_secs(1),
                ),
                Picked::AllUnhealthy => {
                    let message = format!(
                        "every instance of `{service}` that can be reached is unhealthy, and was tried"
                    );
                    let error = rpc::Error::unavailable(ErrorReason::AllUnhealthy, message);
                    return Err(error.into());
                }
                Picked::Unready => rpc::Error::unavailable(
                    ErrorReason::NoEndpoint,
                    format!("no instance of `{service}` can be reached"),
                ),
            };
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Err(why.into());
            }
        }
    }

    fn try_pick(&self, service: &str) -> Picked {
        let routes = self.shared.routes.load();
        match routes.by_service.get(service) {
            Some(route) => route.pick(&Selection {
                subset: None,
                tried: &self.tried,
                hash: None,
                now: Instant::now(),
            }),
            None => Picked::Unready,
        }
    }
}
