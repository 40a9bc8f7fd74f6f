//! A prefix of a store, held in memory and kept up by a watch: reads cost no round trip and say which revision they
//! stand for.
//!
//! ```text
//!   store ──list at R──▶ map ◀──events after R── watch ──cut──▶ watch again after the last revision seen
//!                         │                                └─compacted──▶ list again
//!   get, range ───────────┘ (with the revision)
//!   at_least(R), linearizable: wait, and ask the watch for its progress, so that a silent prefix is no endless wait
//! ```
//!
//! What a read returns is what the store says of the prefix at that revision, exactly; revisions never go back. While
//! the store cannot be reached, reads go on at the last revision seen: whoever must know asks
//! [`Cache::linearizable`] first, which then waits.
//!
//! Memory is bounded by [`Limits`]: a prefix that grows past them ends the cache with an error that says so. While it
//! lists again after a compaction, it holds the old and the new content for a moment.
//!
//! Knows no backend: `store` and a real etcd behind `etcd-client` are the same to it.

mod cache;
mod content;
mod error;
mod follow;
mod subscription;

pub use cache::{Cache, Limits, Options, Page, Read};
pub use error::{CacheError, LimitKind};
pub use subscription::{Subscription, SubscriptionError, Update};
