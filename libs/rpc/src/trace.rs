//! The trace that a call belongs to, between headers and spans, and from a call to those that are made for it.
//!
//! W3C's `traceparent` and `tracestate` are preferred; B3, in one header or several, is understood, and sent on beside W3C's where the caller
//! used it. A process whose telemetry is off, or that left a call out of it, adds no span of its own and passes on what it was
//! sent: the trace stays whole around it.

mod b3;
mod carried;

pub use carried::Carried;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use opentelemetry::propagation::Injector;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Writes the trace into the headers of a call: the current span's, in place of any that is there; without one, what the call that is
/// being handled carried, unless the headers name a trace already.
pub fn inject(headers: &mut HeaderMap) {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    let carried = Carried::here();
    if !span.is_valid() {
        carried.copy_to(headers);
        return;
    }
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Headers(headers));
    });
    if let Some(form) = carried.b3() {
        b3::write(&span, form, headers);
    }
}

/// Makes `span` a child of the span that the caller's headers name, if they name one. Before anything has entered it.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let Some(parent) = parent(headers) else { return };
    // It fails only where there is no telemetry, and then nobody looks at parents.
    drop(span.set_parent(Context::new().with_remote_span_context(parent)));
}

/// The id of the trace that a span is in; of the one that headers name, where telemetry is off. 32 hexadecimal digits.
#[must_use]
pub fn id(span: &Span, headers: &HeaderMap) -> Option<String> {
    let context = span.context();
    let span = context.span().span_context().clone();
    if span.is_valid() {
        return Some(span.trace_id().to_string());
    }
    let named = headers.get(&TRACEPARENT).filter(|value| is_well_formed(value));
    let trace = named.and_then(|value| value.to_str().ok()?.split('-').nth(1));
    if let Some(trace) = trace.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Some(trace.to_ascii_lowercase());
    }
    b3::read(headers).map(|span| span.trace_id().to_string())
}

/// The span that headers name. A malformed `traceparent` is as good as none.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    if headers.get(&TRACEPARENT).is_some_and(is_well_formed) {
        let context =
            global::get_text_map_propagator(|propagator| propagator.extract(&Received(headers)));
        let parent = context.span().span_context().clone();
        if parent.is_valid() {
            return Some(parent);
        }
    }
    b3::read(headers)
}

/// Whether ids are of the length that W3C wants; the propagator takes shorter ones.
fn is_well_formed(traceparent: &HeaderValue) -> bool {
    let lengths = traceparent.as_bytes().split(|byte| *byte == b'-').map(<[u8]>::len);
    lengths.take(4).eq([2, 32, 16, 2])
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
        else {
            return;
        };
        self.0.insert(name, value);
    }
}

struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests;
