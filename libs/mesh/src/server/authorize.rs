//! Whether a peer may make a call: what the service's own code allows, and what its policy says on top of that. DENY goes before
//! ALLOW, and what nothing allows is refused.

use super::Access;
use crate::gcra::Bucket;
use crate::gcra::Gcra;
use crate::identity::PeerIdentity;
use crate::identity::Role;
use crate::methods::Method;
use crate::policy::Action;
use crate::policy::Authorization;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// An operator must be able to take a rule back that keeps operators out.
const NEVER_DENIED_TO_ADMINS: &str = "linkmesh.mesh.v1.PolicyService";

/// Who wants to call what.
pub(super) struct Asked<'a> {
    pub(super) peer: &'a PeerIdentity,
    pub(super) method: &'a Method,
    /// `/linkmesh.links.v1.LinksService/GetLink`.
    pub(super) path: &'a str,
    /// `linkmesh.links.v1.LinksService`.
    pub(super) grpc_service: &'a str,
}

/// What came of it.
pub(super) struct Decision<'a> {
    /// Why not, if not.
    pub(super) denied: Option<Why<'a>>,
    /// Rules that only report, and would have changed it.
    pub(super) would_change: Vec<&'a Authorization>,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Why<'a> {
    /// A rule says so.
    Rule(&'a Authorization),
    /// The peer may look, and the method changes something.
    Viewer,
    /// Neither code nor policy lets it in.
    Nothing,
}

/// Decides. Without rules that is one look at `access`.
pub(super) fn decide<'a>(
    access: &Access,
    rules: &'a [Authorization],
    asked: &Asked<'_>,
) -> Decision<'a> {
    let by_code = access.allows(asked.peer, asked.grpc_service, asked.path);
    let base = if by_code { None } else { Some(Why::Nothing) };
    let mut decision = Decision { denied: base, would_change: Vec::new() };
    if !rules.is_empty() {
        decision = by_rules(base, rules, asked);
    }
    let only_tells = Access::is_open_to_any(asked.grpc_service) || asked.method.only_reads;
    if asked.peer.role == Role::Viewer && !only_tells {
        decision = Decision { denied: Some(Why::Viewer), would_change: Vec::new() };
    }
    decision
}

fn by_rules<'a>(
    base: Option<Why<'a>>,
    rules: &'a [Authorization],
    asked: &Asked<'_>,
) -> Decision<'a> {
    let about = |rule: &&Authorization| {
        // `*` is every peer of the mesh, and who has proved nothing is none.
        asked.peer.role != Role::Anonymous
            && rule.callers.contain(asked.peer.service.as_str())
            && rule.methods.iter().any(|method| method.matches(asked.path))
    };
    let exempt = asked.peer.role == Role::Admin && asked.grpc_service == NEVER_DENIED_TO_ADMINS;
    let (mut denied, mut allowed, mut reporting) = (None, base.is_none(), Vec::new());
    for rule in rules.iter().filter(about) {
        match rule.action {
            Action::Deny if exempt => {}
            _ if rule.dry_run => reporting.push(rule),
            Action::Deny => denied = denied.or(Some(Why::Rule(rule))),
            Action::Allow => allowed = true,
        }
    }
    let denied = denied.or(if allowed { None } else { base });
    reporting.retain(|rule| match rule.action {
        Action::Deny => denied.is_none(),
        Action::Allow => denied == Some(Why::Nothing),
    });
    Decision { denied, would_change: reporting }
}

