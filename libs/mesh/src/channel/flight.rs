//! A call in flight on one endpoint: what it holds there, and what it tells of the endpoint when it ends, however that is.

use super::connection::Stream;
use super::endpoint::Endpoint;
use super::load::FAILURE_PENALTY;
use super::payload::Sending;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

/// The longest time that a server may ask not to be called for (Linkerd's).
const PUSHBACK_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Flight {
    endpoint: Arc<Endpoint>,
    stream: Stream,
    started: Instant,
    /// How long until the first response frame.
    latency: Option<Duration>,
    /// After which the caller no longer waits.
    deadline: Option<Instant>,
    pushback: Option<Duration>,
    finished: bool,
    /// What sends a streaming request, and gives back what it did not send; it ends with the call.
    pub(super) pump: Option<AbortOnDropHandle<Option<Sending>>>,
}

impl Flight {
    pub(super) fn begin(
        endpoint: Arc<Endpoint>,
        stream: Stream,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Self {
        endpoint.load.begin();
        Self {
            endpoint,
            stream,
            started,
            latency: None,
            deadline,
            pushback: None,
            finished: false,
            pump: None,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The first frame of the response is there.
    pub(super) fn answered(&mut self) {
        self.latency = Some(self.started.elapsed());
    }

    /// The caller waits until then from now on.
    pub(super) fn until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The server wants no more for this long. To be said before the end.
    pub(super) fn pushed_back(&mut self, wait: Duration) {
        self.pushback = Some(wait.min(PUSHBACK_MAX));
    }

    /// What came was no answer of a gRPC server, but `code` describes it: the endpoint's fault, whatever the code says.
    pub(super) fn finish_broken(&mut self, code: Code) {
        let blamed = if matches!(blame(code), Blame::Nobody) { Code::Unavailable } else { code };
        self.finish(blamed);
    }

    /// The call ended with this code; the first one counts.
    pub(super) fn finish(&mut self, code: Code) {
        if self.finished {
            return;
        }
        self.finished = true;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.started);
        let latency = match blame(code) {
            Blame::Endpoint => elapsed.max(FAILURE_PENALTY).max(self.pushback.unwrap_or_default()),
            // Shorter than the call would have taken, but at least that long.
            Blame::Slowness => elapsed,
            Blame::Nobody => self.latency.unwrap_or(elapsed),
        };
        self.endpoint.load.observe(latency, now);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.endpoint.load.end();
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.finish(Code::DeadlineExceeded);
        } else if let (false, Some(latency)) = (self.finished, self.latency) {
            // The caller dropped a response that had begun well.
            self.endpoint.load.observe(latency, now);
        }
    }
}

/// Whose fault a code is, as far as balancing is concerned.
enum Blame {
    Endpoint,
    Slowness,
    Nobody,
}

fn blame(code: Code) -> Blame {
    match code {
        Code::Unavailable | Code::ResourceExhausted | Code::Internal | Code::DataLoss => {
            Blame::Endpoint
        }
        Code::DeadlineExceeded => Blame::Slowness,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Blame::Nobody,
    }
}

/// The gRPC code in a response's head or trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}
