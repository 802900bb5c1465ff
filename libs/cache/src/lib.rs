//! A versioned cache: what a process remembers (L1) over what all of them share in Redis (L2).
//!
//! What must stay true: once a version of a key was seen, no lower one is served or kept, whether it comes from L2, from a
//! fill that was under way, or after the entry was evicted; and L2 refuses a lower one atomically. An entry is fresh for the
//! time to live counted from the read on the primary, not from when it got here; past it, it is read again, and served
//! stale, up to a stated maximum, only while the source can't answer.
//!
//! Times are microseconds since 1970 and come from the caller. Entries are shared, so a hit costs one read lock on one of
//! many shards and no allocation.

mod entry;
mod fill;
mod l2;
mod metrics;
mod shard;
mod versioned;

pub use entry::Entry;
pub use entry::Filled;
pub use entry::Stored;
pub use l2::L2;
pub use l2::L2Error;
pub use metrics::Metrics;
pub use versioned::Options;
pub use versioned::Versioned;
