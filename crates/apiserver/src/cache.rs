//! The watch cache: per kind one watch on the store, the current objects, and the latest changes for every watcher.
//!
//! ```text
//!   store ──one watch──▶ driver ──▶ State { objects, latest events } ◀── lists
//!                                      ▲ cursor   ▲ cursor
//!                                   watcher     watcher        (a watcher holds a position, not a queue)
//! ```
//!
//! A watcher owns nothing but its position among the shared events, so a thousand of them cost no copies, and one that
//! does not read holds nothing up: when its position falls out of the events kept, it is cut off.

pub(crate) mod entry;
pub(crate) mod state;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::RwLock;
use registry::Resource;
use runtime::{CancellationToken, Tasks};
use store_api::{RangeRequest, Revision, Store, StoreError, WatchRequest, WatchResponse};
use tokio::sync::{Notify, watch};

use entry::{Entry, Event};
use state::{Scope, State, TooOld};

/// Objects per read while the cache fills; a remote store has a bound on answers.
const PAGE: i64 = 2000;
/// The pause before a store that failed is asked again: doubling from the first to the second.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the store is asked again how far it is while someone waits for a revision.
const PROGRESS_AGAIN: Duration = Duration::from_millis(100);
/// How long a request waits for a revision that the cache has not seen.
const WAIT_LIMIT: Duration = Duration::from_secs(3);
/// Changes taken by a watcher at once.
const BATCH: usize = 256;

/// The cache did not reach the revision in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub current: Revision,
}

/// The cache of one kind. Its watch on the store starts with its first reader.
pub(crate) struct Cache {
    resource: &'static Resource,
    store: Arc<dyn Store>,
    tasks: Tasks,
    started: AtomicBool,
    inner: RwLock<Inner>,
    /// The revision reached; 0 until the first fill.
    reached: watch::Sender<Revision>,
    progress_wanted: Notify,
    next_watcher: AtomicU64,
    /// Events that came from the store.
    events_seen: AtomicU64,
}

#[derive(Default)]
struct Inner {
    state: State,
    watchers: HashMap<u64, Arc<Watcher>>,
}

struct Watcher {
    scope: Scope,
    /// Everything up to here has been taken.
    cursor: AtomicI64,
    waker: AtomicWaker,
    /// It fell behind what is kept.
    cut: AtomicBool,
    /// Ends the connection of a watcher that does not read; none where the connection serves others too.
    connection: Option<CancellationToken>,
}

/// What a watcher takes.
pub(crate) enum Next {
    Events(Vec<Arc<Event>>),
    /// It lags behind what is kept.
    Cut,
}

