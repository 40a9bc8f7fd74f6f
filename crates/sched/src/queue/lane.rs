//! Pods that are due, in the order in which they are decided, and those that may be when nobody is.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

pub(super) type ActiveKey = (Reverse<i64>, Duration, u64);
pub(super) type TimeKey = (Duration, u64);

#[derive(Default)]
pub(super) struct Lane {
    active: BTreeMap<ActiveKey, Arc<str>>,
    /// The same by how long they have been so.
    by_age: BTreeMap<TimeKey, ActiveKey>,
    /// In their backoff, which they need not sit out.
    early: BTreeMap<TimeKey, Arc<str>>,
}

impl Lane {
    pub fn len(&self) -> usize {
        self.active.len()
    }

    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.early.is_empty()
    }

    pub fn insert(&mut self, key: ActiveKey, uid: Arc<str>) {
        self.by_age.insert((key.1, key.2), key);
        self.active.insert(key, uid);
    }

    pub fn remove(&mut self, key: &ActiveKey) {
        self.active.remove(key);
        self.by_age.remove(&(key.1, key.2));
    }

    pub fn insert_early(&mut self, key: TimeKey, uid: Arc<str>) {
        self.early.insert(key, uid);
    }

    pub fn remove_early(&mut self, key: &TimeKey) {
        self.early.remove(key);
    }

    /// The first in order.
    pub fn first(&self) -> Option<(ActiveKey, &Arc<str>)> {
        self.active.first_key_value().map(|(key, uid)| (*key, uid))
    }

    /// The one that has been active longest.
    pub fn oldest(&self) -> Option<(TimeKey, &Arc<str>)> {
        let (age, key) = self.by_age.first_key_value()?;
        Some((*age, self.active.get(key)?))
    }

    /// The one whose pause is over first.
    pub fn earliest(&self) -> Option<(TimeKey, &Arc<str>)> {
        self.early.first_key_value().map(|(key, uid)| (*key, uid))
    }
}
