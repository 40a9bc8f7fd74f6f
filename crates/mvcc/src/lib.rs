//! The store's mind: keys with their histories, transactions, leases, compaction, watch matching and snapshots, as a
//! deterministic state machine with etcd's (v3.5) semantics.
//!
//! ```text
//!   Command ──apply──▶ State ──▶ Effects { response, events }
//!                        ▲ │
//!        RangeQuery, replay, SnapshotCut   (reads: short steps under whatever lock the caller holds)
//! ```
//!
//! In memory a version is one packed record in a slab, a key an entry of eight bytes in the index, a write four bytes in
//! the log of changes:
//!
//! ```text
//!   Keyspace ─▶ Index ─▶ item ─▶ Versions ─▶ record { key, revisions, lease, value } in a Slab
//!   Changes ─────────────────────────────────▶ the same record
//! ```
//!
//! Small values are copied for each reader, large ones are shared; nothing of a command's own bytes is kept.
//!
//! The same commands in the same order give the same state, byte for byte: that is what lets a log be replayed after
//! a crash, and later be replicated. Knows no disk, socket, lock, task or clock; time comes as an argument.
//!
//! Compaction has two steps: a `Compact` command moves the compact revision at once, and [`State::trim`] then frees
//! what nobody can read any more, in portions of the caller's choice. Every reader decides by the compact revision
//! alone, so it cannot tell how far the trimming got.

mod adopt;
mod changes;
mod check;
pub mod codec;
mod command;
mod export;
mod hash;
mod heads;
mod history;
mod index;
mod keyspace;
mod lease;
mod range;
mod record;
mod replay;
mod shelf;
mod slab;
mod slots;
mod snapshot;
mod state;
mod txn;
mod versions;
mod watchers;

pub use check::{Limits, check_command, check_range};
pub use codec::DecodeError;
pub use command::{Command, Effects, Response};
pub use export::{Export, Import, ImportError, Write as ExportedWrite};
pub use hash::HashQuery;
pub use lease::{LeaseTimer, LeaseTimes};
pub use range::{KeyRange, Progress, RangeEnd, RangeQuery};
pub use replay::Replay;
pub use snapshot::{Loader, SnapshotCut, SnapshotReader};
pub use state::{FIRST_REVISION, Pin, State};
pub use watchers::WatchIndex;
