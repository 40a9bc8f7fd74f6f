//! The member as a process: what it refuses and how, beside a real etcd; what it serves, to a real etcdctl.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, also in its helpers")]

mod member;
mod refused;
mod served;
mod started;
mod tls;
mod users;
