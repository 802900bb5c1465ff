//! What commands say to people: results on standard output, problems on standard error.

use std::io::ErrorKind;
use std::io::Write as _;

use anyhow::Context as _;

/// One line of a result.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // A reader such as `head` has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to standard output"),
    }
}

/// A value as indented JSON, for scripts.
pub(crate) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// How a command that shows something shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// The flag that all commands have which show something.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Output {
    /// `text` for people, or `json` for scripts
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

impl Output {
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// Words, which begin together.
    Words(&'static str),
    /// Numbers, which end together.
    Numbers(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Words(title) | Column::Numbers(title) => title,
        }
    }

    fn cell(self, text: &str, width: usize) -> String {
        match self {
            Column::Words(_) => format!("{text:<width$}"),
            Column::Numbers(_) => format!("{text:>width$}"),
        }
    }
}

/// Rows under a heading, in columns as wide as their widest cell.
pub(crate) fn table(heading: &[&'static str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let columns: Vec<Column> = heading.iter().map(|&title| Column::Words(title)).collect();
    aligned(&columns, rows).iter().try_for_each(|row| line(row))
}

/// The lines of a table, the heading first.
pub(crate) fn aligned(columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].title().len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let heading: Vec<String> = columns.iter().map(|column| column.title().to_owned()).collect();
    let lines = std::iter::once(&heading).chain(rows).map(|row| {
        let cells = row.iter().zip(columns).zip(&widths);
        let cells = cells.map(|((cell, column), width)| column.cell(cell, *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect()
}

/// A line about what was given to the program, where editors and scripts look for it: place first.
pub(crate) fn complaint(text: &str) {
    // Nobody is left to be told that this could not be said.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// A command ends with exit code 1, and its output has said why.
#[derive(Debug)]
pub(crate) struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the output says why")
    }
}

impl std::error::Error for Said {}

/// Why the program ends without having done what it was asked.
pub(crate) fn problem(text: &str) {
    // Nobody is left to be told that this could not be said.
    writeln!(std::io::stderr(), "linkmesh: {text}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_together_and_numbers_end_together() {
        let columns = [Column::Words("NAME"), Column::Numbers("RPS"), Column::Words("CODES")];
        let rows = [["links", "1234.5", ""], ["identity", "2.0", "NOT_FOUND 2"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            aligned(&columns, &rows),
            ["NAME         RPS  CODES", "links     1234.5", "identity     2.0  NOT_FOUND 2",]
        );
    }
}
