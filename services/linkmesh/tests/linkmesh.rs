//! The program as people start it: `linkmesh dev` from its first start to its last, and what it says to bad settings.

#![allow(clippy::unwrap_used, reason = "a test that can not go on panics, helpers included")]

#[path = "linkmesh/dev.rs"]
mod dev;
#[path = "linkmesh/program.rs"]
mod program;
#[path = "linkmesh/settings.rs"]
mod settings;
#[path = "linkmesh/telemetry.rs"]
mod telemetry;
