//! What a fold will do: which clicks it counts, which become dead letters, where it moves the partition to. Pure.

use std::collections::BTreeSet;

use super::decode::Content;
use super::decode::Step;
use crate::domain::click::Window;
use crate::domain::ledger::Incarnation;
use crate::domain::ledger::Ledger;
use crate::domain::ledger::Verdict;
use crate::domain::letter::Letter;
use crate::domain::letter::Reason;
use crate::store::fold::FoldedRecord;

/// A planned fold.
#[derive(Debug)]
pub struct Plan {
    /// The steps whose clicks are to be counted, by their places.
    pub clicks: Vec<usize>,
    /// The clicks not to be.
    pub letters: Vec<Letter>,
    /// Numbers that never came.
    pub lost: u64,
    /// Clicks that had been folded before.
    pub skipped: u64,
    /// The ledger afterwards.
    pub ledger: Ledger,
    /// The highest number of each incarnation that was folded from.
    pub numbers: Vec<(Incarnation, u64)>,
    /// Incarnations that expired.
    pub forgotten: Vec<Incarnation>,
    /// The next offset afterwards.
    pub next_offset: i64,
    /// The last record that is done now.
    pub last: Option<FoldedRecord>,
}

/// Plans the fold of some steps in order. With `refused` (what the store said) its clicks become dead letters.
pub fn plan(
    steps: &[Step],
    ledger: &Ledger,
    window: Window,
    next_offset: i64,
    refused: Option<&str>,
) -> Plan {
    let mut plan = Plan {
        clicks: Vec::with_capacity(steps.len()),
        letters: Vec::new(),
        lost: 0,
        skipped: 0,
        ledger: ledger.clone(),
        numbers: Vec::new(),
        forgotten: Vec::new(),
        next_offset,
        last: None,
    };
    let mut folded_from = BTreeSet::new();
    for (place, step) in steps.iter().enumerate() {
        plan.ledger.see(step.append_micros);
        plan.next_offset = step.offset;
        if let Some(record) = &step.ends {
            plan.next_offset = step.offset + 1;
            plan.last = Some(record.clone());
        }
        let Some((incarnation, numbers)) = &step.numbers else {
            plan.letters.push(letter(step, Reason::UnreadableRecord, None));
            continue;
        };
        match plan.ledger.judge(incarnation, numbers.clone()) {
            Verdict::Skip => {
                plan.skipped += numbers.end() - numbers.start() + 1;
                continue;
            }
            Verdict::Expired => {
                let detail = "its incarnation was opened more than 35 days before".to_owned();
                plan.letters.push(letter(step, Reason::Expired, Some(detail)));
                continue;
            }
            Verdict::Fold { lost } => {
                plan.lost += lost;
                folded_from.insert(*incarnation);
            }
        }
        match (&step.content, refused) {
            (Content::Undecodable { .. }, _) => {
                plan.letters.push(letter(step, Reason::Undecodable, None));
            }
            (Content::Click(click), _) if !window.holds(click.time_micros, step.append_micros) => {
                let detail = format!(
                    "clicked at {} µs, appended at {} µs",
                    click.time_micros, step.append_micros
                );
                plan.letters.push(letter(step, Reason::OutOfWindow, Some(detail)));
            }
            (Content::Click(_), Some(refusal)) => {
                plan.letters.push(letter(step, Reason::Refused, Some(refusal.to_owned())));
            }
            (Content::Click(_), None) => plan.clicks.push(place),
        }
    }
    plan.forgotten = plan.ledger.forget_expired();
    let highest = |incarnation: &Incarnation| plan.ledger.highest(incarnation);
    plan.numbers = folded_from
        .into_iter()
        .filter_map(|incarnation| Some((incarnation, highest(&incarnation)?)))
        .collect();
    plan
}

fn letter(step: &Step, reason: Reason, detail: Option<String>) -> Letter {
    let (own_detail, whole_record) = match &step.content {
        Content::Undecodable { detail, whole_record } => (detail.as_str(), *whole_record),
        Content::Click(_) => ("", false),
    };
    let number = match &step.numbers {
        Some((_, numbers)) => *numbers.start(),
        None => u64::try_from(step.offset).expect("offsets begin at 0"),
    };
    // Postgres takes no NUL in text, and an error message may quote what was sent.
    let detail = detail.unwrap_or_else(|| own_detail.to_owned()).replace('\0', "");
    Letter {
        incarnation: step.numbers.as_ref().map(|(incarnation, _)| *incarnation),
        number,
        reason,
        detail,
        payload: step.payload.clone(),
        whole_record,
        append_micros: step.append_micros,
    }
}
