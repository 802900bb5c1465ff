//! Rules about calls: which they match, who may make them, how often.

use super::fields::Fields;
use super::fields::quoted;
use crate::descriptors::DESCRIPTORS;
use crate::methods::METHODS;
use crate::policy::Action;
use crate::policy::Authorization;
use crate::policy::CallMatch;
use crate::policy::Callers;
use crate::policy::MethodMatch;
use crate::policy::RateLimit;
use crate::policy::matching::HeaderMatch;
use crate::policy::matching::ValueMatch;
use proto::mesh::v1 as message;
use proto::mesh::v1::authorization::Action as ActionMessage;
use proto::mesh::v1::header_match::Value;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

const AUTHORIZATIONS_MAX: usize = 128;
const RATE_LIMITS_MAX: usize = 64;
const METHODS_MAX: usize = 64;
const CALLERS_MAX: usize = 64;
const HEADERS_MAX: usize = 16;
/// The longest header value that a rule names, in bytes.
const VALUE_BYTES_MAX: usize = 1_024;
/// The longest name of a gRPC service with its method, in bytes.
const METHOD_BYTES_MAX: usize = 256;
/// Every peer of the mesh.
const ANY_CALLER: &str = "*";

const PER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const PER_DEFAULT: Duration = Duration::from_secs(1);

pub(super) fn authorizations(
    fields: &Fields,
    said: &[message::Authorization],
) -> Vec<Authorization> {
    let mut names = BTreeSet::new();
    if !fields.holds("authorizations", said, AUTHORIZATIONS_MAX) {
        return Vec::new();
    }
    let rules = said.iter().enumerate().map(|(index, said)| {
        let fields = fields.item("authorizations", index);
        fields.label(&said.name, &mut names);
        let action = match ActionMessage::try_from(said.action) {
            Ok(ActionMessage::Allow) => Action::Allow,
            Ok(ActionMessage::Deny) => Action::Deny,
            Ok(ActionMessage::Unspecified) | Err(_) => {
                fields.wrong("action", "must be ALLOW or DENY");
                Action::Deny
            }
        };
        if said.methods.is_empty() {
            fields.wrong("methods", "must name at least one method");
        }
        let known = fields.holds("methods", &said.methods, METHODS_MAX);
        let methods = said.methods.iter().enumerate().filter(|_| known);
        let methods =
            methods.filter_map(|(index, name)| method(&fields.item("methods", index), name));
        let methods = methods.collect();
        if said.callers.is_empty() {
            fields.wrong("callers", "must name at least one service, or `*` for every peer");
        }
        let any = said.callers.iter().any(|caller| caller == ANY_CALLER);
        let callers = if any && said.callers.len() == 1 {
            Callers::Any
        } else {
            callers(&fields, &said.callers)
        };
        Authorization { name: said.name.clone(), action, methods, callers, dry_run: said.dry_run }
    });
    rules.collect()
}

pub(super) fn rate_limits(fields: &Fields, said: &[message::RateLimit]) -> Vec<RateLimit> {
    let mut names = BTreeSet::new();
    if !fields.holds("rate_limits", said, RATE_LIMITS_MAX) {
        return Vec::new();
    }
    let limits = said.iter().enumerate().map(|(index, said)| {
        let fields = fields.item("rate_limits", index);
        fields.label(&said.name, &mut names);
        fields.within("calls", said.calls, &(1..=1_000_000_000));
        let per = fields.duration("per", said.per.as_ref(), PER).unwrap_or(PER_DEFAULT);
        let burst_default = (said.calls / 10).max(1);
        let burst = fields.number("burst", said.burst, 1..=said.calls.max(1), burst_default);
        let anything = message::Match::default();
        let matching = said.r#match.as_ref().unwrap_or(&anything);
        RateLimit {
            name: said.name.clone(),
            matching: call_match(&fields.at("match"), matching),
            calls: said.calls,
            per,
            burst,
        }
    });
    limits.collect()
}

