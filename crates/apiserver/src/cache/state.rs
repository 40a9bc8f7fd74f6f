//! The current objects of one kind and its latest changes: pure data, changed by store events only.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use store_api::{EventKind, Revision};

use super::entry::{Change, Entry, Event};

/// Changes kept for watchers that resume; older ones make a watcher list again.
pub(crate) const MAX_EVENTS: usize = 8192;
/// Bytes of objects kept alive by those changes.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 20;

/// What keys a reader is interested in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All keys that begin so.
    Prefix(Bytes),
    One(Bytes),
}

impl Scope {
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Scope::Prefix(prefix) => key.starts_with(prefix),
            Scope::One(one) => key == one,
        }
    }
}

/// The revision asked for is older than the oldest change kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    pub oldest: Revision,
}

#[derive(Default)]
pub(crate) struct State {
    objects: BTreeMap<Bytes, Arc<Entry>>,
    /// Every change up to here is in.
    revision: Revision,
    events: VecDeque<Arc<Event>>,
    event_bytes: usize,
    /// Every change after this revision is among the events.
    floor: Revision,
}

impl State {
    /// Starts again from a full list.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = Entry>, revision: Revision) {
        self.objects = entries.into_iter().map(|entry| (entry.key.clone(), Arc::new(entry))).collect();
        self.revision = revision;
        self.events.clear();
        self.event_bytes = 0;
        self.floor = revision;
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn floor(&self) -> Revision {
        self.floor
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Takes in one event of the store. The caller then tells the revision reached with [`State::advance`].
    pub fn apply(&mut self, event: store_api::Event) {
        let revision = event.kv.mod_revision;
        let change = match event.kind {
            EventKind::Put => {
                let entry = Arc::new(Entry::new(event.kv.key.clone(), event.kv.value, revision));
                let before = self.objects.insert(event.kv.key, entry.clone());
                let change = if before.is_some() { Change::Modified } else { Change::Added };
                Event::new(change, revision, entry, before)
            }
            EventKind::Delete => {
                // A key that was not there is no change to anyone.
                let Some(before) = self.objects.remove(&event.kv.key) else { return };
                Event::new(Change::Deleted, revision, before.clone(), Some(before))
            }
        };
        self.event_bytes += change.weight();
        self.events.push_back(Arc::new(change));
    }

    /// All changes up to `revision` have been applied. Forgets what is over the bounds.
    pub fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
        while self.events.len() > MAX_EVENTS || self.event_bytes > MAX_EVENT_BYTES {
            let Some(gone) = self.events.pop_front() else { break };
            self.event_bytes -= gone.weight();
            self.floor = gone.revision;
            // A revision is kept whole or not at all.
            while self.events.front().is_some_and(|next| next.revision == gone.revision) {
                self.event_bytes -= self.events.pop_front().map_or(0, |event| event.weight());
            }
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.objects.get(key)
    }

    /// The objects of a scope in the order of their keys, beginning at `from` when it is given.
    pub fn range<'a>(&'a self, scope: &'a Scope, from: Option<&[u8]>) -> impl Iterator<Item = &'a Arc<Entry>> + 'a {
        let start = match scope {
            Scope::Prefix(prefix) => prefix,
            Scope::One(key) => key,
        };
        let start = match from {
            Some(from) if from > start.as_ref() => Bytes::copy_from_slice(from),
            _ => start.clone(),
        };
        self.objects
            .range::<Bytes, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| scope.contains(key))
            .map(|(_, entry)| entry)
    }

    /// Changes of a scope after `cursor`, at most about `limit` of them but whole revisions, and the revision up to
    /// which they reach.
    pub fn events_after(
        &self,
        cursor: Revision,
        scope: &Scope,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, Revision), TooOld> {
        if cursor < self.floor {
            return Err(TooOld { oldest: self.floor });
        }
        let from = self.events.partition_point(|event| event.revision <= cursor);
        let mut found: Vec<Arc<Event>> = Vec::new();
        for event in self.events.range(from..) {
            if found.len() >= limit && found.last().is_some_and(|last| last.revision < event.revision) {
                let reached = found.last().map_or(cursor, |last| last.revision);
                return Ok((found, reached));
            }
            if scope.contains(&event.entry.key) {
                found.push(event.clone());
            }
        }
        Ok((found, self.revision.max(cursor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::KeyValue;

    fn put(state: &mut State, key: &'static str, revision: Revision) {
        let kv = KeyValue { key: key.into(), value: "{}".into(), mod_revision: revision, ..KeyValue::default() };
        state.apply(store_api::Event { kind: EventKind::Put, kv, prev_kv: None });
        state.advance(revision);
    }

    fn delete(state: &mut State, key: &'static str, revision: Revision) {
        let kv = KeyValue { key: key.into(), mod_revision: revision, ..KeyValue::default() };
        state.apply(store_api::Event { kind: EventKind::Delete, kv, prev_kv: None });
        state.advance(revision);
    }

    fn seen(state: &State, cursor: Revision, scope: &Scope, limit: usize) -> String {
        match state.events_after(cursor, scope, limit) {
            Err(TooOld { oldest }) => format!("too old, oldest {oldest}"),
            Ok((events, reached)) => {
                let mut text: Vec<String> = events
                    .iter()
                    .map(|e| format!("{}:{}@{}", e.change.text(), String::from_utf8_lossy(&e.entry.key), e.revision))
                    .collect();
                text.push(format!("to {reached}"));
                text.join(" ")
            }
        }
    }

    #[test]
    fn a_reader_resumes_where_it_stood() {
        let mut state = State::default();
        state.replace([Entry::new("/p/a/1".into(), "{}".into(), 3)], 5);
        put(&mut state, "/p/a/1", 6);
        put(&mut state, "/p/b/1", 7);
        delete(&mut state, "/p/a/1", 8);
        delete(&mut state, "/p/a/none", 9);
        let all = Scope::Prefix("/p/".into());
        assert_eq!(seen(&state, 4, &all, 9), "too old, oldest 5");
        assert_eq!(seen(&state, 5, &all, 9), "MODIFIED:/p/a/1@6 ADDED:/p/b/1@7 DELETED:/p/a/1@8 to 9");
        assert_eq!(seen(&state, 5, &all, 1), "MODIFIED:/p/a/1@6 to 6");
        assert_eq!(seen(&state, 5, &Scope::Prefix("/p/b/".into()), 9), "ADDED:/p/b/1@7 to 9");
        assert_eq!(seen(&state, 6, &Scope::One("/p/a/1".into()), 9), "DELETED:/p/a/1@8 to 9");
        assert_eq!(seen(&state, 20, &all, 9), "to 20");
        assert_eq!(state.range(&all, None).count(), 1);
    }

    #[test]
    fn the_oldest_changes_go_first_and_the_floor_follows() {
        let mut state = State::default();
        for revision in 1..=(MAX_EVENTS as i64 + 10) {
            put(&mut state, "/p/x", revision);
        }
        assert_eq!(state.floor(), 10);
        assert_eq!(state.events_after(10, &Scope::One("/p/x".into()), usize::MAX).unwrap().0.len(), MAX_EVENTS);
        assert!(state.events_after(9, &Scope::One("/p/x".into()), 1).is_err());
    }
}
