//! The member as a process: what it refuses and how, beside a real etcd; what it serves, to a real etcdctl and to
//! client libraries.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, also in its helpers")]

mod clients;
mod member;
mod refused;
mod served;
mod shards;
mod started;
mod tls;
mod transfer;
mod users;
