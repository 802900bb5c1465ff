//! What is decided about callers: from what was taken for them before, by Redis, or by this edge alone.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;
use crate::limits::Verdict;
use crate::limits::caller::Caller;
use crate::limits::caller::Kind;
use crate::limits::caller::Taken;
use crate::limits::lease::Step;
use crate::limits::rules::RULES_MAX;
use crate::limits::rules::Rule;
use crate::limits::rules::Rules;
use crate::limits::store::Ask;
use crate::limits::store::Decided;
use crate::limits::store::Store;
use crate::proved::Proved;
use crate::proved::Who;

impl Limits {
    /// Takes a request from the limits of whoever was proved to send it.
    pub(crate) async fn caller(&self, proved: &Proved, service: &str) -> Verdict {
        let rules = self.0.rules.load_full();
        let (caller, rules) = self.asking(&rules, proved, service);
        match *rules {
            [tier] => self.take_leased(&caller, tier).await,
            _ => self.take(&caller, &rules).await.0,
        }
    }

    /// The same, if nobody need be asked.
    pub(crate) fn caller_at_once(&self, proved: &Proved, service: &str) -> Option<Verdict> {
        let rules = self.0.rules.load();
        if !rules.service(service).is_empty() {
            return None;
        }
        let (caller, tier) = (self.proved(proved), rules.tier(proved.tier));
        let ahead = self.0.leases.take_held(caller.hash, tier, self.0.clock.now())?;
        Some(self.verdict(&caller, &[tier], &Decided::one(ahead), 1))
    }

    fn asking<'r>(
        &self,
        rules: &'r Rules,
        proved: &Proved,
        service: &str,
    ) -> (Caller, Vec<&'r Arc<Rule>>) {
        let tier = rules.tier(proved.tier);
        let rules = std::iter::once(tier).chain(rules.service(service)).collect();
        (self.proved(proved), rules)
    }

    fn proved(&self, proved: &Proved) -> Caller {
        let (kind, id) = match proved.who {
            Who::Key(key) => (Kind::Key, *key.as_bytes()),
            Who::User(user) => (Kind::User, *user.as_bytes()),
        };
        Caller { kind, id: Some(id), hash: self.0.hasher.hash_one((kind, id)) }
    }

    /// Takes a request from what was taken before, or asks for more than one.
    async fn take_leased(&self, caller: &Caller, rule: &Arc<Rule>) -> Verdict {
        let rules = &[rule][..];
        let Some(store) = &self.0.store else { return self.take_alone(caller, rules).0 };
        let patience = Instant::now() + store.wait_max();
        let refill = loop {
            let asked = self.0.clock.now();
            match self.0.leases.take(caller.hash, rule, self.edges(), asked) {
                Step::Taken(ahead) => return self.verdict(caller, rules, &Decided::one(ahead), 1),
                Step::Ask => return self.take(caller, rules).await.0,
                Step::Refill(refill) => break refill,
                Step::Wait(answered) => {
                    if tokio::time::timeout_at(patience, answered).await.is_err() {
                        return self.take(caller, rules).await.0;
                    }
                }
            }
        };
        let asked = self.0.clock.now();
        let Some(mut decided) = self.ask(store, caller, rules, refill.requests).await else {
            return self.take_alone(caller, rules).0;
        };
        self.learn(caller, rules, &decided);
        // What its caller is told is how it stands without what was taken in advance.
        decided.ahead[0] =
            refill.fill(decided.granted, [asked, self.0.clock.now()], decided.ahead[0]);
        self.verdict(caller, rules, &decided, 1)
    }

    pub(super) async fn take(&self, caller: &Caller, rules: &[&Arc<Rule>]) -> (Verdict, Taken) {
        let decided = match &self.0.store {
            Some(store) => self.ask(store, caller, rules, 1).await,
            None => None,
        };
        let Some(decided) = decided else { return self.take_alone(caller, rules) };
        self.learn(caller, rules, &decided);
        (self.verdict(caller, rules, &decided, 1), Taken::InRedis)
    }

    /// Keeps in mind what Redis says, for when it is away.
    fn learn(&self, caller: &Caller, rules: &[&Arc<Rule>], decided: &Decided) {
        let now = self.0.clock.now();
        for (rule, ahead) in rules.iter().zip(decided.ahead) {
            self.0.callers.learn(self.key(caller, rule), ahead, now);
        }
    }

    fn verdict(
        &self,
        caller: &Caller,
        rules: &[&Arc<Rule>],
        decided: &Decided,
        shares: u32,
    ) -> Verdict {
        if let Some((place, _)) = decided.refused {
            self.0.metrics.refuse(&rules[place].name);
        }
        Verdict::new(caller.kind, caller.id, rules, decided, shares)
    }

    async fn ask(
        &self,
        store: &Store,
        caller: &Caller,
        rules: &[&Arc<Rule>],
        requests: u32,
    ) -> Option<Decided> {
        if !store.is_live() || caller.id.is_none() {
            return None;
        }
        let buckets = rules.iter().filter_map(|rule| {
            let (interval, burst) = rule.micros();
            Some(Ask { bucket: caller.bucket(rule)?, interval, burst })
        });
        store.take(buckets, requests, self.0.clock.for_redis()).await
    }

    /// Decides without Redis, at this edge's share.
    fn take_alone(&self, caller: &Caller, rules: &[&Arc<Rule>]) -> (Verdict, Taken) {
        let shares = self.edges();
        let decided = self.take_here(caller, rules, shares);
        (self.verdict(caller, rules, &decided, shares), Taken::Here { shares })
    }

    fn take_here(&self, caller: &Caller, rules: &[&Arc<Rule>], shares: u32) -> Decided {
        let (table, now) = (&self.0.callers, self.0.clock.now());
        let (mut refused, mut ahead) = (None, [Duration::ZERO; RULES_MAX]);
        for (place, rule) in rules.iter().enumerate() {
            let (key, rate) = (self.key(caller, rule), rule.share(shares));
            let taken = match refused {
                None => table.take(key, &rate, now),
                // Nothing more is taken; who has to wait longest is still to be found.
                Some(_) => table.wait(key, &rate, now).map_or(Ok(Duration::ZERO), Err),
            };
            if let Err(wait) = taken {
                if refused.is_none() {
                    for taken in &rules[..place] {
                        let rate = taken.share(shares);
                        table.give_back(self.key(caller, taken), &rate, now);
                    }
                }
                if refused.is_none_or(|(_, longest)| wait > longest) {
                    refused = Some((place, wait));
                }
            }
        }
        for (ahead, rule) in ahead.iter_mut().zip(rules) {
            *ahead = table.ahead(self.key(caller, rule), now);
        }
        Decided { refused, granted: refused.is_none().into(), ahead }
    }
}
