//! The engine as the API server uses it: whole requests in, whole objects out.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "it/support.rs"]
mod support;

#[path = "it/bindings.rs"]
mod bindings;
#[path = "it/decode.rs"]
mod decode;
#[path = "it/delete.rs"]
mod delete;
#[path = "it/kinds.rs"]
mod kinds;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/openapi.rs"]
mod openapi;
#[path = "it/patch.rs"]
mod patch;
#[path = "it/pods.rs"]
mod pods;
#[path = "it/remembered.rs"]
mod remembered;
#[path = "it/selector.rs"]
mod selector;
#[path = "it/services.rs"]
mod services;
#[path = "it/tables.rs"]
mod tables;
#[path = "it/writes.rs"]
mod writes;
