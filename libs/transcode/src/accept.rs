//! The `Accept` header: the media types that a client takes, the liked most first (RFC 9110, 12.5.1).

/// How many types of a header are read.
const TYPES_MAX: usize = 32;

/// The essences (`type/subtype`, lower case) of a header with their weight in thousandths, by descending weight, and as written
/// among equals. A weight of 0, which forbids, is left out.
pub(crate) fn essences(accept: Option<&str>) -> Vec<(String, u16)> {
    let ranges = accept.unwrap_or_default().split(',').take(TYPES_MAX);
    let mut wanted: Vec<(String, u16)> = ranges
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let essence = parts.next().filter(|essence| !essence.is_empty())?;
            let weight = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
                name.trim_end().eq_ignore_ascii_case("q").then(|| weight(value.trim_start()))
            });
            Some((essence.to_ascii_lowercase(), weight.unwrap_or(1_000)))
        })
        .filter(|(_, weight)| *weight > 0)
        .collect();
    wanted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    wanted
}

/// `0.5` as 500; what is no weight counts as 1.
fn weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_weight = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if is_weight => format!("{fraction:0<3}").parse().unwrap_or(1_000),
        _ => 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_by_weight_and_then_as_written() {
        for (accept, expected) in [
            (None, vec![]),
            (Some(""), vec![]),
            (Some("text/html"), vec!["text/html"]),
            (Some("a/b;q=0.1, c/d ; q=0.25,Text/E, */*;q=0"), vec!["text/e", "c/d", "a/b"]),
            (Some("a/b;level=1;Q=0.2, c/d;q=nonsense"), vec!["c/d", "a/b"]),
            (Some(",,;q=1,x/y"), vec!["x/y"]),
        ] {
            let essences: Vec<String> = essences(accept).into_iter().map(|(it, _)| it).collect();
            assert_eq!(essences, expected, "{accept:?}");
        }
    }
}
