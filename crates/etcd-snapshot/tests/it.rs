//! Databases that are written and read back, and the real etcd's programs on both ends.
//!
//! The programs come from `tools/install.sh`; without them the tests that need them say so and prove nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/etcd.rs"]
mod etcd;
#[path = "it/memory.rs"]
mod memory;
#[path = "it/owned.rs"]
mod owned;
#[path = "it/reading.rs"]
mod reading;
#[path = "it/roundtrip.rs"]
mod roundtrip;
#[path = "it/writing.rs"]
mod writing;
