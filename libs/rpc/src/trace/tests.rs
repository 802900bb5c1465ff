//! A trace across a process, with telemetry and without.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// What a process with telemetry sends on for a call that it received.
fn sent_by_a_traced_process(received: &HeaderMap) -> HeaderMap {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("call");
        adopt(&span, received);
        let mut sent = HeaderMap::new();
        Carried::of(received).sync_scope(|| span.in_scope(|| inject(&mut sent)));
        sent
    })
}

#[test]
fn what_a_caller_began_goes_on_in_the_calls_that_are_made_for_it() {
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let sent = sent_by_a_traced_process(&headers(&[("traceparent", parent.clone())]));
    let traceparent = sent["traceparent"].to_str().unwrap();
    assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "{traceparent}");
    assert_ne!(traceparent, parent, "the call has a span of its own");
    assert!(!sent.contains_key("b3") && !sent.contains_key("x-b3-traceid"));
}

#[test]
fn a_caller_with_b3_is_followed_and_its_form_is_sent_on_beside_w3c() {
    let single = headers(&[("b3", format!("{TRACE}-{CALLER}-1"))]);
    let sent = sent_by_a_traced_process(&single);
    assert!(sent["traceparent"].to_str().unwrap().starts_with(&format!("00-{TRACE}-")));
    let b3 = sent["b3"].to_str().unwrap();
    assert!(b3.starts_with(&format!("{TRACE}-")) && b3.ends_with("-1"), "{b3}");
    assert!(!b3.contains(CALLER), "the call has a span of its own: {b3}");

    let several = headers(&[
        ("x-b3-traceid", TRACE.to_owned()),
        ("x-b3-spanid", CALLER.to_owned()),
        ("x-b3-sampled", "1".to_owned()),
    ]);
    let sent = sent_by_a_traced_process(&several);
    assert!(sent["traceparent"].to_str().unwrap().starts_with(&format!("00-{TRACE}-")));
    assert_eq!(sent["x-b3-traceid"], TRACE);
    assert_ne!(sent["x-b3-spanid"], CALLER);
    assert!(!sent.contains_key("b3"));
}

#[test]
fn w3c_goes_before_b3() {
    let other = "11111111111111111111111111111111";
    let both = headers(&[
        ("traceparent", format!("00-{TRACE}-{CALLER}-01")),
        ("b3", format!("{other}-{CALLER}-1")),
    ]);
    let sent = sent_by_a_traced_process(&both);
    assert!(sent["traceparent"].to_str().unwrap().contains(TRACE));
    assert!(sent["b3"].to_str().unwrap().starts_with(TRACE), "one trace, said twice");
    let malformed =
        headers(&[("traceparent", "00-1-2-01".to_owned()), ("b3", format!("{other}-{CALLER}-1"))]);
    assert!(sent_by_a_traced_process(&malformed)["b3"].to_str().unwrap().starts_with(other));
}

#[test]
fn without_telemetry_what_came_is_passed_on_as_it_is() {
    let received = headers(&[
        ("traceparent", format!("00-{TRACE}-{CALLER}-01")),
        ("tracestate", "vendor=1".to_owned()),
        ("x-b3-traceid", TRACE.to_owned()),
        ("x-b3-spanid", CALLER.to_owned()),
        ("authorization", "not ours to pass on".to_owned()),
    ]);
    let mut sent = HeaderMap::new();
    Carried::of(&received).sync_scope(|| inject(&mut sent));
    let mut expected = received.clone();
    expected.remove("authorization");
    assert_eq!(sent, expected);

    // What a caller says itself is not overwritten, and what does not belong to a call carries nothing.
    let mut said = headers(&[("traceparent", "00-1-2-01".to_owned())]);
    Carried::of(&received).sync_scope(|| inject(&mut said));
    assert_eq!(said, headers(&[("traceparent", "00-1-2-01".to_owned())]));
    let mut alone = HeaderMap::new();
    inject(&mut alone);
    assert!(alone.is_empty());
}

#[test]
fn a_call_without_a_trace_carries_nothing() {
    let mut sent = HeaderMap::new();
    let received = headers(&[("tracestate", "vendor=1".to_owned())]);
    Carried::of(&received).sync_scope(|| inject(&mut sent));
    assert!(sent.is_empty(), "a state without a trace says nothing");
}
