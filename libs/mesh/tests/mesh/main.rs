//! The mesh as its users see it: registries under one suite, etcd under faults, calls between real servers.
//!
//! What a mesh is known to fail at, and where it is tested; `system` is tests/tests/system.
//!
//! | | Fault | Tests |
//! |---|---|---|
//! | 1 | compaction, a watch closed or silent, ghosts | `quorum_faults` (list and watch, cut off, silent watch), `etcd_faults` |
//! | 2 | etcd killed, leader lost, away, a client cut off | `quorum_faults`, `etcd_faults`, `system/outage` (a minute: `long`) |
//! | 3 | all leases run out at once | `quorum_faults::when_all_leases_run_out_at_once_…`, `etcd_faults::with_etcd_frozen_…` |
//! | 4 | the keepalive stream dies, the process lives | `quorum_faults::a_lease_whose_stream_died_…` |
//! | 5 | a token runs out under a watch | `etcd_access` |
//! | 6 | an address is another's | `access::a_server_that_is_another_service_…`, `drain::another_instance_at_a_suspects_…` |
//! | 7 | nobody there, then somebody, then nobody | `quorum_faults::nobody_there_…`, `calls::without_an_instance_…` |
//! | 8 | all unhealthy | `channel/balance/tests.rs`: `a_failing_majority_is_used_all_the_same_and_then_named` |
//! | 9 | one fails fast, is slow, bursty, or never answers | `calls::an_endpoint_that_…`, `network::an_instance_that_…`, `channel/balance/tests.rs` |
//! | 10 | warm-up; a rolling restart | `channel/balance/tests.rs`: `a_new_instance_under_load_…`; `drain`, `system/rolling` |
//! | 11 | deadlines over hops and backoffs | `deadlines`, `timeouts`, `wire` |
//! | 12 | every instance fails; hedges share the budget | `retries`, `hedges` |
//! | 13 | large messages and streams, GOAWAY | `streams`, `retries`, `wire` |
//! | 14 | rotation, expiry, wrong and denied callers | `identity`, `access`, `rules` |
//! | 15 | a mirror that is down or slow | `mirrors` |
//! | 16 | a bad policy, many of them | `policies` |
//! | 17 | a zone is lost and returns | `channel/balance/tests.rs` and `tiers.rs` |
//! | 18 | loss, delay, black holes, half-open connections | `network` |

#![expect(clippy::unwrap_used, reason = "what a test's helper can't do fails the test")]

mod access;
mod backend;
mod calls;
mod chat;
mod deadlines;
mod drain;
mod etcd_access;
mod etcd_faults;
mod exchanges;
mod far;
mod faults;
mod following;
mod hedges;
mod identity;
mod mirrors;
mod network;
mod policies;
mod quorum_faults;
mod raw;
mod registries;
mod retries;
mod rules;
mod servers;
mod splits;
mod streams;
mod taps;
mod timeouts;
mod wire;
mod world;
