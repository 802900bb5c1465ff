//! `linkmesh mesh top`: the busiest methods, live.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::ValueEnum;
use jiff::Zoned;
use proto::mesh::v1::GetStatsRequest;
use proto::mesh::v1::Stats;

use super::fleet;
use super::fleet::Fleet;
use super::sample::End;
use super::sample::Sample;
use super::screen::Screen;
use super::show;
use super::stat;
use super::stat::By;
use super::stat::Volume;
use crate::operator::Operator;
use crate::operator::Place;
use crate::print;

/// How many looks a rate is taken over: short enough to be live, long enough not to flicker.
const LOOKS: usize = 5;
/// After how many looks it is asked again who is there.
const LOOKS_PER_FLEET: usize = 5;

/// Show the busiest methods live: calls a second, success and latency, drawn anew in place
///
/// Rates and percentiles are of the last five looks. Leave with q or Ctrl-C. Where standard output is no terminal, one table follows
/// the other, each with its time.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh top
  linkmesh mesh top --by caller --sort p99
  linkmesh mesh top --service links --interval 500ms
  linkmesh mesh top --once                     one table, for scripts")]
pub(crate) struct Arguments {
    /// What each row is about
    #[arg(long, value_enum, default_value_t = By::Caller)]
    by: By,
    /// By what rows are sorted, the largest first
    #[arg(long, value_enum, default_value_t = Sort::Rps)]
    sort: Sort,
    /// Only calls to this service, such as `links`
    #[arg(long, value_name = "SERVICE", default_value = "", hide_default_value = true)]
    service: String,
    /// How often to look, 100ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Look twice, print one table, and leave
    #[arg(long)]
    once: bool,
    /// Also the calls of these commands themselves
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

/// By what rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Calls a second
    Rps,
    /// The share of failures
    Failures,
    /// The 99th percentile
    P99,
}

/// Looks and shows until its reader leaves.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.place)?;
    let fleet = Fleet::find(&operator, &arguments.service).await?;
    let mut top = Top { arguments, operator, fleet, looks: VecDeque::new(), problems: Vec::new() };
    let live =
        !top.arguments.once && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let shown = if live { top.live().await } else { top.plain().await };
    top.fleet.close().await;
    shown
}

struct Top {
    arguments: Arguments,
    operator: Operator,
    fleet: Fleet,
    /// The oldest first.
    looks: VecDeque<Vec<Stats>>,
    /// Who did not answer the last look.
    problems: Vec<String>,
}

impl Top {
    async fn live(&mut self) -> anyhow::Result<()> {
        let screen = Screen::open().context("the terminal can't be used; see --once")?;
        tokio::select! {
            () = screen.left() => Ok(()),
            shown = self.draw_for_ever(&screen) => shown,
        }
    }

    async fn draw_for_ever(&mut self, screen: &Screen) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(self.arguments.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for looks in 1_usize.. {
            ticks.tick().await;
            if looks.is_multiple_of(LOOKS_PER_FLEET) {
                // While nobody answers, those who were there are asked on.
                self.fleet.refresh(&self.operator, &self.arguments.service).await.ok();
            }
            self.look().await;
            let mut page = self.page();
            page.insert(1, "q leaves".to_owned());
            screen.draw(&page)?;
        }
        unreachable!("nobody looks so often");
    }

    async fn plain(&mut self) -> anyhow::Result<()> {
        self.look().await;
        loop {
            tokio::time::sleep(self.arguments.interval).await;
            self.look().await;
            self.page().iter().try_for_each(|line| print::line(line))?;
            if self.arguments.once {
                return Ok(());
            }
        }
    }

    async fn look(&mut self) {
        let answers = self.fleet.ask(|mut client| async move {
            client.get_stats(fleet::question(GetStatsRequest {})).await
        });
        let (answered, problems) = fleet::sorted(answers.await);
        self.problems = problems;
        self.looks.push_back(answered.into_iter().filter_map(|response| response.stats).collect());
        if self.looks.len() > LOOKS + 1 {
            self.looks.pop_front();
        }
    }

    fn page(&self) -> Vec<String> {
        let (Some(before), Some(after)) = (self.looks.front(), self.looks.back()) else {
            return Vec::new();
        };
        let instances = after.len();
        let now = Zoned::now().strftime("%H:%M:%S");
        let mut page = vec![format!("{now}  {instances} instances")];
        let counted = if self.looks.len() > 1 { before.as_slice() } else { after.as_slice() };
        let Arguments { by, sort, all, .. } = &self.arguments;
        page.extend(rows(counted, after, *by, *sort, *all));
        page.extend(self.problems.iter().map(|problem| format!("not counted: {problem}")));
        page
    }
}

fn rows(before: &[Stats], after: &[Stats], by: By, sort: Sort, all: bool) -> Vec<String> {
    let samples: BTreeMap<Vec<String>, Sample> =
        Sample::between(before, after, End::Callee, |calls| {
            (all || !show::is_own(&calls.method)).then(|| by.key(calls))
        });
    if samples.is_empty() {
        return vec!["no calls".to_owned()];
    }
    let mut sorted: Vec<_> = samples.iter().collect();
    let weight = |sample: &Sample| match sort {
        Sort::Rps => sample.rps,
        Sort::Failures => 1.0 - sample.success_rate().unwrap_or(1.0),
        Sort::P99 => sample.percentile(99.0).unwrap_or_default().as_secs_f64(),
    };
    sorted.sort_by(|(_, a), (_, b)| weight(b).total_cmp(&weight(a)));
    stat::table(by, Volume::Rate, sorted.into_iter())
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = show::parse_duration(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    if bounds.contains(&interval) { Ok(interval) } else { Err("must be 100ms to 60s".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::calls;
    use super::super::sample::tests::stats;
    use super::*;

    #[test]
    fn the_largest_is_first_whatever_it_is_sorted_by() {
        let inbound = vec![
            calls("edge", "a.A/Busy", &[(0, 100)], &[(100, 110, 100)]),
            calls("edge", "a.A/Slow", &[(0, 5)], &[(900_000, 950_000, 5)]),
            calls("edge", "a.A/Failing", &[(13, 9)], &[(500, 550, 9)]),
        ];
        let after = [stats("links-1", 10, inbound)];
        let first = |sort| {
            let rows = rows(&[], &after, By::Method, sort, false);
            rows[1].split_whitespace().nth(1).map(str::to_owned)
        };
        assert_eq!(first(Sort::Rps).as_deref(), Some("A/Busy"));
        assert_eq!(first(Sort::P99).as_deref(), Some("A/Slow"));
        assert_eq!(first(Sort::Failures).as_deref(), Some("A/Failing"));
        assert_eq!(rows(&after, &after, By::Method, Sort::Rps, false), ["no calls"]);
    }
}
