//! The W3C trace context of a call (`traceparent`, `tracestate`), between spans and headers.
//!
//! How it is written is set once, by the host's telemetry; a process without traces sends none and reads none.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use opentelemetry::propagation::Injector;
use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Writes the current span's trace context into the headers of a call that it makes, in place of any that are there.
pub fn inject(headers: &mut HeaderMap) {
    let context = Span::current().context();
    if context.span().span_context().is_valid() {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut Headers(headers));
        });
    }
}

/// Makes `span` a child of the span that the caller's headers name, if they name one. Before anything has entered it.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    let parent =
        global::get_text_map_propagator(|propagator| propagator.extract(&Received(headers)));
    // It fails only where there is no telemetry, and then nobody looks at parents.
    drop(span.set_parent(parent));
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
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn what_a_caller_began_goes_on_in_the_calls_that_are_made_for_it() {
        global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut received = HeaderMap::new();
            let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
            received.insert("traceparent", parent.parse().unwrap());
            let span = tracing::info_span!("call");
            adopt(&span, &received);

            let mut sent = HeaderMap::new();
            span.in_scope(|| inject(&mut sent));
            let sent = sent["traceparent"].to_str().unwrap();
            assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
            assert_ne!(sent, parent, "the call has a span of its own");
        });
    }

    #[test]
    fn without_telemetry_what_is_there_stays_as_it_is() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "00-1-2-01".parse().unwrap());
        adopt(&tracing::info_span!("call"), &headers);
        inject(&mut headers);
        assert_eq!(headers["traceparent"], "00-1-2-01");
    }
}
