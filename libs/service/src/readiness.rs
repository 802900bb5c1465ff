//! Whether the process is ready: it is while every service's conditions hold, from the end of the start until the stop begins.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future;
use tokio::sync::watch;

use crate::assembly::Condition;

/// The phases of a process, as far as readiness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Something is not served yet.
    Starting,
    /// Everything is served.
    Running,
    /// The stop has begun.
    Stopping,
}

/// What must hold, of all services. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    phase: watch::Sender<Phase>,
    services: Arc<Vec<(&'static str, Conditions)>>,
}

impl Readiness {
    pub(crate) fn new(services: Vec<(&'static str, Conditions)>) -> Readiness {
        Readiness { phase: watch::Sender::new(Phase::Starting), services: Arc::new(services) }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The names of what keeps the process from being ready; empty: it is.
    pub(crate) fn missing(&self) -> Vec<String> {
        let phase = match *self.phase.borrow() {
            Phase::Starting => Some("starting".to_owned()),
            Phase::Running => None,
            Phase::Stopping => Some("stopping".to_owned()),
        };
        let conditions = self.services.iter().flat_map(|(service, conditions)| {
            conditions.missing().map(move |condition| format!("{service}: {condition}"))
        });
        phase.into_iter().chain(conditions).collect()
    }

    /// Waits until every condition of every service held, if not at the same moment.
    pub(crate) async fn all_held(&self) {
        for (_, conditions) in self.services.iter() {
            conditions.clone().hold().await;
        }
    }
}

/// The conditions of one service.
#[derive(Debug, Clone)]
pub(crate) struct Conditions(Vec<Condition>);

impl Conditions {
    pub(crate) fn new(conditions: Vec<Condition>) -> Conditions {
        Conditions(conditions)
    }

    /// The names of those that do not hold now.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|condition| !*condition.holds.borrow()).map(|condition| condition.name)
    }

    /// Waits until all hold at the same moment.
    pub(crate) async fn hold(&mut self) {
        while self.missing().next().is_some() {
            self.changed().await;
        }
    }

    /// Waits until one has changed; for ever if none ever will.
    pub(crate) async fn changed(&mut self) {
        let changes = self.0.iter_mut().map(|condition| {
            async {
                if condition.holds.changed().await.is_err() {
                    // Its sender is gone: the last value stays.
                    future::pending::<()>().await;
                }
            }
            .boxed()
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            future::pending::<()>().await;
        }
        future::select_all(changes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_hold_is_named_with_its_service() {
        let salts = watch::Sender::new(false);
        let topic = watch::Sender::new(false);
        let conditions = Conditions::new(vec![
            Condition::new("salts fetched", salts.subscribe()),
            Condition::new("topic followed", topic.subscribe()),
        ]);
        let readiness = Readiness::new(vec![("edge", conditions)]);
        assert_eq!(
            readiness.missing(),
            ["starting", "edge: salts fetched", "edge: topic followed"]
        );
        readiness.enter(Phase::Running);
        salts.send_replace(true);
        assert_eq!(readiness.missing(), ["edge: topic followed"]);
        topic.send_replace(true);
        readiness.all_held().await;
        assert!(readiness.missing().is_empty());
        readiness.enter(Phase::Stopping);
        assert_eq!(readiness.missing(), ["stopping"]);
    }

    #[tokio::test]
    async fn a_condition_keeps_its_last_value_when_nobody_can_change_it_any_more() {
        let (sender, receiver) = watch::channel(true);
        let mut conditions = Conditions::new(vec![Condition::new("once", receiver)]);
        drop(sender);
        conditions.hold().await;
        assert!(conditions.changed().now_or_never().is_none());
    }
}
