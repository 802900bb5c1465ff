//! Calls as a tap shows them.

use mesh::tap::Content;
use mesh::tap::Direction;
use mesh::tap::TapEvent;
use mesh::tap::TapFilter;
use mesh::tap::TapLimit;
use mesh::tap::Tapped;
use mesh::tap::TappedBegin;
use mesh::tap::TappedEnd;
use mesh::tap::TappedMessage;
use proto::mesh::v1::TapBegin;
use proto::mesh::v1::TapEnd;
use proto::mesh::v1::TapHeader;
use proto::mesh::v1::TapMessage;
use proto::mesh::v1::TapMetadata;
use proto::mesh::v1::TapRequest;
use proto::mesh::v1::TapResponse;
use proto::mesh::v1::tap_message;
use proto::mesh::v1::tap_response::What;
use std::time::Duration;
use tonic::Code;

/// What is asked for.
pub(super) fn decode(request: TapRequest) -> Result<(TapFilter, TapLimit), rpc::Error> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let latency_min = request
        .latency_min
        .map(|least| {
            let least = Duration::try_from(least);
            least.map_err(|_| rpc::Error::invalid("latency_min", "must not be negative"))
        })
        .transpose()?;
    let filter = TapFilter {
        method: some(request.method),
        caller: some(request.caller),
        code: request.code.map(code).transpose()?,
        headers: request.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        latency_min,
        percent: (request.percent != 0.0).then_some(request.percent),
    };
    let default = TapLimit::default();
    let limit = TapLimit {
        events_per_second: match request.events_per_second {
            0 => default.events_per_second,
            stated => stated,
        },
        message_bytes_max: match request.message_bytes_max {
            None => default.message_bytes_max,
            Some(stated) => usize::try_from(stated).unwrap_or(usize::MAX),
        },
    };
    Ok((filter, limit))
}

fn code(number: u32) -> Result<Code, rpc::Error> {
    let code = i32::try_from(number).ok().filter(|number| *number <= 16);
    let code = code.ok_or_else(|| rpc::Error::invalid("code", "must be 0 to 16"))?;
    Ok(Code::from_i32(code))
}

fn header(header: TapHeader) -> Result<(http::HeaderName, Option<String>), rpc::Error> {
    let name = header.name.parse().map_err(|_| {
        rpc::Error::invalid("headers", format!("{:?} is not the name of a header", header.name))
    })?;
    Ok((name, header.value))
}

/// What happened, at this instance.
pub(super) fn encode(instance: &str, event: TapEvent) -> TapResponse {
    let what = match event.what {
        Tapped::Begin(call) => What::Begin(begin(call)),
        Tapped::Message(passed) => What::Message(message(passed)),
        Tapped::End(ended) => What::End(end(ended)),
    };
    TapResponse {
        instance: instance.to_owned(),
        call: event.call,
        dropped: event.dropped,
        what: Some(what),
    }
}

fn begin(call: TappedBegin) -> TapBegin {
    let metadata = call.metadata.into_iter().map(|(key, value)| TapMetadata { key, value });
    TapBegin {
        caller: call.caller,
        method: call.method,
        path: call.path,
        metadata: metadata.collect(),
        time_left: call.time_left.and_then(|left| left.try_into().ok()),
        trace_id: call.trace_id.unwrap_or_default(),
    }
}

fn message(message: TappedMessage) -> TapMessage {
    let (json, omitted) = match message.content {
        Content::Json(value) => (value.to_string(), String::new()),
        Content::Omitted(why) => (String::new(), why),
    };
    let direction = match message.direction {
        Direction::Request => tap_message::Direction::Request,
        Direction::Response => tap_message::Direction::Response,
    };
    TapMessage {
        direction: direction.into(),
        number: message.number,
        bytes: message.bytes,
        json,
        omitted,
    }
}

fn end(end: TappedEnd) -> TapEnd {
    TapEnd {
        code: u32::try_from(i32::from(end.code)).expect("a gRPC code is 0 to 16"),
        message: end.message,
        latency: end.latency.try_into().ok(),
        request_bytes: end.request_bytes,
        response_bytes: end.response_bytes,
    }
}
