//! All keys with their versions: what is written, what is found, and what a compaction frees.

use std::collections::VecDeque;

use store_api::Revision;

use crate::{
    history::{History, Value, Version},
    index::{Builder, Index, Item, Leaves, Place},
    range::Bounds,
    record::Facts,
    slab::Ref,
    versions::Versions,
};

/// What a key costs beside its versions: its part of the index.
const KEY_COST: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Keyspace {
    index: Index,
    versions: Versions,
    /// Keys with a history, and those among them that exist.
    known: u64,
    live: u64,
}

/// What a write replaced.
pub(crate) struct Written {
    pub at: Ref,
    /// The version before, if the key existed, and its lease.
    pub replaced: Option<(Ref, store_api::LeaseId)>,
}

impl Keyspace {
    /// `Ok`: where the key stands. `Err`: where it would.
    pub fn find(&self, key: &[u8]) -> Result<Place, Place> {
        self.index.find(&self.versions, key)
    }

    pub fn history(&self, key: &[u8]) -> Option<History<'_>> {
        self.find(key).ok().map(|place| self.versions.history(self.index.get(place)))
    }

    pub fn history_of(&self, item: Item) -> History<'_> {
        self.versions.history(item)
    }

    /// Has the newest version's record brought near, to be read soon.
    pub fn warm(&self, item: Item) {
        self.versions.warm(item);
    }

    /// The newest version of a key that exists.
    pub fn live(&self, key: &[u8]) -> Option<Version<'_>> {
        self.live_at(self.find(key).ok()?)
    }

    pub fn live_at(&self, place: Place) -> Option<Version<'_>> {
        self.live_item(self.index.get(place))
    }

    pub fn live_item(&self, item: Item) -> Option<Version<'_>> {
        (!item.is_dead()).then(|| self.versions.newest(item))
    }

    pub fn version(&self, at: Ref) -> Version<'_> {
        self.versions.get(at)
    }

    /// Revision, and position among its writes.
    pub fn when(&self, at: Ref) -> (Revision, u32) {
        self.versions.when(at)
    }

    /// Items of a range, leaf by leaf, with the newest revision in the leaf.
    pub fn range(&self, bounds: Bounds<'_>) -> Leaves<'_> {
        self.index.range(&self.versions, bounds)
    }

    /// Keys that exist.
    pub fn live_keys(&self) -> u64 {
        self.live
    }

    /// Bytes that all this takes: the same for the same versions.
    pub fn cost(&self) -> u64 {
        self.versions.cost() as u64 + self.known * KEY_COST as u64
    }

    /// Bytes held, used or not.
    pub fn held(&self) -> usize {
        self.index.held() + self.versions.held()
    }

    /// Adds a version, the newest of its key; `place` is where [`Keyspace::find`] has seen the key.
    pub fn write(&mut self, place: Result<Place, Place>, key: &[u8], facts: &Facts, value: &Value<'_>) -> Written {
        let at = self.versions.add(key, facts, value);
        let mut replaced = None;
        match place {
            Ok(place) => {
                let item = self.index.get(place);
                if let Some(before) = self.live_item(item) {
                    replaced = Some((self.versions.newest_ref(item), before.facts.lease));
                }
                let item = self.versions.push(item, at);
                self.index.set(place, item, facts.revision);
            }
            Err(place) => {
                self.known += 1;
                self.index.insert(&self.versions, place, key, Item::new(at.0, facts.tombstone), facts.revision);
            }
        }
        self.live = self.live + u64::from(!facts.tombstone) - u64::from(replaced.is_some());
        Written { at, replaced }
    }

    pub fn is_sparse(&self) -> bool {
        self.versions.is_sparse()
    }

    /// Records that had better lie elsewhere, for [`Keyspace::move_record`].
    pub fn movable(&mut self, limit: usize) -> Vec<Ref> {
        self.versions.movable(limit)
    }

    /// Copies a record and makes the copy its key's. The original is there until [`Keyspace::discard`].
    pub fn move_record(&mut self, from: Ref) -> Ref {
        let to = self.versions.copy(from);
        let place = self.find(self.versions.get(from).key).expect("a version's key is in the index");
        let item = self.versions.replace(self.index.get(place), from, to);
        self.index.set(place, item, 0);
        to
    }

    pub fn discard(&mut self, from: Ref) {
        self.versions.discard(from);
    }

    /// Frees what nobody can read from `compacted` on because of one write there or before. Returns whether the
    /// write's own version is still there. Called for all such writes in order, it leaves what
    /// [`History::surviving`] shows.
    pub fn forget_before(&mut self, write: Ref, compacted: Revision) -> bool {
        let version = self.versions.get(write);
        let facts = version.facts;
        if facts.revision < compacted && facts.version == 1 {
            // It created the key: what was before went with the tombstone before.
            return true;
        }
        let place = self.index.find(&self.versions, version.key).expect("a version's key is in the index");
        let item = self.index.get(place);
        let history = self.versions.history(item);
        let at = history.position(write).expect("a version is in its key's history");
        let same = |i: usize| i < history.len() && history.get(i).facts.revision == facts.revision;
        let own = match facts.revision < compacted {
            true => facts.tombstone,
            false => same(at + 1),
        };
        match self.versions.drop_oldest(item, at + usize::from(own)) {
            Some(left) if left == item => {}
            Some(left) => self.index.set(place, left, 0),
            None => {
                self.known -= 1;
                self.index.remove(&self.versions, place);
            }
        }
        !own
    }
}

/// Builds a keyspace from keys in order.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    space: Keyspace,
    builder: Builder,
}

impl Loading {
    /// Adds a key with its versions; they were added to the [`Versions`] before, the newest last.
    pub fn push(&mut self, refs: &mut VecDeque<Ref>) -> Option<Version<'_>> {
        let newest = self.space.versions.when(*refs.back()?).0;
        let item = self.space.versions.item(refs);
        refs.clear();
        self.builder.push(&self.space.versions, item, newest);
        self.space.known += 1;
        self.space.live += u64::from(!item.is_dead());
        self.space.live_item(item)
    }

    pub fn add(&mut self, key: &[u8], facts: &Facts, value: &[u8]) -> Ref {
        self.space.versions.add(key, facts, &Value::Inline(value))
    }

    pub fn finish(mut self) -> Keyspace {
        self.space.index = self.builder.finish(&self.space.versions);
        self.space
    }
}
