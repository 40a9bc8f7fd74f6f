//! Hands each revision's events to the watchers that they concern.
//!
//! A watcher that starts in the past reads the history itself, a portion at a time, and is added here when it has
//! caught up; from then on events are put into its own bounded buffer. One that does not read is cut off at the bound
//! and costs nobody else anything. All watchers of an event share the one in memory: whoever encodes it can tell by
//! its address that it did so already.

use std::{
    collections::VecDeque,
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
    watchers: Watchers,
    /// Dispatches so far.
    dispatches: u64,
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
    events: VecDeque<Arc<Event>>,
    end: Option<End>,
    /// The last dispatch that had something for this watcher.
    dispatch: u64,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The buffer was full.
    Slow,
    /// The state was replaced; the history has what comes next.
    Jumped,
    /// Another group keeps some of the keys now.
    Moved,
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

    /// Takes about `limit` events up to revision `upto`, whole revisions only. The flag says that nothing is missing up to
    /// there: none are left, and the subscription is not over, after which events may have gone elsewhere.
    pub fn take(&self, upto: Revision, limit: usize) -> Result<(Vec<Arc<Event>>, bool), End> {
        let mut buffer = self.buffer.lock();
        if let Some(end) = buffer.end
            && buffer.events.is_empty()
        {
            return Err(end);
        }
        let mut taken: Vec<Arc<Event>> = Vec::new();
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
        Ok((taken, buffer.end.is_none()))
    }

    fn push(&self, event: &Shared, dispatch: u64, bound: usize) -> Pushed {
        let shared = if self.prev_kv { &event.whole } else { &event.plain };
        let mut buffer = self.buffer.lock();
        let older_unread = || buffer.events.front().is_some_and(|e| e.kv.mod_revision < shared.kv.mod_revision);
        if buffer.events.len() >= bound && older_unread() {
            buffer.events = VecDeque::new();
            buffer.end = Some(End::Slow);
            return Pushed::Slow;
        }
        buffer.events.push_back(shared.clone());
        let before = std::mem::replace(&mut buffer.dispatch, dispatch);
        if before == dispatch { Pushed::Again } else { Pushed::First }
    }
}

/// What became of an event that was put into a buffer.
enum Pushed {
    /// The first one of this dispatch.
    First,
    Again,
    /// It was not taken: the watcher has left older events unread up to the bound.
    Slow,
}

/// An event as those see it who want the value before, and as others do.
struct Shared {
    whole: Arc<Event>,
    plain: Arc<Event>,
}

impl Shared {
    fn new(event: Event) -> Self {
        let whole = Arc::new(event);
        let plain = match &whole.prev_kv {
            None => whole.clone(),
            Some(_) => Arc::new(Event { kind: whole.kind, kv: whole.kv.clone(), prev_kv: None }),
        };
        Shared { whole, plain }
    }
}

/// Watchers by number. A number's lower half is a place, the upper half says the how manieth watcher there: so the
/// number of one that is gone finds nobody.
#[derive(Default)]
struct Watchers {
    places: Vec<(u32, Option<Arc<Subscriber>>)>,
    free: Vec<u32>,
}

