//! Which policies are in force, and whether everywhere the same.

use std::collections::BTreeMap;

use super::Finding;
use super::Process;
use super::answering;
use super::bad;
use super::doubtful;
use super::good;
use super::named;

const AREA: &str = "policy";

pub(super) fn findings(processes: &[Process]) -> Vec<Finding> {
    if answering(processes).next().is_none() {
        return Vec::new();
    }
    let mut findings = refused(processes);
    findings.extend(apart(processes));
    if findings.is_empty() {
        findings.push(good(AREA, "every process has the same policies in force"));
    }
    findings
}

fn refused(processes: &[Process]) -> Vec<Finding> {
    let mut problems: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (process, report) in answering(processes) {
        for problem in &report.diagnosis.policy_problems {
            let key = (problem.service.as_str(), problem.problem.as_str());
            problems.entry(key).or_default().push(process.name());
        }
    }
    let finding = |((service, problem), names): ((&str, &str), Vec<String>)| {
        let text =
            format!("the policy of `{service}` is not applied by {}: {problem}", named(&names));
        let next = format!(
            "the one before holds; `linkmesh mesh policy rollback {service}` or apply a corrected one"
        );
        bad(AREA, text, &next)
    };
    problems.into_iter().map(finding).collect()
}

fn apart(processes: &[Process]) -> Vec<Finding> {
    let mut revisions: BTreeMap<&str, BTreeMap<i64, Vec<String>>> = BTreeMap::new();
    for (process, report) in answering(processes) {
        for service in &report.routes.services {
            let of_service = revisions.entry(&service.service).or_default();
            of_service.entry(service.revision).or_default().push(process.name());
        }
    }
    let differing = revisions.into_iter().filter(|(_, revisions)| revisions.len() > 1);
    let finding = |(service, revisions): (&str, BTreeMap<i64, Vec<String>>)| {
        let all: Vec<_> = revisions
            .iter()
            .map(|(revision, names)| format!("revision {revision} on {}", named(names)))
            .collect();
        let text = format!("the policy of `{service}` differs: {}", all.join("; "));
        doubtful(
            AREA,
            text,
            "it takes moments to arrive; if it stays so, see what is wrong with the registry",
        )
    };
    differing.map(finding).collect()
}
