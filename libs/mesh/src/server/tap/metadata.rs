//! Request metadata as an operator may read it: what proves who someone is, or says where someone is, is left out.

use http::HeaderMap;

/// How much of a value is shown.
const VALUE_CHARS_MAX: usize = 256;
/// How many entries are shown.
const ENTRIES_MAX: usize = 64;

/// Names whose values are never shown.
const SECRET: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-forwarded-for", "x-real-ip", "forwarded"];
/// Parts of names whose values are never shown.
const SECRET_PARTS: [&str; 8] =
    ["token", "secret", "password", "credential", "session", "api-key", "apikey", "signature"];

/// The metadata in the order it came. A binary value, such as the principal, is shown by its length.
pub(super) fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str();
        (name.to_owned(), readable_value(name, value.as_bytes()))
    };
    headers.iter().map(shown).take(ENTRIES_MAX).collect()
}

fn readable_value(name: &str, value: &[u8]) -> String {
    if SECRET.contains(&name) || SECRET_PARTS.iter().any(|part| name.contains(part)) {
        return super::render::REDACTED.to_owned();
    }
    if name.ends_with("-bin") {
        return format!("[{} characters of base64]", value.len());
    }
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_proves_who_someone_is_is_shown() {
        let secret = "hunter2hunter2";
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "x-goog-iam-authorization-token",
            "x-session-id",
            "linkmesh-principal-bin",
            "x-client-secret",
            "x-forwarded-for",
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), secret.parse().unwrap())]);
            let shown = readable(&headers);
            assert_eq!(shown[0].0, name);
            assert!(!shown[0].1.contains("hunter2"), "{shown:?}");
        }
    }

    #[test]
    fn the_rest_is_shown_and_shortened() {
        let headers = HeaderMap::from_iter([
            ("x-team".parse().unwrap(), "growth".parse().unwrap()),
            ("x-long".parse().unwrap(), "a".repeat(1_000).parse().unwrap()),
        ]);
        let shown = readable(&headers);
        assert_eq!(shown[0], ("x-team".to_owned(), "growth".to_owned()));
        assert_eq!(shown[1].1, format!("{}…", "a".repeat(VALUE_CHARS_MAX)));
    }
}
