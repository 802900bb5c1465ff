//! Field names in a FieldMask: `snake_case` in protobuf, `camelCase` in JSON, and only where that can be undone.

/// Appends a path in camelCase; none if it could not be read back.
pub(crate) fn put_camel(out: &mut String, path: &str) -> Option<()> {
    let mut is_after_underscore = false;
    for character in path.chars() {
        match character {
            'A'..='Z' => return None,
            'a'..='z' if is_after_underscore => out.push(character.to_ascii_uppercase()),
            _ if is_after_underscore => return None,
            '_' => {}
            _ => out.push(character),
        }
        is_after_underscore = character == '_';
    }
    (!is_after_underscore).then_some(())
}

/// Appends a path in snake_case; none if it is not in camelCase.
pub(crate) fn put_snake(out: &mut String, path: &str) -> Option<()> {
    for character in path.chars() {
        match character {
            '_' => return None,
            'A'..='Z' => {
                out.push('_');
                out.push(character.to_ascii_lowercase());
            }
            _ => out.push(character),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r21_names_that_do_not_come_back_are_refused() {
        for (snake, camel) in [
            ("foo_bar.baz_qux", Some("fooBar.bazQux")),
            ("f1.x2y", Some("f1.x2y")),
            ("_foo", Some("Foo")),
            ("fooBar", None),
            ("foo_3_bar", None),
            ("foo__bar", None),
            ("foo_", None),
            ("foo_.bar", None),
        ] {
            let mut out = String::new();
            let written = put_camel(&mut out, snake).map(|()| out);
            assert_eq!(written.as_deref(), camel, "{snake}");
            if let Some(camel) = camel {
                let mut back = String::new();
                assert_eq!(put_snake(&mut back, camel).map(|()| back).as_deref(), Some(snake));
            }
        }
        assert_eq!(put_snake(&mut String::new(), "foo_bar"), None);
    }
}
