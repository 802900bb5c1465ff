//! B3 as Zipkin has it: `b3: {trace}-{span}-{sampled}-{parent}`, or a header for each.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;

pub(super) const SINGLE: HeaderName = HeaderName::from_static("b3");
pub(super) const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
pub(super) const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
pub(super) const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
pub(super) const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
pub(super) const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// How a caller writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Single,
    Several,
}

/// How headers have it, if they do.
pub(super) fn form(headers: &HeaderMap) -> Option<Form> {
    if headers.contains_key(&SINGLE) {
        return Some(Form::Single);
    }
    headers.contains_key(&TRACE).then_some(Form::Several)
}

/// The span that headers name; none if they name none, or say it wrong.
pub(super) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    match form(headers)? {
        Form::Single => {
            let mut parts = text(headers, &SINGLE)?.split('-');
            context(parts.next()?, parts.next()?, parts.next())
        }
        Form::Several => {
            let debug = text(headers, &FLAGS).filter(|flags| *flags == "1").map(|_| "d");
            let sampled = debug.or_else(|| text(headers, &SAMPLED));
            context(text(headers, &TRACE)?, text(headers, &SPAN)?, sampled)
        }
    }
}

/// Says a span in the caller's form.
pub(super) fn write(span: &SpanContext, form: Form, headers: &mut HeaderMap) {
    let sampled = if span.is_sampled() { "1" } else { "0" };
    let (trace, id) = (span.trace_id().to_string(), span.span_id().to_string());
    let mut set = |name, value: String| {
        let value = HeaderValue::try_from(value).expect("digits make a header's value");
        headers.insert(name, value);
    };
    match form {
        Form::Single => set(SINGLE, format!("{trace}-{id}-{sampled}")),
        Form::Several => {
            set(TRACE, trace);
            set(SPAN, id);
            set(SAMPLED, sampled.to_owned());
        }
    }
}

/// A caller that leaves the decision open (no `sampled`) has taken the trouble to name a trace: it is kept.
fn context(trace: &str, span: &str, sampled: Option<&str>) -> Option<SpanContext> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 || !is_hex(trace) || !is_hex(span) {
        return None;
    }
    let is_sampled = match sampled {
        None | Some("1" | "d" | "true") => true,
        Some("0" | "false") => false,
        Some(_) => return None,
    };
    let flags = if is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_header_or_several_say_the_same() {
        let single = read(&headers(&[(
            "b3",
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-00f067aa0ba902b7",
        )]));
        let several = read(&headers(&[
            ("x-b3-traceid", ID),
            ("x-b3-spanid", "b7ad6b7169203331"),
            ("x-b3-sampled", "1"),
        ]));
        assert_eq!(single, several);
        let span = single.unwrap();
        assert_eq!(span.trace_id().to_string(), ID);
        assert!(span.is_sampled() && span.is_remote());
    }

    #[test]
    fn short_ids_decisions_and_debug_are_understood() {
        let short = read(&headers(&[("b3", "8448eb211c80319c-b7ad6b7169203331-0")])).unwrap();
        assert_eq!(short.trace_id().to_string(), "00000000000000008448eb211c80319c");
        assert!(!short.is_sampled());
        assert!(
            read(&headers(&[("b3", "8448eb211c80319c-b7ad6b7169203331-d")])).unwrap().is_sampled()
        );
        assert!(
            read(&headers(&[("b3", "8448eb211c80319c-b7ad6b7169203331")])).unwrap().is_sampled()
        );
        let flags = [
            ("x-b3-traceid", ID),
            ("x-b3-spanid", "b7ad6b7169203331"),
            ("x-b3-sampled", "0"),
            ("x-b3-flags", "1"),
        ];
        assert!(read(&headers(&flags)).unwrap().is_sampled(), "debug goes before the decision");
    }

    #[test]
    fn what_is_malformed_names_nothing() {
        for value in [
            "",
            "0",
            "1",
            "-",
            "x-y-1",
            "0af7651916cd43dd8448eb211c80319c",
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-2",
            "00000000000000000000000000000000-b7ad6b7169203331-1",
            "0af7651916cd43dd8448eb211c80319c-0000000000000000-1",
            "+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert_eq!(read(&headers(&[("b3", value)])), None, "{value}");
        }
        assert_eq!(read(&headers(&[("x-b3-traceid", ID)])), None);
        assert_eq!(read(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_written_reads_back() {
        let span = read(&headers(&[("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0")]))
            .unwrap();
        for form in [Form::Single, Form::Several] {
            let mut sent = HeaderMap::new();
            write(&span, form, &mut sent);
            assert_eq!(super::form(&sent), Some(form));
            assert_eq!(read(&sent), Some(span.clone()));
        }
    }
}
