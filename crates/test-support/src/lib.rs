//! What end-to-end tests share: a whole cluster from the real binary, the real `kubectl`, and waiting for a state.
//!
//! A cluster owns the machine's bridge, cgroups and BPF programs, so that only one lives at a time: a lock file makes
//! tests wait for one another, in whatever process they run.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "this crate is only ever part of tests")]

mod cluster;
pub mod image;
mod kubectl;
pub mod ports;
mod tools;
pub mod traces;

pub use cluster::{Cluster, Setup};
pub use kubectl::{Kubectl, Ran, run};
pub use tools::{tool, tool_at, tools_dir};

use std::{
    thread,
    time::{Duration, Instant},
};

/// Polls `look` until it gives a value. Fails the test with `what` and the last reason when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("{what}: not within {limit:?}: {reason}"),
            Err(_) => thread::sleep(Duration::from_millis(25)),
        }
    }
}
