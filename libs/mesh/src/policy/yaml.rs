//! Policies as people write them: YAML, of which JSON is a part.
//!
//! Whatever is wrong is said of the field where it is, with its path and its line; and all of it at once, as far as the text can
//! be read at all.

mod duration;
mod locate;
mod shape;
mod write;

pub use write::write_json;
pub use write::write_yaml;

use proto::mesh::v1::ServicePolicy;
use serde::Deserialize as _;
use serde_yaml_ng::Deserializer;
use serde_yaml_ng::Value;
use std::fmt;

/// The longest text that is read, in bytes: comments may outweigh what is stored.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// How many documents one text may have.
const DOCUMENTS_MAX: usize = 256;

/// What is wrong with one place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; none if it is the text as a whole.
    pub line: Option<usize>,
    /// The field's path, such as `routes[0].retry.attempts_max`; empty if the text is no YAML there.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// Why a text could not be read: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ReadError {}

/// One of the policies in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it says, not validated yet.
    pub policy: ServicePolicy,
    /// Its place in the text, from 0.
    place: usize,
}

impl Document {
    /// The line of `text`, which it was read from, where a field is; of what it should be in, if it is not there.
    #[must_use]
    pub fn line_of(&self, text: &str, field: &str) -> Option<usize> {
        locate::line(text, self.place, field)
    }
}

/// The policy in a text.
///
/// # Errors
/// All that is wrong with it; also if there is not exactly one.
pub fn read_yaml(text: &str) -> Result<ServicePolicy, ReadError> {
    let mut documents = read_all_yaml(text)?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.policy),
        _ => Err(whole("must have exactly one policy".to_owned())),
    }
}

/// All policies in a text, which are separated by `---`.
///
/// # Errors
/// All that is wrong with them; also if there is none.
pub fn read_all_yaml(text: &str) -> Result<Vec<Document>, ReadError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(whole(format!("must have at most {TEXT_BYTES_MAX} bytes")));
    }
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for (place, document) in Deserializer::from_str(text).enumerate() {
        if place == DOCUMENTS_MAX {
            return Err(whole(format!("must have at most {DOCUMENTS_MAX} documents")));
        }
        let value = match Value::deserialize(document) {
            // Nothing, or comments alone.
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                problems.push(malformed(&error));
                break;
            }
        };
        match shape::policy(&value) {
            Ok(policy) => documents.push(Document { policy, place }),
            Err(wrong) => problems.extend(wrong.into_iter().map(|(field, message)| {
                let line = locate::line(text, place, &field);
                Problem { line, field, message }
            })),
        }
    }
    if problems.is_empty() && documents.is_empty() {
        return Err(whole("has no policy: begin with `service: …`".to_owned()));
    }
    if problems.is_empty() { Ok(documents) } else { Err(ReadError { problems }) }
}

fn whole(message: String) -> ReadError {
    ReadError { problems: vec![Problem { line: None, field: String::new(), message }] }
}

fn malformed(error: &serde_yaml_ng::Error) -> Problem {
    let line = error.location().map(|location| location.line());
    let message = error.to_string();
    // The line is said before it.
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    Problem { line, field: String::new(), message: format!("is not YAML: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let error = read_all_yaml(text).expect_err("it is refused");
        error.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn every_problem_names_its_line_and_field_and_what_is_allowed() {
        let text = "\
# How links is called.
service: links
balancing:
  algorithm: FASTEST
  warm_up: 5 s
routes:
  - name: reads
    retry:
      attempts_max: many
      per_try_timeout: 3
      codes: UNAVAILABLE
    timeuot: 1s
  - name: 7
    split: [{subset: a, weight: -1}]
    hedge:
      percentile: high
concurrency: 12
";
        let known = "PEAK_EWMA, LEAST_REQUEST, ROUND_ROBIN, RING_HASH";
        let duration = "must be a number with its unit, one of ms, s, m and h, such as \"0.5s\"";
        assert_eq!(
            problems(text),
            [
                format!("4: balancing.algorithm: must be one of {known}, is \"FASTEST\""),
                format!("5: balancing.warm_up: {duration}; is \"5 s\""),
                "9: routes[0].retry.attempts_max: must be a whole number from 0 to 4294967295, is \"many\""
                    .to_owned(),
                format!("10: routes[0].retry.per_try_timeout: {duration}; is 3"),
                "11: routes[0].retry.codes: must be a list, is \"UNAVAILABLE\"".to_owned(),
                "12: routes[0].timeuot: is not a field; did you mean `timeout`?".to_owned(),
                "13: routes[1].name: must be text; write it in quotes, \"7\"".to_owned(),
                "14: routes[1].split[0].weight: must be a whole number from 0 to 4294967295, is -1"
                    .to_owned(),
                "16: routes[1].hedge.percentile: must be a number, is \"high\"".to_owned(),
                "17: concurrency: must be a mapping of fields, is 12".to_owned(),
            ]
        );
    }

    #[test]
    fn what_is_not_yaml_is_said_with_its_line() {
        let wrong = problems("service: links\nroutes:\n  - name: [\n");
        assert!(wrong[0].contains(": is not YAML: "), "{wrong:?}");
        let twice = problems("service: links\nservice: edge\n");
        assert!(twice[0].contains("duplicate"), "{twice:?}");
        assert_eq!(problems(""), ["has no policy: begin with `service: …`"]);
        assert_eq!(problems("- a\n"), ["1: must be a mapping of fields, is a list"]);
        let camel = problems("service: a\nhealth: {panicPercent: 1, panic_percent: 2}\n");
        assert_eq!(camel, ["2: health.panic_percent: is there twice"]);
        let both = "service: a\nroutes: [{name: a, matches: [{headers: [{name: b, exact: c, prefix: d}]}]}]";
        let wrong = problems(both);
        assert!(wrong[0].ends_with("headers[0].prefix: excludes `exact`"), "{wrong:?}");
    }

    #[test]
    fn a_file_may_have_several_policies_and_their_problems_have_lines_of_the_file() {
        let text =
            "---\nservice: links\n---\n# nothing\n---\nservice: edge\nhealth:\n  backoff_min: 9s\n";
        let documents = read_all_yaml(text).unwrap();
        let services: Vec<_> = documents.iter().map(|it| it.policy.service.as_str()).collect();
        assert_eq!(services, ["links", "edge"]);
        assert_eq!(documents[1].line_of(text, "health.backoff_min"), Some(8));
        assert_eq!(documents[1].line_of(text, "health.backoff_max"), Some(8), "where it would be");
        assert_eq!(documents[0].line_of(text, "service"), Some(2));
        assert!(read_yaml(text).is_err());
    }

    #[test]
    fn what_is_written_reads_back_the_same_in_both_forms() {
        let text = include_str!("../../../../manifests/policies/links.yaml");
        let policy = read_yaml(text).unwrap();
        let yaml = write_yaml(&policy);
        assert_eq!(read_yaml(&yaml).unwrap(), policy, "{yaml}");
        assert_eq!(read_yaml(&write_json(&policy).to_string()).unwrap(), policy);
    }
}
