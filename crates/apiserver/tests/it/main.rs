//! The API server over a real store, in this process and over TLS, against clients that nobody here wrote.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "this is a test")]

mod bounds;
mod crud;
mod harness;
mod kubectl;
mod limits;
mod lists;
mod node;
mod openapi;
mod pki;
mod scheduling;
mod subresources;
mod templates;
mod traces;
mod watches;
mod who;
