//! Text as JSON strings.

use crate::scan;

/// Appends a string, quoted; what JSON does not allow as it is, escaped.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    loop {
        let until = scan::plain_until(bytes, from);
        out.extend_from_slice(&bytes[from..until]);
        let Some(byte) = bytes.get(until) else { break };
        put_escape(out, *byte);
        from = until + 1;
    }
    out.push(b'"');
}

/// As [`put_string`]; none if the bytes are not UTF-8.
pub(crate) fn put_bytes_as_string(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    put_string(out, std::str::from_utf8(bytes).ok()?);
    Some(())
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_what_a_json_parser_reads_back() {
        let all: String =
            (0..0x300).filter_map(char::from_u32).chain("😀\u{2028}".chars()).collect();
        for text in
            ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}", "longer than eight\n", &all]
        {
            let mut out = Vec::new();
            put_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).expect("a JSON string"), text);
        }
        assert_eq!(put_bytes_as_string(&mut Vec::new(), b"a\xff"), None);
    }
}
