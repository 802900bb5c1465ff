//! `linkmesh mesh stat`: the golden metrics of a window, as the instances that answered the calls counted them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use proto::mesh::v1::GetStatsRequest;
use proto::mesh::v1::Stats;
use serde_json::json;

use super::fleet;
use super::fleet::Fleet;
use super::sample::Calls;
use super::sample::End;
use super::sample::Sample;
use super::show;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;
use crate::print::Column;
use crate::print::Output;

/// How long calls are counted, unless something else is asked for.
pub(super) const WINDOW_DEFAULT: &str = "10s";
/// The longest window: longer than anyone waits at a prompt.
pub(super) const WINDOW_MAX: Duration = Duration::from_secs(3_600);

/// Show calls a second, success and latency of each service, instance, method or caller
///
/// Every instance tells its whole histograms at the window's beginning and end, so rates and percentiles are of the window, over
/// all instances, and off by a tenth at the most. SUCCESS counts as failures what the callee is to blame for: UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS. CODES are those other than OK: a caller that is refused shows as
/// PERMISSION_DENIED.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh stat                              methods, over the next 10 s
  linkmesh mesh stat --by instance --service links --window 30s
  linkmesh mesh stat --by caller --total          since the instances started
  linkmesh mesh stat --window 5s -o json")]
pub(crate) struct Arguments {
    /// What each row is about
    #[arg(long, value_enum, default_value_t = By::Method)]
    by: By,
    /// Only calls to this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    /// Only calls by this service, such as `edge`
    #[arg(long, value_name = "SERVICE")]
    caller: Option<String>,
    /// How long to count
    #[arg(long, value_name = "DURATION", default_value = WINDOW_DEFAULT, value_parser = window)]
    window: Duration,
    /// Count since the instances started instead of over a window
    #[arg(long, conflicts_with = "window")]
    total: bool,
    /// Also the calls of these commands themselves
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Each service
    Service,
    /// Each instance of it
    Instance,
    /// Each of its methods
    Method,
    /// Each caller and method
    Caller,
}

/// How an amount of calls is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    /// All of them
    Calls,
    /// In a second
    Rate,
}

impl By {
    fn titles(self) -> &'static [&'static str] {
        match self {
            By::Service => &["SERVICE"],
            By::Instance => &["SERVICE", "INSTANCE"],
            By::Method => &["SERVICE", "METHOD"],
            By::Caller => &["CALLER", "SERVICE", "METHOD"],
        }
    }

    pub(super) fn key(self, calls: &Calls) -> Vec<String> {
        let Calls { caller, callee, instance, method } = calls.clone();
        match self {
            By::Service => vec![callee],
            By::Instance => vec![callee, instance],
            By::Method => vec![callee, method],
            By::Caller => vec![caller, callee, method],
        }
    }
}

/// Counts and prints.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let fleet = Fleet::find(&Operator::find(&arguments.place)?, &arguments.service).await?;
    let before = match arguments.total {
        true => Vec::new(),
        false => {
            let before = look(&fleet).await?;
            tokio::time::sleep(arguments.window).await;
            before
        }
    };
    let after = look(&fleet).await?;
    fleet.close().await;
    let samples = Sample::between(&before, &after, End::Callee, |calls| {
        let wanted = arguments.caller.as_ref().is_none_or(|caller| *caller == calls.caller)
            && (arguments.all || !show::is_own(&calls.method));
        wanted.then(|| arguments.by.key(calls))
    });
    if arguments.output.is_json() {
        return print::json(&as_json(arguments.by, &samples));
    }
    if samples.is_empty() {
        let when = if arguments.total { "so far" } else { "within the window" };
        return print::line(&format!("no calls {when}"));
    }
    let volume = if arguments.total { Volume::Calls } else { Volume::Rate };
    table(arguments.by, volume, samples.iter()).iter().try_for_each(|line| print::line(line))
}

/// What all instances have counted until now.
pub(super) async fn look(fleet: &Fleet) -> anyhow::Result<Vec<Stats>> {
    let answers = fleet
        .ask(
            |mut client| async move { client.get_stats(fleet::question(GetStatsRequest {})).await },
        )
        .await;
    let answered = fleet::answered(answers)?;
    Ok(answered.into_iter().filter_map(|response| response.stats).collect())
}

