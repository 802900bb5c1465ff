//! A host with real listeners, a real event log on disk and real certificates: how it starts, what it shows, how it stops.

#![allow(clippy::unwrap_used, reason = "a test that can not go on panics, helpers included")]

#[path = "service/hosted.rs"]
mod hosted;
#[path = "service/lifecycle.rs"]
mod lifecycle;
#[path = "service/listeners.rs"]
mod listeners;
#[path = "service/seeing.rs"]
mod seeing;
