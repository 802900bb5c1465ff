//! Filters of ListLinks: terms joined by ` AND `, a subset of AIP-160.

use jiff::Timestamp;

use super::Violation;

const TERMS_MAX: usize = 10;
const FILTER_BYTES_MAX: usize = 1_000;
const KNOWN: &str =
    "`domain =`, `slug =`, `tag =`, `enabled =`, `create_time >=` and `create_time <`";

/// What a link must be to be listed; no terms: anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Term>);

/// One term of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Domain(String),
    Slug(String),
    Tag(String),
    Enabled(bool),
    /// Created at this time or later, in microseconds since 1970.
    CreatedFrom(i64),
    /// Created before this time, in microseconds since 1970.
    CreatedBefore(i64),
}

/// A value as it is written.
enum Value {
    Text(String),
    Word(String),
}

impl Filter {
    /// Reads a filter; the error names the byte that it stumbled over.
    pub(crate) fn parse(text: &str) -> Result<Self, Violation> {
        let refuse = |why: String| Violation::new("filter", why);
        if text.len() > FILTER_BYTES_MAX {
            let bytes = text.len();
            return Err(refuse(format!("must have at most {FILTER_BYTES_MAX} bytes, has {bytes}")));
        }
        let mut scanner = Scanner { text, at: 0 };
        let mut terms = Vec::new();
        scanner.skip_spaces();
        if scanner.rest().is_empty() {
            return Ok(Self::default());
        }
        loop {
            terms.push(scanner.term().map_err(refuse)?);
            if terms.len() > TERMS_MAX {
                return Err(refuse(format!("must have at most {TERMS_MAX} terms")));
            }
            scanner.skip_spaces();
            if scanner.rest().is_empty() {
                return Ok(Self(terms));
            }
            let keyword = scanner.word();
            if keyword != "AND" {
                let at = scanner.at - keyword.len();
                return Err(refuse(format!("must join its terms by ` AND `, at byte {at}")));
            }
            scanner.skip_spaces();
        }
    }

    /// All of them must hold.
    pub(crate) fn terms(&self) -> &[Term] {
        &self.0
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|character| !wanted(character)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_spaces(&mut self) {
        self.take_while(|character| character == ' ');
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|character| character.is_ascii_alphanumeric() || character == '_')
    }

    fn term(&mut self) -> Result<Term, String> {
        let start = self.at;
        let field = self.word();
        self.skip_spaces();
        let operator = self.take_while(|character| "<>=!:~".contains(character));
        self.skip_spaces();
        let value_at = self.at;
        let value = self.value()?;
        match (field, operator, value) {
            ("domain", "=", Value::Text(text)) => Ok(Term::Domain(text)),
            ("slug", "=", Value::Text(text)) => Ok(Term::Slug(text)),
            ("tag", "=", Value::Text(text)) => Ok(Term::Tag(text)),
            ("enabled", "=", Value::Word(word)) if word == "true" => Ok(Term::Enabled(true)),
            ("enabled", "=", Value::Word(word)) if word == "false" => Ok(Term::Enabled(false)),
            ("create_time", ">=", Value::Text(text)) => {
                time(&text, value_at).map(Term::CreatedFrom)
            }
            ("create_time", "<", Value::Text(text)) => {
                time(&text, value_at).map(Term::CreatedBefore)
            }
            ("domain" | "slug" | "tag" | "create_time", "=" | ">=" | "<", Value::Word(_)) => {
                Err(format!("must have its values in double quotes, at byte {value_at}"))
            }
            ("enabled", "=", _) => Err(format!("must have `true` or `false` at byte {value_at}")),
            _ => Err(format!("must be made of {KNOWN}; is not at byte {start}")),
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        if !self.rest().starts_with('"') {
            return Ok(Value::Word(self.word().to_owned()));
        }
        let start = self.at;
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at = start + at + 1;
                    return Ok(Value::Text(value));
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    _ => return Err(format!("must escape only \" and \\, at byte {}", start + at)),
                },
                character if character.is_control() => {
                    return Err(format!(
                        "must not contain control characters, at byte {}",
                        start + at
                    ));
                }
                character => value.push(character),
            }
        }
        Err(format!("must close the quotes opened at byte {start}"))
    }
}

fn time(text: &str, at: usize) -> Result<i64, String> {
    let time: Timestamp = text
        .parse()
        .map_err(|_| format!("must have a time such as \"2026-01-01T00:00:00Z\" at byte {at}"))?;
    Ok(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn filters_are_read_term_by_term() {
        let cases = [
            ("", vec![]),
            ("  ", vec![]),
            (r#"tag = "x""#, vec![Term::Tag("x".to_owned())]),
            (r#"tag="a AND b""#, vec![Term::Tag("a AND b".to_owned())]),
            (r#"tag = "a\"b\\c""#, vec![Term::Tag("a\"b\\c".to_owned())]),
            (
                r#"domain = "e.com" AND slug = "S" AND enabled = false"#,
                vec![
                    Term::Domain("e.com".to_owned()),
                    Term::Slug("S".to_owned()),
                    Term::Enabled(false),
                ],
            ),
            (
                r#"create_time >= "1970-01-01T00:00:01Z"  AND  create_time < "1970-01-01T01:00:02+01:00""#,
                vec![Term::CreatedFrom(1_000_000), Term::CreatedBefore(2_000_000)],
            ),
        ];
        for (text, terms) in cases {
            assert_eq!(Filter::parse(text).expect(text).terms(), terms, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_place() {
        let many = ["enabled = true"; 11].join(" AND ");
        let long = format!("tag = \"{}\"", "x".repeat(1_000));
        let cases = [
            ("x = 1", "made of"),
            ("tag", "made of"),
            ("= \"x\"", "made of"),
            (r#"tag != "x""#, "made of"),
            (r#"tag >= "x""#, "made of"),
            (r#"create_time = "2026-01-01T00:00:00Z""#, "made of"),
            ("tag = x", "double quotes, at byte 6"),
            ("create_time < 2026", "double quotes"),
            (r#"enabled = "true""#, "`true` or `false` at byte 10"),
            ("enabled = maybe", "`true` or `false`"),
            (r#"tag = "x"#, "close the quotes opened at byte 6"),
            (r#"tag = "\n""#, "escape only"),
            ("tag = \"a\0\"", "control characters"),
            (r#"create_time < "yesterday""#, "a time such as"),
            (r#"tag = "x" OR tag = "y""#, "` AND `, at byte 10"),
            (r#"tag = "x" and tag = "y""#, "` AND `"),
            (r#"tag = "x" AND "#, "made of"),
            (r#"tag = "x";drop table"#, "` AND `"),
            (&many, "at most 10 terms"),
            (&long, "at most 1000 bytes, has 1008"),
        ];
        for (text, part) in cases {
            let violation = Filter::parse(text).expect_err(text);
            assert_eq!(violation.field, "filter");
            assert!(violation.why.contains(part), "{text:?}: {}", violation.why);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_refused_and_never_panics(text in "\\PC{0,60}") {
            drop(Filter::parse(&text));
        }

        #[test]
        fn any_tag_can_be_written(tag in "\\PC{0,40}") {
            let escaped = tag.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = Filter::parse(&format!("tag = \"{escaped}\"")).expect("it is escaped");
            prop_assert_eq!(filter.terms(), [Term::Tag(tag)]);
        }
    }
}
