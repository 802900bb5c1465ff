//! `linkmesh mesh tap`: calls as they come and go, decoded, without their secrets.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use proto::mesh::v1::TapHeader;
use proto::mesh::v1::TapRequest;
use proto::mesh::v1::TapResponse;
use proto::mesh::v1::tap_response::What;
use tonic::Code;
use tonic::Status;
use tonic::Streaming;

use super::fleet::Fleet;
use super::sample::code_name;
use super::show;
use super::tap_line;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Output;

/// How long an instance may take to begin.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(3);

/// Show calls as they come and go: decoded messages, without secrets
///
/// Every instance shows the calls that it answers. Fields that hold secrets and metadata that proves who someone is are redacted
/// before they leave the process. No call is delayed: what comes faster than --max-rps is left out, and how much is said at the end.
/// Leave with Ctrl-C.
///
/// A call is a line when it begins (`:`), one for each message (`>` to the service, `<` to the caller), and one when it has ended
/// (`=`).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh tap
  linkmesh mesh tap --service links --method linkmesh.links.v1.ResolverService/Resolve
  linkmesh mesh tap --caller edge --code PERMISSION_DENIED
  linkmesh mesh tap --min-latency 100ms --max-rps 10
  linkmesh mesh tap --header x-request-id=7f3a --limit 1 -o json      JSON, one event a line")]
pub(crate) struct Arguments {
    /// Only calls of this method, as package.Service/Method, or of all of a gRPC service, as package.Service/*
    #[arg(long, value_name = "METHOD", default_value = "", hide_default_value = true)]
    method: String,
    /// Only calls by this service, such as `edge`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    caller: String,
    /// Only calls to this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    /// Only calls to this instance, such as `links-2`
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Only calls that end with this code, such as UNAVAILABLE
    #[arg(long, value_name = "CODE", value_parser = code)]
    code: Option<u32>,
    /// Only calls with this request header, or with this value of it; may be given several times
    #[arg(long = "header", value_name = "NAME[=VALUE]", value_parser = header)]
    headers: Vec<TapHeader>,
    /// Only calls that take at least this long
    #[arg(long, value_name = "DURATION", value_parser = show::parse_duration)]
    min_latency: Option<Duration>,
    /// Only this percentage of the calls, chosen at random
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0, value_parser = percent)]
    percent: f64,
    /// How many events a second each instance shows at most, 1 to 1000
    #[arg(long, value_name = "EVENTS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    max_rps: u32,
    /// Show no messages, only that there were calls
    #[arg(long)]
    no_messages: bool,
    /// Leave after this many calls have ended
    #[arg(long, value_name = "CALLS")]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Shows until its reader leaves.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.place)?;
    let mut fleet = Fleet::find(&operator, &arguments.service).await?;
    if let Some(instance) = &arguments.instance {
        fleet.instances.retain(|it| it.endpoint.instance == *instance);
    }
    anyhow::ensure!(
        !fleet.instances.is_empty(),
        "no such instance is in the mesh: see `linkmesh mesh endpoints`"
    );
    let shown = show_all(&fleet, &arguments).await;
    fleet.close().await;
    shown
}

async fn show_all(fleet: &Fleet, arguments: &Arguments) -> anyhow::Result<()> {
    let mut events = begin(fleet, request(arguments)).await?;
    let mut shown = Shown::default();
    let showing = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let ends = matches!(event.what, Some(What::End(_)));
                    for line in tap_line::lines(&event, arguments.output) {
                        print::line(&line)?;
                    }
                    shown.take(&event);
                    if ends && arguments.limit.is_some_and(|limit| shown.ended >= limit) {
                        return Ok(());
                    }
                }
                Err(status) => print::problem(&format!("a tap ended: {}", status.message())),
            }
        }
        anyhow::bail!("every instance that was tapped has stopped")
    };
    let ended = tokio::select! {
        ended = showing => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if shown.dropped() > 0 {
        let left_out = shown.dropped();
        print::problem(&format!(
            "{left_out} events were left out; --percent or a higher --max-rps help"
        ));
    }
    ended
}

/// The events of all instances, as they come.
async fn begin(
    fleet: &Fleet,
    request: TapRequest,
) -> anyhow::Result<SelectAll<Streaming<TapResponse>>> {
    let answers = fleet
        .ask(|mut client| {
            let request = request.clone();
            async move {
                // The stream has no deadline; only its beginning has.
                let begun = tokio::time::timeout(BEGIN_WAIT_MAX, client.tap(request)).await;
                begun.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")))
            }
        })
        .await;
    let refused = answers.iter().find_map(|(_, answer)| {
        answer.as_ref().err().filter(|status| status.code() == Code::InvalidArgument)
    });
    if let Some(status) = refused {
        anyhow::bail!("{}", status.message());
    }
    let streams = super::fleet::answered(answers).context("tapping")?;
    Ok(futures_util::stream::select_all(streams))
}

/// What was shown so far.
#[derive(Default)]
struct Shown {
    ended: u64,
    /// By instance: each counts its own.
    dropped: std::collections::BTreeMap<String, u64>,
}

impl Shown {
    fn take(&mut self, event: &TapResponse) {
        self.ended += u64::from(matches!(event.what, Some(What::End(_))));
        self.dropped.insert(event.instance.clone(), event.dropped);
    }

    fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}

fn request(arguments: &Arguments) -> TapRequest {
    TapRequest {
        method: arguments.method.clone(),
        caller: arguments.caller.clone(),
        code: arguments.code,
        headers: arguments.headers.clone(),
        latency_min: arguments.min_latency.and_then(|least| least.try_into().ok()),
        percent: arguments.percent,
        events_per_second: arguments.max_rps,
        message_bytes_max: arguments.no_messages.then_some(0),
    }
}

fn code(text: &str) -> Result<u32, String> {
    let named = (0..=16).find(|code| code_name(*code).eq_ignore_ascii_case(text));
    named.ok_or_else(|| {
        let names: Vec<_> = (0..=16).map(code_name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

fn header(text: &str) -> Result<TapHeader, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(format!("{text:?} names no header"));
    }
    Ok(TapHeader { name: name.to_lowercase(), value })
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
    percent.ok_or_else(|| "must be above 0 and at most 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_they_are_written() {
        assert_eq!(code("permission_denied"), Ok(7));
        assert!(code("DENIED").unwrap_err().contains("PERMISSION_DENIED"));
        let with_value = header("X-Team=growth=fast").unwrap();
        assert_eq!(
            (with_value.name.as_str(), with_value.value.as_deref()),
            ("x-team", Some("growth=fast"))
        );
        assert_eq!(header("x-team").unwrap().value, None);
        assert!(header("=x").is_err());
        assert_eq!(percent("0.5"), Ok(0.5));
        assert!(percent("0").is_err() && percent("101").is_err() && percent("x").is_err());
    }
}
