//! The page of metrics, read back: its families with their samples.
//!
//! It is our own page, written a moment before, so what can't be read is left out rather than complained of.

/// The samples of one name and kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FamilyRead {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: Kind,
    pub(super) samples: Vec<SampleRead>,
}

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Histogram,
    /// Gauges, and whatever else is one value.
    Gauge,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampleRead {
    /// With its suffix: `_total`, `_bucket`, `_count`, `_sum`.
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// Reads a page.
pub(super) fn parse(page: &str) -> Vec<FamilyRead> {
    let mut families: Vec<FamilyRead> = Vec::new();
    for line in page.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let mut words = described.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("HELP"), Some(name), help) => families.push(FamilyRead {
                    name: name.to_owned(),
                    help: help.unwrap_or_default().to_owned(),
                    kind: Kind::Gauge,
                    samples: Vec::new(),
                }),
                (Some("TYPE"), Some(_), Some(kind)) => {
                    if let Some(family) = families.last_mut() {
                        family.kind = match kind {
                            "counter" => Kind::Counter,
                            "histogram" => Kind::Histogram,
                            _ => Kind::Gauge,
                        };
                    }
                }
                _ => {}
            }
        } else if let (Some(family), Some(sample)) = (families.last_mut(), sample(line)) {
            family.samples.push(sample);
        }
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<SampleRead> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = value.trim_start().split(' ').next()?.parse().ok()?;
    Some(SampleRead { name: name.to_owned(), labels, value })
}

/// The labels, and what follows the brace that closes them.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.strip_prefix(',').unwrap_or(text);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        text = loop {
            match characters.next()? {
                (at, '"') => break &rest[at + 1..],
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    escaped => escaped,
                }),
                (_, character) => value.push(character),
            }
        };
        labels.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_says_is_read_back() {
        let page = "\
# HELP requests Requests answered.
# TYPE requests counter
requests_total{service=\"links\",code=\"a \\\"b\\\" \\\\ } c\\n\"} 7
# HELP age_seconds How old.
# TYPE age_seconds gauge
age_seconds 1.5
# HELP nothing Not there yet.
# TYPE nothing counter
# EOF
";
        let families = parse(page);
        assert_eq!(families.len(), 2);
        assert_eq!((families[0].name.as_str(), families[0].kind), ("requests", Kind::Counter));
        assert_eq!(families[0].help, "Requests answered.");
        let sample = &families[0].samples[0];
        assert_eq!((sample.name.as_str(), sample.value), ("requests_total", 7.0));
        assert_eq!(sample.labels[1], ("code".to_owned(), "a \"b\" \\ } c\n".to_owned()));
        assert_eq!((families[1].kind, families[1].samples[0].value), (Kind::Gauge, 1.5));
    }

    #[test]
    fn what_is_malformed_is_left_out() {
        for line in ["", "name", "name{a=\"b\" 1", "name{a=\"b\"}", "name{a} 1", "name x"] {
            assert_eq!(sample(line), None, "{line}");
        }
    }
}
