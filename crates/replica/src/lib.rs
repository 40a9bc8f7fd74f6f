//! One member of a replicated store, without threads, sockets and clocks: the Raft groups that share one log on disk,
//! and the state that their entries build.
//!
//! ```text
//!   proposals, messages, ticks ─▶ Core::turn ─▶ one frame in the log for all groups, one sync
//!                                    │ Output: send · apply · install · read
//!                                    ▼
//!   committed entries ─▶ Machine::apply ─▶ answers, events, lease changes
//! ```
//!
//! The two halves may run on two threads: while [`Core`] writes the next batch, [`Machine`] applies the last one. A
//! simulation runs them on none. The disk is a [`wal::Disk`]; a snapshot is read from the machine in portions, so that
//! nobody waits for the whole of it.

mod core;
mod ident;
mod machine;
mod members;
mod notes;
mod prefixes;
mod proposal;
mod record;
mod recover;
pub mod shards;
pub mod snapshot;

pub use crate::core::{Core, Group, Output, Settings, entry_bytes};
pub use ident::{cluster_id, divided_cluster_id, member_id};
pub use machine::{Answer, Applied, LeaseChange, Machine, Response, allow};
pub use members::{Follow, MemberChange, Members};
pub use notes::Notes;
pub use proposal::{Batch, Request};
pub use recover::{Folders, Recovery, found, found_with, leave_alone, read, recover};

pub use consensus::{Base, Consensus, Dropped, Entry, LeaseReads, Message, Role, SnapshotMetadata, Status};

/// A Raft group's number. Group 0 also holds the members, alarms, users, the leases' times, and the map of shards.
pub type GroupId = u32;
