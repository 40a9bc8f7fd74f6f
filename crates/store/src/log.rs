//! What lies between "propose" and "apply".
//!
//! Today the log is this machine's disk alone. A replicated log takes the same place: it persists the entries here,
//! sends them to the other members, and gives out [`Committed`] when most of them have persisted them.

use bytes::Bytes;

use crate::wal::{CommitError, Wal};

/// Entries that may be applied and acknowledged.
///
/// The contract: a value of this type exists only after every entry up to `last` is on as many disks as the store
/// promises (here: one; fsync has returned). Whoever applies commands asks for it, so nothing is shown to a reader or
/// acknowledged to a writer that a crash could still take away.
#[derive(Debug)]
pub struct Committed {
    /// The index of the last entry of the batch.
    pub last: u64,
    /// Bytes that the batch took in the log.
    pub bytes: u64,
    /// Bytes that the disk has given to the log for it.
    pub allocated: u64,
}

/// Orders proposals and makes them durable.
pub trait Log: Send {
    /// Commits a batch in the order given. `frees_space` says that every entry can only give space back; such a batch
    /// may use what is held back for it.
    fn commit(&mut self, entries: &[Bytes], frees_space: bool) -> Result<Committed, CommitError>;
}

/// The log of a store with one member.
pub struct SingleMember(pub Wal);

impl Log for SingleMember {
    fn commit(&mut self, entries: &[Bytes], frees_space: bool) -> Result<Committed, CommitError> {
        let before = self.0.begun_bytes();
        let bytes = self.0.append(entries, frees_space)?;
        Ok(Committed { last: self.0.last(), bytes, allocated: self.0.begun_bytes() - before })
    }
}
