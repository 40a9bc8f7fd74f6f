//! What a watcher that starts in the past has missed.

use store_api::{Event, EventKind, KeyValue, Revision, StoreError};

use crate::{history::History, range::KeyRange, state::State};

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
        let mut events = Vec::new();
        let first = state.changes.partition_point(|c| c.revision < self.next);
        for (visited, change) in state.changes.range(first..).enumerate() {
            if visited >= budget && change.revision > self.next {
                self.next = change.revision;
                return Ok(events);
            }
            self.next = change.revision;
            if self.range.contains(&change.key)
                && let Some(history) = state.index().get(&change.key)
            {
                events.extend(event(history, change.revision, change.sub, state.compacted()));
            }
        }
        self.next = self.next.max(state.revision() + 1);
        Ok(events)
    }

    /// One key's own history is shorter than the store's.
    fn single(&mut self, state: &State) -> Vec<Event> {
        let start = self.next;
        self.next = start.max(state.revision() + 1);
        let Some(history) = state.index().get(&self.range.start) else { return Vec::new() };
        let versions = history.surviving(state.compacted()).iter().filter(|v| v.revision >= start);
        versions.filter_map(|v| event(history, v.revision, v.sub, state.compacted())).collect()
    }
}

fn event(history: &History, revision: Revision, sub: u32, compacted: Revision) -> Option<Event> {
    let (version, prev) = history.written(revision, sub)?;
    let key = history.key();
    let kv = match version.tombstone {
        false => version.to_kv(key),
        true => KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() },
    };
    // The version before can still be in memory, but nobody may see what a compaction has taken.
    let prev_kv = prev.filter(|p| !p.tombstone && revision > compacted).map(|p| p.to_kv(key));
    Some(Event { kind: if version.tombstone { EventKind::Delete } else { EventKind::Put }, kv, prev_kv })
}
