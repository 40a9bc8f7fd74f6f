//! etcd v3's gRPC messages and services (as of etcd 3.5), generated from the files in `proto/`.
//!
//! Knows the wire and nothing else. Byte fields are reference-counted: decoding a message copies no value.

// Generated code follows the .proto files' names, not this repository's lints.
#![allow(clippy::all, clippy::pedantic, missing_docs)]

/// Keys and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Requests, responses, servers and clients.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
