//! The access log: a line for each request that was answered, on the target `access`.
//!
//! What must stay true: no line holds an address, a path, a query or anything that proves who someone is; and what the log costs is
//! bounded, by lines a second. A caller is an id, a path is its route.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use http::Extensions;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rpc::Caller;
use rpc::Principal;
use serde::Deserialize;
use tracing::Span;

use crate::statuses;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of a client's own request id that are kept; a longer one is none.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Which requests have a line in the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// Calls of the API.
    Calls,
    /// Redirects too.
    All,
}

/// The log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: AccessLog,
    /// In a second.
    lines_max: u32,
    began: Instant,
    /// The second that is counted, and in the low half how many lines it had.
    window: AtomicU64,
    left_out: Counter,
}

/// What is known of a request before it is answered.
#[derive(Debug)]
pub(crate) struct Entry {
    trace_id: Option<String>,
    request_id: Option<String>,
    asked: Asked,
}

/// Who calls, once that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<OnceLock<HeaderValue>>);

/// What a line says.
#[derive(Debug)]
pub(crate) struct Line<'l> {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
    /// Empty for what has only an HTTP status.
    pub(crate) grpc_code: &'static str,
    pub(crate) took: Duration,
    /// Of the body, as it was sent.
    pub(crate) bytes: u64,
    pub(crate) entry: Option<&'l Entry>,
}

impl Access {
    pub(crate) fn new(wanted: AccessLog, lines_max: u32, registry: &mut Registry) -> Self {
        let left_out = Counter::default();
        let help =
            "Lines of the access log that were left out, since there were too many in a second";
        registry.register("edge_access_lines_left_out", help, left_out.clone());
        let (began, window) = (Instant::now(), AtomicU64::new(0));
        Self(Arc::new(Inner { wanted, lines_max, began, window, left_out }))
    }

    /// Begins a line for a call, if calls have any.
    pub(crate) fn entry(&self, headers: &HeaderMap) -> Option<Entry> {
        (self.0.wanted != AccessLog::Off).then(|| Entry {
            trace_id: None,
            request_id: request_id(headers),
            asked: Asked::default(),
        })
    }

    /// Writes the line of a redirect, if those have any.
    pub(crate) fn redirect(&self, line: &Line<'_>) {
        if self.0.wanted == AccessLog::All {
            self.write(line, self.0.began.elapsed().as_secs());
        }
    }

    /// Writes the line of a call that was begun.
    pub(crate) fn call(&self, line: &Line<'_>) {
        if line.entry.is_some() {
            self.write(line, self.0.began.elapsed().as_secs());
        }
    }

    fn write(&self, line: &Line<'_>, second: u64) {
        if !self.has_room(second) {
            self.0.left_out.inc();
            return;
        }
        let Line { method, route, status, grpc_code, took, bytes, entry } = line;
        let took_micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let grpc_code = Some(*grpc_code).filter(|code| !code.is_empty());
        let caller = entry.and_then(|entry| entry.asked.caller());
        let trace_id = entry.and_then(|entry| entry.trace_id.as_deref());
        let request_id = entry.and_then(|entry| entry.request_id.as_deref());
        tracing::info!(
            target: "access",
            method,
            route,
            status,
            grpc_code,
            took_micros,
            bytes,
            caller,
            trace_id,
            request_id,
            "answered"
        );
    }

    /// Whether this second may have another line.
    fn has_room(&self, second: u64) -> bool {
        let second = second << 32;
        let counted = self.0.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            let lines = if window & !u64::from(u32::MAX) == second { window } else { second };
            let has_room = lines - second < u64::from(self.0.lines_max);
            has_room.then_some(lines + 1)
        });
        counted.is_ok()
    }
}

impl Entry {
    /// Notes the trace that the call is in.
    pub(crate) fn trace(&mut self, span: &Span, headers: &HeaderMap) {
        self.trace_id = rpc::trace::id(span, headers);
    }

    /// Where to note who calls.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.clone()
    }
}

impl Asked {
    fn caller(&self) -> Option<String> {
        let bytes = statuses::BASE64.decode(self.0.get()?.as_bytes()).ok()?;
        let principal = Principal::decode(&bytes).ok()?;
        Some(match principal.caller {
            Caller::ApiKey { key, .. } => key.to_string(),
            Caller::User { user, .. } => user.to_string(),
            Caller::Operator => "operator".to_owned(),
        })
    }
}

/// Notes whom a call is made for, if its request is one that has a line.
pub(crate) fn note(extensions: &Extensions, metadata: &HeaderMap) {
    if let Some(asked) = extensions.get::<Asked>()
        && let Some(principal) = metadata.get(Principal::METADATA_KEY)
    {
        // A call is let in once.
        drop(asked.0.set(principal.clone()));
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_good = (1..=REQUEST_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    use rpc::ApiKeyId;
    use rpc::Permissions;
    use rpc::WorkspaceId;
    use tonic::metadata::MetadataMap;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_as_many_again() {
        let access = Access::new(AccessLog::Calls, 3, &mut Registry::default());
        let room = |second| (0..5).filter(|_| access.has_room(second)).count();
        assert_eq!((room(0), room(7), room(7), room(8)), (3, 3, 0, 3));
    }

    #[test]
    fn a_caller_is_an_id_and_a_request_id_is_short_and_plain() {
        let key = ApiKeyId::new();
        let principal = Principal::api_key(key, WorkspaceId::new(), Permissions::of(&[]));
        let mut metadata = MetadataMap::new();
        principal.attach(&mut metadata);
        let mut extensions = Extensions::new();
        let asked = Asked::default();
        assert_eq!(asked.caller(), None);
        extensions.insert(asked.clone());
        note(&extensions, &metadata.into_headers());
        assert_eq!(asked.caller(), Some(key.to_string()));

        for (value, kept) in [("a-1", true), ("", false), ("a b", false), (&"x".repeat(129), false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value.parse().expect("a value"));
            assert_eq!(request_id(&headers).is_some(), kept, "{value}");
        }
    }
}
