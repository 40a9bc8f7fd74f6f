//! The checks on histories that are right, on minimal ones that are wrong, and against a search that tries everything.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[path = "it/bad.rs"]
mod bad;
#[path = "it/brute.rs"]
mod brute;
#[path = "it/generate.rs"]
mod generate;
#[path = "it/good.rs"]
mod good;
