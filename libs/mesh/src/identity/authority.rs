//! A certificate authority in a folder: what issues identities until a control service does.

use super::Identity;
use std::path::Path;

/// A root key and certificate kept in a folder.
#[derive(Debug)]
pub struct LocalAuthority {}

impl LocalAuthority {
    /// Opens the authority of a folder, and makes one if there is none.
    ///
    /// # Errors
    /// If the folder can't be read or written.
    pub fn open_or_create(_folder: &Path) -> anyhow::Result<Self> {
        todo!()
    }

    /// Issues an identity for a service, with a fresh key.
    ///
    /// # Errors
    /// If `service` is no service name.
    pub fn issue(&self, _service: &str) -> anyhow::Result<Identity> {
        todo!()
    }
}
