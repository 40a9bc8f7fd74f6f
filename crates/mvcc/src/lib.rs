//! The store's mind: keys with their histories, transactions, leases, compaction, watch matching and snapshots, as a
//! deterministic state machine with etcd's (v3.5) semantics.
//!
//! ```text
//!   Command ──apply──▶ State ──▶ Effects { response, events }
//!                        ▲ │
//!        RangeQuery, replay, SnapshotCut   (reads: short steps under whatever lock the caller holds)
//! ```
//!
//! The same commands in the same order give the same state, byte for byte: that is what lets a log be replayed after
//! a crash, and later be replicated. Knows no disk, socket, lock, task or clock; time comes as an argument.
//!
//! Compaction has two steps: a `Compact` command moves the compact revision at once, and [`State::trim`] then frees
//! what nobody can read any more, in portions of the caller's choice. Every reader decides by the compact revision
//! alone, so it cannot tell how far the trimming got.

mod check;
pub mod codec;
mod command;
mod export;
mod hash;
mod history;
mod lease;
mod range;
mod replay;
mod snapshot;
mod state;
mod txn;
mod watchers;

pub use check::{Limits, check_command, check_range};
pub use codec::DecodeError;
pub use command::{Command, Effects, Response};
pub use export::{Export, Import, ImportError, Write as ExportedWrite};
pub use hash::HashQuery;
pub use lease::{LeaseTimer, LeaseTimes};
pub use range::{KeyRange, RangeEnd, RangeQuery};
pub use replay::Replay;
pub use snapshot::{Loader, SnapshotCut, SnapshotReader};
pub use state::{FIRST_REVISION, Pin, State};
pub use watchers::WatchIndex;
