//! Hands each revision's events to the watchers that they concern.
//!
//! A watcher that starts in the past reads the history itself, a portion at a time, and is added here when it has
//! caught up; from then on events are put into its own bounded buffer. One that does not read is cut off at the bound
//! and costs nobody else anything.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use mvcc::{KeyRange, WatchIndex};
use parking_lot::{Mutex, MutexGuard};
use store_api::{Event, EventKind, Revision, WatchRequest};
use tokio::sync::Notify;

use crate::metrics::Metrics;

pub struct Hub {
    inner: Mutex<Inner>,
    /// Every event up to here is in the buffers.
    dispatched: AtomicI64,
    buffer: usize,
}

#[derive(Default)]
struct Inner {
    index: WatchIndex<u64>,
    watchers: HashMap<u64, Arc<Subscriber>>,
    last: u64,
    closed: bool,
}

/// One watcher's end of the hub.
pub struct Subscriber {
    pub range: KeyRange,
    pub prev_kv: bool,
    no_put: bool,
    no_delete: bool,
    /// The first revision wanted from the hub.
    from: AtomicI64,
    buffer: Mutex<Buffer>,
    pub woken: Notify,
    /// Somebody asked for the revision.
    pub progress: AtomicBool,
}

#[derive(Default)]
struct Buffer {
    events: VecDeque<Event>,
    end: Option<End>,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The buffer was full.
    Slow,
    /// The state was replaced; the history has what comes next.
    Jumped,
    /// The store stops.
    Closed,
}

impl Subscriber {
    pub fn new(request: &WatchRequest) -> Arc<Self> {
        Arc::new(Subscriber {
            range: KeyRange::new(&request.key, &request.range_end),
            prev_kv: request.prev_kv,
            no_put: request.no_put,
            no_delete: request.no_delete,
            from: AtomicI64::new(0),
            buffer: Mutex::default(),
            woken: Notify::new(),
            progress: AtomicBool::new(false),
        })
    }

    /// The same watcher, with nothing in its buffer yet.
    pub fn renewed(&self) -> Arc<Self> {
        Arc::new(Subscriber {
            range: self.range.clone(),
            prev_kv: self.prev_kv,
            no_put: self.no_put,
            no_delete: self.no_delete,
            from: AtomicI64::new(self.from()),
            buffer: Mutex::default(),
            woken: Notify::new(),
            progress: AtomicBool::new(self.progress.load(Ordering::Acquire)),
        })
    }

    /// The first revision wanted from the hub.
    pub fn from(&self) -> Revision {
        self.from.load(Ordering::Acquire)
    }

    /// Whether the watcher wants such events.
    pub fn wants(&self, kind: EventKind) -> bool {
        !match kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        }
    }

    /// Takes about `limit` events up to revision `upto`, whole revisions only. The flag says that none are left.
    pub fn take(&self, upto: Revision, limit: usize) -> Result<(Vec<Event>, bool), End> {
        let mut buffer = self.buffer.lock();
        if let Some(end) = buffer.end
            && buffer.events.is_empty()
        {
            return Err(end);
        }
        let mut taken: Vec<Event> = Vec::new();
        while let Some(next) = buffer.events.front() {
            let revision = next.kv.mod_revision;
            let whole = taken.last().is_none_or(|last| last.kv.mod_revision < revision);
            if revision > upto || (taken.len() >= limit && whole) {
                return Ok((taken, revision > upto));
            }
            taken.extend(buffer.events.pop_front());
        }
        if buffer.events.capacity() > 1024 {
            buffer.events = VecDeque::new();
        }
        Ok((taken, true))
    }

    /// Returns whether it was taken; not if the watcher has left older events unread up to the bound.
    fn push(&self, event: &Event, bound: usize) -> bool {
        let mut buffer = self.buffer.lock();
        let older_unread = buffer.events.front().is_some_and(|e| e.kv.mod_revision < event.kv.mod_revision);
        if buffer.events.len() >= bound && older_unread {
            buffer.events = VecDeque::new();
            buffer.end = Some(End::Slow);
            return false;
        }
        let prev_kv = if self.prev_kv { event.prev_kv.clone() } else { None };
        buffer.events.push_back(Event { kind: event.kind, kv: event.kv.clone(), prev_kv });
        true
    }
}

