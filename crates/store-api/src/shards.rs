//! Which part of the keys is kept by which Raft group.

use bytes::Bytes;

/// Keys that begin alike, and who keeps them. A longer prefix counts before a shorter one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Empty: all keys that no other shard has.
    pub prefix: Bytes,
    pub group: u32,
    /// The group that the keys are on their way to.
    pub moving_to: Option<u32>,
}
