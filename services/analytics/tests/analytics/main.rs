//! Analytics on a real Postgres and a log on disk: exactly once through every fault, and what can be asked afterwards.

mod aggregation;
mod harness;
mod letters;
mod queries;
mod serving;
mod sharing;
mod watching;
