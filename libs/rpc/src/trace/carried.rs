//! What a call was sent of its trace, kept by the task that handles it: for the calls that are made for it.
//!
//! It goes with the task. What a handler spawns carries nothing, as it may outlive the call.

use super::TRACEPARENT;
use super::TRACESTATE;
use super::b3;
use super::b3::Form;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use std::future::Future;
use std::sync::Arc;

/// Everything that belongs to a trace.
const NAMES: [HeaderName; 8] =
    [TRACEPARENT, TRACESTATE, b3::SINGLE, b3::TRACE, b3::SPAN, b3::PARENT, b3::SAMPLED, b3::FLAGS];

tokio::task_local! {
    static CARRIED: Carried;
}

/// The headers of a trace, as they came. Cheap to clone; without any, nothing is allocated.
#[derive(Debug, Clone, Default)]
pub struct Carried(Option<Arc<Headers>>);

#[derive(Debug)]
struct Headers {
    values: Vec<(HeaderName, HeaderValue)>,
    b3: Option<Form>,
}

impl Carried {
    /// What is there of a trace in a call's headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Carried {
        let b3 = b3::form(headers);
        if b3.is_none() && !headers.contains_key(&TRACEPARENT) {
            return Carried::default();
        }
        let values = NAMES
            .into_iter()
            .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)));
        Carried(Some(Arc::new(Headers { values: values.collect(), b3 })))
    }

    /// Has the calls that `handling` makes carry it on.
    pub fn scope<F: Future>(self, handling: F) -> impl Future<Output = F::Output> {
        CARRIED.scope(self, handling)
    }

    /// The same for what is not a future, such as a look at a stream.
    pub fn sync_scope<T>(&self, handling: impl FnOnce() -> T) -> T {
        CARRIED.sync_scope(self.clone(), handling)
    }

    /// Of the call that is being handled by this task; nothing where none is.
    pub(super) fn here() -> Carried {
        CARRIED.try_with(Carried::clone).unwrap_or_default()
    }

    /// How the caller wrote B3, if it did.
    pub(super) fn b3(&self) -> Option<Form> {
        self.0.as_ref()?.b3
    }

    /// Says it again, unless something is said already.
    pub(super) fn copy_to(&self, headers: &mut HeaderMap) {
        let Some(carried) = &self.0 else { return };
        if headers.contains_key(&TRACEPARENT) || b3::form(headers).is_some() {
            return;
        }
        headers.extend(carried.values.iter().cloned());
    }
}
