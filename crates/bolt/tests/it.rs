//! Files that are written and read back, files that are damaged, and a file that is larger than the writer's memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/damage.rs"]
mod damage;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/model.rs"]
mod model;
#[path = "it/roundtrip.rs"]
mod roundtrip;
