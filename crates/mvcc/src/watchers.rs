//! Which watchers a key concerns, found without asking all of them.
//!
//! Single keys are looked up by hash. Ranges stand in a treap ordered by start, in which every node knows the
//! furthest end below it: the search leaves out every subtree that ends before the key.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap, hash_map::Entry},
};

use bytes::Bytes;

use crate::range::{KeyRange, RangeEnd};

/// Watchers by what they watch. Watchers of the same range share a node.
#[derive(Debug)]
pub struct WatchIndex<T> {
    keys: HashMap<Bytes, Group<T>>,
    ranges: Tree<T>,
    /// Ranges inserted so far; scrambled, it gives the treap's priorities, whatever the order of the ranges is.
    inserted: u64,
}

/// Watchers of the same range: usually one, and where there are many, each of them can be found to be removed.
#[derive(Debug)]
enum Group<T> {
    One(T),
    Many(BTreeSet<T>),
}

impl<T: Copy + Ord> Group<T> {
    fn insert(&mut self, watcher: T) {
        match self {
            Group::One(one) => *self = Group::Many(BTreeSet::from([*one, watcher])),
            Group::Many(many) => drop(many.insert(watcher)),
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, watcher: T) -> bool {
        match self {
            Group::One(one) => *one == watcher,
            Group::Many(many) => {
                many.remove(&watcher);
                many.is_empty()
            }
        }
    }

    fn each(&self, found: &mut impl FnMut(T)) {
        match self {
            Group::One(one) => found(*one),
            Group::Many(many) => many.iter().for_each(|w| found(*w)),
        }
    }
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    range: KeyRange,
    watchers: Group<T>,
    priority: u64,
    furthest: RangeEnd,
    left: Tree<T>,
    right: Tree<T>,
}

impl<T> Default for WatchIndex<T> {
    fn default() -> Self {
        WatchIndex { keys: HashMap::new(), ranges: None, inserted: 0 }
    }
}

impl<T: Copy + Ord> WatchIndex<T> {
    pub fn insert(&mut self, range: &KeyRange, watcher: T) {
        match range.end {
            RangeEnd::Single => match self.keys.entry(range.start.clone()) {
                Entry::Occupied(mut there) => there.get_mut().insert(watcher),
                Entry::Vacant(free) => drop(free.insert(Group::One(watcher))),
            },
            _ => {
                self.inserted += 1;
                let priority = scramble(self.inserted);
                self.ranges = Some(insert(self.ranges.take(), range, priority, watcher));
            }
        }
    }

    pub fn remove(&mut self, range: &KeyRange, watcher: T) {
        match range.end {
            RangeEnd::Single => {
                if self.keys.get_mut(&range.start).is_some_and(|watchers| watchers.remove(watcher)) {
                    self.keys.remove(&range.start);
                }
            }
            _ => self.ranges = remove(self.ranges.take(), range, watcher),
        }
    }

    /// Calls `found` for every watcher of `key`.
    pub fn matching(&self, key: &[u8], mut found: impl FnMut(T)) {
        if let Some(watchers) = self.keys.get(key) {
            watchers.each(&mut found);
        }
        stab(&self.ranges, key, &mut found);
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_none()
    }
}

/// The output function of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn order(a: &KeyRange, b: &KeyRange) -> Ordering {
    a.start.cmp(&b.start).then_with(|| compare_ends(&a.end, &b.end))
}