pub(super) fn call_match(fields: &Fields, said: &message::Match) -> CallMatch {
    let known = fields.holds("headers", &said.headers, HEADERS_MAX);
    let headers = said.headers.iter().enumerate().filter(|_| known);
    let headers = headers
        .filter_map(|(index, said)| header_match(&fields.item("headers", index), said))
        .collect();
    CallMatch {
        method: Some(&said.method)
            .filter(|name| !name.is_empty())
            .and_then(|name| method(&fields.at("method"), name)),
        headers,
        callers: if said.callers.is_empty() {
            Callers::Any
        } else {
            callers(fields, &said.callers)
        },
    }
}

fn header_match(fields: &Fields, said: &message::HeaderMatch) -> Option<HeaderMatch> {
    let name = fields.header("name", &said.name);
    let text = |field, text: &String| {
        fields.text(field, text, VALUE_BYTES_MAX);
        text.clone()
    };
    let value = match &said.value {
        None => ValueMatch::Present,
        // Nothing but an empty value is whole and empty.
        Some(Value::Exact(wanted)) if wanted.is_empty() => ValueMatch::Exact(String::new()),
        Some(Value::Exact(wanted)) => ValueMatch::Exact(text("exact", wanted)),
        Some(Value::Prefix(wanted)) => ValueMatch::Prefix(text("prefix", wanted)),
        Some(Value::Suffix(wanted)) => ValueMatch::Suffix(text("suffix", wanted)),
    };
    Some(HeaderMatch { name: name?, value, invert: said.invert })
}

fn callers(fields: &Fields, said: &[String]) -> Callers {
    if fields.holds("callers", said, CALLERS_MAX) {
        for (index, name) in said.iter().enumerate() {
            fields.service(&format!("callers[{index}]"), name);
        }
    }
    Callers::Only(said.iter().cloned().collect())
}

/// `package.Service/Method`, or `package.Service/*`. What `proto/` has of the same organization must be there: a typo would
/// match nothing and say nothing. What is foreign is believed.
fn method(fields: &Fields, said: &str) -> Option<MethodMatch> {
    let well_formed = |name: &str| {
        !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._".contains(&it))
    };
    let (service, name) = match said.split_once('/') {
        Some((service, name))
            if said.len() <= METHOD_BYTES_MAX
                && well_formed(service)
                && (name == "*" || well_formed(name)) =>
        {
            (service, name)
        }
        Some(_) | None => {
            let allowed = "the full name of a method such as `linkmesh.links.v1.LinksService/GetLink`, or `…/*` for all of its \
                           service";
            fields.wrong("", format!("must be {allowed}; is {}", quoted(said)));
            return None;
        }
    };
    let root = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    match DESCRIPTORS.get_service_by_name(service) {
        Some(known) if name != "*" && known.methods().all(|method| method.name() != name) => {
            let methods: Vec<_> = known.methods().map(|it| it.name().to_owned()).collect();
            let methods = methods.join(", ");
            fields.wrong("", format!("must be a method of {service}, which has {methods}"));
        }
        Some(_) => {
            // Served by another, it is called under the other's policy.
            if let Some(server) = METHODS.served_by(service).filter(|it| *it != fields.service) {
                fields.wrong("", format!("is served by `{server}`, whose policy is another"));
            }
        }
        None if DESCRIPTORS.services().any(|it| root(it.full_name()) == root(service)) => {
            fields.wrong("", format!("names a gRPC service that there is not: {service}"));
        }
        None => {}
    }
    Some(match name {
        "*" => MethodMatch::Service(format!("/{service}/")),
        name => MethodMatch::Path(format!("/{service}/{name}")),
    })
}

/// Whether none of the calls that match can be sent twice, as far as the descriptors say.
pub(super) fn is_unsafe(matching: &CallMatch) -> bool {
    match &matching.method {
        None => false,
        Some(MethodMatch::Path(path)) => !METHODS.is_repeatable(path),
        Some(MethodMatch::Service(prefix)) => !METHODS.is_any_repeatable(prefix),
    }
}
