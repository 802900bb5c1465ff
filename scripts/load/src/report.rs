//! What a run came to: for people as a table, for programs as JSON.

use crate::Comparison;
use crate::Options;
use crate::Split;
use crate::Target;
use crate::compare::Compared;
use crate::drive::Driven;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How many links that do not agree are listed.
const MISMATCHES_MAX: usize = 20;

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Links that were clicked, or could have been.
    pub links: usize,
    /// Clicks that were sent.
    pub sent: u64,
    /// Clicks that were redirected.
    pub answered: Split,
    /// Clicks without an answer, which may or may not have been recorded.
    pub lost: Split,
    /// Clicks that were answered with something other than a redirect.
    pub refused: u64,
    /// How often each status was answered.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that broke while a click was under way.
    pub broken_connections: u64,
    /// Seconds from the first click to the last answer.
    pub elapsed_seconds: f64,
    /// Answers a second.
    pub rate: f64,
    /// Of the answers, from the moment each click was due.
    pub latency: Latency,
    /// What the API reports for the links.
    pub counted: Split,
    /// What the API reports for the workspace.
    pub counted_total: Split,
    /// Seconds from the last answer until the counts agreed, or were given up.
    pub settled_seconds: f64,
    /// How many links do not agree.
    pub mismatched_links: usize,
    /// The first of them.
    pub mismatches: Vec<LinkMismatch>,
    /// Whether every link and the total agree, and every answer was a redirect (in a bounded comparison some may not be).
    pub is_exact: bool,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half of the answers took at most this.
    pub p50_micros: u64,
    /// 90 % did.
    pub p90_micros: u64,
    /// 99 % did.
    pub p99_micros: u64,
    /// 99.9 % did.
    pub p999_micros: u64,
    /// All did.
    pub max_micros: u64,
}

impl Latency {
    /// Of a histogram in microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50_micros: histogram.value_at_quantile(0.5),
            p90_micros: histogram.value_at_quantile(0.9),
            p99_micros: histogram.value_at_quantile(0.99),
            p999_micros: histogram.value_at_quantile(0.999),
            max_micros: histogram.max(),
        }
    }
}

/// A link whose counts do not agree.
#[derive(Debug, Clone, Serialize)]
pub struct LinkMismatch {
    /// Its name.
    pub name: String,
    /// Clicks redirected.
    pub answered: Split,
    /// Clicks without an answer.
    pub lost: Split,
    /// What the API reports.
    pub counted: Split,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        links: &[Target],
        driven: Driven,
        compared: Compared,
    ) -> Self {
        let (answered, lost) = driven.tally.total();
        let refused = driven.latency.len() - answered.total();
        let mismatches = compared.mismatches.iter().take(MISMATCHES_MAX).map(|position| {
            let (answered, lost) = driven.tally.of(*position);
            let counted = compared.counted.links[*position];
            LinkMismatch { name: links[*position].name.clone(), answered, lost, counted }
        });
        let mismatches = mismatches.collect();
        let agrees = compared.mismatches.is_empty() && compared.total_agrees;
        let elapsed_seconds = driven.elapsed.as_secs_f64();
        Self {
            links: links.len(),
            sent: answered.total() + lost.total() + refused,
            answered,
            lost,
            refused,
            statuses: driven.statuses,
            broken_connections: driven.broken,
            elapsed_seconds,
            rate: driven.latency.len() as f64 / elapsed_seconds.max(f64::EPSILON),
            latency: Latency::of(&driven.latency),
            counted: compared.counted.links.iter().copied().sum(),
            counted_total: compared.counted.total,
            settled_seconds: compared.settled_after.as_secs_f64(),
            mismatched_links: compared.mismatches.len(),
            mismatches,
            is_exact: agrees && (refused == 0 || options.comparison == Comparison::Bounded),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        writeln!(
            f,
            "{} clicks on {} links in {:.1} s: {:.0} answers/s, {} broken connections",
            self.sent, self.links, self.elapsed_seconds, self.rate, self.broken_connections
        )?;
        writeln!(
            f,
            "latency ms: p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            millis(self.latency.p50_micros),
            millis(self.latency.p90_micros),
            millis(self.latency.p99_micros),
            millis(self.latency.p999_micros),
            millis(self.latency.max_micros)
        )?;
        let statuses: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(f, "statuses: {}", statuses.join(", "))?;
        writeln!(
            f,
            "{:<10} {:>12} {:>12} {:>12} {:>12}",
            "", "answered", "lost", "counted", "workspace"
        )?;
        for (kind, of) in [
            ("people", (|split| split.people) as fn(Split) -> u64),
            ("bots", |split| split.bots),
            ("total", Split::total),
        ] {
            writeln!(
                f,
                "{kind:<10} {:>12} {:>12} {:>12} {:>12}",
                of(self.answered),
                of(self.lost),
                of(self.counted),
                of(self.counted_total)
            )?;
        }
        for link in &self.mismatches {
            writeln!(
                f,
                "{}: answered {}+{}, lost {}+{}, counted {}+{} (people+bots)",
                link.name,
                link.answered.people,
                link.answered.bots,
                link.lost.people,
                link.lost.bots,
                link.counted.people,
                link.counted.bots
            )?;
        }
        if self.is_exact {
            write!(f, "every link agrees, {:.1} s after the last answer", self.settled_seconds)
        } else {
            let refused = self.refused;
            write!(f, "{} links do not agree, {refused} clicks refused", self.mismatched_links)
        }
    }
}
