//! Makes routes of what is known: which endpoints serve which gRPC service, by which policy, and which of them are usable right now.

use super::balance::plan::Member;
use super::balance::plan::Plan;
use super::balance::plan::Standpoint;
use super::budget::Budget;
use super::clock::Tick;
use super::owners::Owners;
use super::routes::Route;
use super::routes::Routes;
use super::table::Known;
use crate::metrics::CallMetrics;
use crate::metrics::PairMetrics;
use crate::policy::Policy;
use crate::policy::PolicySet;
use crate::policy::Subset;
use crate::policy::VersionMatch;
use crate::registry::Instance;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The service that issues certificates.
const CONTROL: &str = "control";

/// The policies that are obeyed.
#[derive(Debug, Default)]
pub(super) struct Policies {
    set: Arc<PolicySet>,
    /// Whose instances serve what.
    pub(super) owners: Owners,
    /// Of services that have none, by service.
    defaults: BTreeMap<String, Arc<Policy>>,
}

/// By gRPC service.
#[derive(Debug)]
pub(super) struct Directory {
    /// Who calls.
    caller: String,
    metrics: CallMetrics,
    services: BTreeMap<String, Listing>,
    /// By service. They outlive the endpoints that they are for: who comes back has no new budget.
    budgets: BTreeMap<String, Arc<Budget>>,
}

#[derive(Debug)]
struct Listing {
    policy: Arc<Policy>,
    budget: Arc<Budget>,
    metrics: Arc<PairMetrics>,
    all: Plan,
    /// By name.
    subsets: Vec<(String, Plan)>,
}

impl Policies {
    /// From now on, these hold.
    pub(super) fn follow(&mut self, set: Arc<PolicySet>) {
        self.set = set;
        self.defaults.clear();
    }

    pub(super) fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// The policy of a service.
    pub(super) fn of(&mut self, service: &str) -> Arc<Policy> {
        if let Some(policy) = self.set.get(service) {
            return Arc::clone(policy);
        }
        let default = self.defaults.entry(service.to_owned());
        Arc::clone(default.or_insert_with(|| Arc::new(Policy::default_of(service))))
    }

    /// The policy that a gRPC service is called by: its owner's, or that of whoever serves it.
    pub(super) fn of_calls(&mut self, grpc_service: &str, instance: &Instance) -> Arc<Policy> {
        let owner = self.owners.of(grpc_service).unwrap_or(&instance.service).to_owned();
        self.of(&owner)
    }

    /// Whether an instance is of the service that serves a gRPC service, or of one that its policy names beside it. Who is in
    /// the registry has proved nothing: any service might claim the calls of another.
    pub(super) fn may_serve(&self, instance: &Instance, grpc_service: &str) -> bool {
        let Some(owner) = self.owners.of(grpc_service) else { return true };
        let is_named = |policy: &Arc<Policy>| {
            let named = policy.subsets.iter().filter_map(|subset| subset.service.as_deref());
            named.into_iter().any(|service| service == instance.service)
        };
        // Whoever serves what control does gives out identities; no policy, which lies in the registry, hands that on.
        let may_share = owner != CONTROL;
        instance.service == owner || (may_share && self.set.get(owner).is_some_and(is_named))
    }

    pub(super) fn warn_of_claims(&self, known: &Known) {
        let instance = &known.instance;
        for grpc_service in known.grpc_services.keys() {
            if !self.may_serve(instance, grpc_service) {
                tracing::warn!(
                    instance = instance.instance,
                    service = instance.service,
                    grpc_service,
                    "an instance of another service claims a gRPC service, and is not called for it"
                );
            }
        }
    }
}

impl Directory {
    pub(super) fn new(caller: &str, metrics: CallMetrics) -> Self {
        let caller = caller.to_owned();
        Self { caller, metrics, services: BTreeMap::new(), budgets: BTreeMap::new() }
    }

    /// Takes over who serves what, and by which policy that is called.
    pub(super) fn replace(
        &mut self,
        services: BTreeMap<String, (Arc<Policy>, Vec<Member<'_>>)>,
        standpoint: Standpoint<'_>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.services);
        for (grpc_service, (policy, members)) in services {
            let budget = self.budgets.entry(policy.service.clone());
            let budget = Arc::clone(budget.or_insert_with(|| Arc::new(Budget::new(now))));
            let (all, subsets) = match before.remove(&grpc_service) {
                Some(listing) => (Some(listing.all), listing.subsets),
                None => (None, Vec::new()),
            };
            let mut subsets: BTreeMap<_, _> = subsets.into_iter().collect();
            let plan = |members: &[Member<'_>], before| {
                let panic_percent = policy.health.panic_percent;
                Plan::new(members, &policy.balancing, panic_percent, standpoint, before, now)
            };
            let own: Vec<_> =
                members.iter().filter(|(it, _)| !is_elsewhere(it, &policy)).copied().collect();
            let all = plan(&own, all);
            let subsets = policy.subsets.iter().map(|subset| {
                let part = members.iter().filter(|(it, _)| is_in(it, subset, &policy)).copied();
                let part: Vec<_> = part.collect();
                (subset.name.clone(), plan(&part, subsets.remove(&subset.name)))
            });
            let subsets = subsets.collect();
            let metrics = self.metrics.between(&self.caller, &policy.service);
            let listing = Listing { policy, budget, metrics, all, subsets };
            self.services.insert(grpc_service, listing);
        }
    }

    /// The routes at this moment, and whether they will be others soon without any news.
    pub(super) fn routes(&mut self, tick: Tick, now: Instant) -> (Routes, bool) {
        let mut routes = Routes::default();
        let mut all_settled = true;
        for (grpc_service, listing) in &mut self.services {
            let mut balancer = |plan: &mut Plan| {
                let (balancer, settled) = plan.balancer(tick, now);
                all_settled &= settled;
                balancer
            };
            let route = Route {
                policy: Arc::clone(&listing.policy),
                budget: Arc::clone(&listing.budget),
                metrics: Arc::clone(&listing.metrics),
                all: balancer(&mut listing.all),
                subsets: listing.subsets.iter_mut().map(|(_, plan)| balancer(plan)).collect(),
            };
            routes.by_service.insert(grpc_service.clone(), Arc::new(route));
        }
        (routes, all_settled)
    }
}

/// Whether an instance is of a service that only a subset names: calls go there only by that.
fn is_elsewhere(instance: &Instance, policy: &Policy) -> bool {
    let mut others = policy.subsets.iter().filter_map(|subset| subset.service.as_ref());
    instance.service != policy.service && others.any(|service| *service == instance.service)
}

fn is_in(instance: &Instance, subset: &Subset, policy: &Policy) -> bool {
    let version = match &subset.version {
        None => true,
        Some(VersionMatch::Exact(version)) => instance.version == *version,
        Some(VersionMatch::Prefix(prefix)) => instance.version.starts_with(prefix),
    };
    let zone = subset.zone.as_ref().is_none_or(|zone| instance.zone == *zone);
    let service = subset.service.as_ref().unwrap_or(&policy.service);
    version && zone && instance.service == *service
}
