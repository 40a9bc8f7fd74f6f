//! What holds for keys by the way they begin. The longest prefix counts; the empty one is for all others.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use bytes::Bytes;
use store_api::prefix_end;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes<T>(BTreeMap<Bytes, T>);

impl<T> Prefixes<T> {
    pub fn new(others: T) -> Self {
        Prefixes(BTreeMap::from([(Bytes::new(), others)]))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &T)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, prefix: &[u8]) -> Option<&T> {
        self.0.get(prefix)
    }

    pub fn get_mut(&mut self, prefix: &[u8]) -> Option<&mut T> {
        self.0.get_mut(prefix)
    }

    /// From now on this holds for all keys of the prefix, also where something else held for a part of them.
    pub fn set(&mut self, prefix: Bytes, value: T) {
        self.0.retain(|other, _| !other.starts_with(&prefix));
        self.0.insert(prefix, value);
    }

    /// Adds a prefix beside what is there.
    pub fn insert(&mut self, prefix: Bytes, value: T) {
        self.0.insert(prefix, value);
    }

    /// Forgets a prefix; what holds for the shorter ones holds for its keys too.
    pub fn remove(&mut self, prefix: &[u8]) {
        self.0.remove(prefix);
    }

    /// What holds for a key.
    pub fn of(&self, key: &[u8]) -> (&Bytes, &T) {
        self.within(key, None).expect("the empty prefix is always there")
    }

    /// The longest prefix of a key, or the longest that is shorter than `shorter`.
    fn within(&self, key: &[u8], shorter: Option<usize>) -> Option<(&Bytes, &T)> {
        let fits = |prefix: &Bytes| key.starts_with(prefix) && shorter.is_none_or(|n| prefix.len() < n);
        self.0.range::<[u8], _>((Unbounded, std::ops::Bound::Included(key))).rev().find(|(prefix, _)| fits(prefix))
    }

    /// All that holds for some key of `[key, range_end)`, with the ends as etcd means them; for keys that may be there.
    pub fn touched(&self, key: &[u8], range_end: &[u8]) -> Vec<(&Bytes, &T)> {
        let mut touched = vec![self.of(key)];
        if range_end.is_empty() || (range_end != [0] && range_end <= key) {
            return touched;
        }
        // Past the end of a prefix's keys, what holds for a shorter one comes into play.
        let (mut prefix, _) = touched[0];
        while beyond(prefix, range_end)
            && let Some(outer) = self.within(prefix, Some(prefix.len()))
        {
            touched.push(outer);
            prefix = outer.0;
        }
        let to = if range_end == [0] { Unbounded } else { Excluded(range_end) };
        touched.extend(self.0.range::<[u8], _>((Excluded(key), to)));
        touched
    }
}

/// Whether a range that begins with a key of the prefix goes on after the prefix's last key.
fn beyond(prefix: &[u8], range_end: &[u8]) -> bool {
    let end = prefix_end(prefix);
    end[..] != [0] && (range_end == [0] || range_end > &end[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn map(prefixes: &[&'static str]) -> Prefixes<usize> {
        let mut map = Prefixes::new(0);
        (1..).zip(prefixes).for_each(|(n, prefix)| map.insert((*prefix).into(), n));
        map
    }

    #[test]
    fn ranges_touch_what_holds_for_their_keys() {
        let map = map(&["/a/", "/a/b/", "/c/"]);
        let check = |key: &str, end: &[u8], expected: &[usize]| {
            let mut touched: Vec<_> = map.touched(key.as_bytes(), end).into_iter().map(|(_, n)| *n).collect();
            touched.sort_unstable();
            assert_eq!(touched, expected, "{key:?} to {end:?}");
        };
        check("/a/x", b"", &[1]);
        check("/a/b/x", b"", &[2]);
        check("/b", b"", &[0]);
        check("/a/b/", b"/a/b0", &[2]);
        check("/a/b/x", b"/a/c", &[1, 2]);
        check("/a/", b"/a0", &[1, 2]);
        check("/a/c", b"/a0", &[1]);
        check("/a/c", b"/b", &[0, 1]);
        check("/c/", &[0], &[0, 3]);
        check("/d", &[0], &[0]);
        check("\0", &[0], &[0, 1, 2, 3]);
        check("/c/x", b"/c/a", &[3]);
    }

    proptest! {
        #[test]
        fn no_key_of_a_range_is_missed(
            prefixes in prop::collection::btree_set("[ab]{1,3}", 0..5),
            key in "[ab]{1,4}", end in "[abc]{1,4}", probe in "[ab]{1,5}",
        ) {
            let mut map = Prefixes::new(0);
            (1..).zip(&prefixes).for_each(|(n, prefix)| map.insert(prefix.clone().into(), n));
            let longest = prefixes.iter().filter(|p| probe.starts_with(*p)).max_by_key(|p| p.len());
            let expected = longest.map_or(0, |p| 1 + prefixes.iter().position(|other| other == p).unwrap());
            prop_assert_eq!(*map.of(probe.as_bytes()).1, expected);
            let touched: BTreeSet<_> = map.touched(key.as_bytes(), end.as_bytes()).iter().map(|(_, n)| **n).collect();
            if probe >= key && probe < end {
                prop_assert!(touched.contains(&expected), "{:?} misses {} of {:?}", touched, expected, probe);
            }
        }
    }
}
