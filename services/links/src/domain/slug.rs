//! Slugs: the last part of a short link.

use std::fmt;

use super::Violation;

/// What a slug measures at most, in characters, each of them ASCII.
const SLUG_CHARS_MAX: usize = 64;
/// What a random slug measures: 30^7, 21 thousand million, on each domain.
const RANDOM_CHARS: usize = 7;
/// One case, and without look-alikes (0 o, 1 i l j), so that a slug can be read from paper.
const ALPHABET: &[u8; 30] = b"23456789abcdefghkmnpqrstuvwxyz";
/// What the edge or a crawler asks for on every host, and what an operator may want to; in lower case, sorted.
const RESERVED: [&str; 22] = [
    "_root",
    "admin",
    "api",
    "apple-app-site-association",
    "assets",
    "connect",
    "console",
    "docs",
    "favicon",
    "grpc",
    "health",
    "healthz",
    "linkmesh",
    "livez",
    "metrics",
    "openapi",
    "readyz",
    "robots",
    "sitemap",
    "static",
    "v1",
    "v2",
];

/// A checked slug, in the case it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slug(String);

impl Slug {
    /// Reads the slug that a caller chose.
    pub(crate) fn parse(text: &str) -> Result<Self, Violation> {
        let refuse = |why: String| Err(Violation::new("slug", why));
        let allowed =
            |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if let Some(foreign) = text.chars().find(|character| !allowed(*character)) {
            return refuse(format!("must be of A-Z a-z 0-9 - _, has {foreign:?}"));
        }
        if text.is_empty() || text.len() > SLUG_CHARS_MAX {
            let chars = text.len();
            return refuse(format!("must have 1 to {SLUG_CHARS_MAX} characters, has {chars}"));
        }
        if RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
            return refuse(format!("must not be a reserved word, such as `{text}`"));
        }
        Ok(Self(text.to_owned()))
    }

    /// A random one.
    pub(crate) fn random(random: &mut impl rand::Rng) -> Self {
        use rand::RngExt as _;
        loop {
            let text: String = (0..RANDOM_CHARS)
                .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
                .collect();
            if !RESERVED.contains(&text.as_str()) {
                return Self(text);
            }
        }
    }

    /// A slug as the store holds it.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The form under which it is unique on its domain.
    pub(crate) fn normalized(&self, case_sensitive: bool) -> String {
        normalized(&self.0, case_sensitive)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Applies a domain's case rule to any text, as the edge does to a path.
pub(crate) fn normalized(text: &str, case_sensitive: bool) -> String {
    if case_sensitive { text.to_owned() } else { text.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use rand::SeedableRng as _;

    #[test]
    fn slugs_outside_their_limits_are_refused_with_the_reason() {
        let cases = [
            ("", "1 to 64 characters, has 0"),
            (&*"a".repeat(65), "1 to 64 characters, has 65"),
            ("a/b", "has '/'"),
            ("a b", "has ' '"),
            ("ü", "has 'ü'"),
            ("a\0", "has '\\0'"),
            ("robots.txt", "has '.'"),
            ("v1", "reserved"),
            ("HealthZ", "reserved"),
            ("LinkMesh", "reserved"),
        ];
        for (text, part) in cases {
            let violation = Slug::parse(text).expect_err(text);
            assert_eq!(violation.field, "slug");
            assert!(violation.why.contains(part), "{text:?}: {}", violation.why);
        }
        for text in ["a", "Sale-2026_x", &"Z".repeat(64)] {
            assert_eq!(Slug::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn case_counts_only_where_the_domain_says_so() {
        let slug = Slug::parse("SaLe").expect("it is in its limits");
        assert_eq!(slug.normalized(true), "SaLe");
        assert_eq!(slug.normalized(false), "sale");
    }

    #[test]
    fn reserved_words_are_kept_in_the_form_they_are_compared_in() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| *word == word.to_ascii_lowercase()));
    }

    proptest! {
        #[test]
        fn a_random_slug_is_valid_has_seven_characters_and_no_look_alikes(seed in any::<u64>()) {
            let slug = Slug::random(&mut rand::rngs::StdRng::seed_from_u64(seed));
            prop_assert_eq!(Slug::parse(slug.as_str()), Ok(slug.clone()));
            prop_assert_eq!(slug.as_str().len(), 7);
            prop_assert!(!slug.as_str().contains(['0', 'o', '1', 'i', 'l', 'j']));
            prop_assert_eq!(slug.normalized(true), slug.normalized(false));
        }

        #[test]
        fn any_text_is_a_slug_or_refused(text in "\\PC{0,80}") {
            if let Ok(slug) = Slug::parse(&text) {
                prop_assert_eq!(slug.as_str(), text);
            }
        }
    }
}
