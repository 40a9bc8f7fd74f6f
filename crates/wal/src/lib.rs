//! The write-ahead log: records in checksummed frames, one frame and one fsync for a whole batch, however many Raft
//! groups the records belong to.
//!
//! ```text
//!   records ─▶ Wal::append ─▶ frame ─▶ segment file (allocated ahead) ─▶ one fsync
//!   recover ◀─ frames in order ◀─ segments;  a torn end is cut off, damage is refused
//! ```
//!
//! Knows nothing of what a record says, and touches no disk by itself: files come from a [`Disk`], which is the real
//! one in a store and a simulated one, with crashes and lost syncs, in a simulation.

pub mod disk;
mod frame;
mod log;
mod recover;
mod segment;

pub use disk::{Disk, DiskFile, is_full};
pub use log::{CommitError, RESERVE, Wal};
pub use recover::{Recovered, recover};
pub use segment::{belongs, segments};
