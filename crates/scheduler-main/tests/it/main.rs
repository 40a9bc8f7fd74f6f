//! The scheduler as a process: what it refuses and how, what it serves and to whom, who leads. Against an API server in
//! this process, and beside a real kube-scheduler whose path stands in KUBE_SCHEDULER.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, also in its helpers")]

mod api;
mod beside;
mod claims;
mod devices;
mod differential;
mod elected;
mod listener;
mod metrics;
mod refused;
mod scheduler;
mod served;
mod states;
