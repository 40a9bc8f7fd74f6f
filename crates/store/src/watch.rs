//! A running watch: first the history, then what the hub has put aside.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use mvcc::{KeyRange, RangeEnd, Replay};
use store_api::{Revision, StoreError, WatchRequest, WatchResponse, Watcher};

use replica::{GroupId, Machine};

use crate::{
    hub::{End, Subscriber},
    shared::{Group, Shared},
};

/// Writes of the history that one step visits.
const REPLAY_STEP: usize = 1024;
/// Events of one response, about: revisions are not split.
const RESPONSE_EVENTS: usize = 1024;

pub struct StoreWatcher {
    shared: Arc<Shared>,
    group: GroupId,
    me: Arc<Subscriber>,
    source: Source,
    /// Everything up to here was delivered.
    seen: Revision,
    progress_notify: bool,
}

enum Source {
    /// Until the history is read to its end.
    History(Replay),
    /// The hub's, under this number, until the watcher is dropped.
    Hub(u64),
}

impl StoreWatcher {
    /// Fails where the start is compacted.
    pub fn start(shared: Arc<Shared>, group: GroupId, request: &WatchRequest) -> Result<Self, StoreError> {
        let me = Subscriber::new(request);
        let start = request.start_revision;
        let (mut compacted, mut moving) = (0, None);
        let home = shared.group(group);
        let subscribed = home.hub.subscribe(&me, &shared.metrics, || {
            let machine = home.machine.read();
            let since = machine.shards.readable(&request.key, &request.range_end);
            compacted = machine.kv.compacted().max(*since.as_ref().unwrap_or(&0));
            moving = since.err();
            if moving.is_some() {
                return None;
            }
            let next = machine.kv.revision() + 1;
            (start <= 0 || start >= next).then_some(if start <= 0 { next } else { start })
        });
        let source = match subscribed {
            Some(id) => Source::Hub(id),
            None if moving.is_some() => return Err(moving.unwrap_or(StoreError::SlowWatcher)),
            None if start < compacted => return Err(StoreError::Compacted { requested: start, compacted }),
            None => Source::History(Replay::new(me.range.clone(), start)),
        };
        let progress_notify = request.progress_notify;
        Ok(StoreWatcher { shared, group, me, source, seen: 0, progress_notify })
    }

    fn home(&self) -> &Group {
        self.shared.group(self.group)
    }

    /// The next events of the history; moves over to the hub at its end.
    fn replay(&mut self) -> Result<Option<WatchResponse>, StoreError> {
        let Source::History(replay) = &mut self.source else { return Ok(None) };
        runtime::failpoint!("beforeSyncWatchers");
        let home = self.shared.group(self.group);
        let mut events = {
            let machine = home.machine.read();
            still_here(&machine, &self.me.range, replay.next_revision())?;
            replay.step(&machine.kv, REPLAY_STEP)?
        };
        let next = replay.next_revision();
        self.seen = next - 1;
        let subscribed = home
            .hub
            .subscribe(&self.me, &self.shared.metrics, || (next > home.machine.read().kv.revision()).then_some(next));
        if let Some(id) = subscribed {
            self.source = Source::Hub(id);
        }
        events.retain(|e| self.me.wants(e.kind));
        if !self.me.prev_kv {
            events.iter_mut().for_each(|e| e.prev_kv = None);
        }
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        Ok((!events.is_empty()).then_some(WatchResponse { revision: self.seen, events }))
    }

    /// What the hub has now.
    fn poll(&mut self) -> Result<Option<WatchResponse>, StoreError> {
        // Who asks has maybe seen a revision that is just being applied, and wants to hear of that one.
        let asked = self.me.progress.swap(false, Ordering::AcqRel);
        let dispatched = if asked { self.home().hub.settled() } else { self.home().hub.dispatched() };
        let (events, all) = match self.me.take(dispatched, RESPONSE_EVENTS) {
            Ok(taken) => taken,
            Err(End::Slow) => return Err(StoreError::SlowWatcher),
            Err(End::Closed) => return Err(StoreError::Stopped),
            Err(End::Moved) => return Err(moved(self.seen + 1, &self.home().machine.read())),
            Err(End::Jumped) => {
                self.me = self.me.renewed();
                let next = self.seen.max(self.me.from() - 1) + 1;
                self.source = Source::History(Replay::new(self.me.range.clone(), next));
                return Ok(None);
            }
        };
        let last = events.last().map_or(0, |e| e.kv.mod_revision);
        self.seen = self.seen.max(if all { dispatched } else { last });
        let settled = asked && all && events.is_empty();
        if asked && !settled {
            // The answer to the question has no events, and comes after those that wait.
            self.me.progress.store(true, Ordering::Release);
        }
        Ok((settled || !events.is_empty()).then_some(WatchResponse { revision: self.seen, events }))
    }
}

/// Refuses to read on in a history that another group continues.
fn still_here(machine: &Machine, range: &KeyRange, next: Revision) -> Result<(), StoreError> {
    let end = match &range.end {
        RangeEnd::Single => &[][..],
        RangeEnd::Below(end) => end,
        RangeEnd::Open => &[0],
    };
    match machine.shards.readable(&range.start, end) {
        Ok(since) if since <= next => Ok(()),
        _ => Err(moved(next, machine)),
    }
}

/// What is told where the keys have moved to another group: as after a compaction, everything must be read anew.
fn moved(next: Revision, machine: &Machine) -> StoreError {
    StoreError::Compacted { requested: next, compacted: machine.kv.revision().max(next) }
}

#[async_trait]
impl Watcher for StoreWatcher {
    async fn next(&mut self) -> Result<WatchResponse, StoreError> {
        let interval = self.shared.progress_interval;
        loop {
            while matches!(self.source, Source::History(_)) {
                if let Some(response) = self.replay()? {
                    return Ok(response);
                }
                tokio::task::yield_now().await;
            }
            // What the client was too slow for stays in the buffer; here it is tried again.
            runtime::failpoint!(async "beforeMoveVictims");
            if self.me.progress.load(Ordering::Acquire) {
                runtime::failpoint!(async "beforeProgressIfSync");
            }
            if let Some(response) = self.poll()? {
                return Ok(response);
            }
            if matches!(self.source, Source::History(_)) {
                continue;
            }
            // A wake-up between the poll and here is kept by the Notify.
            if !self.progress_notify {
                self.me.woken.notified().await;
            } else if tokio::time::timeout(interval, self.me.woken.notified()).await.is_err() {
                self.me.progress.store(true, Ordering::Release);
            }
        }
    }

    fn request_progress(&self) {
        self.me.progress.store(true, Ordering::Release);
        self.me.woken.notify_one();
    }
}

impl Drop for StoreWatcher {
    fn drop(&mut self) {
        if let Source::Hub(id) = self.source {
            self.home().hub.unsubscribe(id, &self.shared.metrics);
        }
    }
}
