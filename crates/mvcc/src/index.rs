//! The keys in order: a tree of fixed depth whose leaves hold an item per key, four bytes, and four of the key.
//!
//! ```text
//!   firsts ──▶ chunk: separators ──▶ leaf: heads, items ──▶ (elsewhere) the record with the key
//! ```
//!
//! Keys stand in their records only and are asked for through [`Keys`]. A leaf knows the newest revision in it, so
//! that a reader at that revision or a later one can count keys without a look at their histories.

use std::ops::Bound;

use store_api::Revision;

use crate::{
    heads::{Heads, release, reserve, shared},
    range::Bounds,
};

/// Keys of a leaf, and leaves of a chunk, at most.
const LEAF: usize = if cfg!(test) { 16 } else { 256 };
const CHUNK: usize = if cfg!(test) { 4 } else { 128 };
/// Keys of a leaf that is built from sorted keys: the next writes find room.
const BUILT: usize = LEAF * 3 / 4;
/// A leaf with fewer keys looks for a neighbour to join.
const SPARSE: usize = LEAF / 8;

/// What a key's entry says: where its versions are, and whether the newest is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item(pub u32);

/// The newest version is a tombstone.
const DEAD: u32 = 1 << 31;

impl Item {
    pub fn new(at: u32, dead: bool) -> Self {
        Item(at | if dead { DEAD } else { 0 })
    }

    pub fn at(self) -> u32 {
        self.0 & !DEAD
    }

    pub fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }
}

/// Who knows the keys.
pub(crate) trait Keys {
    fn key(&self, item: Item) -> &[u8];
}

#[derive(Debug)]
pub(crate) struct Index {
    /// The lower bound of each chunk; the first one's counts as the least of all.
    firsts: Vec<Box<[u8]>>,
    /// Never empty.
    chunks: Vec<Chunk>,
}

/// Never without a leaf.
#[derive(Debug, Default)]
struct Chunk {
    heads: Heads<()>,
    /// The lower bound of each leaf.
    separators: Vec<Box<[u8]>>,
    leaves: Vec<Leaf>,
}

#[derive(Debug, Default)]
struct Leaf {
    heads: Heads<Item>,
    newest: Revision,
}

/// Where a key stands or would stand; good until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    chunk: usize,
    leaf: usize,
    slot: usize,
}

impl Default for Index {
    fn default() -> Self {
        Index { firsts: vec![Box::default()], chunks: vec![Chunk::one(Leaf::default(), Box::default())] }
    }
}

impl Index {
    /// `Ok`: where `key` stands. `Err`: where it would.
    pub fn find(&self, keys: &impl Keys, key: &[u8]) -> Result<Place, Place> {
        let chunk = self.firsts.partition_point(|first| &first[..] <= key).saturating_sub(1);
        let c = &self.chunks[chunk];
        let leaf = match c.heads.search(key, |i, ()| &c.separators[i]) {
            Ok(leaf) => leaf,
            Err(next) => next.saturating_sub(1),
        };
        let place = |slot| Place { chunk, leaf, slot };
        c.leaves[leaf].heads.search(key, |_, item| keys.key(item)).map(place).map_err(place)
    }

    pub fn get(&self, place: Place) -> Item {
        self.chunks[place.chunk].leaves[place.leaf].heads.get(place.slot)
    }

    /// Changes a key's item; `revision` is the newest of its versions.
    pub fn set(&mut self, place: Place, item: Item, revision: Revision) {
        let leaf = &mut self.chunks[place.chunk].leaves[place.leaf];
        leaf.heads.set(place.slot, item);
        leaf.newest = leaf.newest.max(revision);
    }

    /// Adds a key where [`Index::find`] says that it would stand.
    pub fn insert(&mut self, keys: &impl Keys, place: Place, key: &[u8], item: Item, revision: Revision) {
        let mut place = place;
        if self.chunks[place.chunk].leaves[place.leaf].heads.len() == LEAF {
            place = self.split_leaf(keys, place, key);
        }
        let leaf = &mut self.chunks[place.chunk].leaves[place.leaf];
        leaf.heads.insert(place.slot, key, item, |_, item| keys.key(item));
        leaf.newest = leaf.newest.max(revision);
    }

