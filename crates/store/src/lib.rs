//! A store on this machine's disk: etcd's data model, durable before it is acknowledged.
//!
//! ```text
//!   request ─▶ propose ─▶ queue ─▶ writer thread: one batch ─▶ log (one frame, one fsync)
//!                                      │                          │ Committed
//!                                      ◀──────────────────────────┘
//!                                      ├─▶ apply to mvcc::State ─▶ answers
//!                                      └─▶ hub ─▶ watchers' bounded buffers
//!   reads ─▶ RwLock<State>, a step at a time (everything in it is on disk)
//! ```
//!
//! The log's entries are commands; they are evaluated when they are applied, in the log's order, so comparisons are
//! exact and a replay gives the same state. Snapshots are written beside the running writer and let the log be purged.
//! What a crash can leave behind is cut off at the next start; what only damage can cause is refused.
//!
//! Knows no wire protocol: `etcd-server` and `apiserver` see it as `store_api::Store`.

mod api;
mod background;
mod disk;
mod folder;
mod hub;
mod log;
mod metrics;
mod options;
mod queue;
mod recovery;
mod shared;
mod snapshot;
mod store;
mod wal;
mod watch;
mod writer;

pub use disk::{DiskFault, DiskOp};
pub use mvcc::Limits;
pub use options::{AutoCompaction, Options};
pub use store::Store;
