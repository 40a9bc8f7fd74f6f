//! The store through its trait, on real files: what it answers, what survives, what it refuses.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod api;
mod budget;
mod cluster;
mod corruption;
mod crash;
mod damage;
mod full;
mod shards;
mod spans;
mod support;
mod users;
mod watch;