fn compare_ends(a: &RangeEnd, b: &RangeEnd) -> Ordering {
    match (a, b) {
        (RangeEnd::Below(a), RangeEnd::Below(b)) => a.cmp(b),
        (RangeEnd::Below(_), _) => Ordering::Less,
        (_, RangeEnd::Below(_)) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

fn stab<T: Copy + Ord>(tree: &Tree<T>, key: &[u8], found: &mut impl FnMut(T)) {
    let Some(node) = tree else { return };
    if matches!(&node.furthest, RangeEnd::Below(end) if key >= &end[..]) {
        return;
    }
    stab(&node.left, key, found);
    if key >= &node.range.start[..] {
        if node.range.contains(key) {
            node.watchers.each(found);
        }
        stab(&node.right, key, found);
    }
}

fn insert<T: Copy + Ord>(tree: Tree<T>, range: &KeyRange, priority: u64, watcher: T) -> Box<Node<T>> {
    let Some(mut node) = tree else {
        let watchers = Group::One(watcher);
        let (range, furthest) = (range.clone(), range.end.clone());
        return Box::new(Node { range, watchers, priority, furthest, left: None, right: None });
    };
    match order(range, &node.range) {
        Ordering::Equal => node.watchers.insert(watcher),
        Ordering::Less => {
            let mut child = insert(node.left.take(), range, priority, watcher);
            if child.priority > node.priority {
                node.left = child.right.take();
                node.measure();
                child.right = Some(node);
                node = child;
            } else {
                node.left = Some(child);
            }
        }
        Ordering::Greater => {
            let mut child = insert(node.right.take(), range, priority, watcher);
            if child.priority > node.priority {
                node.right = child.left.take();
                node.measure();
                child.left = Some(node);
                node = child;
            } else {
                node.right = Some(child);
            }
        }
    }
    node.measure();
    node
}

fn remove<T: Copy + Ord>(tree: Tree<T>, range: &KeyRange, watcher: T) -> Tree<T> {
    let mut node = tree?;
    match order(range, &node.range) {
        Ordering::Less => node.left = remove(node.left.take(), range, watcher),
        Ordering::Greater => node.right = remove(node.right.take(), range, watcher),
        Ordering::Equal => {
            if node.watchers.remove(watcher) {
                return merge(node.left.take(), node.right.take());
            }
        }
    }
    node.measure();
    Some(node)
}

fn merge<T>(left: Tree<T>, right: Tree<T>) -> Tree<T> {
    match (left, right) {
        (None, other) | (other, None) => other,
        (Some(mut left), Some(mut right)) => Some(if left.priority > right.priority {
            left.right = merge(left.right.take(), Some(right));
            left.measure();
            left
        } else {
            right.left = merge(Some(left), right.left.take());
            right.measure();
            right
        }),
    }
}

impl<T> Node<T> {
    fn measure(&mut self) {
        let mut furthest = &self.range.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if compare_ends(&child.furthest, furthest).is_gt() {
                furthest = &child.furthest;
            }
        }
        self.furthest = furthest.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = KeyRange> {
        let key = || prop::collection::vec(b'a'..b'e', 1..3).prop_map(Bytes::from);
        let end = prop_oneof![
            Just(Bytes::new()),
            Just(Bytes::from_static(&[0])),
            prop::collection::vec(b'a'..b'f', 1..3).prop_map(Bytes::from)
        ];
        (key(), end).prop_map(|(key, end)| KeyRange::new(&key, &end))
    }

    proptest! {
        #[test]
        fn finds_what_asking_everyone_finds(
            watchers in prop::collection::vec((ranges(), any::<bool>()), 0..60),
            key in prop::collection::vec(b'a'..b'f', 1..4),
        ) {
            let mut index = WatchIndex::default();
            for (i, (range, _)) in watchers.iter().enumerate() {
                index.insert(range, i);
            }
            for (i, (range, stays)) in watchers.iter().enumerate() {
                if !stays {
                    index.remove(range, i);
                }
            }
            let mut found = Vec::new();
            index.matching(&key, |i| found.push(i));
            found.sort_unstable();
            let all = watchers.iter().enumerate();
            let expected: Vec<_> = all.filter(|(_, (r, stays))| *stays && r.contains(&key)).map(|(i, _)| i).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.is_empty(), watchers.iter().all(|(_, stays)| !stays));
        }
    }
}
