//! Path templates of `google.api.http`: `"/" Segments [":" LITERAL]`, parsed once, at load.
//!
//! A segment is a literal, `*` (one segment), `**` (zero or more, the last one or followed by literals only) or a
//! variable, `{field.path=segments}`, where `{x}` means `{x=*}`. Variables do not nest.

/// How many segments a template or a path may have.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// One segment of a template, variables flattened away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Star,
    DoubleStar,
}

/// A variable and the segments that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The field that it binds, by proto names: `["link", "name"]`.
    pub(crate) field_path: Vec<String>,
    /// Index of its first segment.
    pub(crate) start: usize,
    /// How many segments of the template it covers, at least 1.
    pub(crate) length: usize,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) verb: Option<String>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("must begin with `/`".to_owned());
        };
        let (path, verb) = split_verb(rest)?;
        let mut template = Self { segments: Vec::new(), variables: Vec::new(), verb };
        for part in split_outside_braces(path)? {
            match part.strip_prefix('{') {
                Some(inner) => template.push_variable(inner)?,
                None => template.segments.push(segment(part)?),
            }
        }
        template.check()?;
        Ok(template)
    }

    fn push_variable(&mut self, inner: &str) -> Result<(), String> {
        let Some(inner) = inner.strip_suffix('}') else {
            return Err("has text around a variable".to_owned());
        };
        let (name, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
        let field_path: Vec<String> = name.split('.').map(str::to_owned).collect();
        if !field_path.iter().all(|part| is_identifier(part)) {
            return Err(format!("has the variable `{name}`, which is no field path"));
        }
        if self.variables.iter().any(|variable| variable.field_path == field_path) {
            return Err(format!("binds `{name}` twice"));
        }
        let start = self.segments.len();
        for part in pattern.split('/') {
            if part.contains(['{', '}']) {
                return Err("has a variable within a variable".to_owned());
            }
            self.segments.push(segment(part)?);
        }
        let length = self.segments.len() - start;
        self.variables.push(Variable { field_path, start, length });
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.segments.len() > SEGMENTS_MAX {
            return Err(format!("has more than {SEGMENTS_MAX} segments"));
        }
        if self.segments.is_empty() && self.verb.is_some() {
            return Err("has a verb without a segment".to_owned());
        }
        let mut after = self.segments.iter().skip_while(|segment| **segment != Segment::DoubleStar);
        after.next();
        if after.any(|segment| !matches!(segment, Segment::Literal(_))) {
            return Err("may have only literals after `**`".to_owned());
        }
        Ok(())
    }
}

/// Splits a path without its leading `/` into raw segments; an empty path has none.
pub(crate) fn split_path(path: &str) -> Vec<&str> {
    if path.is_empty() { Vec::new() } else { path.split('/').collect() }
}

fn split_verb(rest: &str) -> Result<(&str, Option<String>), String> {
    let tail = rest.rfind(['}', '/']).map_or(0, |at| at + 1);
    let Some(colon) = rest[tail..].rfind(':') else {
        return Ok((rest, None));
    };
    let verb = &rest[tail + colon + 1..];
    if verb.is_empty() || verb.contains(['*', '{', '}']) {
        return Err("has an empty or variable verb".to_owned());
    }
    Ok((&rest[..tail + colon], Some(verb.to_owned())))
}

fn split_outside_braces(path: &str) -> Result<Vec<&str>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (at, character) in path.char_indices() {
        match character {
            '{' if inside => return Err("has a variable within a variable".to_owned()),
            '{' if at != start => return Err("has text around a variable".to_owned()),
            '{' => inside = true,
            '}' if !inside => return Err("has a `}` without its `{`".to_owned()),
            '}' => inside = false,
            '/' if !inside => {
                parts.push(&path[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("has a `{` without its `}`".to_owned());
    }
    parts.push(&path[start..]);
    Ok(parts)
}

fn segment(text: &str) -> Result<Segment, String> {
    match text {
        "" => Err("has an empty segment".to_owned()),
        "*" => Ok(Segment::Star),
        "**" => Ok(Segment::DoubleStar),
        _ if text.contains(['*', '{', '}', '=', '?', '#', ' ']) => {
            Err(format!("has the segment `{text}`, which is no literal"))
        }
        _ => Ok(Segment::Literal(text.to_owned())),
    }
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(template: &Template) -> String {
        let segments: Vec<&str> = template
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text,
                Segment::Star => "*",
                Segment::DoubleStar => "**",
            })
            .collect();
        segments.join("/")
    }

    #[test]
    fn r1_templates_are_parsed_into_segments_variables_and_verb() {
        let cases = [
            ("/v1/shelves", "v1/shelves", 0, None),
            ("/v1/{name=shelves/*/books/*}", "v1/shelves/*/books/*", 1, None),
            ("/v1/{link.name=a/*}/x/{y}:revoke", "v1/a/*/x/*", 2, Some("revoke")),
            ("/v1/{name=**}:purge", "v1/**", 1, Some("purge")),
            ("/a/{x=b/**}/z", "a/b/**/z", 1, None),
            ("/a:b", "a", 0, Some("b")),
            ("/a:b/c", "a:b/c", 0, None),
            ("/", "", 0, None),
        ];
        for (text, segments, variables, verb) in cases {
            let template = Template::parse(text).expect(text);
            assert_eq!(flat(&template), segments, "{text}");
            assert_eq!(template.variables.len(), variables, "{text}");
            assert_eq!(template.verb.as_deref(), verb, "{text}");
        }
    }

    #[test]
    fn r1_bad_templates_are_refused() {
        for text in [
            "",
            "v1",
            "//",
            "/a/",
            "/a//b",
            "/a/**/*",
            "/a/**/**",
            "/a/{x=**}/*",
            "/a/x{y}",
            "/a/{y}x",
            "/a/{x={y}}",
            "/a/{x",
            "/a/x}",
            "/a/{}",
            "/a/{1x}",
            "/a/{x.}",
            "/a/{x=}",
            "/a/{x}/{x}",
            "/a:",
            "/:a",
            "/a/b*",
            "/a/*:*",
            "/{x=a:b/*}}",
            "/a/***",
        ] {
            assert!(Template::parse(text).is_err(), "`{text}` was accepted");
        }
    }
}
