//! A topic on disk: what it is, in a small file beside its partitions.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::file::partition::Partition;
use crate::topics::PARTITIONS_MAX;
use crate::topics::Retention;
use crate::topics::TopicSpec;

const DESCRIPTION: &str = "topic";

#[derive(Debug)]
pub(crate) struct Topic {
    name: String,
    folder: PathBuf,
    retention: Retention,
    partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// The topic in this folder; none if it is no topic's.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Option<Self>> {
        let description = folder.join(DESCRIPTION);
        if !description.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&description)?;
        let (count, retention) = parse(&text)
            .with_context(|| format!("{} is not understood: {text:?}", description.display()))?;
        let name =
            folder.file_name().and_then(|name| name.to_str()).context("a topic's name is text")?;
        let mut topic = Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            retention,
            partitions: Vec::new(),
        };
        topic.open_partitions(count)?;
        Ok(Some(topic))
    }

    pub(crate) fn create(log: &Path, spec: &TopicSpec) -> anyhow::Result<Self> {
        let plain =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        anyhow::ensure!(
            !spec.name.is_empty() && spec.name.chars().all(plain),
            "{:?} is no topic's name",
            spec.name
        );
        let folder = log.join(spec.name);
        std::fs::create_dir_all(&folder)?;
        let mut topic = Self {
            name: spec.name.to_owned(),
            folder,
            retention: spec.retention,
            partitions: Vec::new(),
        };
        topic.grow(spec.partitions)?;
        Ok(topic)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// More partitions and another retention, never fewer partitions.
    pub(crate) fn adjust(&mut self, spec: &TopicSpec) -> anyhow::Result<()> {
        let known = u32::try_from(self.partitions.len())?;
        if spec.partitions <= known && spec.retention == self.retention {
            return Ok(());
        }
        self.retention = spec.retention;
        for partition in &self.partitions {
            partition.state().retention = spec.retention;
        }
        self.grow(spec.partitions.max(known))
    }

    fn grow(&mut self, partitions: u32) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=PARTITIONS_MAX).contains(&partitions),
            "a topic has 1 to {PARTITIONS_MAX} partitions"
        );
        self.open_partitions(partitions)?;
        // Described last: a description promises its partitions.
        let temporary = self.folder.join("topic.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(describe(partitions, self.retention).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.folder.join(DESCRIPTION))?;
        File::open(&self.folder)?.sync_all()?;
        let log = self.folder.parent().context("a topic lies in a log's folder")?;
        File::open(log)?.sync_all()?;
        Ok(())
    }

    fn open_partitions(&mut self, count: u32) -> anyhow::Result<()> {
        for number in u32::try_from(self.partitions.len())?..count {
            let folder = self.folder.join(format!("{number:05}"));
            let partition = Partition::open(folder.clone(), self.retention)
                .with_context(|| format!("log partition {}", folder.display()))?;
            self.partitions.push(Arc::new(partition));
        }
        Ok(())
    }
}

fn describe(partitions: u32, retention: Retention) -> String {
    match retention {
        Retention::Delete(age) => {
            format!("partitions {partitions}\ndelete after {} ms\n", age.as_millis())
        }
        Retention::Compact => format!("partitions {partitions}\ncompact\n"),
    }
}

fn parse(text: &str) -> Option<(u32, Retention)> {
    let mut lines = text.lines();
    let partitions = lines.next()?.strip_prefix("partitions ")?.parse().ok()?;
    let retention = match lines.next()? {
        "compact" => Retention::Compact,
        other => {
            let age = other.strip_prefix("delete after ")?.strip_suffix(" ms")?;
            Retention::Delete(Duration::from_millis(age.parse().ok()?))
        }
    };
    (1..=PARTITIONS_MAX).contains(&partitions).then_some((partitions, retention))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_was_written() {
        for retention in
            [Retention::Compact, Retention::Delete(Duration::from_millis(3_110_400_000))]
        {
            assert_eq!(parse(&describe(24, retention)), Some((24, retention)));
        }
    }

    #[test]
    fn a_description_that_is_cut_anywhere_is_refused_or_complete() {
        let whole = describe(24, Retention::Compact);
        for length in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..length]), None, "cut to {length}");
        }
    }
}
