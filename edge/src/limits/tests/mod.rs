//! Limits over a real Redis, by a clock that a test sets: minutes pass in no time.

mod away;
mod failover;
mod fleet;
mod shared;
