//! The five UTM parameters of a link, and how they get into its destination's query.

use std::borrow::Cow;

use url::Url;
use url::form_urlencoded;

use super::Violation;

/// What one parameter measures at most, in characters.
const UTM_CHARS_MAX: usize = 128;

/// UTM parameters; an empty one is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Utm {
    pub source: String,
    pub medium: String,
    pub campaign: String,
    pub term: String,
    pub content: String,
}

impl Utm {
    /// Checks what a caller sent.
    pub(crate) fn checked(self) -> Result<Self, Violation> {
        let fields = [
            ("utm.source", &self.source),
            ("utm.medium", &self.medium),
            ("utm.campaign", &self.campaign),
            ("utm.term", &self.term),
            ("utm.content", &self.content),
        ];
        for (field, value) in fields {
            super::at_most_chars(field, value, UTM_CHARS_MAX)?;
            super::without_control(field, value)?;
        }
        Ok(self)
    }

    /// The parameters that are set, under their names in a query.
    fn set(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("utm_source", self.source.as_str()),
            ("utm_medium", self.medium.as_str()),
            ("utm_campaign", self.campaign.as_str()),
            ("utm_term", self.term.as_str()),
            ("utm_content", self.content.as_str()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }

    /// `destination` with the set parameters in its query, instead of its own ones of the same name. Everything else of
    /// the query stays byte for byte: some servers sign it.
    pub(super) fn merged_into(&self, destination: &Url) -> String {
        if self.set().next().is_none() {
            return destination.to_string();
        }
        let mut pairs: Vec<Cow<'_, str>> = Vec::new();
        for pair in destination.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name);
            if !self.set().any(|(set, _)| name.as_deref() == Some(set)) {
                pairs.push(Cow::Borrowed(pair));
            }
        }
        for (name, value) in self.set() {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            pairs.push(Cow::Owned(format!("{name}={encoded}")));
        }
        let mut merged = destination.clone();
        merged.set_query(Some(&pairs.join("&")));
        merged.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn merged(destination: &str, utm: &Utm) -> String {
        utm.merged_into(&Url::parse(destination).expect(destination))
    }

    fn utm(source: &str, campaign: &str) -> Utm {
        Utm { source: source.to_owned(), campaign: campaign.to_owned(), ..Utm::default() }
    }

    #[test]
    fn parameters_are_added_replace_their_like_and_leave_the_rest_alone() {
        let set = utm("news letter", "a&b=ü");
        let added = "utm_source=news+letter&utm_campaign=a%26b%3D%C3%BC";
        let cases = [
            ("https://e.com/", format!("https://e.com/?{added}")),
            ("https://e.com/?", format!("https://e.com/?{added}")),
            ("https://e.com/p#part", format!("https://e.com/p?{added}#part")),
            ("https://e.com/?a=%20+b&c", format!("https://e.com/?a=%20+b&c&{added}")),
            (
                "https://e.com/?utm_source=x&a=1&utm_term=t",
                format!("https://e.com/?a=1&utm_term=t&{added}"),
            ),
            ("https://e.com/?utm%5Fsource=x", format!("https://e.com/?{added}")),
        ];
        for (destination, expected) in cases {
            assert_eq!(merged(destination, &set), expected, "{destination}");
        }
    }

    #[test]
    fn no_parameters_change_nothing() {
        for text in ["https://e.com/?a=%20b&&c=#x", "https://e.com/?"] {
            assert_eq!(merged(text, &Utm::default()), text);
        }
    }

    #[test]
    fn a_parameter_that_is_too_long_is_named_with_its_limit() {
        let long = utm(&"x".repeat(129), "");
        let violation = long.checked().expect_err("129 characters");
        assert_eq!(violation.field, "utm.source");
        assert!(violation.why.contains("at most 128 characters, has 129"));
        assert!(utm(&"ü".repeat(128), "").checked().is_ok());
        assert!(utm("", "line\nend").checked().is_err());
    }

    proptest! {
        #[test]
        fn a_merged_query_reads_back_what_was_set(source in "\\PC{1,40}", query in "[a-z=&%+0-9]{0,40}") {
            let text = merged(&format!("https://e.com/?{query}"), &utm(&source, ""));
            let url = Url::parse(&text).expect("a merged destination is a URI");
            let values: Vec<_> =
                url.query_pairs().filter(|(name, _)| name == "utm_source").map(|(_, value)| value.into_owned()).collect();
            prop_assert_eq!(values, vec![source]);
        }
    }
}