    /// Takes a key out; `keys` still knows the others.
    pub fn remove(&mut self, keys: &impl Keys, place: Place) {
        let chunk = &mut self.chunks[place.chunk];
        let leaf = &mut chunk.leaves[place.leaf];
        leaf.heads.remove(place.slot);
        match leaf.heads.len() {
            SPARSE.. => {}
            1.. => chunk.join(keys, place.leaf),
            0 if chunk.leaves.len() > 1 => chunk.remove_leaf(place.leaf),
            0 if self.chunks.len() > 1 => self.remove_chunk(place.chunk),
            0 => {}
        }
    }

    /// The first place at or after a bound from below.
    fn lower(&self, keys: &impl Keys, bound: Bound<&[u8]>) -> Place {
        let (key, after) = match bound {
            Bound::Unbounded => return Place { chunk: 0, leaf: 0, slot: 0 },
            Bound::Included(key) => (key, 0),
            Bound::Excluded(key) => (key, 1),
        };
        match self.find(keys, key) {
            Ok(place) => Place { slot: place.slot + after, ..place },
            Err(place) => place,
        }
    }

    /// The items of a range, leaf by leaf, in order.
    pub fn range<'a>(&'a self, keys: &impl Keys, (low, high): Bounds<'_>) -> Leaves<'a> {
        let at = self.lower(keys, low);
        let end = match high {
            Bound::Unbounded => Place { chunk: self.chunks.len(), leaf: 0, slot: 0 },
            Bound::Included(key) => self.lower(keys, Bound::Excluded(key)),
            Bound::Excluded(key) => self.lower(keys, Bound::Included(key)),
        };
        Leaves { index: self, at, end }
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        let leaf = |l: &Leaf| l.heads.held();
        let boxed = |bounds: &[Box<[u8]>]| bounds.iter().map(|b| b.len() + size_of::<Box<[u8]>>()).sum::<usize>();
        let chunk = |c: &Chunk| {
            let leaves: usize = c.leaves.iter().map(leaf).sum();
            size_of::<Chunk>()
                + leaves
                + boxed(&c.separators)
                + c.heads.held()
                + c.leaves.capacity() * size_of::<Leaf>()
        };
        self.chunks.iter().map(chunk).sum::<usize>() + boxed(&self.firsts)
    }

    /// Halves a full leaf; says where the new key's place is then.
    fn split_leaf(&mut self, keys: &impl Keys, place: Place, key: &[u8]) -> Place {
        let chunk = &mut self.chunks[place.chunk];
        let leaf = &mut chunk.leaves[place.leaf];
        // Keys that come in order leave full leaves behind.
        let at = if place.slot == LEAF { LEAF } else { LEAF / 2 };
        let heads = leaf.heads.split_off(at, |_, item| keys.key(item));
        let first = heads.entries().first().map_or(key, |(_, item)| keys.key(*item));
        let separator: Box<[u8]> = first[..=shared(keys.key(leaf.heads.get(at - 1)), first)].into();
        // A key between the halves belongs where the next search for it will look.
        let right = place.slot > at || place.slot == at && key >= &separator[..];
        let newest = leaf.newest;
        chunk.insert_leaf(place.leaf + 1, Leaf { heads, newest }, separator);
        let place = match right {
            true => Place { leaf: place.leaf + 1, slot: place.slot - at, ..place },
            false => place,
        };
        if self.chunks[place.chunk].leaves.len() > CHUNK { self.split_chunk(place) } else { place }
    }

    fn split_chunk(&mut self, place: Place) -> Place {
        let right = self.chunks[place.chunk].split_off(CHUNK / 2);
        self.firsts.insert(place.chunk + 1, right.separators[0].clone());
        self.chunks.insert(place.chunk + 1, right);
        match place.leaf.checked_sub(CHUNK / 2) {
            Some(leaf) => Place { chunk: place.chunk + 1, leaf, slot: place.slot },
            None => place,
        }
    }

