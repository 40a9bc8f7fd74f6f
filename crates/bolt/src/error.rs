//! What can be wrong with a file that is read, or with what is to be written.

use std::io;

/// A file cannot be read. Trying again does not help, unless the source itself failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read {length} bytes at offset {offset}")]
    Source { offset: u64, length: usize, source: io::Error },
    /// There is no such file format in it.
    #[error("not a bbolt file: {0}")]
    NotBolt(&'static str),
    /// The file ends before its last page.
    #[error("the file is cut short: {size} bytes, but its pages take {wanted}")]
    Short { size: u64, wanted: u64 },
    /// A page contradicts the format.
    #[error("page {page}: {why}")]
    Damaged { page: u64, why: &'static str },
    /// Reading on would take more memory than was allowed.
    #[error("page {page}: {wanted} bytes would have to be held in memory, at most {limit} may be")]
    TooLarge { page: u64, wanted: u64, limit: u64 },
}

/// What was to be written has no place in the format. The file so far is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Keys, and the names of buckets, ascend within a bucket.
    #[error("a key is not greater than the one before it in its bucket")]
    Order,
    #[error("an empty key or bucket name")]
    EmptyKey,
    #[error("a key of {0} bytes is too large")]
    KeyTooLarge(usize),
    #[error("a value of {0} bytes is too large")]
    ValueTooLarge(usize),
    /// A bucket was ended that had not begun, or not ended that had.
    #[error("buckets do not begin and end in pairs")]
    Nesting,
    /// The second pass brought other lengths than the first.
    #[error("what is written is not what was measured")]
    PlanChanged,
}
