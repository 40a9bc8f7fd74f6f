//! Where versions are kept: records in a slab, large values beside it, and for a key with several versions the list
//! of them.

use std::collections::VecDeque;

use bytes::Bytes;
use store_api::Revision;

use crate::{
    history::{History, Refs, Value, Version},
    index::{Item, Keys},
    record::{Facts, INLINE, Kept, Record},
    slab::{REF_BITS, Ref, Slab},
    slots::Slots,
};

/// The item's number is that of a list, not of a record.
const LIST: u32 = 1 << REF_BITS;
/// Bytes of a line of a cache.
const LINE: usize = 64;
/// What a large value costs beside its bytes, a version beside its record, a list beside its versions.
const BESIDE_COST: usize = size_of::<Bytes>() + 8;
const VERSION_COST: usize = size_of::<Ref>();
const LIST_COST: usize = size_of::<VecDeque<Ref>>() + 8;

#[derive(Debug, Default)]
pub(crate) struct Versions {
    slab: Slab,
    beside: Slots<Bytes>,
    /// Versions of the keys that have more than one, oldest first.
    lists: Slots<VecDeque<Ref>>,
    /// What all this costs: it depends on the versions alone, not on where they came to lie.
    cost: usize,
    scratch: Vec<u8>,
}

impl Versions {
    /// Keeps a version. A value that is too large for the record is shared with the caller.
    pub fn add(&mut self, key: &[u8], facts: &Facts, value: &Value<'_>) -> Ref {
        let value = match value.bytes() {
            inline if inline.len() <= INLINE => Kept::Inline(inline),
            large => Kept::Beside(self.beside.insert(match value {
                Value::Shared(shared) => (*shared).clone(),
                Value::Inline(_) => Bytes::copy_from_slice(large),
            })),
        };
        self.scratch.clear();
        Record { key, facts: *facts, value }.write(&mut self.scratch);
        let at = self.slab.insert(&self.scratch);
        if self.scratch.capacity() > 4 * INLINE {
            self.scratch = Vec::new();
        }
        self.cost += self.cost_of(at);
        at
    }

    pub fn remove(&mut self, at: Ref) {
        self.cost -= self.cost_of(at);
        if let Kept::Beside(number) = Record::read(self.slab.get(at)).value {
            self.beside.remove(number);
        }
        self.slab.remove(at);
    }

