//! The state machine against a model that keeps a whole copy of the keys for every revision.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod cases;
mod memory;
mod model;
mod properties;
