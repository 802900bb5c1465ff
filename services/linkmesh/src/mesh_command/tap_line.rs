//! An event of a tap as text for people, or as a line of JSON for scripts.

use std::time::Duration;

use proto::mesh::v1::TapBegin;
use proto::mesh::v1::TapEnd;
use proto::mesh::v1::TapMessage;
use proto::mesh::v1::TapResponse;
use proto::mesh::v1::tap_message::Direction;
use proto::mesh::v1::tap_response::What;
use serde_json::Value;
use serde_json::json;

use super::sample::code_name;
use super::show;
use crate::print::Output;

/// What is shown of an event.
pub(super) fn lines(event: &TapResponse, output: Output) -> Vec<String> {
    if output.is_json() {
        return vec![as_json(event).to_string()];
    }
    let call = format!("{} #{}", event.instance, event.call);
    match &event.what {
        Some(What::Begin(begin)) => vec![format!("{call} : {}", begun(begin))],
        Some(What::Message(message)) => vec![format!("{call} {}", passed(message))],
        Some(What::End(end)) => vec![format!("{call} = {}", ended(end))],
        None => Vec::new(),
    }
}

fn begun(begin: &TapBegin) -> String {
    // A method that no descriptor knows is named by its path.
    let method = match begin.method.as_str() {
        "other" => begin.path.as_str(),
        method => show::short(method),
    };
    let mut line = format!("{} calls {method}", begin.caller);
    if let Some(left) = duration(begin.time_left) {
        line.push_str(&format!(", waits {}", show::duration(left)));
    }
    if !begin.trace_id.is_empty() {
        line.push_str(&format!(", trace {}", begin.trace_id));
    }
    let metadata = begin.metadata.iter().map(|it| format!("{}={}", it.key, it.value));
    let metadata: Vec<_> = metadata.collect();
    if !metadata.is_empty() {
        line.push_str(&format!("  [{}]", metadata.join(" ")));
    }
    printable(&line)
}

fn passed(message: &TapMessage) -> String {
    let direction = match message.direction() {
        Direction::Request => ">",
        Direction::Unspecified | Direction::Response => "<",
    };
    let content = match message.omitted.is_empty() {
        true => printable(&message.json),
        false => format!("({} bytes, {})", message.bytes, printable(&message.omitted)),
    };
    format!("{direction} {content}")
}

fn ended(end: &TapEnd) -> String {
    let took = show::duration_or_dash(duration(end.latency));
    let bytes = format!("{} bytes in, {} out", end.request_bytes, end.response_bytes);
    let code = code_name(end.code);
    match end.message.is_empty() {
        true => format!("{code} in {took}, {bytes}"),
        false => format!("{code} in {took}, {bytes}: {}", printable(&end.message)),
    }
}

fn as_json(event: &TapResponse) -> Value {
    let mut line = json!({
        "instance": event.instance,
        "call": event.call,
        "dropped": event.dropped,
    });
    let (name, what) = match &event.what {
        Some(What::Begin(begin)) => ("begin", begin_json(begin)),
        Some(What::Message(message)) => ("message", message_json(message)),
        Some(What::End(end)) => ("end", end_json(end)),
        None => return line,
    };
    line[name] = what;
    line
}

fn begin_json(begin: &TapBegin) -> Value {
    let metadata = begin.metadata.iter().map(|it| json!({ "key": it.key, "value": it.value }));
    json!({
        "caller": begin.caller,
        "method": begin.method,
        "path": begin.path,
        "metadata": metadata.collect::<Vec<_>>(),
        "timeLeftSeconds": duration(begin.time_left).map(|left| left.as_secs_f64()),
        "traceId": begin.trace_id,
    })
}

fn message_json(message: &TapMessage) -> Value {
    let content = serde_json::from_str::<Value>(&message.json).unwrap_or(Value::Null);
    json!({
        "direction": match message.direction() {
            Direction::Request => "request",
            Direction::Unspecified | Direction::Response => "response",
        },
        "number": message.number,
        "bytes": message.bytes,
        "content": content,
        "omitted": message.omitted,
    })
}

fn end_json(end: &TapEnd) -> Value {
    json!({
        "code": code_name(end.code),
        "message": end.message,
        "latencySeconds": duration(end.latency).map(|latency| latency.as_secs_f64()),
        "requestBytes": end.request_bytes,
        "responseBytes": end.response_bytes,
    })
}

fn duration(duration: Option<prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(duration?).ok()
}

/// Without what would make a terminal do something: callers choose some of it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proto::mesh::v1::TapMetadata;

    use super::*;
    use crate::print::Format;

    fn event(what: What) -> TapResponse {
        TapResponse { instance: "links-1".to_owned(), call: 7, dropped: 0, what: Some(what) }
    }

    fn begin() -> What {
        What::Begin(TapBegin {
            caller: "edge".to_owned(),
            method: "linkmesh.links.v1.ResolverService/Resolve".to_owned(),
            path: "/linkmesh.links.v1.ResolverService/Resolve".to_owned(),
            metadata: vec![TapMetadata { key: "x-team".to_owned(), value: "a\x1b[2J".to_owned() }],
            time_left: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        })
    }

    fn message() -> What {
        What::Message(TapMessage {
            direction: Direction::Request.into(),
            number: 1,
            bytes: 20,
            json: r#"{"domain":"go.example","slug":"a"}"#.to_owned(),
            omitted: String::new(),
        })
    }

    fn end() -> What {
        What::End(TapEnd {
            code: 5,
            message: "no such link".to_owned(),
            latency: Some(prost_types::Duration { seconds: 0, nanos: 1_500_000 }),
            request_bytes: 25,
            response_bytes: 0,
        })
    }

    #[test]
    fn people_read_a_call_from_top_to_bottom_and_no_caller_draws_on_their_terminal() {
        let text = |what| lines(&event(what), Output::default()).join("\n");
        assert_eq!(
            text(begin()),
            "links-1 #7 : edge calls ResolverService/Resolve, waits 2.00 s, trace 0af7651916cd43dd8448eb211c80319c  [x-team=a\u{fffd}[2J]"
        );
        assert_eq!(text(message()), r#"links-1 #7 > {"domain":"go.example","slug":"a"}"#);
        assert_eq!(
            text(end()),
            "links-1 #7 = NOT_FOUND in 1.50 ms, 25 bytes in, 0 out: no such link"
        );
    }

    #[test]
    fn scripts_read_one_event_a_line() {
        let output = Output { format: Format::Json };
        let json = |what| {
            let lines = lines(&event(what), output);
            assert_eq!(lines.len(), 1);
            serde_json::from_str::<Value>(&lines[0]).unwrap()
        };
        assert_eq!(json(begin())["begin"]["caller"], "edge");
        assert_eq!(json(message())["message"]["content"]["slug"], "a");
        assert_eq!(json(end())["end"]["code"], "NOT_FOUND");
    }
}
