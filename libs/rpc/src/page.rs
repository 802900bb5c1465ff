//! Pages (AIP-158): sizes, and tokens that hold a cursor and refuse to be used with other parameters.
//!
//! A token is opaque and URL-safe but not secret: it holds nothing that its reader has not just been shown, and a
//! forged one reaches only what the caller may read anyway.

use crate::Error;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// What a page holds if the caller does not say.
pub const SIZE_DEFAULT: usize = 50;
/// What a page holds at most.
pub const SIZE_MAX: usize = 1_000;
/// What a token measures at most, in bytes.
pub const TOKEN_BYTES_MAX: usize = 2_048;

const CHECK_BYTES: usize = 12;

/// The number of items for a `page_size`: 0 means the default, what exceeds the maximum means the maximum.
///
/// # Errors
/// INVALID_FIELD if negative.
pub fn size(page_size: i32) -> Result<usize, Error> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(SIZE_DEFAULT),
        Ok(size) => Ok(size.min(SIZE_MAX)),
        Err(_) => Err(Error::invalid("page_size", "must not be negative")),
    }
}

/// Makes the token of `cursor` for a method called with `parameters` (all that the next call must repeat).
#[must_use]
pub fn token(method: &str, parameters: &[&str], cursor: &[u8]) -> String {
    let mut bytes = check(method, parameters, cursor).to_vec();
    bytes.extend_from_slice(cursor);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor of a token; `None` for the empty token, which means the first page.
///
/// # Errors
/// INVALID_PAGE_TOKEN if [`token`] did not make it for the same method and parameters.
pub fn cursor(method: &str, parameters: &[&str], token: &str) -> Result<Option<Vec<u8>>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Error::invalid_page_token());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::invalid_page_token())?;
    let (found, cursor) =
        bytes.split_at_checked(CHECK_BYTES).ok_or_else(Error::invalid_page_token)?;
    if found != check(method, parameters, cursor) {
        return Err(Error::invalid_page_token());
    }
    Ok(Some(cursor.to_vec()))
}

fn check(method: &str, parameters: &[&str], cursor: &[u8]) -> [u8; CHECK_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [method].iter().chain(parameters) {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(cursor);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&context.finish().as_ref()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_cursor_back_only_for_the_same_parameters() {
        let token = token("ListLinks", &["workspaces/w", "tag = \"x\""], b"cursor");
        let read = |method, parameters: &[&str]| cursor(method, parameters, &token);
        assert_eq!(
            read("ListLinks", &["workspaces/w", "tag = \"x\""]),
            Ok(Some(b"cursor".to_vec()))
        );
        assert!(read("ListLinks", &["workspaces/w", ""]).is_err());
        assert!(read("ListLinks", &["workspaces/wt", "ag = \"x\""]).is_err());
        assert!(read("ListDomains", &["workspaces/w", "tag = \"x\""]).is_err());
    }

    #[test]
    fn a_token_cut_or_changed_anywhere_is_refused() {
        let token = token("M", &[], b"cursor");
        for end in 1..token.len() {
            assert!(cursor("M", &[], &token[..end]).is_err(), "{end}");
        }
        for wrong in ["!", "AAAA", &"A".repeat(TOKEN_BYTES_MAX + 1), &format!("{token}AAAA")] {
            assert!(cursor("M", &[], wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_defaulted_and_capped() {
        assert_eq!(size(0), Ok(50));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(5_000), Ok(1_000));
        assert!(size(-1).is_err());
    }
}