impl Watchers {
    fn insert(&mut self, watcher: Arc<Subscriber>) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("memory ends before 2^32 watchers")
        });
        let (turn, there) = &mut self.places[place as usize];
        *turn = turn.wrapping_add(1);
        *there = Some(watcher);
        u64::from(*turn) << 32 | u64::from(place)
    }

    fn get(&self, id: u64) -> Option<&Arc<Subscriber>> {
        let (turn, there) = self.places.get(id as u32 as usize)?;
        there.as_ref().filter(|_| u64::from(*turn) == id >> 32)
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Subscriber>> {
        self.get(id)?;
        self.free.push(id as u32);
        self.places[id as u32 as usize].1.take()
    }

    fn ids(&self) -> Vec<u64> {
        let there = self.places.iter().enumerate().filter(|(_, (_, watcher))| watcher.is_some());
        there.map(|(place, (turn, _))| u64::from(*turn) << 32 | place as u64).collect()
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.places.iter().filter_map(|(_, there)| there.as_ref())
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
        let id = inner.watchers.insert(subscriber.clone());
        inner.index.insert(&subscriber.range, id);
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
        for watcher in inner.watchers.iter() {
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
        for id in self.inner.watchers.ids() {
            if let Some(watcher) = self.inner.remove(id) {
                watcher.buffer.lock().end = Some(End::Jumped);
                watcher.woken.notify_one();
            }
        }
        self.hub.dispatched.store(revision, Ordering::Release);
    }

    /// The keys of a prefix are kept by another group: whoever watches any of them hears that, after what waits for it.
    pub fn release(&mut self, prefix: &[u8]) {
        for id in self.inner.watchers.ids() {
            if self.inner.watchers.get(id).is_some_and(|watcher| watcher.range.meets(prefix))
                && let Some(watcher) = self.inner.remove(id)
            {
                watcher.buffer.lock().end = Some(End::Moved);
                watcher.woken.notify_one();
            }
        }
    }

    /// Puts events, in order and in whole revisions, into the buffers; `revision` is the last of them.
    pub fn finish(mut self, events: Vec<Event>, revision: Revision, metrics: &Metrics) {
        let (mut touched, mut slow, mut sent) = (Vec::new(), Vec::new(), 0);
        self.inner.dispatches += 1;
        for event in events {
            let inner = &*self.inner;
            // Shared when somebody wants it.
            let mut shared = None;
            inner.index.matching(&event.kv.key, |id| {
                let Some(watcher) = inner.watchers.get(id) else { return };
                if event.kv.mod_revision < watcher.from.load(Ordering::Acquire) || !watcher.wants(event.kind) {
                    return;
                }
                sent += 1;
                let event = shared.get_or_insert_with(|| Shared::new(event.clone()));
                match watcher.push(event, inner.dispatches, self.hub.buffer) {
                    Pushed::First => touched.push(id),
                    Pushed::Again => {}
                    Pushed::Slow => slow.push(id),
                }
            });
            for id in slow.drain(..) {
                metrics.slow_watchers.inc();
                if let Some(watcher) = self.inner.remove(id) {
                    watcher.woken.notify_one();
                }
            }
        }
        metrics.events.inc_by(sent);
        self.hub.dispatched.store(revision, Ordering::Release);
        touched.iter().filter_map(|id| self.inner.watchers.get(*id)).for_each(|w| w.woken.notify_one());
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Arc<Subscriber>> {
        let watcher = self.watchers.remove(id)?;
        self.index.remove(&watcher.range, id);
        Some(watcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::KeyValue;

    fn put(revision: Revision) -> Event {
        let kv = KeyValue { key: "a".into(), mod_revision: revision, ..Default::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    }

    #[test]
    fn what_waited_when_the_state_was_replaced_is_not_taken_for_all_there_was() {
        let (hub, metrics) = (Hub::new(1, 100), Metrics::default());
        let me = Subscriber::new(&WatchRequest { key: "a".into(), ..Default::default() });
        assert!(hub.subscribe(&me, &metrics, || Some(2)).is_some());
        hub.begin().finish(vec![put(2)], 2, &metrics);
        hub.begin().finish(vec![put(3)], 3, &metrics);
        // Revisions 4 to 9 are in the history that came with the new state.
        hub.begin().jump(9);
        let (events, all) = me.take(hub.dispatched(), 100).unwrap();
        assert_eq!((events.last().map(|e| e.kv.mod_revision), all), (Some(3), false));
        assert_eq!(me.take(hub.dispatched(), 100).unwrap_err(), End::Jumped);
    }

    #[test]
    fn who_has_taken_everything_is_told_so() {
        let (hub, metrics) = (Hub::new(1, 100), Metrics::default());
        let me = Subscriber::new(&WatchRequest { key: "a".into(), ..Default::default() });
        assert!(hub.subscribe(&me, &metrics, || Some(2)).is_some());
        hub.begin().finish(vec![put(2), put(2), put(3)], 3, &metrics);
        let taken = |limit| me.take(hub.dispatched(), limit).map(|(events, all)| (events.len(), all));
        assert_eq!((taken(1), taken(1), taken(1)), (Ok((2, false)), Ok((1, true)), Ok((0, true))));
    }
}
