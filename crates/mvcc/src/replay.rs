//! What a watcher that starts in the past has missed.

use bytes::Bytes;
use store_api::{Event, EventKind, Revision, StoreError};

use crate::{
    history::{History, Version, key_value},
    range::KeyRange,
    shelf::Shelf,
    slab::Ref,
    state::State,
};

/// Hands out a range's events from a revision on, whole revisions at a time.
#[derive(Clone, Debug)]
pub struct Replay {
    range: KeyRange,
    next: Revision,
}

impl Replay {
    pub fn new(range: KeyRange, start: Revision) -> Self {
        Replay { range, next: start }
    }

    /// The first revision not yet handed out.
    pub fn next_revision(&self) -> Revision {
        self.next
    }

    /// Events of the next revisions, from about `budget` writes visited. Afterwards [`Replay::next_revision`] says
    /// how far that was; past the state's revision, nothing is missing. Fails where the revision is compacted.
    pub fn step(&mut self, state: &State, budget: usize) -> Result<Vec<Event>, StoreError> {
        if self.next < state.compacted() {
            return Err(StoreError::Compacted { requested: self.next, compacted: state.compacted() });
        }
        if matches!(self.range.end, crate::range::RangeEnd::Single) {
            return Ok(self.single(state));
        }
        let (mut events, mut shelf) = (Vec::new(), Shelf::default());
        let first = state.changes.find((self.next, 0), |write| state.space.when(write));
        for visited in 0.. {
            let Some(write) = state.changes.get(first + visited) else { break };
            let Some(write) = write else { continue };
            let version = state.space.version(write);
            let revision = version.facts.revision;
            if visited >= budget && revision > self.next {
                self.next = revision;
                return Ok(events);
            }
            self.next = revision;
            if self.range.contains(version.key) {
                events.extend(written(state, write, &version, &mut shelf));
            }
        }
        self.next = self.next.max(state.revision() + 1);
        Ok(events)
    }

    /// One key's own history is shorter than the store's.
    fn single(&mut self, state: &State) -> Vec<Event> {
        let start = self.next;
        self.next = start.max(state.revision() + 1);
        let Some(history) = state.space.history(&self.range.start) else { return Vec::new() };
        let from = history.surviving(state.compacted()).start.max(history.up_to(start - 1));
        let mut shelf = Shelf::default();
        (from..history.len()).map(|i| event(&history, i, state.compacted(), &mut shelf)).collect()
    }
}

/// The event of a write, if a watcher may still see it.
fn written(state: &State, write: Ref, version: &Version<'_>, shelf: &mut Shelf) -> Option<Event> {
    let facts = version.facts;
    if facts.version == 1 && facts.revision > state.compacted() {
        return Some(told(version, None, shelf));
    }
    let history = state.space.history(version.key)?;
    let i = history.position(write)?;
    history.surviving(state.compacted()).contains(&i).then(|| event(&history, i, state.compacted(), shelf))
}

fn event(history: &History<'_>, i: usize, compacted: Revision, shelf: &mut Shelf) -> Event {
    let version = history.get(i);
    // The version before can still be in memory, but nobody may see what a compaction has taken.
    let seen = version.facts.revision > compacted;
    let prev = i.checked_sub(1).filter(|_| seen).map(|i| history.get(i)).filter(|v| !v.facts.tombstone);
    told(&version, prev, shelf)
}

fn told(version: &Version<'_>, prev: Option<Version<'_>>, shelf: &mut Shelf) -> Event {
    let key = shelf.copy(version.key);
    let prev_kv = prev.map(|prev| prev.with(key.clone(), shelf.value(prev.value)));
    let (kind, value) = match version.facts.tombstone {
        false => (EventKind::Put, shelf.value(version.value)),
        true => (EventKind::Delete, Bytes::new()),
    };
    Event { kind, kv: key_value(&version.facts, key, value), prev_kv }
}
