//! What processes say of themselves and of each other, judged: what is good, what is worth knowing, what is wrong, and what to do
//! about it. Nothing is asked here.

mod certificates;
mod policies;
mod registry;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mesh::Identity;
use proto::mesh::v1::GetDiagnosisResponse;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::ListRoutesResponse;
use proto::mesh::v1::endpoint::State;
use proto::mesh::v1::get_diagnosis_response::Registration;

use super::show;

/// How far a clock may be off before it is worth knowing, and before it is wrong: from there certificates may be refused that are
/// good (Linkerd allows for as much).
const SKEW_DOUBTFUL: f64 = 1.0;
const SKEW_BAD: f64 = 20.0;

/// What a judgement comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Doubtful,
    Bad,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) area: &'static str,
    pub(super) verdict: Verdict,
    pub(super) text: String,
    /// What to do about it.
    pub(super) next: Option<String>,
}

/// A process that was asked.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) service: String,
    /// Empty as long as it has not been heard of.
    pub(super) instance: String,
    pub(super) address: String,
    /// What it said, or why it did not.
    pub(super) answer: Result<Box<Report>, String>,
}

/// What a process said.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) diagnosis: GetDiagnosisResponse,
    pub(super) endpoints: ListEndpointsResponse,
    pub(super) routes: ListRoutesResponse,
    /// When it was asked how it is, by the clock here, and how long the answer took.
    pub(super) asked_at: Timestamp,
    pub(super) took: Duration,
}

impl Process {
    pub(super) fn report(&self) -> Option<&Report> {
        self.answer.as_deref().ok()
    }

    fn name(&self) -> String {
        match self.instance.is_empty() {
            true => format!("{} at {}", self.service, self.address),
            false => self.instance.clone(),
        }
    }
}

/// Judges.
pub(super) fn findings(processes: &[Process], own: &Identity, now: Timestamp) -> Vec<Finding> {
    let mut findings = reached(processes);
    findings.extend(registry::findings(processes));
    findings.extend(registration(processes));
    findings.extend(clocks(processes));
    findings.extend(certificates::findings(processes, own.certificate().as_ref(), now));
    findings.extend(versions(processes));
    findings.extend(policies::findings(processes));
    findings.extend(health(processes));
    findings
}

fn good(area: &'static str, text: impl Into<String>) -> Finding {
    Finding { area, verdict: Verdict::Good, text: text.into(), next: None }
}

fn doubtful(area: &'static str, text: impl Into<String>, next: &str) -> Finding {
    Finding { area, verdict: Verdict::Doubtful, text: text.into(), next: Some(next.to_owned()) }
}

fn bad(area: &'static str, text: impl Into<String>, next: &str) -> Finding {
    Finding { area, verdict: Verdict::Bad, text: text.into(), next: Some(next.to_owned()) }
}

/// The names of several, as many as can be taken in.
fn named(names: &[String]) -> String {
    const NAMED_MAX: usize = 6;
    let shown = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn answering(processes: &[Process]) -> impl Iterator<Item = (&Process, &Report)> {
    processes.iter().filter_map(|process| Some((process, process.report()?)))
}

fn reached(processes: &[Process]) -> Vec<Finding> {
    const AREA: &str = "processes";
    let unreached = processes.iter().filter_map(|process| {
        let why = process.answer.as_ref().err()?;
        let text = format!("{} ({}) does not answer: {why}", process.name(), process.address);
        Some(bad(AREA, text, next_of(why)))
    });
    let mut findings: Vec<_> = unreached.collect();
    let answering = answering(processes).count();
    match answering {
        0 => {}
        1 => findings.insert(0, good(AREA, "one process answers")),
        _ => findings.insert(0, good(AREA, format!("{answering} processes answer"))),
    }
    findings
}

/// What to do about a process that does not answer.
fn next_of(why: &str) -> &'static str {
    let why = why.to_lowercase();
    if why.contains("expired") {
        "a certificate has run out: see whether `control` runs, and whether this machine's clock is right"
    } else if why.contains("not valid yet") || why.contains("notvalidyet") {
        "a certificate is of the future: this machine's clock is behind, or the issuer's is ahead"
    } else if why.contains("unknownissuer")
        || why.contains("unknownca")
        || why.contains("unknown ca")
    {
        "it and this command trust different roots: is --authority the one that the process uses?"
    } else if why.contains("certificate") || why.contains("is not usable as") {
        "someone else answers there, or proves something else than it should: see what listens on that address"
    } else {
        "start it (`linkmesh up restart NAME`, or as your platform does); one that is gone for good is forgotten by itself"
    }
}

