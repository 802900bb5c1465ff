//! What a file would change, as a unified diff of the YAML.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use mesh::policy::write_yaml;
use proto::mesh::v1::PolicyRevision;
use proto::mesh::v1::ServicePolicy;
use serde_json::Value;
use serde_json::json;
use similar::TextDiff;

use crate::print;

/// How many lines are shown around a change.
const CONTEXT_LINES: usize = 3;
/// As git colours them.
const HEADING: &str = "\u{1b}[1m";
const PLACE: &str = "\u{1b}[36m";
const ADDED: &str = "\u{1b}[32m";
const REMOVED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Whether lines are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Color {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A policy compared with what is in force.
#[derive(Debug)]
pub(super) struct Compared {
    service: String,
    /// What is in force; 0: nothing.
    revision: i64,
    pub(super) differs: bool,
    /// As `diff -u` has it; empty if nothing differs.
    text: String,
}

impl Compared {
    pub(super) fn new(stored: Option<PolicyRevision>, wanted: &ServicePolicy) -> Compared {
        let stored = stored.unwrap_or_default();
        let before = stored.policy.as_ref().map(write_yaml).unwrap_or_default();
        let after = write_yaml(wanted);
        let service = wanted.service.clone();
        let in_force = match stored.revision {
            0 => format!("{service} (the defaults)"),
            revision => format!("{service} (revision {revision}, in force)"),
        };
        let text = TextDiff::from_lines(&before, &after)
            .unified_diff()
            .context_radius(CONTEXT_LINES)
            .header(&in_force, &format!("{service} (as given)"))
            .to_string();
        // What was written past control and can't be read shows as a policy that is new.
        Compared { service, revision: stored.revision, differs: !text.is_empty(), text }
    }

    pub(super) fn json(&self) -> Value {
        let Compared { service, revision, differs, text } = self;
        json!({"service": service, "revision": revision, "differs": differs, "diff": text})
    }

    pub(super) fn print(&self, color: Color) -> anyhow::Result<()> {
        let is_coloured = match color {
            Color::Auto => std::io::stdout().is_terminal(),
            Color::Always => true,
            Color::Never => false,
        };
        self.text.lines().try_for_each(|line| {
            let code = colour(line).filter(|_| is_coloured);
            match code {
                Some(code) => print::line(&format!("{code}{line}{PLAIN}")),
                None => print::line(line),
            }
        })
    }
}

fn colour(line: &str) -> Option<&'static str> {
    if line.starts_with("--- ") || line.starts_with("+++ ") {
        return Some(HEADING);
    }
    match line.chars().next() {
        Some('@') => Some(PLACE),
        Some('+') => Some(ADDED),
        Some('-') => Some(REMOVED),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::policy::read_yaml;

    fn stored(yaml: &str) -> Option<PolicyRevision> {
        let policy = Some(read_yaml(yaml).unwrap());
        Some(PolicyRevision { policy, revision: 3, ..PolicyRevision::default() })
    }

    #[test]
    fn a_diff_shows_what_would_change_and_nothing_if_only_the_writing_differs() {
        let before = "service: links\nhealth: {panic_percent: 20}\n";
        let after = read_yaml("service: links\nhealth:\n  panicPercent: 30\n").unwrap();
        let compared = Compared::new(stored(before), &after);
        assert!(compared.differs);
        assert_eq!(
            compared.text,
            "--- links (revision 3, in force)\n+++ links (as given)\n@@ -1,3 +1,3 @@\n service: links\n health:\n\
             -  panic_percent: 20\n+  panic_percent: 30\n"
        );
        assert!(!Compared::new(stored(before), &read_yaml(before).unwrap()).differs);
        let new = Compared::new(None, &after);
        assert!(new.text.starts_with("--- links (the defaults)") && new.text.contains("+service"));
    }

    #[test]
    fn lines_are_coloured_by_what_they_say() {
        assert_eq!(colour("+++ links"), Some(HEADING));
        assert_eq!(colour("+  a: 1"), Some(ADDED));
        assert_eq!(colour("-  a: 1"), Some(REMOVED));
        assert_eq!(colour("@@ -1 +1 @@"), Some(PLACE));
        assert_eq!(colour(" a: 1"), None);
        assert_eq!(colour(""), None);
    }
}