    /// Takes out a chunk without keys; its neighbour is responsible for what it was.
    fn remove_chunk(&mut self, at: usize) {
        self.chunks.remove(at);
        if at > 0 {
            self.firsts.remove(at);
            return;
        }
        self.firsts.remove(1);
        let chunk = &mut self.chunks[0];
        chunk.separators[0] = self.firsts[0].clone();
        chunk.heads = Heads::build(vec![(0, ()); chunk.separators.len()], |i, ()| &chunk.separators[i]);
    }
}

impl Chunk {
    fn one(leaf: Leaf, separator: Box<[u8]>) -> Self {
        let mut chunk = Chunk::default();
        chunk.insert_leaf(0, leaf, separator);
        chunk
    }

    fn insert_leaf(&mut self, at: usize, leaf: Leaf, separator: Box<[u8]>) {
        self.heads.insert(at, &separator, (), |i, ()| &self.separators[i]);
        self.separators.insert(at, separator);
        reserve(&mut self.leaves);
        self.leaves.insert(at, leaf);
    }

    /// A neighbour is responsible for what the leaf was.
    fn remove_leaf(&mut self, at: usize) {
        self.leaves.remove(at);
        self.heads.remove(at.max(1));
        self.separators.remove(at.max(1));
    }

    /// Makes one of a leaf and a neighbour, if they are small enough.
    fn join(&mut self, keys: &impl Keys, at: usize) {
        let len = self.leaves[at].heads.len();
        let small = |i: usize| self.leaves.get(i).is_some_and(|l| l.heads.len() + len <= LEAF / 2);
        let left = match at {
            _ if small(at + 1) => at,
            1.. if small(at - 1) => at - 1,
            _ => return,
        };
        let right = std::mem::take(&mut self.leaves[left + 1]);
        self.remove_leaf(left + 1);
        let leaf = &mut self.leaves[left];
        leaf.heads.append(right.heads, |_, item| keys.key(item));
        leaf.newest = leaf.newest.max(right.newest);
    }

    fn split_off(&mut self, at: usize) -> Self {
        let heads = self.heads.split_off(at, |i, ()| &self.separators[i]);
        Chunk { heads, separators: self.separators.split_off(at), leaves: self.leaves.split_off(at) }
    }
}

/// The leaves of a range.
pub(crate) struct Leaves<'a> {
    index: &'a Index,
    at: Place,
    end: Place,
}

impl<'a> Iterator for Leaves<'a> {
    /// Items in order, and the newest revision among them or their neighbours.
    type Item = (&'a [(u32, Item)], Revision);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            let Place { chunk, leaf, slot } = self.at;
            let leaves = &self.index.chunks.get(chunk)?.leaves;
            let Some(l) = leaves.get(leaf) else {
                self.at = Place { chunk: chunk + 1, leaf: 0, slot: 0 };
                continue;
            };
            self.at = Place { chunk, leaf: leaf + 1, slot: 0 };
            let last = (chunk, leaf) == (self.end.chunk, self.end.leaf);
            let items = &l.heads.entries()[slot..if last { self.end.slot } else { l.heads.len() }];
            if !items.is_empty() {
                return Some((items, l.newest));
            }
        }
        None
    }
}

/// Builds an index from keys in order.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    index: Index,
    open: Vec<(u32, Item)>,
    newest: Revision,
}

impl Builder {
    /// Adds the next key's item; `revision` is the newest of its versions.
    pub fn push(&mut self, keys: &impl Keys, item: Item, revision: Revision) {
        if self.open.len() == BUILT {
            self.close(keys);
        }
        if self.open.is_empty() {
            self.open.reserve_exact(BUILT);
        }
        self.open.push((0, item));
        self.newest = self.newest.max(revision);
    }

    pub fn finish(mut self, keys: &impl Keys) -> Index {
        self.close(keys);
        self.index
    }

