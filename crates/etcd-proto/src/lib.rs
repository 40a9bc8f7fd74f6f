//! etcd v3's gRPC messages and services (as of etcd 3.5), generated from the files in `proto/`.
//!
//! Knows the wire and nothing else. Byte fields are reference-counted: decoding a message copies no value.

#![allow(clippy::all, reason = "generated code follows the .proto files")]

/// Keys and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Requests, responses, servers and clients.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