impl Hub {
    pub fn new(revision: Revision, buffer: usize) -> Self {
        Hub { inner: Mutex::default(), dispatched: AtomicI64::new(revision), buffer }
    }

    pub fn dispatched(&self) -> Revision {
        self.dispatched.load(Ordering::Acquire)
    }

    /// As [`Hub::dispatched`], after what is being applied: at least the revision that any reader has seen.
    pub fn settled(&self) -> Revision {
        let _inner = self.inner.lock();
        self.dispatched()
    }

    /// Begins to apply. Until [`Dispatch::finish`], nobody can subscribe or settle.
    pub fn begin(&self) -> Dispatch<'_> {
        Dispatch { hub: self, inner: self.inner.lock() }
    }

    /// Adds a watcher from the revision that `from` gives; it is asked while nothing is dispatched. `None` from it
    /// means not yet. Returns the watcher's number.
    pub fn subscribe(
        &self,
        subscriber: &Arc<Subscriber>,
        metrics: &Metrics,
        from: impl FnOnce() -> Option<Revision>,
    ) -> Option<u64> {
        let mut inner = self.inner.lock();
        subscriber.from.store(from()?, Ordering::Release);
        if inner.closed {
            subscriber.buffer.lock().end = Some(End::Closed);
        }
        inner.last += 1;
        let id = inner.last;
        inner.index.insert(&subscriber.range, id);
        inner.watchers.insert(id, subscriber.clone());
        metrics.watchers.set(inner.watchers.len() as i64);
        Some(id)
    }

    pub fn unsubscribe(&self, id: u64, metrics: &Metrics) {
        let mut inner = self.inner.lock();
        inner.remove(id);
        metrics.watchers.set(inner.watchers.len() as i64);
    }

    /// Ends all watches.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for watcher in inner.watchers.values() {
            watcher.buffer.lock().end = Some(End::Closed);
            watcher.woken.notify_one();
        }
    }
}

/// Holds the hub while a batch is applied, so that a revision is never seen before its events are on their way.
pub struct Dispatch<'a> {
    hub: &'a Hub,
    inner: MutexGuard<'a, Inner>,
}

impl Dispatch<'_> {
    /// The state was replaced by a later one, at `revision`: the watchers find in its history what they have missed.
    pub fn jump(mut self, revision: Revision) {
        let ids: Vec<u64> = self.inner.watchers.keys().copied().collect();
        for id in ids {
            if let Some(watcher) = self.inner.remove(id) {
                watcher.buffer.lock().end = Some(End::Jumped);
                watcher.woken.notify_one();
            }
        }
        self.hub.dispatched.store(revision, Ordering::Release);
    }

    /// Puts events, in order and in whole revisions, into the buffers; `revision` is the last of them.
    pub fn finish(mut self, events: &[Event], revision: Revision, metrics: &Metrics) {
        let (mut touched, mut slow) = (Vec::new(), Vec::new());
        for event in events {
            let inner = &*self.inner;
            inner.index.matching(&event.kv.key, |id| {
                let Some(watcher) = inner.watchers.get(&id) else { return };
                if event.kv.mod_revision < watcher.from.load(Ordering::Acquire) || !watcher.wants(event.kind) {
                    return;
                }
                metrics.events.inc();
                touched.push(id);
                if !watcher.push(event, self.hub.buffer) {
                    slow.push(id);
                }
            });
            for id in slow.drain(..) {
                metrics.slow_watchers.inc();
                if let Some(watcher) = self.inner.remove(id) {
                    watcher.woken.notify_one();
                }
            }
        }
        self.hub.dispatched.store(revision, Ordering::Release);
        touched.sort_unstable();
        touched.dedup();
        touched.iter().filter_map(|id| self.inner.watchers.get(id)).for_each(|w| w.woken.notify_one());
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Arc<Subscriber>> {
        let watcher = self.watchers.remove(&id)?;
        self.index.remove(&watcher.range, id);
        Some(watcher)
    }
}
