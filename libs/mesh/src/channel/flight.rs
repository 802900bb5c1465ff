//! A call in flight on one endpoint: what it holds there, and what it tells of the endpoint when it ends, however that is.

use super::connection::Stream;
use super::endpoint::Endpoint;
use super::health::Verdict;
use super::payload::Sending;
use http::HeaderMap;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

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

/// The one call by which an endpoint on probation is judged.
#[derive(Debug)]
pub(super) struct Probe(Option<Arc<Endpoint>>);

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

    /// The response has begun, and may go on for hours: for a probation it has gone well.
    pub(super) fn probe_passed(&mut self) {
        if let Some(probe) = self.stream.probe.take() {
            probe.end(Verdict::Good, Instant::now());
        }
    }

    /// The caller waits until then from now on.
    pub(super) fn until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The server wants no more for this long. To be said before the end.
    pub(super) fn pushed_back(&mut self, wait: Duration) {
        self.pushback = Some(wait);
    }

    /// What came was no answer of a gRPC server, but `code` describes it: the endpoint's fault, whatever the code says.
    pub(super) fn finish_broken(&mut self, code: Code) {
        let verdict = Verdict::of(code);
        let verdict = if verdict == Verdict::Good { Verdict::Failed } else { verdict };
        self.end(verdict, Instant::now());
    }

    /// The call ended with this code; the first one counts.
    pub(super) fn finish(&mut self, code: Code) {
        self.finish_at(code, Instant::now());
    }

    pub(super) fn finish_at(&mut self, code: Code, now: Instant) {
        if !self.finished {
            self.end(Verdict::of(code), now);
        }
    }

    fn end(&mut self, verdict: Verdict, moment: Instant) {
        self.finished = true;
        let now = self.endpoint.tick(moment);
        let elapsed = moment.saturating_duration_since(self.started);
        let load = &self.endpoint.load;
        match verdict {
            Verdict::Good => load.observe(self.latency.unwrap_or(elapsed), now),
            // A failure says only that a response would have taken at least that long.
            Verdict::Failed | Verdict::Shed => load.observe_at_least(elapsed, now),
        }
        // All calls on a connection that breaks fail together: that is one failure, and no connection is seen as such.
        if verdict != Verdict::Failed || self.stream.is_to_blame() {
            self.endpoint.ended(verdict, self.pushback, now);
        }
        if let Some(probe) = self.stream.probe.take() {
            probe.end(verdict, moment);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.endpoint.load.end();
        if self.finished {
            return;
        }
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.finish_at(Code::DeadlineExceeded, now);
        } else if let Some(latency) = self.latency {
            // The caller dropped a response that had begun well.
            self.endpoint.load.observe(latency, self.endpoint.tick(now));
        } else {
            // It was given up for another one that was faster, or for the caller's own reasons.
            let waited = now.saturating_duration_since(self.started);
            self.endpoint.load.observe_at_least(waited, self.endpoint.tick(now));
        }
    }
}

impl Probe {
    /// The probe of an endpoint that has just been told so.
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self(Some(endpoint))
    }

    fn end(mut self, verdict: Verdict, now: Instant) {
        if let Some(endpoint) = self.0.take() {
            endpoint.probed(Some(verdict), endpoint.tick(now));
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.take() {
            endpoint.probed(None, endpoint.tick(Instant::now()));
        }
    }
}

/// The gRPC code in a response's head or trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}
