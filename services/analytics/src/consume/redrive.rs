//! Dead letters folded anew by who holds their partition: each is counted and marked in one transaction, at most once.

use std::ops::Range;
use std::sync::Arc;

use bus::clicks::ClickRecord;
use jiff::Timestamp;
use prost::Message as _;
use proto::events::v1::ClickBatch;

use super::decode::Content;
use super::decode::Step;
use super::decode::click;
use super::folder::Folder;
use super::folder::Trouble;
use crate::domain::click::Click;
use crate::store;
use crate::store::fold::Move;
use crate::store::letters::StoredLetter;

/// Letters folded in one transaction, unless the store refuses one of them.
const GROUP_MAX: usize = 200;

/// A letter whose clicks can be counted now: its id and the places of its steps.
struct Ready {
    id: i64,
    steps: Range<usize>,
}

impl Folder {
    /// Folds the letters of this partition that were asked for.
    pub(super) async fn redrive_requested(&mut self) -> Result<(), Trouble> {
        loop {
            let letters = self.shared.store.requested(self.partition, GROUP_MAX).await?;
            if letters.is_empty() {
                return Ok(());
            }
            let mut steps = Vec::new();
            let mut ready = Vec::new();
            for letter in letters {
                let begin = steps.len();
                match self.read(&letter).await {
                    Ok(clicks) => {
                        steps.extend(clicks.into_iter().map(|click| step(&letter, click)));
                        ready.push(Ready { id: letter.id, steps: begin..steps.len() });
                    }
                    Err(detail) => {
                        self.shared.store.refuse_redrive(letter.id, &detail).await?;
                    }
                }
            }
            self.fold_letters(Arc::new(steps), &ready).await?;
        }
    }

    /// The clicks of a letter, as far as they may be counted now.
    async fn read(&self, letter: &StoredLetter) -> Result<Vec<Click>, String> {
        let payload = &letter.letter.payload;
        let clicks = if letter.letter.whole_record {
            let batch = ClickBatch::decode(payload.as_ref()).map_err(|error| error.to_string())?;
            let numbered = ClickRecord {
                incarnation: uuid::Uuid::nil(),
                first: letter.letter.number,
                clicks: batch.clicks,
            };
            let clicks = numbered.clicks.iter().map(|each| click(each, &self.shared.agents));
            clicks.collect::<Result<Vec<Click>, String>>()?
        } else {
            vec![click(payload, &self.shared.agents)?]
        };
        for click in &clicks {
            let append_micros = letter.letter.append_micros;
            if letter.ignore_window {
                // Its month may be older than those that are made ahead.
                let at = Timestamp::from_microsecond(click.time_micros);
                let at = at.map_err(|error| error.to_string())?;
                let made = self.shared.store.make_months(at, at).await;
                made.map_err(|error| format!("{error:#}").replace('\0', ""))?;
            } else if !self.shared.window.holds(click.time_micros, append_micros) {
                return Err(format!(
                    "out of its window: clicked at {} µs, appended at {append_micros} µs",
                    click.time_micros
                ));
            }
        }
        Ok(clicks)
    }

    async fn fold_letters(
        &mut self,
        steps: Arc<Vec<Step>>,
        ready: &[Ready],
    ) -> Result<(), Trouble> {
        let mut pending = if ready.is_empty() { Vec::new() } else { vec![ready] };
        while let Some(group) = pending.pop() {
            let error = match self.fold_group(&steps, group).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.hot.drop_all();
            match (error, group) {
                (Trouble::Store(store::Error::Refused { sqlstate, detail }), [letter]) => {
                    let detail = format!("SQLSTATE {sqlstate}: {detail}");
                    self.shared.store.refuse_redrive(letter.id, &detail).await?;
                }
                (Trouble::Store(store::Error::Refused { .. }), group) => {
                    let (first, second) = group.split_at(group.len() / 2);
                    pending.extend([second, first]);
                }
                (error, _) => return Err(error),
            }
        }
        Ok(())
    }

    async fn fold_group(&mut self, steps: &Arc<Vec<Step>>, group: &[Ready]) -> Result<(), Trouble> {
        let stay = Move {
            partition: self.partition,
            epoch: self.epoch,
            expected: self.next_offset,
            next_offset: self.next_offset,
            last: None,
            append_seen_micros: self.ledger.append_seen_micros(),
            lost: 0,
            numbers: Vec::new(),
            forgotten: Vec::new(),
        };
        let fold = self.shared.store.begin_fold(&stay).await?;
        let mut fold = fold.ok_or(Trouble::NotMine)?;
        let ids: Vec<i64> = group.iter().map(|letter| letter.id).collect();
        if !fold.mark_redriven(&ids).await? {
            return Err(Trouble::Store(store::Error::Unavailable(
                "a dead letter was folded by someone else meanwhile".to_owned(),
            )));
        }
        let chosen: Vec<usize> = group.iter().flat_map(|letter| letter.steps.clone()).collect();
        let counted: Vec<_> = chosen
            .iter()
            .filter_map(|place| steps[*place].click())
            .map(|click| click.bot)
            .collect();
        let touched = self.count(&mut fold, steps, chosen).await?;
        fold.commit().await?;
        self.hot.settle(&touched);
        self.shared.metrics.publish_counted(counted.into_iter());
        tracing::info!(partition = self.partition, letters = ids.len(), "dead letters folded");
        Ok(())
    }
}

fn step(letter: &StoredLetter, click: Click) -> Step {
    Step {
        offset: 0,
        append_micros: letter.letter.append_micros,
        numbers: None,
        payload: letter.letter.payload.clone(),
        content: Content::Click(Box::new(click)),
        ends: None,
    }
}
