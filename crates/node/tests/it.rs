//! The node against a real API server over a real store, with real containers, all on this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "it/adopt.rs"]
mod adopt;
#[path = "it/life.rs"]
mod life;
#[path = "it/logs.rs"]
mod logs;
#[path = "it/network.rs"]
mod network;
#[path = "it/trouble.rs"]
mod trouble;
#[path = "it/volumes.rs"]
mod volumes;
#[path = "it/world.rs"]
mod world;
