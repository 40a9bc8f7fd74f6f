//! The member as a process: what it refuses and how, beside a real etcd; what it serves, to a real etcdctl and to
//! client libraries.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, also in its helpers")]

mod clients;
mod commands;
mod corruption;
mod effects;
mod force;
mod keepalive;
mod kube;
mod member;
mod metrics;
mod refused;
mod served;
mod shards;
mod started;
mod streams;
mod strict;
mod tls;
mod transfer;
mod trio;
mod users;
mod wal_dir;
