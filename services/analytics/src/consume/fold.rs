//! One fold of a partition: plan, move, count, write, commit; and what is refused is halved until the click is found.

use std::sync::Arc;

use tokio::time::Instant;

use super::decode::Step;
use super::folder::Folder;
use super::folder::Trouble;
use super::plan::Plan;
use super::plan::plan;
use crate::domain::agent::BotReason;
use crate::domain::click::Click;
use crate::domain::hot::Hot;
use crate::domain::rollup::Key;
use crate::metrics::Metrics;
use crate::store;
use crate::store::fold::Move;

/// From so many steps on, counting moves to a thread that may block.
pub(super) const HEAVY_STEPS: usize = 500;

impl Folder {
    /// Folds steps; what the store refuses is halved until the click is found, which becomes a dead letter.
    pub(super) async fn fold(&mut self, steps: Arc<Vec<Step>>) -> Result<(), Trouble> {
        let mut pending = vec![(0..steps.len(), None)];
        while let Some((range, refusal)) = pending.pop() {
            let error = match self.fold_once(&steps, range.clone(), refusal.as_deref()).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            self.hot.drop_all();
            match error {
                Trouble::Store(store::Error::Refused { sqlstate, detail }) if refusal.is_none() => {
                    if range.len() == 1 {
                        pending.push((range, Some(format!("SQLSTATE {sqlstate}: {detail}"))));
                    } else {
                        let middle = range.start + range.len() / 2;
                        pending.push((middle..range.end, None));
                        pending.push((range.start..middle, None));
                    }
                }
                error @ (Trouble::NotMine
                | Trouble::Halt(_)
                | Trouble::Store(_)
                | Trouble::Read(_)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn fold_once(
        &mut self,
        steps: &Arc<Vec<Step>>,
        range: std::ops::Range<usize>,
        refusal: Option<&str>,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        let part = &steps[range.clone()];
        let window = self.shared.window;
        let plan = plan(part, &self.ledger, window, self.next_offset, refusal);
        let fold = self.shared.store.begin_fold(&self.moved(&plan)).await?;
        let mut fold = fold.ok_or(Trouble::NotMine)?;
        let chosen: Vec<usize> = plan.clicks.iter().map(|place| range.start + place).collect();
        let touched = self.count(&mut fold, steps, chosen).await?;
        let new_letters = fold.write_letters(&plan.letters).await?;
        fold.commit().await?;

        self.hot.settle(&touched);
        self.last_fold = (began, began.elapsed());
        self.publish(&plan, part, &new_letters);
        self.next_offset = plan.next_offset;
        self.ledger = plan.ledger;
        Ok(())
    }

    /// Counts the clicks of the chosen steps in the rollups that they touch. Gives those rollups' keys.
    pub(super) async fn count(
        &mut self,
        fold: &mut store::fold::Fold,
        steps: &Arc<Vec<Step>>,
        chosen: Vec<usize>,
    ) -> Result<Vec<Key>, Trouble> {
        let chosen = Arc::new(chosen);
        let heavy = chosen.len() > HEAVY_STEPS;
        let mut hot = std::mem::replace(&mut self.hot, Hot::new(0));
        let (of, from) = (Arc::clone(&chosen), Arc::clone(steps));
        let missing = on_cpu(heavy, move || (hot.missing(clicks_of(&from, &of)), hot));
        let (missing, again) = missing.await;
        hot = again;
        let stored = match fold.read(&missing).await {
            Ok(stored) => stored,
            Err(error) => {
                hot.drop_all();
                self.hot = hot;
                return Err(error.into());
            }
        };
        let from = Arc::clone(steps);
        let counted = on_cpu(heavy, move || {
            let loaded = hot.load(missing, stored);
            let counted = loaded.map(|()| hot.count(clicks_of(&from, &chosen)));
            (counted, hot)
        });
        let (counted, hot) = counted.await;
        self.hot = hot;
        let counted = counted.map_err(store::Error::Damaged)?;
        fold.write(&counted).await?;
        Ok(counted.into_iter().map(|(key, _)| key).collect())
    }

    fn moved(&self, plan: &Plan) -> Move {
        Move {
            partition: self.partition,
            epoch: self.epoch,
            expected: self.next_offset,
            next_offset: plan.next_offset,
            last: plan.last.clone(),
            append_seen_micros: plan.ledger.append_seen_micros(),
            lost: plan.lost,
            numbers: plan.numbers.clone(),
            forgotten: plan.forgotten.clone(),
        }
    }

    fn publish(&self, plan: &Plan, part: &[Step], new_letters: &[u64]) {
        let metrics = &self.shared.metrics;
        let chosen = || plan.clicks.iter().filter_map(|place| part[*place].click());
        metrics.publish_counted(chosen().map(|click| click.bot));
        metrics.fold_seconds.observe(self.last_fold.1.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarse")]
        metrics.fold_clicks.observe(plan.clicks.len() as f64);
        metrics.skipped.inc_by(plan.skipped);
        if plan.lost > 0 {
            metrics.lost.inc_by(plan.lost);
            tracing::error!(partition = self.partition, clicks = plan.lost, "clicks are lost");
        }
        for letter in plan.letters.iter().filter(|letter| new_letters.contains(&letter.number)) {
            metrics.dead_letter(letter.reason);
            tracing::warn!(
                partition = self.partition,
                reason = letter.reason.name(),
                number = letter.number,
                detail = letter.detail,
                "dead letter"
            );
        }
    }
}

impl Metrics {
    /// Clicks were counted, each a bot's or not.
    pub(super) fn publish_counted(&self, bots: impl Iterator<Item = Option<BotReason>>) {
        let (mut humans, mut machines) = (0, 0);
        for bot in bots {
            if bot.is_some() { machines += 1 } else { humans += 1 }
        }
        self.counted(humans, machines);
    }
}

fn clicks_of<'a>(steps: &'a [Step], chosen: &'a [usize]) -> impl Iterator<Item = &'a Click> {
    chosen.iter().filter_map(|place| steps[*place].click())
}

/// Runs heavy work where it delays nobody's reads.
pub(super) async fn on_cpu<T: Send + 'static>(
    heavy: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if !heavy {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
