//! What processes prove themselves with, and whom they trust.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use mesh::identity::CertificateView;
use proto::mesh::v1::CertificateDiagnosis;

use super::Finding;
use super::Process;
use super::answering;
use super::bad;
use super::doubtful;
use super::good;
use crate::mesh_command::endpoints::age;

const AREA: &str = "certificates";
/// The share of a certificate's life that is left when it should have been renewed for long: it is at 30 %.
const LEFT_MIN: f64 = 0.15;
/// How long before its end a root is worth knowing of.
const ROOT_NOTICE: Duration = Duration::from_secs(30 * 24 * 3_600);

pub(super) fn findings(
    processes: &[Process],
    own: Option<&CertificateView>,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(own) = own.filter(|own| own.validity.not_after <= now) {
        findings.push(bad(
            AREA,
            format!("this command's own certificate ran out at {}", own.validity.not_after),
            "see that this machine's clock is right",
        ));
    }
    let seen: Vec<(String, &str, Option<&CertificateDiagnosis>)> = answering(processes)
        .map(|(process, report)| {
            let diagnosis = &report.diagnosis;
            (process.name(), diagnosis.service.as_str(), diagnosis.certificate.as_ref())
        })
        .collect();
    let mut soonest: Option<(i64, String)> = None;
    for (name, service, certificate) in &seen {
        let Some(certificate) = certificate else {
            let text = format!("{name} proves nothing: it speaks without TLS");
            findings.push(bad(AREA, text, "whoever reaches it may call it as anyone"));
            continue;
        };
        findings.extend(leaf(name, service, certificate, now));
        if let Some(left) = left(certificate, now) {
            soonest = soonest.into_iter().chain([(left, name.clone())]).min();
        }
    }
    findings.extend(roots(&seen, now));
    if let Some((left, name)) = soonest.filter(|_| findings.is_empty()) {
        let text = format!("all are valid; the first to run out is {name}'s, in {}", age(left));
        findings.push(good(AREA, text));
    }
    findings
}

fn leaf(
    name: &str,
    service: &str,
    certificate: &CertificateDiagnosis,
    now: Timestamp,
) -> Option<Finding> {
    let (from, until) = validity(certificate)?;
    let expected = format!("/service/{service}");
    if !certificate.spiffe_id.ends_with(&expected) {
        let text = format!("{name} proves to be {}, not {service}", certificate.spiffe_id);
        return Some(bad(AREA, text, "it was given another service's key: see its data folder"));
    }
    if until <= now {
        return Some(bad(
            AREA,
            format!(
                "{name}'s certificate ran out {} ago",
                age(now.as_second() - until.as_second())
            ),
            "new connections to it fail: see whether `control` runs and whether the process reaches it",
        ));
    }
    if from > now {
        let text = format!("{name}'s certificate is valid only from {from}");
        return Some(bad(AREA, text, "its issuer's clock is ahead, or this machine's is behind"));
    }
    let life = until.duration_since(from).as_secs_f64();
    let left = until.duration_since(now).as_secs_f64();
    (left < life * LEFT_MIN).then(|| {
        bad(
            AREA,
            format!(
                "{name}'s certificate runs out in {} and was not renewed",
                age(until.as_second() - now.as_second())
            ),
            "see whether `control` runs, and the process's log for why it is refused a new one",
        )
    })
}

/// Who trusts what: two processes without a root in common refuse each other.
fn roots(seen: &[(String, &str, Option<&CertificateDiagnosis>)], now: Timestamp) -> Vec<Finding> {
    let mut sets: BTreeMap<BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
    let mut ending: BTreeMap<&str, (Timestamp, &str)> = BTreeMap::new();
    for (name, _, certificate) in seen {
        let Some(certificate) = certificate else { continue };
        let prints = certificate.roots.iter().map(|root| root.fingerprint.as_str()).collect();
        sets.entry(prints).or_default().push(name);
        for root in &certificate.roots {
            let until = root.not_after.as_ref();
            let until = until.and_then(|until| rpc::time::from_proto("not_after", until).ok());
            if let Some(until) = until.filter(|until| *until <= now + ROOT_NOTICE) {
                ending.insert(&root.fingerprint, (until, &root.subject));
            }
        }
    }
    let mut findings: Vec<_> = ending
        .into_values()
        .map(|(until, subject)| {
            let text = format!("the root `{subject}` runs out at {until}");
            let next = "bring in the next root before: all processes must trust both for a while";
            if until <= now { bad(AREA, text, next) } else { doubtful(AREA, text, next) }
        })
        .collect();
    let apart = sets.iter().enumerate().find_map(|(at, (a, of_a))| {
        let (_, of_b) = sets.iter().skip(at + 1).find(|(b, _)| a.is_disjoint(b))?;
        Some((of_a.first()?, of_b.first()?))
    });
    match apart {
        Some((a, b)) => findings.push(bad(
            AREA,
            format!("{a} and {b} trust no root in common, and refuse each other"),
            "one of them was given another authority: see mesh.authority and `control`",
        )),
        None if sets.len() > 1 => findings.push(doubtful(
            AREA,
            "not all processes trust the same roots",
            "fine while one root takes over from another; it is over when all trust the same again",
        )),
        None => {}
    }
    findings
}

fn validity(certificate: &CertificateDiagnosis) -> Option<(Timestamp, Timestamp)> {
    let time = |time: Option<&prost_types::Timestamp>| {
        time.and_then(|time| rpc::time::from_proto("time", time).ok())
    };
    Some((time(certificate.not_before.as_ref())?, time(certificate.not_after.as_ref())?))
}

fn left(certificate: &CertificateDiagnosis, now: Timestamp) -> Option<i64> {
    let (_, until) = validity(certificate)?;
    Some(until.as_second() - now.as_second())
}
