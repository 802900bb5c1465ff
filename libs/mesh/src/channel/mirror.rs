//! Mirrors: a copy of a call that goes to a subset, fire and forget.
//!
//! The caller never waits for it and never learns of it: it is a task of its own, with a deadline of its own, and if too many are
//! under way it is not made. The mesh owns the tasks and ends them when it closes.

use super::attempt::Attempt;
use super::attempt::Outcome;
use super::payload::Sending;
use super::pick::Choice;
use super::routes::Route;
use super::shared::Shared;
use super::subset::Target;
use crate::methods::Method;
use crate::policy::Mirror;
use crate::policy::RoutePolicy;
use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use http_body_util::BodyExt as _;
use rpc::Deadline;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// What marks a copy, so that whoever gets it can tell it from the call.
const HEADER: &str = "linkmesh-mirrored";
/// How many copies are under way at a time, and how much they may carry; those above are not made.
const COPIES_MAX: usize = 256;
const COPIES_BYTES_MAX: usize = 16 << 20;
/// How long a copy may take.
const COPY_TIME_MAX: Duration = Duration::from_secs(10);

/// The copies that are under way.
#[derive(Debug)]
pub(super) struct Mirrors {
    tasks: TaskTracker,
    stop: CancellationToken,
    under_way: Arc<UnderWay>,
    /// Sent once, whatever comes of it.
    policy: Arc<RoutePolicy>,
}

#[derive(Debug, Default)]
struct UnderWay {
    copies: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one copy.
struct Place {
    under_way: Arc<UnderWay>,
    bytes: usize,
}

/// What is copied.
pub(super) struct Original<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'static Method,
    pub(super) route: &'a Arc<Route>,
    pub(super) parts: &'a Parts,
    pub(super) bytes: &'a Bytes,
}

impl Mirrors {
    pub(super) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        let policy = Arc::new(RoutePolicy::default());
        Self { tasks, stop, under_way: Arc::default(), policy }
    }

    /// Copies a call; false if too many copies are under way.
    pub(super) fn copy(
        &self,
        shared: &Arc<Shared>,
        mirror: &Mirror,
        original: &Original<'_>,
    ) -> bool {
        let Some(place) = self.under_way.begin(original.bytes.len()) else { return false };
        let stop = self.stop.clone();
        let copy = Copy {
            shared: Arc::clone(shared),
            policy: Arc::clone(&self.policy),
            service: original.service.to_owned(),
            method: original.method,
            route: Arc::clone(original.route),
            parts: marked(original.parts),
            bytes: original.bytes.clone(),
            subset: mirror.subset,
        };
        self.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                sent = tokio::time::timeout(COPY_TIME_MAX, copy.send()) => match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a copy failed"),
                    Err(_) => tracing::debug!("a copy took too long"),
                },
            }
        });
        true
    }
}

impl UnderWay {
    fn begin(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let place = Place { under_way: Arc::clone(self), bytes };
        let copies = self.copies.fetch_add(1, Ordering::Relaxed) + 1;
        let all_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (copies <= COPIES_MAX && all_bytes <= COPIES_BYTES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.under_way.copies.fetch_sub(1, Ordering::Relaxed);
        self.under_way.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A copy on its way.
struct Copy {
    shared: Arc<Shared>,
    policy: Arc<RoutePolicy>,
    service: String,
    method: &'static Method,
    route: Arc<Route>,
    parts: Parts,
    bytes: Bytes,
    subset: usize,
}

impl Copy {
    async fn send(self) -> Result<(), Status> {
        let choice = Choice {
            shared: &self.shared,
            service: &self.service,
            policy: &self.route.policy,
            target: Target::Subset(self.subset),
            hash: None,
        };
        let place = choice.pick(&[]).await?;
        let attempt = Attempt {
            method: self.method,
            parts: &self.parts,
            policy: &self.policy,
            deadline: Some(Deadline(Instant::now() + COPY_TIME_MAX)),
        };
        let response =
            match attempt.send(place, Sending::Whole(self.bytes.clone()), Instant::now()).await {
                Outcome::Begun(response) | Outcome::Failed { response, .. } => response,
                Outcome::Unprocessed { status, .. }
                | Outcome::Lost(status)
                | Outcome::TimedOut(status)
                | Outcome::Refused(status) => return Err(status),
            };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    }
}

fn marked(parts: &Parts) -> Parts {
    let (mut copy, ()) = http::Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy.headers.insert(HEADER, HeaderValue::from_static("true"));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_by_number_and_by_size() {
        let under_way = Arc::new(UnderWay::default());
        let large: Vec<_> = (0..5).map(|_| under_way.begin(4 << 20)).collect();
        assert_eq!(large.iter().flatten().count(), 4);
        drop(large);
        let small: Vec<_> = (0..300).map(|_| under_way.begin(1)).collect();
        assert_eq!(small.iter().flatten().count(), COPIES_MAX);
        drop(small);
        assert_eq!(under_way.copies.load(Ordering::Relaxed), 0);
        assert_eq!(under_way.bytes.load(Ordering::Relaxed), 0);
    }
}
