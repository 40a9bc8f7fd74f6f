//! One member's watches: what is applied goes to those who watch it; whoever starts in the past reads the history first.

use std::collections::BTreeMap;

use bytes::Bytes;
use mvcc::{KeyRange, Replay, State, WatchIndex};
use replica::Machine;
use store_api::{Event, Revision, StoreError};

/// What a watch is told.
#[derive(Clone, Debug)]
pub enum Pushed {
    Created(Revision),
    Events(Vec<Event>, Revision),
    /// Everything up to this revision was told.
    Bookmark(Revision),
    /// What it wants is compacted; the first revision that is not.
    Compacted(Revision),
}

struct Watching {
    range: KeyRange,
    key: Bytes,
    end: Bytes,
    /// The first revision that was not told.
    next: Revision,
}

#[derive(Default)]
pub struct Watches {
    all: BTreeMap<u64, Watching>,
    index: WatchIndex<u64>,
}

/// Writes that are visited at once by a watch that catches up.
const REPLAY: usize = 64;

impl Watches {
    /// Begins a watch; 0 starts after what there is.
    pub fn begin(&mut self, id: u64, key: &Bytes, end: &Bytes, start: Revision, state: &State) -> Vec<(u64, Pushed)> {
        let next = if start > 0 { start } else { state.revision() + 1 };
        let range = KeyRange::new(key, end);
        let mut out = vec![(id, Pushed::Created(state.revision()))];
        self.index.insert(&range, id);
        self.all.insert(id, Watching { range, key: key.clone(), end: end.clone(), next });
        self.catch_up(id, state, &mut out);
        out
    }

    pub fn end(&mut self, id: u64) {
        if let Some(watching) = self.all.remove(&id) {
            self.index.remove(&watching.range, id);
        }
    }

    /// Tells everybody how far they are.
    pub fn bookmarks(&self, state: &State) -> Vec<(u64, Pushed)> {
        let told = self.all.iter().filter(|(_, w)| w.next == state.revision() + 1);
        told.map(|(id, _)| (*id, Pushed::Bookmark(state.revision()))).collect()
    }

    /// Events that were just applied, in whole revisions.
    pub fn dispatch(&mut self, events: &[Event], revision: Revision) -> Vec<(u64, Pushed)> {
        let mut found: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            self.index.matching(&event.kv.key, |id| {
                if self.all.get(&id).is_some_and(|w| event.kv.mod_revision >= w.next) {
                    found.entry(id).or_default().push(event.clone());
                }
            });
        }
        self.all.values_mut().for_each(|w| w.next = w.next.max(revision + 1));
        found.into_iter().map(|(id, events)| (id, Pushed::Events(events, revision))).collect()
    }

    /// The state was replaced by a later one, in which keys may be kept by another group.
    pub fn jump(&mut self, machine: &Machine) -> Vec<(u64, Pushed)> {
        let here = |w: &Watching| machine.shards.readable(&w.key, &w.end).is_ok_and(|since| since <= w.next);
        let mut out = self.end_where(|w| !here(w), machine.kv.revision());
        let ids: Vec<u64> = self.all.keys().copied().collect();
        ids.into_iter().for_each(|id| self.catch_up(id, &machine.kv, &mut out));
        out
    }

    /// The keys of a prefix are kept by another group.
    pub fn release(&mut self, prefix: &[u8], revision: Revision) -> Vec<(u64, Pushed)> {
        self.end_where(|w| w.range.meets(prefix), revision)
    }

    fn end_where(&mut self, which: impl Fn(&Watching) -> bool, revision: Revision) -> Vec<(u64, Pushed)> {
        let ids: Vec<u64> = self.all.iter().filter(|(_, w)| which(w)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.end(*id));
        ids.into_iter().map(|id| (id, Pushed::Compacted(revision))).collect()
    }

    fn catch_up(&mut self, id: u64, state: &State, out: &mut Vec<(u64, Pushed)>) {
        let Some(watching) = self.all.get_mut(&id) else { return };
        let mut replay = Replay::new(watching.range.clone(), watching.next);
        while replay.next_revision() <= state.revision() {
            match replay.step(state, REPLAY) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => out.push((id, Pushed::Events(events, state.revision()))),
                Err(StoreError::Compacted { compacted, .. }) => {
                    out.push((id, Pushed::Compacted(compacted)));
                    return self.end(id);
                }
                Err(_) => return self.end(id),
            }
        }
        watching.next = watching.next.max(replay.next_revision());
    }
}
