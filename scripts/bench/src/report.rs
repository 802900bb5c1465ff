//! What a bench found: printed as a table, and written to `target/bench/NAME.json`.

use crate::statistics::interval;
use crate::statistics::median;
use anyhow::Context as _;
use serde::Serialize;
use std::path::Path;

/// Runs are printed one by one if there are no more of them.
const RUNS_PRINTED_MAX: usize = 5;

/// One figure, over all runs, beside its peer's in the same runs.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) metric: String,
    /// Of `ours` and `peers`.
    pub(crate) unit: &'static str,
    /// One for each run.
    pub(crate) ours: Vec<f64>,
    /// Whom it is compared with; absent where nobody does the same.
    pub(crate) peer: Option<&'static str>,
    /// One for each run.
    pub(crate) peers: Vec<f64>,
    /// The median of the runs' ratios.
    pub(crate) ratio: Option<f64>,
    /// The median of `ours`.
    pub(crate) value: f64,
    /// The 95 % interval of `ratio`, or of `value` where nobody is beside it; absent below six runs.
    pub(crate) interval: Option<[f64; 2]>,
    /// What it should be, as `ratio <= 3` or `value >= 100000`; absent for what only explains another figure.
    pub(crate) goal: Option<&'static str>,
}

impl Figure {
    /// A figure beside a peer's; `pairs` are (ours, peer's) run by run.
    pub(crate) fn beside(
        metric: impl Into<String>,
        unit: &'static str,
        peer: &'static str,
        pairs: &[(f64, f64)],
        goal: Option<&'static str>,
    ) -> Self {
        let ours: Vec<f64> = pairs.iter().map(|(ours, _)| *ours).collect();
        let ratios: Vec<f64> = pairs.iter().map(|(ours, peer)| ours / peer).collect();
        Self {
            metric: metric.into(),
            unit,
            peer: Some(peer),
            peers: pairs.iter().map(|(_, peer)| *peer).collect(),
            interval: interval(ratios.clone()),
            ratio: Some(median(ratios)),
            value: median(ours.clone()),
            ours,
            goal,
        }
    }

    /// A figure that stands alone.
    pub(crate) fn alone(
        metric: impl Into<String>,
        unit: &'static str,
        runs: Vec<f64>,
        goal: Option<&'static str>,
    ) -> Self {
        Self {
            metric: metric.into(),
            unit,
            peer: None,
            peers: Vec::new(),
            ratio: None,
            interval: interval(runs.clone()),
            value: median(runs.clone()),
            ours: runs,
            goal,
        }
    }

    /// Whether it is what it should be; `None` without a goal.
    fn is_met(&self) -> Option<bool> {
        let goal = self.goal?;
        let mut words = goal.split(' ');
        let figure = match words.next() {
            Some("ratio") => self.ratio?,
            _ => self.value,
        };
        let is_at_most = words.next() == Some("<=");
        let bound: f64 = words.next().and_then(|bound| bound.parse().ok())?;
        Some(if is_at_most { figure <= bound } else { figure >= bound })
    }

    /// Its line of the table.
    fn line(&self) -> String {
        let ours = format!("{} {}", short(self.value), self.unit);
        let peer = self.peer.map_or_else(String::new, |peer| {
            format!("{peer} {}", short(median(self.peers.clone())))
        });
        let sure = self
            .interval
            .map_or_else(String::new, |[low, high]| format!("[{}, {}]", short(low), short(high)));
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("x{}", short(ratio)));
        let goal = match (self.goal, self.is_met()) {
            (Some(goal), Some(true)) => format!("{goal}: met"),
            (Some(goal), _) => format!("{goal}: MISSED"),
            (None, _) => String::new(),
        };
        let runs = if self.ours.len() > RUNS_PRINTED_MAX {
            String::new()
        } else {
            let runs: Vec<_> = self.ours.iter().map(|run| short(*run)).collect();
            format!("   runs {}", runs.join(" "))
        };
        let line = format!(
            "  {:<54} {ours:>22}   {peer:<28} {ratio:>8} {sure:<18} {goal}{runs}",
            self.metric
        );
        line.trim_end().to_owned()
    }
}

/// Four digits at least, and no more after the point than say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Prints the figures and writes them to `folder/NAME.json`.
pub(crate) fn publish(folder: &Path, name: &str, figures: &[Figure]) -> anyhow::Result<()> {
    let path = folder.join(format!("{name}.json"));
    std::fs::create_dir_all(folder)?;
    std::fs::write(&path, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("can't write {}", path.display()))?;
    crate::say(&format!("\n{name}: medians [95 % interval]  ({})", path.display()));
    for figure in figures {
        crate::say(&figure.line());
    }
    Ok(())
}
