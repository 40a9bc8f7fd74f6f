//! What there was for a time, and who knows since when that it is not so any more.

use std::{collections::BTreeMap, time::Duration};

use super::is_believed;

pub struct Past<T> {
    pub what: T,
    /// The version that has ended it.
    until: Option<usize>,
    /// When which scheduler was told of that version, or a later one.
    told: BTreeMap<u32, Duration>,
}

impl<T> Past<T> {
    pub fn new(what: T) -> Self {
        Past { what, until: None, told: BTreeMap::new() }
    }

    pub fn is_present(&self) -> bool {
        self.until.is_none()
    }

    pub fn ends(&mut self, version: usize) {
        self.until.get_or_insert(version);
    }

    /// A scheduler is told what there is as of this version.
    pub fn told(&mut self, scheduler: u32, version: usize, now: Duration) {
        if self.until.is_some_and(|until| until <= version) {
            self.told.entry(scheduler).or_insert(now);
        }
    }

    /// Whether a scheduler may still go by it.
    pub fn is_believed(&self, scheduler: u32, now: Duration) -> bool {
        self.is_present() || is_believed(self.told.get(&scheduler).copied(), now)
    }
}
