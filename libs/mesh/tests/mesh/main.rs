//! The mesh as its users see it: registries under one suite, etcd under faults, calls between real servers.
//!
//! What a mesh is known to fail at, where it is tested, and which mesh fails the test; `system` is tests/tests/system. A test can
//! fail where `naive` (a client that believes the registry, and chooses at random) is put in the mesh's place by the same code and
//! fails, in that file or beside the test; where none is named, what is named was taken out of the mesh once and one of the tests
//! failed. Not shown to fail so: `leases`, the rolling restarts, hedges sharing the budget, `connections`' age, loss and delay.
//!
//! | | Fault | Tests | Fails |
//! |---|---|---|---|
//! | 1 | compaction, a watch closed or silent, ghosts | `quorum_faults` (list and watch, cut off, silent watch), `etcd_faults` | who gives a watch up once it broke, as etcd's Go resolver does |
//! | 2 | etcd killed, leader lost, away, a client cut off | `quorum_faults`, `etcd_faults`, `system/outage` (a minute: `long`) | the same; `naive` with an instance killed |
//! | 3 | all leases run out at once | `quorum_faults::when_all_leases_run_out_at_once_…`, `etcd_faults::with_etcd_frozen_…` | `naive`; who takes a lost lease for an instance lost, or does not register again |
//! | 4 | the keepalive stream dies, the process lives; thousands of leases | `quorum_faults::a_lease_whose_stream_died_…`, `leases` | who gives a lease up once its stream broke |
//! | 5 | a token runs out under a watch | `etcd_access` | who gives a watch up once it broke |
//! | 6 | an address is another's | `access::a_server_that_is_another_service_…`, `drain::another_instance_at_a_suspects_…` | `naive` |
//! | 7 | nobody there, then somebody, then nobody | `quorum_faults::nobody_there_…`, `calls::without_an_instance_…` | who does not pass an empty list on |
//! | 8 | all unhealthy | `all_unhealthy`; `channel/balance/tests.rs` | who has breakers and no panic |
//! | 9 | one fails fast, is slow, bursty, or never answers | `calls::an_endpoint_that_…`, `network::an_instance_that_…`, `connections::an_instance_that_breaks_off_…`, `channel/balance/tests.rs` | `naive`; who forgets with each connection |
//! | 10 | warm-up; a rolling restart | `warm_up`; `drain`, `system/rolling` | `naive` |
//! | 11 | deadlines over hops and backoffs, clocks that differ | `deadlines`, `timeouts`, `wire` | who does not pass a deadline on |
//! | 12 | every instance fails; hedges share the budget | `retries`, `hedges` | `naive`, told to repeat |
//! | 13 | large messages and streams, connections too old, GOAWAY | `streams`, `retries`, `wire`, `connections` | `naive` |
//! | 14 | rotation, expiry, wrong and denied callers | `identity`, `access`, `rules` | who keeps a connection for longer than its proof |
//! | 15 | a mirror that is down or slow | `mirrors` | `naive`, that waits for its copies |
//! | 16 | a bad policy, many of them | `policies`, `policy_storm` | who drops the last good one |
//! | 17 | a zone is lost and returns, or has too much to do | `zones`; `channel/balance/tests/near.rs` and `tiers.rs` | who trusts it at once |
//! | 18 | loss, delay, black holes, half-open connections | `network`, `connections` | `naive` |

#![expect(clippy::unwrap_used, reason = "what a test's helper can't do fails the test")]

mod access;
mod all_unhealthy;
mod backend;
mod calls;
mod chat;
mod connections;
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
mod leases;
mod mirrors;
mod naive;
mod network;
mod policies;
mod policy_storm;
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
mod warm_up;
mod wire;
mod world;
mod zones;
