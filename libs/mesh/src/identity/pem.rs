//! The textual form of keys and certificates (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How many characters of base64 a line has.
const LINE_CHARACTERS: usize = 64;

/// Writes `der` under a label such as `CERTIFICATE`.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE_CHARACTERS) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn what_is_written_reads_back() {
        for length in [1, 47, 48, 49, 500] {
            let der = vec![7; length];
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= LINE_CHARACTERS));
            assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec(), der);
        }
    }
}
