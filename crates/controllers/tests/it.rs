//! The controllers against a real API server over a real store, all in this process.
//!
//! There is no node: a stand-in marks pods as running and ready, as a node agent would.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "it/claims.rs"]
mod claims;
#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/disruption.rs"]
mod disruption;
#[path = "it/garbage.rs"]
mod garbage;
#[path = "it/nodes.rs"]
mod nodes;
#[path = "it/workloads.rs"]
mod workloads;
