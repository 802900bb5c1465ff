//! Routes: what is done with the calls that match.

use super::calls;
use super::fields::Fields;
use super::fields::quoted;
use super::index;
use crate::policy::Criticality;
use crate::policy::Fault;
use crate::policy::Hedge;
use crate::policy::Mirror;
use crate::policy::Retry;
use crate::policy::RouteCounts;
use crate::policy::RoutePolicy;
use crate::policy::Share;
use crate::policy::Subset;
use proto::mesh::v1 as message;
use proto::mesh::v1::Criticality as CriticalityMessage;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

const ROUTES_MAX: usize = 64;
const MATCHES_MAX: usize = 16;
const SHARES_MAX: usize = 16;
const WEIGHT_MAX: u32 = 1_000_000;
/// How metrics call what no route matches.
const RESERVED_NAME: &str = "default";

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
const PERCENTILE: RangeInclusive<f64> = 50.0..=99.9;

/// Every code but OK, and whether a call that ended so may be tried again: what the caller did wrong, it would do wrong again.
const CODES: [(&str, Code, bool); 16] = [
    ("CANCELLED", Code::Cancelled, true),
    ("UNKNOWN", Code::Unknown, true),
    ("INVALID_ARGUMENT", Code::InvalidArgument, false),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded, true),
    ("NOT_FOUND", Code::NotFound, false),
    ("ALREADY_EXISTS", Code::AlreadyExists, false),
    ("PERMISSION_DENIED", Code::PermissionDenied, false),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted, true),
    ("FAILED_PRECONDITION", Code::FailedPrecondition, false),
    ("ABORTED", Code::Aborted, true),
    ("OUT_OF_RANGE", Code::OutOfRange, false),
    ("UNIMPLEMENTED", Code::Unimplemented, false),
    ("INTERNAL", Code::Internal, true),
    ("UNAVAILABLE", Code::Unavailable, true),
    ("DATA_LOSS", Code::DataLoss, true),
    ("UNAUTHENTICATED", Code::Unauthenticated, false),
];

pub(super) fn routes(
    fields: &Fields,
    said: &[message::Route],
    subsets: &[Subset],
) -> Vec<Arc<RoutePolicy>> {
    let mut names = BTreeSet::new();
    if !fields.holds("routes", said, ROUTES_MAX) {
        return Vec::new();
    }
    let routes = said.iter().enumerate().map(|(index, said)| {
        let fields = fields.item("routes", index);
        fields.label(&said.name, &mut names);
        if said.name == RESERVED_NAME {
            fields.wrong("name", "must not be `default`, which is what no route matches");
        }
        Arc::new(route(&fields, said, subsets))
    });
    routes.collect()
}

fn route(fields: &Fields, said: &message::Route, subsets: &[Subset]) -> RoutePolicy {
    let known = fields.holds("matches", &said.matches, MATCHES_MAX);
    let matches = said.matches.iter().enumerate().filter(|_| known);
    let matches: Vec<_> = matches
        .map(|(index, said)| calls::call_match(&fields.item("matches", index), said))
        .collect();
    let hedge = said.hedge.as_ref().map(|said| hedge(&fields.at("hedge"), said));
    if hedge.is_some() && !matches.is_empty() && matches.iter().all(calls::is_unsafe) {
        let reason = "no method that it matches is NO_SIDE_EFFECTS or IDEMPOTENT in its proto";
        fields.wrong("hedge", format!("would send nothing twice: {reason}"));
    }
    let criticality = match CriticalityMessage::try_from(said.criticality) {
        Ok(CriticalityMessage::Unspecified) => None,
        Ok(CriticalityMessage::Sheddable) => Some(Criticality::Sheddable),
        Ok(CriticalityMessage::Normal) => Some(Criticality::Normal),
        Ok(CriticalityMessage::Critical) => Some(Criticality::Critical),
        Err(_) => {
            let known = "SHEDDABLE, NORMAL or CRITICAL";
            fields.wrong("criticality", format!("must be {known}, is {}", said.criticality));
            None
        }
    };
    RoutePolicy {
        name: said.name.clone(),
        matches,
        timeout: fields.duration("timeout", said.timeout.as_ref(), TIMEOUT),
        idle_timeout: fields.duration("idle_timeout", said.idle_timeout.as_ref(), IDLE_TIMEOUT),
        retry: retry(&fields.at("retry"), said.retry.as_ref()),
        hedge,
        split: split(fields, &said.split, subsets),
        mirror: said.mirror.as_ref().map(|said| {
            let fields = fields.at("mirror");
            let share = fields.share("percent", said.percent);
            Mirror { subset: subset(&fields, &said.subset, subsets), share }
        }),
        fault: said.fault.as_ref().map(|said| fault(&fields.at("fault"), said)),
        criticality,
        counts: RouteCounts::default(),
    }
}

