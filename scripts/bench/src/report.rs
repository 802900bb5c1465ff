//! What a bench found: printed as a table, and written to `target/bench/NAME.json`.

use anyhow::Context as _;
use serde::Serialize;
use std::path::Path;

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
        Self {
            metric: metric.into(),
            unit,
            peer: Some(peer),
            peers: pairs.iter().map(|(_, peer)| *peer).collect(),
            ratio: Some(median(pairs.iter().map(|(ours, peer)| ours / peer).collect())),
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
        let value = median(runs.clone());
        let metric = metric.into();
        Self { metric, unit, ours: runs, peer: None, peers: Vec::new(), ratio: None, value, goal }
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
}

/// Prints the figures and writes them to `folder/NAME.json`.
pub(crate) fn publish(folder: &Path, name: &str, figures: &[Figure]) -> anyhow::Result<()> {
    let path = folder.join(format!("{name}.json"));
    std::fs::create_dir_all(folder)?;
    std::fs::write(&path, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("can't write {}", path.display()))?;
    crate::say(&format!("\n{name}  ({})", path.display()));
    for figure in figures {
        let runs = figure.ours.iter().map(|run| format!("{run:.2}")).collect::<Vec<_>>().join(" ");
        let beside = match (figure.peer, figure.ratio) {
            (Some(peer), Some(ratio)) => {
                format!("   {peer} {:.2}, ratio {ratio:.2}", median(figure.peers.clone()))
            }
            _ => String::new(),
        };
        let goal = match (figure.goal, figure.is_met()) {
            (Some(goal), Some(true)) => format!("   goal {goal}: met"),
            (Some(goal), _) => format!("   goal {goal}: MISSED"),
            (None, _) => String::new(),
        };
        crate::say(&format!(
            "  {:<44} {:>12.2} {:<14} runs {runs}{beside}{goal}",
            figure.metric, figure.value, figure.unit
        ));
    }
    Ok(())
}

/// The middle one; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
