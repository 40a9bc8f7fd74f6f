//! The ground that every service stands on: the only crate that spawns tasks and threads, reads clocks and draws
//! entropy.
//!
//! ```text
//!   Tasks ──spawn──▶ named task ──panic / error──▶ failure() ──▶ the process stops in order
//!     └─child(name)─▶ Tasks of one service, stopped and joined together
//! ```
//!
//! Everything else takes time as an argument or through [`Clock`], so that a simulation can supply its own.

mod clock;
pub mod cpu;
pub mod entropy;
pub mod failpoint;
pub mod failpoint_http;
mod tasks;

pub use clock::Clock;
pub use tasks::{Failure, Tasks, blocking};
pub use tokio_util::sync::CancellationToken;
