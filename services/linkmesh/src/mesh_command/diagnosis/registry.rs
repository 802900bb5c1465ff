//! The registry, as each process sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::mesh::v1::RegistryDiagnosis;

use super::Finding;
use super::Process;
use super::answering;
use super::bad;
use super::doubtful;
use super::good;
use super::named;
use crate::mesh_command::show;

const AREA: &str = "registry";
/// How long a registry may be silent: it says every second that nothing has changed, and a watch that broke is made anew within a
/// few.
const AGE_MAX: Duration = Duration::from_secs(10);

pub(super) fn findings(processes: &[Process]) -> Vec<Finding> {
    let seen: Vec<(String, &RegistryDiagnosis)> = answering(processes)
        .filter_map(|(process, report)| Some((process.name(), report.diagnosis.registry.as_ref()?)))
        .collect();
    if seen.is_empty() {
        return Vec::new();
    }
    let mut findings = members(&seen);
    findings.extend(ages(&seen));
    findings.extend(places(&seen));
    findings
}

/// Each member, by those who could not reach it.
fn members(seen: &[(String, &RegistryDiagnosis)]) -> Vec<Finding> {
    let mut members: BTreeMap<&str, (usize, BTreeMap<&str, Vec<String>>)> = BTreeMap::new();
    for (name, registry) in seen {
        for member in &registry.members {
            let (reached, problems) = members.entry(&member.address).or_default();
            match member.problem.is_empty() {
                true => *reached += 1,
                false => problems.entry(&member.problem).or_default().push(name.clone()),
            }
        }
    }
    let mut findings = Vec::new();
    for (address, (reached, problems)) in members {
        if problems.is_empty() {
            findings.push(good(AREA, format!("etcd at {address} answers every process")));
        }
        for (problem, names) in problems {
            let text = format!("etcd at {address} does not answer {}: {problem}", named(&names));
            findings.push(match reached {
                0 => bad(
                    AREA,
                    text,
                    "start it, or see its log; until then calls go on with the instances and policies that were known last, and \
                     nothing new is learnt",
                ),
                _ => bad(AREA, text, "others reach it: see the network between those and etcd"),
            });
        }
    }
    findings
}

/// Who has not heard of the registry for long.
fn ages(seen: &[(String, &RegistryDiagnosis)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, registry) in seen {
        match registry.age.and_then(|age| Duration::try_from(age).ok()) {
            Some(age) if age <= AGE_MAX => {}
            Some(age) => findings.push(bad(
                AREA,
                format!("{name} last heard of the registry {} ago", show::duration(age)),
                "it knows only what was there then",
            )),
            None => findings.push(bad(
                AREA,
                format!("{name} has never heard of its registry, {}", registry.uri),
                "it knows only what its snapshot on disk says; see mesh.registry in its configuration",
            )),
        }
    }
    if findings.is_empty() {
        findings.push(good(AREA, "every process follows it"));
    }
    findings
}

/// Processes that do not share a registry do not see each other.
fn places(seen: &[(String, &RegistryDiagnosis)]) -> Vec<Finding> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, registry) in seen {
        let mut members: Vec<_> = registry.members.iter().map(|it| it.address.as_str()).collect();
        members.sort_unstable();
        let place = if members.is_empty() { registry.uri.clone() } else { members.join(",") };
        places.entry(place).or_default().push(name.clone());
    }
    if places.len() < 2 {
        return Vec::new();
    }
    let all: Vec<_> =
        places.iter().map(|(place, names)| format!("{place} for {}", named(names))).collect();
    let text = format!("not all processes name the same registry: {}", all.join("; "));
    vec![doubtful(AREA, text, "fine if these are members of one cluster; else see mesh.registry")]
}
