//! Analytics on a real Postgres and a log on disk: exactly once through every fault, and what can be asked afterwards.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed, as it should")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test owns the tasks that it spawns, and joins or aborts them"
)]

mod aggregation;
mod harness;
mod letters;
mod queries;
mod serving;
mod sharing;
mod watching;
