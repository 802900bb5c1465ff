//! The keys: read from a file, one of them active, the others kept to open what they have sealed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use crate::place::Place;

/// What an envelope of this form begins with.
const VERSION: u8 = 1;
/// Bytes of a key: AES-256's and, as RFC 2104 wants at least, HMAC-SHA-256's.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce: 96 bits, the size that NIST SP 800-38D recommends. Drawn at random, one key may seal 2^32 values
/// (its section 8.3), which is what rotation is for.
const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
const TAG_BYTES: usize = 16;
/// Version and key id.
const HEAD_BYTES: usize = 1 + 4;
/// Bytes that sealing adds.
const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;
/// Keys of one ring.
const KEYS_MAX: usize = 64;
/// Bytes of a keyring's file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The keys that fields are sealed with. Cheap to clone; wiped with the last clone.
#[derive(Clone)]
pub struct Keyring(Arc<Keys>);

struct Keys {
    /// By id, which every sealed value names.
    ciphers: BTreeMap<u32, Aes256Gcm>,
    active: u32,
    lookup: hmac::Key,
}

/// Why a keyring can't be used. Never holds any of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file can't be read or written.
    #[error("{0} can't be read or made: {1}")]
    File(String, std::io::Error),
    /// Others than its owner can read or write it; holds the mode.
    #[error("{0} has mode {1:03o}, expected 600 or 400: only its owner may read it")]
    Mode(String, u32),
    /// It is no TOML of the right form.
    #[error("is no keyring: expected `active`, `lookup` and a table `keys`, as TOML")]
    Form,
    /// A key is malformed: its name, and what is wrong.
    #[error("`{0}` {1}")]
    Key(String, &'static str),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Entropy,
}

/// A value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Entropy,
    /// More than the cipher takes at once (64 GiB).
    #[error("the value is too long to be sealed")]
    TooLong,
}

/// A sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is shorter than an envelope, or of another form.
    #[error("the value is no envelope of a known form")]
    Form,
    /// The ring has no key of this id.
    #[error("the value was sealed with key {0}, which is not in the keyring")]
    KeyUnknown(u32),
    /// It was changed, belongs to another place, or was sealed with another key of the same id.
    #[error("the value was not sealed for this place with this key")]
    Refused,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    active: u32,
    lookup: String,
    keys: BTreeMap<String, String>,
}

impl Drop for File {
    fn drop(&mut self) {
        self.lookup.zeroize();
        self.keys.values_mut().for_each(String::zeroize);
    }
}

