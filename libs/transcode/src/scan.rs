//! Where things end in JSON: numbers, and the part of a string that stands for itself.

/// How many bytes a number takes that stands at the beginning; none if there is none.
pub(crate) fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits_from = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut end = digits_from(start);
    let is_padded = end > start + 1 && bytes[start] == b'0';
    if end == start || is_padded {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits_from(fraction);
        if end == fraction {
            return None;
        }
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        end = digits_from(exponent);
        if end == exponent {
            return None;
        }
    }
    Some(end)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// The first `"`, `\` or control character at or after `at`; the end if there is none. Eight bytes at a time.
#[inline]
pub(crate) fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        // A byte's high bit is set where the test holds; above the first such byte it may be set wrongly.
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5c);
        let is_control = word.wrapping_sub(ONES * 0x20) & !word;
        let is_quote = quote.wrapping_sub(ONES) & !quote;
        let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
        let hits = (is_control | is_quote | is_backslash) & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_search_finds_what_a_slow_one_does() {
        for special in 0..=255_u8 {
            for at in 0..20 {
                let mut bytes = [b'x'; 20];
                bytes[at] = special;
                let slow = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\');
                assert_eq!(plain_until(&bytes, 0), slow.unwrap_or(20), "{special} at {at}");
            }
        }
    }
}
