//! Control as those see it who join, renew and operate.

#![expect(clippy::unwrap_used, reason = "what a test's helper can't do fails the test")]

#[path = "control/cluster.rs"]
mod cluster;
#[path = "control/harness.rs"]
mod harness;
#[path = "control/joining.rs"]
mod joining;
#[path = "control/kubernetes.rs"]
mod kubernetes;
#[path = "control/operating.rs"]
mod operating;
#[path = "control/renewing.rs"]
mod renewing;
