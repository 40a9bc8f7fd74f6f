//! What consensus wants done, and in which order.

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState, Message, SnapshotMetadata};

use crate::Role;

/// Work for the driver. The order is the contract that safety rests on:
///
/// 1. `messages` may be sent at once: a leader's appends travel while its own disk writes.
/// 2. `snapshot`, `entries` and `hard_state` go to disk, in one batch, and are synced.
/// 3. [`crate::Consensus::persisted`] gives what may be sent and applied only after that.
///
/// `committed` was on enough disks before and may be applied at any time from now on.
#[derive(Debug, Default)]
pub struct Ready {
    pub messages: Vec<Message>,
    /// The state that takes the place of everything before; the driver has its content.
    pub snapshot: Option<SnapshotMetadata>,
    /// They replace what the log on disk has from the first one's index on.
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
    pub committed: Vec<Entry>,
    /// Contexts of [`crate::Consensus::read_index`] with the index that must be applied before the read is served.
    pub reads: Vec<(u64, u64)>,
    /// The role or the leader has changed: role and leader now.
    pub changed: Option<(Role, u64)>,
}

/// What may be done once a [`Ready`] is on disk.
#[derive(Debug, Default)]
pub struct Persisted {
    pub messages: Vec<Message>,
    pub committed: Vec<Entry>,
}

/// The number in a read's context.
pub(crate) fn read_context(context: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(context.try_into().ok()?))
}

pub(crate) fn read_bytes(context: u64) -> Vec<u8> {
    Bytes::copy_from_slice(&context.to_le_bytes()).to_vec()
}
