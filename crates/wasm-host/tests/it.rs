//! Guests in a real scheduler, against an API in memory: what they say counts, and what they do wrong does not spread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "../../scheduler/tests/it/api.rs"]
mod api;
#[path = "it/binding.rs"]
mod binding;
#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/example.rs"]
mod example;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/field.rs"]
mod field;
#[path = "it/remote.rs"]
mod remote;
#[path = "it/scores.rs"]
mod scores;
#[path = "it/swap.rs"]
mod swap;
#[path = "it/verdicts.rs"]
mod verdicts;
