//! What the calls that a handler makes take over from the call that it handles: the deadline, and how much it matters.
//!
//! The server sets it around the handler and around its response stream, and the channel reads it, so a handler's author does
//! nothing for it. It goes with the task: what a handler spawns inherits nothing, for it may outlive the call, and neither does a
//! fill that several calls share should it run in a task of its own.

use crate::policy::Criticality;
use bytes::Bytes;
use http_body::Frame;
use http_body::SizeHint;
use rpc::Deadline;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tonic::Status;
use tonic::body::Body;

tokio::task_local! {
    static INHERITED: Inherited;
}

/// What is passed on from a call to those made for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inherited {
    pub(crate) deadline: Option<Deadline>,
    /// None: nobody said.
    pub(crate) criticality: Option<Criticality>,
}

impl Inherited {
    /// Of the call that is being handled by this task; nothing where none is.
    pub(crate) fn here() -> Self {
        INHERITED.try_with(|inherited| *inherited).unwrap_or_default()
    }

    /// Has what `handling` calls inherit this.
    pub(crate) fn scope<F: Future>(self, handling: F) -> impl Future<Output = F::Output> {
        INHERITED.scope(self, handling)
    }

    /// Has what a response stream calls, while it is produced, inherit this.
    pub(crate) fn scope_body(self, body: Body) -> Body {
        Body::new(InheritingBody { inherited: self, body })
    }
}

struct InheritingBody {
    inherited: Inherited,
    body: Body,
}

impl http_body::Body for InheritingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inherited, body } = self.get_mut();
        INHERITED.sync_scope(*inherited, || Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
