//! etcd v3's gRPC messages and services (as of etcd 3.5), generated from the files in `proto/`.
//!
//! Knows the wire and nothing else. Byte fields are reference-counted: decoding a message copies no value.

#![allow(clippy::all, reason = "generated code follows the .proto files")]

/// All messages and services as a `google.protobuf.FileDescriptorSet`, for those who read their names while running.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Keys and events.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Users, roles and permissions.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// Requests, responses, servers and clients.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// The service Lock.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// The service Election.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// gRPC's health service.
pub mod healthpb {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// Our own service Shards.
pub mod shardspb {
    include!(concat!(env!("OUT_DIR"), "/plinth.store.v1.rs"));
}
