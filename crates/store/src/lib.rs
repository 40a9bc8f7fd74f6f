//! A member of a replicated store on this machine's disk: etcd's data model, durable on most members before it is
//! acknowledged.
//!
//! ```text
//!   request ─▶ inbox ─▶ writer thread: one batch ─▶ replica::Core ─▶ Raft, one frame, one fsync for all groups
//!                          ▲                              │ committed entries
//!          peers' messages ┘                              ▼
//!                                              applier ─▶ replica::Machine ─▶ answers
//!                                                             └─▶ hub ─▶ watchers' bounded buffers
//!   reads ─▶ wait until the state is the last word ─▶ RwLock<Machine>, a step at a time
//! ```
//!
//! The log's entries are batches of requests; they are evaluated when they are applied, in the log's order, so
//! comparisons are exact and a replay gives the same state. Snapshots are written beside the running member and let the
//! log be purged. What a crash can leave behind is cut off at the next start; what only damage can cause is refused.
//!
//! Knows no wire protocol of clients: `etcd-server` and `apiserver` see it as `store_api::Store`, and `etcd-server` as
//! `store_api::Auth` too.

mod api;
mod applier;
mod background;
mod backup;
mod budget;
mod caller;
mod cluster;
mod compact_hash;
mod corruption;
mod disk;
mod divided;
mod door;
mod folder;
mod force;
mod hub;
mod import;
mod inbox;
mod log_folder;
mod metrics;
mod moves;
mod options;
mod peers;
mod pending;
mod routed;
mod shared;
mod snapshot;
mod store;
mod strict;
mod users;
mod watch;
mod writer;

pub use backup::{FolderBackup, export_folder};
pub use budget::DEFAULT_RANGE_BYTES;
pub use disk::{DiskFault, DiskOp};
pub use door::Incoming;
pub use force::{Forced, force_new_cluster};
pub use import::{ImportError, ImportOptions, Imported, import};
pub use mvcc::Limits;
pub use options::{AutoCompaction, Bootstrap, Options, Timing};
pub use peers::{Peers, Question, Reply};
pub use replica::{cluster_id, member_id};
pub use store::Store;