    fn close(&mut self, keys: &impl Keys) {
        let mut entries = std::mem::take(&mut self.open);
        release(&mut entries);
        let Some(first) = entries.first().map(|(_, item)| keys.key(*item)) else { return };
        let heads = Heads::build(entries, |_, item| keys.key(item));
        let leaf = Leaf { heads, newest: std::mem::take(&mut self.newest) };
        let index = &mut self.index;
        let last = index.chunks.last_mut().expect("an index is never without a chunk");
        let before = last.leaves.last().and_then(|l| l.heads.entries().last());
        let Some(before) = before.map(|(_, item)| keys.key(*item)) else {
            *last = Chunk::one(leaf, Box::default());
            return;
        };
        let separator: Box<[u8]> = first[..=shared(before, first)].into();
        if last.leaves.len() < CHUNK {
            last.insert_leaf(last.leaves.len(), leaf, separator);
        } else {
            index.firsts.push(separator.clone());
            index.chunks.push(Chunk::one(leaf, separator));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The keys by the numbers of their items.
    struct Known(Vec<Vec<u8>>);

    impl Keys for Known {
        fn key(&self, item: Item) -> &[u8] {
            &self.0[item.at() as usize]
        }
    }

    /// Few letters and shared beginnings, so that heads tie and prefixes change.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let part = || prop::sample::select(vec!["", "a", "b", "pods/", "pods/default/", "\0", "zz"]);
        (part(), part(), 0..200u32).prop_map(|(a, b, n)| format!("/{a}{b}{n}").into_bytes())
    }

    fn check(index: &Index, known: &Known, model: &BTreeMap<Vec<u8>, Item>, bounds: (&[u8], &[u8])) {
        let (low, high) = bounds;
        for bounds in [
            (Bound::Unbounded, Bound::Unbounded),
            (Bound::Included(low), Bound::Excluded(high)),
            (Bound::Excluded(low), Bound::Included(high)),
            (Bound::Included(low), Bound::Included(low)),
            (Bound::Excluded(low), Bound::Unbounded),
        ] {
            let found: Vec<_> =
                index.range(known, bounds).flat_map(|(items, _)| items).map(|(_, item)| *item).collect();
            let expected: Vec<_> = model.range::<[u8], _>(bounds).map(|(_, item)| *item).collect();
            assert_eq!(found, expected, "{bounds:?}");
        }
    }

    proptest! {
        #[test]
        fn the_index_is_an_ordered_map(
            sorted in prop::collection::btree_set(key(), 0..150),
            steps in prop::collection::vec((key(), 0..5u8), 0..600),
            removed_in_order in any::<bool>(),
            bounds in (key(), key()),
        ) {
            let (mut known, mut model, mut builder) = (Known(Vec::new()), BTreeMap::new(), Builder::default());
            for key in sorted {
                let item = Item::new(known.0.len() as u32, false);
                known.0.push(key.clone());
                builder.push(&known, item, 1);
                model.insert(key, item);
            }
            let mut index = builder.finish(&known);
            let bounds = if bounds.0 < bounds.1 { bounds } else { (bounds.1.clone(), [bounds.0, vec![9]].concat()) };
            let bounds = (&bounds.0[..], &bounds.1[..]);
            check(&index, &known, &model, bounds);
            for (key, what) in steps {
                let place = index.find(&known, &key);
                prop_assert_eq!(place.ok().map(|p| index.get(p)), model.get(&key).copied());
                match place {
                    Ok(place) if what == 0 => {
                        index.remove(&known, place);
                        model.remove(&key);
                    }
                    Ok(_) => {}
                    Err(place) => {
                        let item = Item::new(known.0.len() as u32, what == 1);
                        known.0.push(key.clone());
                        index.insert(&known, place, &key, item, 1);
                        model.insert(key, item);
                    }
                }
            }
            check(&index, &known, &model, bounds);
            while let Some(key) = if removed_in_order { model.keys().next() } else { model.keys().nth(model.len() / 3) } {
                let key = key.clone();
                let place = index.find(&known, &key);
                prop_assert!(place.is_ok());
                place.into_iter().for_each(|place| index.remove(&known, place));
                model.remove(&key);
                if model.len().is_multiple_of(40) {
                    check(&index, &known, &model, bounds);
                }
            }
        }
    }
}
