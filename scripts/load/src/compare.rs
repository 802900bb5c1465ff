//! Waits until what the API reports is what was answered, and says where it is not.

use crate::Options;
use crate::Split;
use crate::Target;
use crate::api::Api;
use crate::api::Counted;
use crate::tally::Tally;
use std::time::Duration;
use std::time::Instant;

/// Between two readings of the counts.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// Counts must stay as they are for this long to be believed: a click counted twice may come late.
const QUIET: Duration = Duration::from_secs(2);

/// What must hold between clicks answered and clicks counted, for every link and in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Counted is answered.
    Equal,
    /// Answered at most counted, and counted at most answered and lost: for runs with faults.
    Bounded,
    /// Counts are not read.
    None,
}

/// The last reading, without what was counted before the run.
#[derive(Debug, Clone)]
pub(crate) struct Compared {
    pub(crate) counted: Counted,
    /// Positions of links that do not agree.
    pub(crate) mismatches: Vec<usize>,
    pub(crate) total_agrees: bool,
    /// From the last answer to the reading that agreed first, or until it was given up.
    pub(crate) settled_after: Duration,
}

pub(crate) async fn compare(
    options: &Options,
    api: &Api,
    links: &[Target],
    baseline: &Counted,
    tally: &Tally,
) -> anyhow::Result<Compared> {
    let start = Instant::now();
    let mut agreed: Option<(Instant, Counted)> = None;
    loop {
        let counted = match options.comparison {
            Comparison::None => {
                Counted { links: vec![Split::default(); links.len()], ..Counted::default() }
            }
            Comparison::Equal | Comparison::Bounded => since(api.counted(links).await?, baseline),
        };
        let compared = judge(options, counted, tally, start.elapsed());
        if options.comparison == Comparison::None {
            return Ok(compared);
        }
        let agrees = compared.mismatches.is_empty() && compared.total_agrees;
        agreed = match agreed {
            _ if !agrees => None,
            Some((since, last)) if last == compared.counted => {
                if since.elapsed() >= QUIET {
                    return Ok(Compared { settled_after: since - start, ..compared });
                }
                Some((since, last))
            }
            Some(_) | None => Some((Instant::now(), compared.counted.clone())),
        };
        if start.elapsed() > options.settle_max && agreed.is_none() {
            return Ok(compared);
        }
        tokio::time::sleep(POLL_WAIT).await;
    }
}

fn since(counted: Counted, baseline: &Counted) -> Counted {
    let minus = |now: Split, before: Split| Split {
        people: now.people.saturating_sub(before.people),
        bots: now.bots.saturating_sub(before.bots),
    };
    let pairs = counted.links.iter().zip(&baseline.links);
    Counted {
        links: pairs.map(|(now, before)| minus(*now, *before)).collect(),
        total: minus(counted.total, baseline.total),
    }
}

fn judge(options: &Options, counted: Counted, tally: &Tally, settled_after: Duration) -> Compared {
    let agree = |counted, (answered, lost)| agree(options, counted, answered, lost);
    let mismatches = (0..counted.links.len())
        .filter(|position| !agree(counted.links[*position], tally.of(*position)))
        .collect();
    let total_agrees = agree(counted.total, tally.total());
    Compared { counted, mismatches, total_agrees, settled_after }
}

fn agree(options: &Options, counted: Split, answered: Split, lost: Split) -> bool {
    let holds = |counted: u64, answered: u64, lost: u64| match options.comparison {
        Comparison::Equal => counted == answered,
        Comparison::Bounded => (answered..=answered + lost).contains(&counted),
        Comparison::None => true,
    };
    if options.agents.has_certain_kinds {
        holds(counted.people, answered.people, lost.people)
            && holds(counted.bots, answered.bots, lost.bots)
    } else {
        holds(counted.total(), answered.total(), lost.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(comparison: Comparison) -> Options {
        let options = Options::new(vec![], String::new(), String::new()).expect("agents");
        Options { comparison, ..options }
    }

    #[test]
    fn equal_means_each_kind_exactly_and_bounded_allows_what_was_lost() {
        let split = |people, bots| Split { people, bots };
        for (comparison, counted, answered, lost, expected) in [
            (Comparison::Equal, split(3, 1), split(3, 1), split(0, 0), true),
            (Comparison::Equal, split(4, 0), split(3, 1), split(0, 0), false),
            (Comparison::Equal, split(4, 1), split(3, 1), split(1, 0), false),
            (Comparison::Bounded, split(4, 1), split(3, 1), split(1, 0), true),
            (Comparison::Bounded, split(3, 1), split(3, 1), split(1, 0), true),
            (Comparison::Bounded, split(5, 1), split(3, 1), split(1, 0), false),
            (Comparison::Bounded, split(2, 1), split(3, 1), split(1, 0), false),
            (Comparison::None, split(0, 0), split(3, 1), split(0, 0), true),
        ] {
            let outcome = agree(&options(comparison), counted, answered, lost);
            assert_eq!(outcome, expected, "{comparison:?} {counted:?} {answered:?} {lost:?}");
        }
    }
}
