//! The files that policies come from.

use std::fs::File;
use std::io::Read;

use anyhow::Context as _;
use clap::Args;
use mesh::policy;
use mesh::policy::Policy;
use mesh::policy::Problem;
use proto::mesh::v1::ServicePolicy;

use crate::print;
use crate::print::Said;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Which files.
#[derive(Debug, Args)]
pub(super) struct Files {
    /// A file with one policy, or several separated by `---`; `-`: standard input. May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<String>,
}

impl Files {
    /// The policies in all of them, each valid. Whatever is not is said first, a line for each problem: file:line: field:
    /// message.
    pub(super) fn read(&self) -> anyhow::Result<Vec<ServicePolicy>> {
        let mut policies: Vec<ServicePolicy> = Vec::new();
        let mut is_wrong = false;
        for file in &self.files {
            let name = if file == STANDARD_INPUT { "standard input" } else { file };
            let text = text(file).with_context(|| format!("reading {name}"))?;
            match read(&text) {
                Ok(read) => policies.extend(read),
                Err(problems) => {
                    is_wrong = true;
                    for problem in problems {
                        print::complaint(&format!("{name}:{problem}"));
                    }
                }
            }
        }
        if is_wrong {
            return Err(Said.into());
        }
        let mut services: Vec<_> = policies.iter().map(|policy| policy.service.as_str()).collect();
        services.sort_unstable();
        if let Some(pair) = services.windows(2).find(|pair| pair[0] == pair[1]) {
            anyhow::bail!("there are two policies of {}: a service has one", pair[0]);
        }
        Ok(policies)
    }
}

fn text(file: &str) -> anyhow::Result<String> {
    let mut source: Box<dyn Read> = match file {
        STANDARD_INPUT => Box::new(std::io::stdin()),
        file => Box::new(File::open(file)?),
    };
    let mut text = String::new();
    let length = source.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    anyhow::ensure!(length as u64 <= FILE_BYTES_MAX, "it has more than {FILE_BYTES_MAX} bytes");
    Ok(text)
}

fn read(text: &str) -> Result<Vec<ServicePolicy>, Vec<Problem>> {
    let documents = policy::read_all_yaml(text).map_err(|error| error.problems)?;
    let mut problems = Vec::new();
    for document in &documents {
        let violations = Policy::compile(&document.policy, 0).err().unwrap_or_default();
        problems.extend(violations.into_iter().map(|violation| Problem {
            line: document.line_of(text, &violation.field),
            field: violation.field,
            message: violation.description,
        }));
    }
    if problems.is_empty() {
        Ok(documents.into_iter().map(|document| document.policy).collect())
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = "service: links\n---\nservice: edge\nroutes:\n  - name: a\n    retry:\n      attempts_max: 9\n";
        let problems: Vec<_> = read(text).unwrap_err().iter().map(Problem::to_string).collect();
        assert_eq!(problems, ["7: routes[0].retry.attempts_max: must be 1 to 5, is 9"]);
        assert_eq!(read("service: links\n---\nservice: edge\n").unwrap().len(), 2);
    }

    #[test]
    fn all_files_are_read_before_any_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (good, bad) = (file("good", "service: links\n"), file("bad", "service: LINKS\n"));
        let read =
            |files: &[&String]| Files { files: files.iter().copied().cloned().collect() }.read();
        assert_eq!(read(&[&good]).unwrap().len(), 1);
        assert!(read(&[&good, &bad]).unwrap_err().is::<Said>());
        let twice = read(&[&good, &good]).unwrap_err().to_string();
        assert!(twice.contains("two policies of links"), "{twice}");
        let missing = format!("{:#}", read(&[&format!("{good}.none")]).unwrap_err());
        assert!(missing.contains("good.none"), "{missing}");
    }
}