    pub fn get(&self, at: Ref) -> Version<'_> {
        let Record { key, facts, value } = Record::read(self.slab.get(at));
        let value = match value {
            Kept::Inline(value) => Value::Inline(value),
            Kept::Beside(number) => Value::Shared(self.beside.get(number)),
        };
        Version { key, facts, value }
    }

    /// Revision and position in it.
    pub fn when(&self, at: Ref) -> (Revision, u32) {
        let facts = Record::read(self.slab.get(at)).facts;
        (facts.revision, facts.sub)
    }

    pub fn history(&self, item: Item) -> History<'_> {
        let refs = match list(item) {
            None => Refs::One(Ref(item.at())),
            Some(list) => Refs::Many(self.lists.get(list)),
        };
        History { versions: self, refs }
    }

    pub fn newest_ref(&self, item: Item) -> Ref {
        match list(item) {
            None => Ref(item.at()),
            Some(list) => *self.lists.get(list).back().expect("a list is never empty"),
        }
    }

    /// Has the newest record brought near: one byte of every line of a cache is looked at, for nothing.
    pub fn warm(&self, item: Item) {
        if list(item).is_none() {
            let slot = self.slab.get(Ref(item.at()));
            std::hint::black_box(slot.iter().step_by(LINE).fold(0u8, |sum, byte| sum ^ byte));
        }
    }

    pub fn newest(&self, item: Item) -> Version<'_> {
        self.get(self.newest_ref(item))
    }

    /// The item of a key whose versions these are, the newest last.
    pub fn item(&mut self, refs: &VecDeque<Ref>) -> Item {
        let newest = *refs.back().expect("a key has a version");
        let dead = self.get(newest).facts.tombstone;
        if refs.len() == 1 {
            return Item::new(newest.0, dead);
        }
        self.cost += LIST_COST + refs.len() * size_of::<Ref>();
        Item::new(self.lists.insert(refs.clone()) | LIST, dead)
    }

    /// The item of a key that has one version more.
    pub fn push(&mut self, item: Item, newest: Ref) -> Item {
        let Some(number) = list(item) else {
            return self.item(&VecDeque::from([Ref(item.at()), newest]));
        };
        let list = self.lists.get_mut(number);
        if list.len() == list.capacity() {
            list.reserve_exact(2.max(list.len() / 8));
        }
        list.push_back(newest);
        self.cost += size_of::<Ref>();
        Item::new(number | LIST, self.get(newest).facts.tombstone)
    }

    /// Frees a key's oldest versions; the item afterwards, if any version is left.
    pub fn drop_oldest(&mut self, item: Item, gone: usize) -> Option<Item> {
        let Some(number) = list(item) else {
            if gone == 0 {
                return Some(item);
            }
            self.remove(Ref(item.at()));
            return None;
        };
        for _ in 0..gone {
            let list = self.lists.get_mut(number);
            let oldest = list.pop_front();
            if list.len() < list.capacity() / 4 {
                list.shrink_to(list.len() * 2);
            }
            oldest.into_iter().for_each(|oldest| self.remove(oldest));
            self.cost -= size_of::<Ref>();
        }
        match self.lists.get(number).len() {
            2.. => return Some(item),
            _ => self.cost -= LIST_COST,
        }
        let last = self.lists.remove(number).pop_front()?;
        self.cost -= size_of::<Ref>();
        Some(Item::new(last.0, item.is_dead()))
    }

    /// Records that had better lie elsewhere, for [`Versions::copy`].
    pub fn movable(&mut self, limit: usize) -> Vec<Ref> {
        self.slab.movable(limit)
    }

    pub fn is_sparse(&self) -> bool {
        self.slab.is_sparse()
    }

    /// Copies a record, for [`Versions::replace`].
    pub fn copy(&mut self, from: Ref) -> Ref {
        self.scratch.clear();
        self.scratch.extend_from_slice(self.slab.get(from));
        self.slab.insert(&self.scratch)
    }

    /// Makes a copy a key's version instead of the original; the item afterwards.
    pub fn replace(&mut self, item: Item, from: Ref, to: Ref) -> Item {
        let Some(number) = list(item) else { return Item::new(to.0, item.is_dead()) };
        if let Some(at) = self.history(item).position(from) {
            self.lists.get_mut(number)[at] = to;
        }
        item
    }

    /// Frees the original of a copy.
    pub fn discard(&mut self, from: Ref) {
        self.slab.remove(from);
    }

    /// Bytes that the versions take: the same for the same versions, however they came to be.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Bytes held, used or not.
    pub fn held(&self) -> usize {
        let lists: usize = self.lists.iter().map(|l| l.capacity() * size_of::<Ref>()).sum();
        let beside: usize = self.beside.iter().map(Bytes::len).sum();
        self.slab.held() + self.lists.held() + self.beside.held() + lists + beside
    }

    fn cost_of(&self, at: Ref) -> usize {
        let slot = self.slab.get(at);
        let beside = match Record::read(slot).value {
            Kept::Inline(_) => 0,
            Kept::Beside(number) => self.beside.get(number).len() + BESIDE_COST,
        };
        slot.len() + VERSION_COST + beside
    }
}

impl Keys for Versions {
    fn key(&self, item: Item) -> &[u8] {
        Record::key(self.slab.get(self.newest_ref(item)))
    }
}

fn list(item: Item) -> Option<u32> {
    (item.at() & LIST != 0).then(|| item.at() & !LIST)
}