/// The lines of a table, the heading first.
pub(super) fn table<'a>(
    by: By,
    volume: Volume,
    samples: impl Iterator<Item = (&'a Vec<String>, &'a Sample)>,
) -> Vec<String> {
    let titles = by.titles().iter().map(|&title| Column::Words(title));
    let amount = match volume {
        Volume::Calls => "CALLS",
        Volume::Rate => "RPS",
    };
    let numbers = [amount, "SUCCESS", "P50", "P95", "P99"].map(Column::Numbers);
    let columns: Vec<_> = titles.chain(numbers).chain([Column::Words("CODES")]).collect();
    let rows: Vec<Vec<String>> = samples
        .map(|(key, sample)| {
            let key = key.iter().map(|part| show::short(part).to_owned());
            key.chain(golden(sample, volume)).chain([sample.other_codes()]).collect()
        })
        .collect();
    print::aligned(&columns, &rows)
}

/// The columns from the amount to P99.
fn golden(sample: &Sample, volume: Volume) -> [String; 5] {
    let amount = match volume {
        Volume::Calls => sample.calls().to_string(),
        Volume::Rate => show::rate(sample.rps),
    };
    [
        amount,
        show::percent(sample.success_rate()),
        show::duration_or_dash(sample.percentile(50.0)),
        show::duration_or_dash(sample.percentile(95.0)),
        show::duration_or_dash(sample.percentile(99.0)),
    ]
}

fn as_json(by: By, samples: &BTreeMap<Vec<String>, Sample>) -> serde_json::Value {
    let row = |(key, sample): (&Vec<String>, &Sample)| {
        let mut row = show::golden_json(sample);
        for (title, part) in by.titles().iter().zip(key) {
            row[title.to_lowercase()] = json!(part);
        }
        row
    };
    json!({ "rows": samples.iter().map(row).collect::<Vec<_>>() })
}

pub(super) fn window(text: &str) -> Result<Duration, String> {
    let window = show::parse_duration(text)?;
    match window {
        Duration::ZERO => Err("must be longer than nothing; see --total".to_owned()),
        _ if window > WINDOW_MAX => Err("must be 1h at the most".to_owned()),
        _ => Ok(window),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::calls;
    use super::super::sample::tests::stats;
    use super::*;

    fn samples(by: By) -> BTreeMap<Vec<String>, Sample> {
        let get = "linkmesh.links.v1.LinksService/GetLink";
        let inbound = vec![
            calls("edge", get, &[(0, 990), (14, 10)], &[(400, 410, 950), (2_000, 2_200, 50)]),
            calls("analytics", get, &[(7, 3)], &[(50, 55, 3)]),
        ];
        let after = [stats("links-1", 10, inbound)];
        Sample::between(&[], &after, End::Callee, |calls| Some(by.key(calls)))
    }

    #[test]
    fn rows_are_what_is_asked_for_and_a_refused_caller_is_seen() {
        let expected = [
            "CALLER     SERVICE  METHOD                  RPS  SUCCESS      P50      P95      P99  CODES",
            "analytics  links    LinksService/GetLink    0.3    100 %  52.5 µs  54.8 µs  55.0 µs  PERMISSION_DENIED 3",
            "edge       links    LinksService/GetLink  100    99.00 %   405 µs   410 µs  2.16 ms  UNAVAILABLE 10",
        ];
        let lines = table(By::Caller, Volume::Rate, samples(By::Caller).iter());
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let (lines, expected): (Vec<_>, Vec<_>) =
            (lines.iter().map(|line| words(line)).collect(), expected.map(words).into());
        assert_eq!(lines, expected);
        assert_eq!(samples(By::Service).len(), 1);
    }

    #[test]
    fn a_script_is_told_numbers_in_units_that_their_names_say() {
        let json = as_json(By::Instance, &samples(By::Instance));
        let row = &json["rows"][0];
        assert_eq!(row["instance"], "links-1");
        assert_eq!(row["calls"], 1_003);
        assert_eq!(row["codes"]["PERMISSION_DENIED"], 3);
        assert!(row["p50Seconds"].as_f64().is_some_and(|p50| (0.000_4..0.000_41).contains(&p50)));
    }

    #[test]
    fn a_window_is_neither_nothing_nor_for_ever() {
        assert!(window("0s").is_err() && window("2h").is_err());
        assert_eq!(window("30s"), Ok(Duration::from_secs(30)));
    }
}