fn retry(fields: &Fields, said: Option<&message::Retry>) -> Retry {
    let default = RoutePolicy::default().retry;
    let Some(said) = said else { return default };
    let mut codes = Vec::new();
    if fields.holds("codes", &said.codes, CODES.len()) {
        for (index, name) in said.codes.iter().enumerate() {
            let fields = fields.item("codes", index);
            let Some(code) = code(&fields, "", name, |(.., again)| *again) else { continue };
            if codes.contains(&code) {
                fields.wrong("", format!("is there twice: {name}"));
            }
            codes.push(code);
        }
    }
    Retry {
        attempts_max: match said.attempts_max {
            0 => default.attempts_max,
            said => index(fields.number("attempts_max", said, 1..=5, 0)),
        },
        per_try_timeout: fields.duration("per_try_timeout", said.per_try_timeout.as_ref(), TIMEOUT),
        backoff: fields.durations(
            ("backoff_min", "backoff_max"),
            (said.backoff_min.as_ref(), said.backoff_max.as_ref()),
            &BACKOFF,
            default.backoff,
        ),
        codes: if said.codes.is_empty() { default.codes } else { codes },
    }
}

fn hedge(fields: &Fields, said: &message::Hedge) -> Hedge {
    let delay = fields.duration("delay", said.delay.as_ref(), TIMEOUT);
    let percentile = said.percentile;
    let has_percentile = percentile != 0.0;
    if has_percentile && !PERCENTILE.contains(&percentile) {
        fields.wrong("percentile", format!("must be 50 to 99.9, is {percentile}"));
    }
    if said.delay.is_none() && !has_percentile {
        fields.wrong("delay", "must be there if there is no `percentile`");
    }
    Hedge {
        delay: delay.unwrap_or_default(),
        percentile: has_percentile.then_some(percentile),
        attempts_max: index(fields.number("attempts_max", said.attempts_max, 2..=3, 2)),
    }
}

fn split(fields: &Fields, said: &[message::Share], subsets: &[Subset]) -> Vec<Share> {
    if !fields.holds("split", said, SHARES_MAX) {
        return Vec::new();
    }
    let mut named = BTreeSet::new();
    let shares: Vec<_> = said
        .iter()
        .enumerate()
        .map(|(index, said)| {
            let fields = fields.item("split", index);
            if !named.insert(said.subset.as_str()) {
                fields.wrong("subset", format!("is there twice: {}", quoted(&said.subset)));
            }
            fields.within("weight", said.weight, &(0..=WEIGHT_MAX));
            Share { subset: subset(&fields, &said.subset, subsets), weight: said.weight }
        })
        .collect();
    if !shares.is_empty() && shares.iter().all(|share| share.weight == 0) {
        fields.wrong("split", "must have a weight that is not 0");
    }
    shares
}

fn subset(fields: &Fields, name: &str, subsets: &[Subset]) -> usize {
    let found = subsets.iter().position(|subset| subset.name == name);
    if found.is_none() {
        let known: Vec<_> = subsets.iter().map(|subset| subset.name.as_str()).collect();
        let known = match known.as_slice() {
            [] => "of which there are none".to_owned(),
            known => format!("which are {}", known.join(", ")),
        };
        fields.wrong("subset", format!("must be one of `subsets`, {known}; is {}", quoted(name)));
    }
    found.unwrap_or_default()
}

fn fault(fields: &Fields, said: &message::Fault) -> Fault {
    let delay = said.delay.as_ref().map(|said| {
        let fields = fields.at("delay");
        let duration = fields.duration("duration", said.duration.as_ref(), TIMEOUT);
        if said.duration.is_none() {
            fields.wrong("duration", "must be there");
        }
        (duration.unwrap_or_default(), fields.share("percent", said.percent))
    });
    let abort = said.abort.as_ref().map(|said| {
        let fields = fields.at("abort");
        let code = code(&fields, "code", &said.code, |_| true);
        (code.unwrap_or(Code::Unavailable), fields.share("percent", said.percent))
    });
    if delay.is_none() && abort.is_none() {
        fields.wrong("", "must have `delay`, `abort` or both");
    }
    let active_max = (said.active_max > 0).then_some(said.active_max);
    Fault { delay, abort, active_max, by_header: said.by_header }
}

/// The code that a name means, if it is one of those allowed.
fn code(
    fields: &Fields,
    field: &str,
    name: &str,
    allowed: impl Fn(&(&str, Code, bool)) -> bool,
) -> Option<Code> {
    let found = CODES.iter().find(|it| it.0 == name && allowed(it)).map(|(_, code, _)| *code);
    if found.is_none() {
        let known: Vec<_> = CODES.iter().filter(|it| allowed(it)).map(|it| it.0).collect();
        let known = known.join(", ");
        fields.wrong(field, format!("must be one of {known}; is {}", quoted(name)));
    }
    found
}