impl Why<'_> {
    /// What the caller is told.
    pub(super) fn error(self, asked: &Asked<'_>) -> rpc::Error {
        let peer = asked.peer;
        let method = asked.path.trim_start_matches('/');
        let mut error = rpc::Error::peer_not_allowed(peer.service.as_str());
        error.message = match self {
            Self::Rule(rule) => {
                format!("`{peer}` may not call `{method}`: the rule `{}` denies it", rule.name)
            }
            Self::Viewer => {
                format!(
                    "`{peer}` may not call `{method}`: it may look and change nothing, and this takes an admin"
                )
            }
            Self::Nothing => format!("`{peer}` may not call `{method}`: nothing lets it"),
        };
        if let Self::Rule(rule) = self {
            error.metadata.push(("rule", rule.name.clone()));
        }
        error.metadata.push(("caller", peer.to_string()));
        error.metadata.push(("method", method.to_owned()));
        error
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DryRunLabels {
    rule: String,
    caller: String,
    method: String,
    decision: &'static str,
}

/// Tells operators what is decided, and what would be.
#[derive(Debug)]
pub(super) struct Reports {
    dry_run: Family<DryRunLabels, Counter>,
    log: Gcra,
    denied: Bucket,
    would_change: Bucket,
}

impl Reports {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let dry_run = Family::default();
        registry.register(
            "mesh_server_authorization_dry_run",
            "Calls that a rule which only reports would have decided otherwise, by that decision",
            Family::clone(&dry_run),
        );
        // The metrics count all; the log has examples.
        let log = Gcra::new(1, Duration::from_secs(1), 10);
        Self { dry_run, log, denied: Bucket::default(), would_change: Bucket::default() }
    }

    pub(super) fn denied(&self, why: Why<'_>, asked: &Asked<'_>, now: Duration) {
        if self.log.take(&self.denied, now, 1).is_ok() {
            let caller = asked.peer.service.as_str();
            let why = why.error(asked).message;
            tracing::warn!(caller, path = asked.path, why, "a call was denied");
        }
    }

    pub(super) fn would_change(&self, rule: &Authorization, asked: &Asked<'_>, now: Duration) {
        let decision = match rule.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        let caller = asked.peer.service.as_str();
        let labels = DryRunLabels {
            rule: rule.name.clone(),
            caller: caller.to_owned(),
            method: asked.method.name.clone(),
            decision,
        };
        self.dry_run.get_or_create(&labels).inc();
        if self.log.take(&self.would_change, now, 1).is_ok() {
            let (rule, path) = (&rule.name, asked.path);
            tracing::info!(rule, caller, path, decision, "a rule would have decided otherwise");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::METHODS;
    use crate::policy::Callers;
    use crate::policy::MethodMatch;

    const SERVICE: &str = "linkmesh.links.v1.LinksService";
    const GET: &str = "/linkmesh.links.v1.LinksService/GetLink";
    const CREATE: &str = "/linkmesh.links.v1.LinksService/CreateLink";

    fn rule(name: &str, action: Action, caller: &str, method: &str) -> Authorization {
        let methods = vec![match method {
            "*" => MethodMatch::Service(format!("/{SERVICE}/")),
            path => MethodMatch::Path(path.to_owned()),
        }];
        let callers = match caller {
            "*" => Callers::Any,
            name => Callers::Only([name.to_owned()].into()),
        };
        Authorization { name: name.to_owned(), action, methods, callers, dry_run: false }
    }

    fn dry(rule: Authorization) -> Authorization {
        Authorization { dry_run: true, ..rule }
    }

    /// `ok`, or why not; and the rules that would have changed it.
    fn of(rules: &[Authorization], peer: &PeerIdentity, path: &str) -> (String, Vec<String>) {
        let access = Access::new().allow(SERVICE, &["edge", "operator"]);
        let (grpc_service, _) = path[1..].split_once('/').unwrap();
        let asked = Asked { peer, method: METHODS.of_path(path), path, grpc_service };
        let decision = decide(&access, rules, &asked);
        let outcome = match decision.denied {
            None => "ok".to_owned(),
            Some(Why::Rule(rule)) => rule.name.clone(),
            Some(Why::Viewer) => "viewer".to_owned(),
            Some(Why::Nothing) => "nothing".to_owned(),
        };
        (outcome, decision.would_change.iter().map(|rule| rule.name.clone()).collect())
    }

    fn peer(name: &str) -> PeerIdentity {
        PeerIdentity::service(name).unwrap()
    }

    #[test]
    fn a_rule_lets_in_or_keeps_out_and_deny_goes_first() {
        let lets = rule("lets-billing-read", Action::Allow, "billing", GET);
        let keeps = rule("keeps-all-out", Action::Deny, "*", CREATE);
        let rules = [lets, keeps.clone(), rule("x", Action::Allow, "billing", CREATE)];
        for (name, path, outcome) in [
            ("billing", GET, "ok"),
            ("billing", CREATE, "keeps-all-out"),
            ("edge", GET, "ok"),
            ("edge", CREATE, "keeps-all-out"),
            ("other", GET, "nothing"),
        ] {
            assert_eq!(
                of(&rules, &peer(name), path),
                (outcome.to_owned(), vec![]),
                "{name} {path}"
            );
        }
        assert_eq!(of(&[], &peer("billing"), GET).0, "nothing");
    }

    #[test]
    fn a_rule_that_only_reports_changes_nothing_and_says_what_it_would_change() {
        let rules = [
            dry(rule("would-keep-out", Action::Deny, "edge", "*")),
            dry(rule("would-let-in", Action::Allow, "*", "*")),
        ];
        assert_eq!(
            of(&rules, &peer("edge"), GET),
            ("ok".to_owned(), vec!["would-keep-out".to_owned()])
        );
        assert_eq!(
            of(&rules, &peer("billing"), GET),
            ("nothing".to_owned(), vec!["would-let-in".to_owned()])
        );
        let denied = [rule("denied", Action::Deny, "*", "*"), rules[0].clone(), rules[1].clone()];
        assert_eq!(of(&denied, &peer("billing"), GET), ("denied".to_owned(), vec![]));
    }

    #[test]
    fn a_viewer_changes_nothing_whatever_a_rule_says() {
        let rules = [rule("lets-operators", Action::Allow, "operator", "*")];
        let viewer = PeerIdentity::operator(Role::Viewer);
        assert_eq!(of(&rules, &viewer, GET).0, "ok");
        assert_eq!(of(&rules, &viewer, CREATE).0, "viewer");
        assert_eq!(of(&rules, &viewer, "/grpc.health.v1.Health/Check").0, "ok");
        assert_eq!(of(&rules, &PeerIdentity::operator(Role::Admin), CREATE).0, "ok");
    }

    #[test]
    fn every_peer_is_not_whoever_proved_nothing() {
        let rules = [rule("lets-all", Action::Allow, "*", "*")];
        assert_eq!(of(&rules, &peer("any"), GET).0, "ok");
        assert_eq!(of(&rules, &PeerIdentity::anonymous(), GET).0, "nothing");
        assert_eq!(
            of(&[], &PeerIdentity::anonymous(), "/grpc.health.v1.Health/Check").0,
            "nothing"
        );
    }

    #[test]
    fn an_admin_can_always_take_a_policy_back() {
        let path = "/linkmesh.mesh.v1.PolicyService/DeletePolicy";
        let mut keeps = rule("keeps-operators-out", Action::Deny, "*", path);
        keeps.methods = vec![MethodMatch::Path(path.to_owned())];
        let access = Access::new().allow("linkmesh.mesh.v1.PolicyService", &["operator", "edge"]);
        let denied = |peer: PeerIdentity| {
            let grpc_service = "linkmesh.mesh.v1.PolicyService";
            let asked = Asked { peer: &peer, method: METHODS.of_path(path), path, grpc_service };
            decide(&access, &[keeps.clone()], &asked).denied.is_some()
        };
        assert!(!denied(PeerIdentity::operator(Role::Admin)));
        assert!(denied(peer("edge")));
    }

    #[test]
    fn a_refusal_names_the_rule_the_caller_and_the_method() {
        let keeps = rule("keeps-edge-out", Action::Deny, "edge", "*");
        let peer = peer("edge");
        let method = METHODS.of_path(GET);
        let asked = Asked { peer: &peer, method, path: GET, grpc_service: SERVICE };
        let error = Why::Rule(&keeps).error(&asked);
        for part in ["`edge`", "`linkmesh.links.v1.LinksService/GetLink`", "`keeps-edge-out`"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(error.metadata.contains(&("rule", "keeps-edge-out".to_owned())));
    }
}
