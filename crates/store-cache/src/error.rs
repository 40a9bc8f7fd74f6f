//! Why a cache cannot answer.

use std::fmt;

use store_api::{Revision, StoreError};

/// A read that cannot be answered. But for `NotReady`, `Outside` and `Store`, the cache has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The prefix was not listed yet. Wait with [`crate::Cache::ready`].
    #[error("the cache has not listed its prefix yet")]
    NotReady,
    /// Only what is below the prefix can be read.
    #[error("the key or range is not below the cache's prefix")]
    Outside,
    /// The prefix has more in it than the cache may hold.
    #[error("the prefix takes more than the cache may hold: at most {limit} {kind}")]
    TooLarge { kind: LimitKind, limit: u64 },
    /// The store was replaced by an older one.
    #[error("the store went back from revision {had} to {found}")]
    WentBack { had: Revision, found: Revision },
    /// The store refused the watch or the list for good.
    #[error("the store refused")]
    Refused(#[source] StoreError),
    /// The store could not say its revision. Try again.
    #[error("the store did not answer")]
    Store(#[source] StoreError),
    /// The group of tasks that the cache belongs to was stopped.
    #[error("the cache is stopped")]
    Stopped,
}

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    Keys,
    Bytes,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitKind::Keys => "keys",
            LimitKind::Bytes => "bytes",
        })
    }
}
