//! The handle: reads, and waiting for a revision.
//!
//! Reads what the follower has put there; changes nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use runtime::Tasks;
use store_api::{KeyValue, RangeRequest, Revision, Store, prefix_end};
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    CacheError, Subscription,
    content::Content,
    follow::Follower,
    subscription::{UPDATES, Update},
};

/// How long a wait leaves a watch alone before it asks for progress again: a backend that is catching up does not
/// answer the question.
const FIRST_ASK: Duration = Duration::from_millis(20);
const LAST_ASK: Duration = Duration::from_millis(500);

/// What a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub keys: usize,
    /// Bytes of keys and values, and about what holding them costs.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { keys: 1_000_000, bytes: 1 << 30 }
    }
}

/// Everything that a cache is given at its start.
#[derive(Clone)]
pub struct Options {
    pub store: Arc<dyn Store>,
    /// Stopping the group ends the cache.
    pub tasks: Tasks,
    /// Empty: all keys.
    pub prefix: Bytes,
    pub limits: Limits,
}

impl Options {
    pub fn new(store: Arc<dyn Store>, tasks: Tasks, prefix: impl Into<Bytes>) -> Self {
        Options { store, tasks, prefix: prefix.into(), limits: Limits::default() }
    }
}

/// Something read, and the revision that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    pub revision: Revision,
    pub value: T,
}

/// Keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub kvs: Vec<KeyValue>,
    /// More keys are in the range than were asked for.
    pub more: bool,
}

/// How far the follower is. Goes from listing to a revision, from there to higher ones, and at any time to an error,
/// where it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Listing,
    At(Revision),
    Ended(CacheError),
}

/// What the handles and the follower share.
pub(crate) struct Shared {
    pub options: Options,
    /// The first key below the prefix, and where it ends (`[0]`: nowhere).
    pub start: Bytes,
    pub end: Bytes,
    pub content: RwLock<Content>,
    pub progress: watch::Sender<Progress>,
    /// Gone with the follower, so that listeners learn that nothing comes any more.
    pub updates: Mutex<Option<broadcast::Sender<Update>>>,
    /// Somebody waits for a revision.
    pub asked: Notify,
}

/// A handle on a running cache. Clones are handles on the same one.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

impl Cache {
    /// Begins to list and to follow the prefix; reads work once it [is ready](Cache::ready).
    pub fn start(options: Options) -> Self {
        let end = prefix_end(&options.prefix);
        // etcd knows no empty key: the first one there is has a single zero byte.
        let start = if options.prefix.is_empty() { Bytes::from_static(&[0]) } else { options.prefix.clone() };
        let tasks = options.tasks.clone();
        let shared = Arc::new(Shared {
            options,
            start,
            end,
            content: RwLock::default(),
            progress: watch::Sender::new(Progress::Listing),
            updates: Mutex::new(Some(broadcast::Sender::new(UPDATES))),
            asked: Notify::new(),
        });
        let (follower, stopping) = (Follower::new(shared.clone()), tasks.stopping());
        tasks.spawn_to_end("store-cache", async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => follower.end(CacheError::Stopped),
                error = follower.run() => follower.end(error),
            }
        });
        Cache(shared)
    }

    /// Waits until the prefix is listed; returns the revision.
    pub async fn ready(&self) -> Result<Revision, CacheError> {
        self.at_least(0).await
    }

    /// The revision that reads stand for now.
    pub fn revision(&self) -> Result<Revision, CacheError> {
        match &*self.0.progress.borrow() {
            Progress::Listing => Err(CacheError::NotReady),
            Progress::At(revision) => Ok(*revision),
            Progress::Ended(error) => Err(error.clone()),
        }
    }

    /// One key.
    pub fn get(&self, key: &[u8]) -> Result<Read<Option<KeyValue>>, CacheError> {
        if !key.starts_with(&self.0.options.prefix) {
            return Err(CacheError::Outside);
        }
        self.read(|content| content.get(key).cloned())
    }

    /// Keys from `start` on and before `end` (empty: to the end of the cache's prefix), at most `limit`. As in etcd, an
    /// `end` of one zero byte is the end of all keys. The range lies below the cache's prefix.
    pub fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Read<Page>, CacheError> {
        let below = |end: &[u8]| self.0.end[..] == [0] || (end != [0] && end <= &self.0.end[..]);
        if start < &self.0.options.prefix[..] || !below(end) {
            return Err(CacheError::Outside);
        }
        let end = if end == [0] { &[] } else { end };
        self.read(|content| content.range(start, end, limit))
    }

    /// Every key that begins with `prefix`, which lies below the cache's own.
    pub fn prefix(&self, prefix: &[u8]) -> Result<Read<Page>, CacheError> {
        if !prefix.starts_with(&self.0.options.prefix) {
            return Err(CacheError::Outside);
        }
        self.range(prefix, &prefix_end(prefix), usize::MAX)
    }

    /// The number of keys.
    pub fn count(&self) -> Result<Read<usize>, CacheError> {
        self.read(Content::len)
    }

    fn read<T>(&self, look: impl FnOnce(&Content) -> T) -> Result<Read<T>, CacheError> {
        // An end is told before the content is taken away, which this lock holds up.
        let content = self.0.content.read();
        self.revision()?;
        Ok(Read { revision: content.revision, value: look(&content) })
    }

    /// Waits until reads stand for `revision` or a later one; returns which. A revision that the store has not reached
    /// is waited for as long as it takes.
    pub async fn at_least(&self, revision: Revision) -> Result<Revision, CacheError> {
        let mut progress = self.0.progress.subscribe();
        let mut pause = FIRST_ASK;
        loop {
            match &*progress.borrow_and_update() {
                Progress::At(reached) if *reached >= revision => return Ok(*reached),
                Progress::Ended(error) => return Err(error.clone()),
                _ => {}
            }
            self.0.asked.notify_one();
            match tokio::time::timeout(pause, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(CacheError::Stopped),
                Err(_) => pause = (pause * 2).min(LAST_ASK),
            }
        }
    }

    /// Asks the store for its revision, linearizably, and waits until the cache has it: reads after this see every
    /// write that was acknowledged before it.
    pub async fn linearizable(&self) -> Result<Revision, CacheError> {
        let request = RangeRequest { count_only: true, ..RangeRequest::key(self.0.start.clone()) };
        let current = self.0.options.store.range(request).await.map_err(CacheError::Store)?.revision;
        self.at_least(current).await
    }

    /// Listens to changes from now on.
    pub fn subscribe(&self) -> Subscription {
        let updates = self.0.updates.lock();
        // A channel without its sender has ended, as the cache has.
        Subscription(updates.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe))
    }
}