impl Cache {
    pub fn new(resource: &'static Resource, store: Arc<dyn Store>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Cache {
            resource,
            store,
            tasks,
            started: AtomicBool::new(false),
            inner: RwLock::default(),
            reached: watch::channel(0).0,
            progress_wanted: Notify::new(),
            next_watcher: AtomicU64::new(0),
            events_seen: AtomicU64::new(0),
        })
    }

    /// Objects in the cache; none while nobody has read it.
    pub fn len(&self) -> Option<usize> {
        self.started.load(Ordering::Acquire).then(|| self.inner.read().state.len())
    }

    pub fn watchers(&self) -> usize {
        self.inner.read().watchers.len()
    }

    pub fn events_seen(&self) -> u64 {
        self.events_seen.load(Ordering::Relaxed)
    }

    /// Waits until every change up to `revision` is in (0: until there is anything).
    pub async fn wait_for(self: &Arc<Self>, revision: Revision) -> Result<(), Behind> {
        if !self.started.swap(true, Ordering::AcqRel) {
            self.tasks.spawn("watch-cache", self.clone().run());
        }
        let target = revision.max(1);
        if *self.reached.borrow() >= target {
            return Ok(());
        }
        let mut receiver = self.reached.subscribe();
        let waiting = async {
            loop {
                self.progress_wanted.notify_one();
                if let Ok(Ok(_)) = tokio::time::timeout(PROGRESS_AGAIN, receiver.wait_for(|r| *r >= target)).await {
                    return;
                }
            }
        };
        match tokio::time::timeout(WAIT_LIMIT, waiting).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Behind { current: *self.reached.borrow() }),
        }
    }

    /// Asks the store how far it is, so that the next bookmark is fresh.
    pub fn ask_progress(&self) {
        self.progress_wanted.notify_one();
    }

    /// The objects of a scope, in the order of their keys, and the revision at which they are current.
    pub fn list(&self, scope: &Scope) -> (Vec<Arc<Entry>>, Revision) {
        let inner = self.inner.read();
        let found = match scope {
            Scope::One(key) => inner.state.get(key).cloned().into_iter().collect(),
            scope => inner.state.range(scope, None).cloned().collect(),
        };
        (found, inner.state.revision())
    }

    /// One object, as far as the cache has come.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.inner.read().state.get(key).cloned()
    }

    /// Starts a watch that delivers the changes after `from`.
    pub fn watch(
        self: &Arc<Self>,
        scope: Scope,
        from: Revision,
        connection: Option<CancellationToken>,
    ) -> Result<Subscription, TooOld> {
        let mut inner = self.inner.write();
        if from < inner.state.floor() {
            return Err(TooOld { oldest: inner.state.floor() });
        }
        Ok(self.subscribe(&mut inner, scope, from, connection))
    }

    /// The objects of a scope and, without a gap, a watch that delivers every change after them.
    pub fn list_and_watch(
        self: &Arc<Self>,
        scope: Scope,
        connection: Option<CancellationToken>,
    ) -> (Vec<Arc<Entry>>, Revision, Subscription) {
        let mut inner = self.inner.write();
        let found = inner.state.range(&scope, None).cloned().collect();
        let revision = inner.state.revision();
        (found, revision, self.subscribe(&mut inner, scope, revision, connection))
    }

    fn subscribe(
        self: &Arc<Self>,
        inner: &mut Inner,
        scope: Scope,
        from: Revision,
        connection: Option<CancellationToken>,
    ) -> Subscription {
        let id = self.next_watcher.fetch_add(1, Ordering::Relaxed);
        let watcher = Arc::new(Watcher {
            scope,
            cursor: AtomicI64::new(from),
            waker: AtomicWaker::new(),
            cut: AtomicBool::new(false),
            connection,
        });
        inner.watchers.insert(id, watcher.clone());
        Subscription { cache: self.clone(), id, watcher }
    }

    /// What the kind's keys begin with.
    pub fn prefix(&self) -> Bytes {
        Bytes::copy_from_slice(self.resource.kind().storage_prefix.as_bytes())
    }

    async fn run(self: Arc<Self>) {
        let mut pause = RETRY_MIN;
        loop {
            let Err(error) = self.follow().await;
            match error {
                StoreError::Stopped => return,
                StoreError::SlowWatcher => pause = RETRY_MIN,
                error => {
                    let resource = self.resource.kind().plural.as_ref();
                    tracing::warn!(resource, %error, "the watch on the store was interrupted");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Fills the cache, or goes on where it stands, and follows the store until it fails.
    async fn follow(&self) -> Result<std::convert::Infallible, StoreError> {
        let prefix = self.prefix();
        let mut revision = self.inner.read().state.revision();
        if revision == 0 {
            revision = self.fill(&prefix).await?;
        }
        let request = WatchRequest {
            range_end: store_api::prefix_end(&prefix),
            key: prefix.clone(),
            start_revision: revision + 1,
            ..WatchRequest::default()
        };
        let mut watcher = match self.store.watch(request).await {
            Ok(watcher) => watcher,
            Err(error) => return Err(self.forget_if_compacted(error)),
        };
        loop {
            tokio::select! {
                response = watcher.next() => match response {
                    Ok(response) => self.take(response),
                    Err(error) => return Err(self.forget_if_compacted(error)),
                },
                () = self.progress_wanted.notified() => watcher.request_progress(),
            }
        }
    }

    /// After a compaction the changes in between cannot be told, so the cache must be filled anew.
    fn forget_if_compacted(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Compacted { .. } | StoreError::FutureRevision { .. }) {
            self.inner.write().state.replace([], 0);
        }
        error
    }

    async fn fill(&self, prefix: &Bytes) -> Result<Revision, StoreError> {
        let range_end = store_api::prefix_end(prefix);
        let mut request = RangeRequest { key: prefix.clone(), range_end, limit: PAGE, ..RangeRequest::default() };
        let mut entries = Vec::new();
        loop {
            let response = self.store.range(request.clone()).await?;
            if request.revision == 0 {
                request.revision = response.revision;
            }
            if let Some(last) = response.kvs.last() {
                request.key = [last.key.as_ref(), &[0]].concat().into();
            }
            let stored = response.kvs.into_iter();
            entries.extend(stored.map(|kv| Entry::new(kv.key, self.resource.from_stored(kv.value), kv.mod_revision)));
            if !response.more {
                break;
            }
        }
        let mut inner = self.inner.write();
        inner.state.replace(entries, request.revision);
        cut_laggards(&inner);
        drop(inner);
        self.reached.send_replace(request.revision);
        Ok(request.revision)
    }

    fn take(&self, response: WatchResponse) {
        let mut inner = self.inner.write();
        let before = inner.state.revision();
        let reached = response.revision.max(before);
        self.events_seen.fetch_add(response.events.len() as u64, Ordering::Relaxed);
        for watcher in inner.watchers.values() {
            if response.events.iter().any(|event| watcher.scope.contains(&event.kv.key)) {
                watcher.waker.wake();
            } else {
                // Nothing here concerns it, so one that had taken everything still has.
                let _ = watcher.cursor.compare_exchange(before, reached, Ordering::AcqRel, Ordering::Acquire);
            }
        }
        for event in response.events {
            let mut event = Arc::unwrap_or_clone(event);
            event.kv.value = self.resource.from_stored(event.kv.value);
            inner.state.apply(event);
        }
        inner.state.advance(reached);
        cut_laggards(&inner);
        drop(inner);
        self.reached.send_replace(reached);
    }
}

fn cut_laggards(inner: &Inner) {
    let floor = inner.state.floor();
    for watcher in inner.watchers.values() {
        if watcher.cursor.load(Ordering::Acquire) < floor && !watcher.cut.swap(true, Ordering::AcqRel) {
            watcher.waker.wake();
            if let Some(connection) = &watcher.connection {
                connection.cancel();
            }
        }
    }
}

/// One watcher's position. Dropping it ends the watch.
pub(crate) struct Subscription {
    cache: Arc<Cache>,
    id: u64,
    watcher: Arc<Watcher>,
}

impl Subscription {
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Everything up to here has been taken.
    pub fn cursor(&self) -> Revision {
        self.watcher.cursor.load(Ordering::Acquire)
    }

    /// The next changes of the scope.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        // Registered before looking, so that a change after the look wakes the task.
        self.watcher.waker.register(context.waker());
        if self.watcher.cut.load(Ordering::Acquire) {
            return Poll::Ready(Next::Cut);
        }
        let inner = self.cache.inner.read();
        let cursor = self.watcher.cursor.load(Ordering::Acquire);
        match inner.state.events_after(cursor, &self.watcher.scope, BATCH) {
            Err(TooOld { .. }) => Poll::Ready(Next::Cut),
            Ok((events, reached)) => {
                // Stored under the lock, so that the driver never sees a position that is about to change.
                self.watcher.cursor.store(reached, Ordering::Release);
                if events.is_empty() { Poll::Pending } else { Poll::Ready(Next::Events(events)) }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.inner.write().watchers.remove(&self.id);
    }
}
