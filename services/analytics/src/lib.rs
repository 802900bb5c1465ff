//! Clicks are folded into rollups exactly once and counted, broken down and watched from there.

mod domain;