impl Keyring {
    /// Reads a keyring:
    ///
    /// ```toml
    /// active = 2              # what new values are sealed with
    /// lookup = "…"            # 32 bytes as base64: for keyed hashes; never changes
    /// [keys]                  # 1 to 64, by a number of 1 or more
    /// 1 = "…"                 # 32 bytes as base64
    /// 2 = "…"
    /// ```
    ///
    /// # Errors
    /// It has another form, a key is malformed or there twice, or the active one is missing; with the key's name.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        // The parser's own message would show the line, which may hold a key.
        let file: File = toml::from_str(text).map_err(|_| KeyringError::Form)?;
        let refused = |name: &str, why| Err(KeyringError::Key(name.to_owned(), why));
        if file.keys.is_empty() || file.keys.len() > KEYS_MAX {
            return refused("keys", "must have 1 to 64 keys");
        }
        let lookup = key_bytes("lookup", &file.lookup)?;
        let mut seen: Vec<(String, Zeroizing<[u8; KEY_BYTES]>)> =
            vec![("lookup".to_owned(), lookup.clone())];
        let mut ciphers = BTreeMap::new();
        for (id, text) in &file.keys {
            let name = format!("keys.{id}");
            let number =
                id.parse::<u32>().ok().filter(|number| *number > 0 && number.to_string() == *id);
            let Some(number) = number else {
                return refused(&name, "must be named by a number of 1 or more");
            };
            let bytes = key_bytes(&name, text)?;
            if seen.iter().any(|(_, other)| *other == bytes) {
                return refused(&name, "is there twice: every key must be another one");
            }
            ciphers.insert(number, Aes256Gcm::new(&(*bytes).into()));
            seen.push((name, bytes));
        }
        if !ciphers.contains_key(&file.active) {
            return refused("active", "must be the number of one of `keys`");
        }
        let lookup = hmac::Key::new(hmac::HMAC_SHA256, lookup.as_slice());
        Ok(Self(Arc::new(Keys { ciphers, active: file.active, lookup })))
    }

    /// Reads the keyring in a file that only its owner can read.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); the file can't be read, is larger than 64 KiB, or is open to others.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        let shown = path.display().to_string();
        let failed = |error| KeyringError::File(shown.clone(), error);
        let metadata = fs::metadata(path).map_err(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyringError::Mode(shown, mode));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(KeyringError::Form);
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Self::parse(&text)
    }

    /// Reads the keyring in a file, or makes one there with one key, mode 0600, if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open); or it can't be made.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyringError> {
        match Self::open(path) {
            Err(KeyringError::File(_, error)) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened,
        }
        let failed = |error| KeyringError::File(path.display().to_string(), error);
        let text = Self::generate()?;
        let fresh = path.with_extension("new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            // A link, not a rename: of two processes that start at once, the second must take the first one's.
            .and_then(|()| match fs::hard_link(&fresh, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            })
            .and_then(|()| fs::remove_file(&fresh));
        written.map_err(failed)?;
        Self::open(path)
    }

    /// The text of a fresh keyring with one key.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate() -> Result<Zeroizing<String>, KeyringError> {
        let mut lines = Zeroizing::new(String::new());
        for name in ["lookup = ", "\n[keys]\n1 = "] {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            SysRng.try_fill_bytes(key.as_mut_slice()).map_err(|_| KeyringError::Entropy)?;
            let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
            lines.push_str(name);
            lines.push('"');
            lines.push_str(&encoded);
            lines.push_str("\"\n");
        }
        Ok(Zeroizing::new(format!("active = 1\n{}", *lines)))
    }

    /// Seals a value for a place: 33 bytes longer than the value.
    ///
    /// # Errors
    /// The operating system gives no random bytes, or the value has 64 GiB.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = &*self.0;
        let cipher = &keys.ciphers[&keys.active];
        let mut nonce = [0; NONCE_BYTES];
        SysRng.try_fill_bytes(&mut nonce).map_err(|_| SealError::Entropy)?;
        let mut envelope = Vec::with_capacity(value.len() + OVERHEAD_BYTES);
        envelope.push(VERSION);
        envelope.extend_from_slice(&keys.active.to_be_bytes());
        let bound = place.bound_to(&envelope);
        envelope.extend_from_slice(&nonce);
        let mut body = value.to_vec();
        cipher
            .encrypt_in_place(&Nonce::from(nonce), &bound, &mut body)
            .map_err(|_| SealError::TooLong)?;
        envelope.append(&mut body);
        Ok(envelope)
    }

    /// Opens what was sealed for this place; what it returns is wiped when it is dropped.
    ///
    /// # Errors
    /// The value is none, its key is not in the ring, or it was changed or belongs elsewhere.
    pub fn open_sealed(
        &self,
        place: Place<'_>,
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let id = sealed_with(envelope).ok_or(OpenError::Form)?;
        let cipher = self.0.ciphers.get(&id).ok_or(OpenError::KeyUnknown(id))?;
        let (head, rest) = envelope.split_at(HEAD_BYTES);
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Form)?;
        let mut value = Zeroizing::new(body.to_vec());
        cipher
            .decrypt_in_place(&Nonce::from(*nonce), &place.bound_to(head), &mut *value)
            .map_err(|_| OpenError::Refused)?;
        Ok(value)
    }

    /// Whether a value was sealed with the key that is active now.
    pub fn is_current(&self, envelope: &[u8]) -> bool {
        sealed_with(envelope) == Some(self.0.active)
    }

    /// What every value begins with that was sealed with the active key.
    pub fn current_head(&self) -> [u8; HEAD_BYTES] {
        let [a, b, c, d] = self.0.active.to_be_bytes();
        [VERSION, a, b, c, d]
    }

    /// A keyed hash (HMAC-SHA-256): what a sealed value is looked up by. Different purposes give different hashes of one
    /// value. Without the key nobody can try values against it.
    pub fn hash(&self, purpose: &str, value: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0.lookup);
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose.as_bytes());
        context.update(value);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.0.ciphers.keys().collect();
        formatter
            .debug_struct("Keyring")
            .field("keys", &ids)
            .field("active", &self.0.active)
            .finish()
    }
}

/// The id of the key that sealed a value; none if it is no envelope.
fn sealed_with(envelope: &[u8]) -> Option<u32> {
    if envelope.len() < OVERHEAD_BYTES {
        return None;
    }
    let (version, rest) = envelope.split_first()?;
    let id = rest.first_chunk()?;
    (*version == VERSION).then(|| u32::from_be_bytes(*id))
}

fn key_bytes(name: &str, text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyringError> {
    let refused = || KeyringError::Key(name.to_owned(), "must be 32 bytes as base64");
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| refused())?);
    let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| refused())?;
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(KeyringError::Key(name.to_owned(), "must be random, not one byte repeated"));
    }
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests;
