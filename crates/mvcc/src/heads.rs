//! Finds a key among sorted keys that stand elsewhere, with hardly a look at them.
//!
//! All keys of a node share a prefix; of what follows it, the first four bytes of each stand here, side by side. A
//! search compares those, and looks at whole keys only where four bytes do not decide. Knows no tree: the keys are
//! asked for by their position.

use std::cmp::Ordering;

#[derive(Debug, Default)]
pub(crate) struct Heads {
    prefix: Box<[u8]>,
    heads: Vec<u32>,
}

/// Entries by which a node's arrays grow: they are held exactly, or nearly so.
const GROWTH: usize = 16;

impl Heads {
    /// Heads of `len` sorted keys.
    pub fn build<'a>(len: usize, key: impl Fn(usize) -> &'a [u8]) -> Self {
        let prefix = if len == 0 { &[][..] } else { &key(0)[..shared(key(0), key(len - 1))] };
        let heads = (0..len).map(|i| head(&key(i)[prefix.len()..])).collect();
        Heads { prefix: prefix.into(), heads }
    }

    /// `Ok`: where `key` stands. `Err`: where it would.
    pub fn search<'a>(&self, wanted: &[u8], key: impl Fn(usize) -> &'a [u8]) -> Result<usize, usize> {
        let Some(rest) = wanted.strip_prefix(&self.prefix[..]) else {
            return Err(if wanted < &self.prefix[..] { 0 } else { self.heads.len() });
        };
        let head = head(rest);
        let mut from = self.heads.partition_point(|h| *h < head);
        let mut to = match self.heads.get(from..) {
            Some([first, ..]) if *first != head => return Err(from),
            Some([_, second, ..]) if *second == head => from + self.heads[from..].partition_point(|h| *h == head),
            Some([_, ..]) => from + 1,
            _ => return Err(from),
        };
        while from < to {
            let middle = from.midpoint(to);
            match key(middle).cmp(wanted) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    /// Adds a key at its place; `key` gives those that stand already, by their positions before.
    pub fn insert<'a>(&mut self, at: usize, new: &[u8], key: impl Fn(usize) -> &'a [u8]) {
        if self.heads.is_empty() {
            self.prefix = new.into();
        }
        let shared = shared(&self.prefix, new);
        if shared < self.prefix.len() {
            self.prefix = self.prefix[..shared].into();
            self.heads.iter_mut().enumerate().for_each(|(i, h)| *h = head(&key(i)[shared..]));
        }
        reserve(&mut self.heads);
        self.heads.insert(at, head(&new[shared..]));
    }

    pub fn remove(&mut self, at: usize) {
        self.heads.remove(at);
        release(&mut self.heads);
    }

    /// Takes the keys from `at` on into a node of their own; `key` still gives all of them.
    pub fn split_off<'a>(&mut self, at: usize, key: impl Fn(usize) -> &'a [u8]) -> Self {
        let mut right = Heads { prefix: self.prefix.clone(), heads: self.heads.split_off(at) };
        self.heads.shrink_to(at + GROWTH);
        self.tighten(&key);
        right.tighten(|i| key(at + i));
        right
    }

    pub fn held(&self) -> usize {
        self.prefix.len() + self.heads.capacity() * size_of::<u32>()
    }

    /// Where the keys that are left share more than they did, the heads can say more.
    fn tighten<'a>(&mut self, key: impl Fn(usize) -> &'a [u8]) {
        let Some(last) = self.heads.len().checked_sub(1) else { return };
        if shared(key(0), key(last)) > self.prefix.len() {
            *self = Self::build(self.heads.len(), key);
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
            let mut heads = Heads::build(keys.len(), |i| &keys[i][..]);
            for new in late {
                if let Err(at) = heads.search(&new, |i| &keys[i][..]) {
                    heads.insert(at, &new, |i| &keys[i][..]);
                    keys.insert(at, new);
                }
            }
            let sorted: Vec<_> = keys.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(&keys, &sorted);
            let at = at.index(keys.len() + 1);
            let right = heads.split_off(at, |i| &keys[i][..]);
            for wanted in asked {
                let (low, high) = keys.split_at(at);
                prop_assert_eq!(heads.search(&wanted, |i| &low[i][..]), low.binary_search(&wanted));
                prop_assert_eq!(right.search(&wanted, |i| &high[i][..]), high.binary_search(&wanted));
            }
        }
    }
}
