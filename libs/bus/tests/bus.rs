//! The bus on a real broker and on a real disk: one suite for both adapters, and what is particular to each.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails, in its helpers too")]

#[path = "bus/broker.rs"]
mod broker;
#[path = "bus/conformance.rs"]
mod conformance;
#[path = "bus/shipping.rs"]
mod shipping;
#[path = "bus/support.rs"]
mod support;
