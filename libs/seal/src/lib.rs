//! Sealed fields: AES-256-GCM under keys that rotate, each value bound to its table, column and row.
//!
//! What must stay true: a value opens only at the place that it was sealed for, so that whoever can write to the store
//! can't move one person's field to another's row; a nonce is never chosen, always drawn; a key is named in what it sealed,
//! so that old values open for as long as their key is in the ring; and no key is ever shown, logged or left in memory.

mod keyring;
mod place;

pub use keyring::{Keyring, KeyringError, OpenError, SealError};
pub use place::Place;
