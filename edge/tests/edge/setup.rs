//! What a world is made of, where a test wants it to be other than usual.

use super::doubles::Doubles;

/// Limits that no test comes near which is not about them.
const LIFTED: &str = "[tiers]\nfree = 1000000\n[addresses]\nminute = 1000000\n\
                      [redirects]\nsecond = 1000000\n";

/// What a world is made of.
pub(super) struct Setup {
    pub(super) limits: String,
    /// What is behind the edge, as it is from the beginning.
    pub(super) doubles: Doubles,
    /// Where the edge keeps what it keeps, in the folder `edge`.
    pub(super) folder: tempfile::TempDir,
    /// Another bus than one in the folder.
    pub(super) bus: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { limits: LIFTED.to_owned(), doubles: Doubles::new(), folder, bus: None }
    }
}
