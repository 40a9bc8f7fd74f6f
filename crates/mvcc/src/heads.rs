//! Finds a key among sorted keys that stand elsewhere, with hardly a look at them.
//!
//! All keys of a node share a prefix; of what follows it, the first four bytes of each stand here, side by side, with
//! what the tree keeps for the key. A search compares those, and looks at whole keys only where four bytes do not
//! decide. The prefix itself is not kept: the key that is found in the end says what it was. Knows no tree.

use std::cmp::Ordering;

/// Sorted keys, each with a `T`.
#[derive(Debug)]
pub(crate) struct Heads<T> {
    /// Length of the prefix.
    skip: usize,
    entries: Vec<(u32, T)>,
}

/// Entries by which a node's arrays grow: they are held exactly, or nearly so.
const GROWTH: usize = 16;

impl<T> Default for Heads<T> {
    fn default() -> Self {
        Heads { skip: 0, entries: Vec::new() }
    }
}

impl<T: Copy> Heads<T> {
    /// Of sorted keys; the heads that are given do not count.
    pub fn build<'a>(entries: Vec<(u32, T)>, key: impl Fn(usize, T) -> &'a [u8]) -> Self {
        let mut heads = Heads { skip: 0, entries };
        heads.measure(key);
        heads
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What stands for the key at a position.
    pub fn get(&self, at: usize) -> T {
        self.entries[at].1
    }

    pub fn set(&mut self, at: usize, to: T) {
        self.entries[at].1 = to;
    }

    pub fn entries(&self) -> &[(u32, T)] {
        &self.entries
    }

    /// `Ok`: where `key` stands. `Err`: where it would.
    pub fn search<'a>(&self, wanted: &[u8], key: impl Fn(usize, T) -> &'a [u8]) -> Result<usize, usize> {
        // The search goes by the prefix being the wanted key's too, and makes sure of it at the end.
        let head = head(wanted.get(self.skip..).unwrap_or_default());
        let mut from = self.entries.partition_point(|(h, _)| *h < head);
        let mut to = match self.entries.get(from..) {
            Some([(first, _), rest @ ..]) if *first == head => from + 1 + rest.partition_point(|(h, _)| *h == head),
            _ => from,
        };
        while from < to {
            let middle = from.midpoint(to);
            match key(middle, self.entries[middle].1).cmp(wanted) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        let Some(last) = self.entries.len().checked_sub(1) else { return Err(0) };
        let near = key(from.min(last), self.entries[from.min(last)].1);
        match wanted.iter().take(self.skip).cmp(near[..self.skip].iter()) {
            Ordering::Equal => Err(from),
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.entries.len()),
        }
    }

    /// Adds a key at its place; `key` gives those that stand already, by their positions before.
    pub fn insert<'a>(&mut self, at: usize, new: &[u8], entry: T, key: impl Fn(usize, T) -> &'a [u8]) {
        if let Some(last) = self.entries.len().checked_sub(1) {
            // The search has just looked at this one.
            let near = at.min(last);
            let shared = shared(&key(near, self.entries[near].1)[..self.skip], new);
            if shared < self.skip {
                self.skip = shared;
                self.entries.iter_mut().enumerate().for_each(|(i, (h, t))| *h = head(&key(i, *t)[shared..]));
            }
        } else {
            self.skip = new.len();
        }
        reserve(&mut self.entries);
        self.entries.insert(at, (head(&new[self.skip..]), entry));
    }

    pub fn remove(&mut self, at: usize) {
        self.entries.remove(at);
        release(&mut self.entries);
    }

    /// Takes the keys from `at` on into a node of their own; `key` still gives all of them.
    pub fn split_off<'a>(&mut self, at: usize, key: impl Fn(usize, T) -> &'a [u8]) -> Self {
        let mut right = Heads { skip: self.skip, entries: self.entries.split_off(at) };
        release(&mut self.entries);
        self.tighten(&key);
        right.tighten(|i, t| key(at + i, t));
        right
    }

    /// Adds the keys of the node that follows.
    pub fn append<'a>(&mut self, right: Self, key: impl Fn(usize, T) -> &'a [u8]) {
        self.entries.extend(right.entries);
        self.measure(key);
    }

    pub fn held(&self) -> usize {
        self.entries.capacity() * size_of::<(u32, T)>()
    }

    /// Where the keys that are left share more than they did, the heads can say more.
    fn tighten<'a>(&mut self, key: impl Fn(usize, T) -> &'a [u8]) {
        if self.shared(&key) > self.skip {
            self.measure(key);
        }
    }

    fn measure<'a>(&mut self, key: impl Fn(usize, T) -> &'a [u8]) {
        self.skip = self.shared(&key);
        self.entries.iter_mut().enumerate().for_each(|(i, (h, t))| *h = head(&key(i, *t)[self.skip..]));
    }

    fn shared<'a>(&self, key: impl Fn(usize, T) -> &'a [u8]) -> usize {
        match &self.entries[..] {
            [] => 0,
            [(_, one)] => key(0, *one).len(),
            [(_, first), .., (_, last)] => shared(key(0, *first), key(self.entries.len() - 1, *last)),
        }
    }
}

/// Makes room for one more without room for many.
pub(crate) fn reserve<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(GROWTH);
    }
}

/// Gives back room that is no longer needed.
pub(crate) fn release<T>(list: &mut Vec<T>) {
    if list.capacity() > list.len() + 2 * GROWTH {
        list.shrink_to(list.len() + GROWTH);
    }
}

/// How many bytes two keys have in common at their start.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn head(rest: &[u8]) -> u32 {
    match rest {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        short => short.iter().enumerate().fold(0, |head, (i, byte)| head | u32::from(*byte) << (24 - 8 * i)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..9)
    }

    proptest! {
        #[test]
        fn a_search_finds_what_comparing_all_finds(
            keys in prop::collection::btree_set(key(), 0..40),
            late in prop::collection::vec(key(), 0..20),
            at in any::<prop::sample::Index>(),
            asked in prop::collection::vec(key(), 20),
        ) {
            let mut keys: Vec<_> = keys.into_iter().collect();
            let mut heads = Heads::build(vec![(0, ()); keys.len()], |i, ()| &keys[i][..]);
            for new in late {
                if let Err(at) = heads.search(&new, |i, ()| &keys[i][..]) {
                    heads.insert(at, &new, (), |i, ()| &keys[i][..]);
                    keys.insert(at, new);
                }
            }
            let sorted: Vec<_> = keys.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(&keys, &sorted);
            let at = at.index(keys.len() + 1);
            let right = heads.split_off(at, |i, ()| &keys[i][..]);
            let (low, high) = keys.split_at(at);
            for wanted in &asked {
                prop_assert_eq!(heads.search(wanted, |i, ()| &low[i][..]), low.binary_search(wanted));
                prop_assert_eq!(right.search(wanted, |i, ()| &high[i][..]), high.binary_search(wanted));
            }
            heads.append(right, |i, ()| &keys[i][..]);
            for wanted in &asked {
                prop_assert_eq!(heads.search(wanted, |i, ()| &keys[i][..]), keys.binary_search(wanted));
            }
        }
    }
}
