//! Policies as people and scripts see them.

use clap::ValueEnum;
use mesh::policy::write_json;
use mesh::policy::write_yaml;
use proto::mesh::v1::PolicyRevision;
use serde_json::Value;

use crate::print;
use crate::print::Output;

/// What is shown of a note in a table, in characters.
const NOTE_CHARACTERS_MAX: usize = 60;

/// How policies are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One line each
    Table,
    /// As they are written
    Yaml,
    /// For scripts
    Json,
}

pub(super) fn policies(policies: &[PolicyRevision], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => {
            let all: Vec<_> = policies.iter().map(json).collect();
            print::json(&serde_json::json!({ "policies": all }))
        }
        Format::Yaml => policies.iter().enumerate().try_for_each(|(index, policy)| {
            if index > 0 {
                print::line("---")?;
            }
            print::line(yaml(policy).trim_end())
        }),
        Format::Table => {
            let heading = ["SERVICE", "REVISION", "APPLIED", "AUTHOR", "NOTE", "PROBLEM"];
            let rows: Vec<_> = policies
                .iter()
                .map(|policy| {
                    vec![
                        policy.service.clone(),
                        policy.revision.to_string(),
                        time(policy),
                        policy.author.clone(),
                        short(&policy.note),
                        policy.problem.clone(),
                    ]
                })
                .collect();
            print::table(&heading, &rows)
        }
    }
}

pub(super) fn history(history: &[PolicyRevision], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let all: Vec<_> = history.iter().map(json).collect();
        return print::json(&serde_json::json!({ "revisions": all }));
    }
    let rows: Vec<_> = history
        .iter()
        .map(|revision| {
            let what = if revision.policy.is_some() { "applied" } else { "removed" };
            vec![
                revision.revision.to_string(),
                time(revision),
                revision.author.clone(),
                what.to_owned(),
                short(&revision.note),
            ]
        })
        .collect();
    print::table(&["REVISION", "TIME", "AUTHOR", "CHANGE", "NOTE"], &rows)
}

/// A policy with where it comes from as a comment, so that it can be edited and applied.
fn yaml(policy: &PolicyRevision) -> String {
    let mut text =
        format!("# Revision {}, applied {} by {}", policy.revision, time(policy), policy.author);
    if !policy.note.is_empty() {
        text.push_str(&format!(": {}", one_line(&policy.note)));
    }
    text.push('\n');
    if !policy.problem.is_empty() {
        text.push_str(&format!("# PROBLEM: {}\n", one_line(&policy.problem)));
    }
    match &policy.policy {
        Some(policy) => text.push_str(&write_yaml(policy)),
        None => text.push_str(&format!("# {} has no policy that can be read.\n", policy.service)),
    }
    text
}

pub(super) fn json(revision: &PolicyRevision) -> Value {
    serde_json::json!({
        "service": revision.service,
        "revision": revision.revision,
        "applyTime": time(revision),
        "author": revision.author,
        "note": revision.note,
        "problem": revision.problem,
        "policy": revision.policy.as_ref().map(write_json),
    })
}

fn time(revision: &PolicyRevision) -> String {
    let time = revision.apply_time.as_ref();
    let time = time.and_then(|time| rpc::time::from_proto("apply_time", time).ok());
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}

/// Without line ends, which would end a comment or a row.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn short(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(NOTE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::policy::read_yaml;

    #[test]
    fn what_is_shown_as_yaml_can_be_applied_again() {
        let policy = read_yaml("service: links\nhealth: {panic_percent: 20}\n").unwrap();
        let revision = PolicyRevision {
            policy: Some(policy.clone()),
            service: "links".to_owned(),
            note: "two\nlines: [".to_owned(),
            problem: "none\nthat matters".to_owned(),
            ..PolicyRevision::default()
        };
        assert_eq!(read_yaml(&yaml(&revision)).unwrap(), policy);
        let none = PolicyRevision { policy: None, ..revision };
        assert!(yaml(&none).lines().all(|line| line.starts_with('#')));
    }

    #[test]
    fn a_long_note_is_cut() {
        assert_eq!(short("a\n b"), "a b");
        assert_eq!(short(&"ß".repeat(70)).chars().count(), NOTE_CHARACTERS_MAX + 2);
    }
}