fn registration(processes: &[Process]) -> Vec<Finding> {
    const AREA: &str = "registration";
    let mut findings = Vec::new();
    let mut serving = 0;
    for (process, report) in answering(processes) {
        let name = process.name();
        match report.diagnosis.registration() {
            Registration::Serving => serving += 1,
            Registration::Drained => findings.push(doubtful(
                AREA,
                format!("{name} was taken out of rotation"),
                &format!("`linkmesh mesh undrain {name}` puts it back"),
            )),
            Registration::Pending => findings.push(bad(
                AREA,
                format!("{name} is not registered: the registry has not taken it yet"),
                "it goes on trying; see what is wrong with the registry",
            )),
            Registration::None | Registration::Unspecified => findings.push(doubtful(
                AREA,
                format!("{name} is not registered: it starts, stops, or is not ready"),
                "its /readyz says what it waits for",
            )),
        }
    }
    if serving > 0 {
        findings.insert(0, good(AREA, format!("{serving} instances can be found by others")));
    }
    findings
}

fn clocks(processes: &[Process]) -> Vec<Finding> {
    const AREA: &str = "clock";
    let skews: Vec<(String, f64)> = answering(processes)
        .filter_map(|(process, report)| Some((process.name(), skew(report)?)))
        .collect();
    let off = |bound: f64| skews.iter().filter(move |(_, skew)| skew.abs() > bound);
    let worst = off(SKEW_DOUBTFUL).map(|(name, skew)| {
        let direction = if *skew > 0.0 { "ahead of" } else { "behind" };
        let amount = show::duration(Duration::from_secs_f64(skew.abs()));
        let text = format!("{name}'s clock is {amount} {direction} this machine's");
        let next = "certificates and what is dated rest on clocks that agree: is NTP running there, and here?";
        if skew.abs() > SKEW_BAD { bad(AREA, text, next) } else { doubtful(AREA, text, next) }
    });
    let findings: Vec<_> = worst.collect();
    if !findings.is_empty() || skews.is_empty() {
        return findings;
    }
    vec![good(AREA, "all clocks agree with this machine's within a second")]
}

/// How far a process's clock is ahead, in seconds: it was read at some moment while the answer was waited for.
fn skew(report: &Report) -> Option<f64> {
    let theirs = rpc::time::from_proto("now", report.diagnosis.now.as_ref()?).ok()?;
    let ahead = theirs.duration_since(report.asked_at).as_secs_f64();
    let took = report.took.as_secs_f64();
    // Anything within the wait is no error.
    Some(if ahead < 0.0 { ahead } else { (ahead - took).max(0.0) })
}

fn versions(processes: &[Process]) -> Vec<Finding> {
    const AREA: &str = "versions";
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (process, report) in answering(processes) {
        versions.entry(report.diagnosis.version.clone()).or_default().push(process.name());
    }
    let mut versions = versions.into_iter();
    match (versions.next(), versions.next()) {
        (None, _) => Vec::new(),
        (Some((only, _)), None) => vec![good(AREA, format!("every process runs {only}"))],
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(versions);
            let all: Vec<_> =
                all.map(|(version, names)| format!("{version} on {}", named(&names))).collect();
            let next = "fine during a rollout; afterwards, restart those that were left behind";
            vec![doubtful(AREA, format!("several versions run: {}", all.join("; ")), next)]
        }
    }
}

/// Whom callers do not use, though it is there.
fn health(processes: &[Process]) -> Vec<Finding> {
    const AREA: &str = "health";
    let mut unused: BTreeMap<(String, &'static str), Vec<String>> = BTreeMap::new();
    for (process, report) in answering(processes) {
        for endpoint in &report.endpoints.endpoints {
            let how = match (endpoint.state(), endpoint.suspect) {
                (State::Unhealthy, _) => "out of use after failures",
                (State::Ejected, _) => "out of use because it fares worse than the others",
                (_, true) => "only suspected to be there: its lease ran out without a word",
                _ => continue,
            };
            unused.entry((endpoint.instance.clone(), how)).or_default().push(process.name());
        }
    }
    if unused.is_empty() && answering(processes).next().is_some() {
        return vec![good(AREA, "nobody keeps away from an instance")];
    }
    let finding = |((instance, how), by): ((String, &'static str), Vec<String>)| {
        let text = format!(
            "{instance} is {how}, as {} {} it",
            named(&by),
            if by.len() == 1 { "sees" } else { "see" }
        );
        doubtful(AREA, text, "see its log, and `linkmesh mesh stat --by instance`")
    };
    unused.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests;
