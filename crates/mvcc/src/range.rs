//! Reading a range of keys at one revision, in one go or in steps with the lock released in between.

use std::{
    cmp::Ordering,
    ops::Bound::{self, Excluded, Included, Unbounded},
};

use bytes::Bytes;
use store_api::{Charge, KeyValue, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget, StoreError};

use crate::{
    history::{Value, Version},
    index::Item,
    shelf::Shelf,
    state::State,
};

/// Keys that are only counted cost a step so many times less than keys that are read.
const COUNTED: usize = 16;
/// Records that are asked for ahead of the one that is read: memory answers several questions in the time of one.
const WARMED: usize = 16;

/// What a key takes in an encoded answer beside its key and value: tags, lengths and the revisions, about.
const HEAD_BYTES: usize = 32;

/// A single key, the keys below an end, or every key from a start on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: RangeEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    Single,
    Below(Bytes),
    Open,
}

/// What an ordered map is asked for.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl KeyRange {
    /// etcd's way to say it: no `range_end` is the single key, `[0]` is no end.
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Below(range_end.clone()),
        };
        KeyRange { start: key.clone(), end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Below(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Open => key >= &self.start[..],
        }
    }

    /// Whether some key of the prefix is in the range.
    pub fn meets(&self, prefix: &[u8]) -> bool {
        let after_start = self.start[..] < *prefix || self.start.starts_with(prefix) || prefix.is_empty();
        match &self.end {
            RangeEnd::Single => self.start.starts_with(prefix),
            RangeEnd::Below(end) => after_start && end[..] > *prefix,
            RangeEnd::Open => after_start,
        }
    }

    /// The bounds for an ordered map; `None` if nothing can be in the range.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        let end = match &self.end {
            RangeEnd::Single => &[][..],
            RangeEnd::Below(end) => end,
            RangeEnd::Open => &[0],
        };
        bounds(&self.start, end, None)
    }
}

/// The bounds for an ordered map of what is asked as etcd does, from `after` on if given.
fn bounds<'a>(key: &'a [u8], range_end: &'a [u8], after: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    let start = after.map_or(Included(key), Excluded);
    match range_end {
        [] if after.is_some() => None,
        [] => Some((start, Included(key))),
        [0] => Some((start, Unbounded)),
        end if after.unwrap_or(key) >= end => None,
        end => Some((start, Excluded(end))),
    }
}

/// A range request on its way. Between steps the state may move on; a [`crate::Pin`] keeps what the query still needs.
pub struct RangeQuery {
    request: RangeRequest,
    /// The revision read at.
    at: Revision,
    /// The store's revision to report.
    revision: Revision,
    /// Keep at most so many; one more than the limit tells that there are more.
    keep: usize,
    after: Option<Bytes>,
    kvs: Vec<KeyValue>,
    shelf: Shelf,
    count: i64,
    /// Bytes that the answer takes, and how many it may.
    weight: usize,
    room: usize,
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    More,
    /// The answer has no room for the next key, which takes so many bytes.
    Full(usize),
}

impl RangeQuery {
    /// Fails where the revision is compacted or has not happened.
    pub fn new(state: &State, request: RangeRequest) -> Result<Self, StoreError> {
        let current = state.revision();
        let at = state.check_revision(request.revision)?;
        Ok(Self::at(request, at, current))
    }

    /// Reads at `at` without checking it: inside a transaction the newest revision is not yet the state's own.
    pub(crate) fn at(request: RangeRequest, at: Revision, revision: Revision) -> Self {
        let whole = request.sort_order != SortOrder::None
            || request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        let keep = match usize::try_from(request.limit) {
            _ if request.count_only => 0,
            Ok(limit) if limit > 0 && !whole => limit.saturating_add(1),
            _ => usize::MAX,
        };
        let shelf = Shelf::default();
        let (kvs, room) = (Vec::new(), usize::MAX);
        RangeQuery { request, at, revision, keep, after: None, kvs, shelf, count: 0, weight: 0, room }
    }

    /// Bounds the bytes that the answer may take. It may be raised after [`Progress::Full`].
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Bytes that the answer takes so far. What it shares with the state is not counted.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Visits at most `budget` keys.
    pub fn step(&mut self, state: &State, budget: usize) -> Progress {
        if self.request.range_end.is_empty() {
            return self.single(state);
        }
        let (mut left, after) = (budget, self.after.take());
        let Some(bounds) = bounds(&self.request.key, &self.request.range_end, after.as_deref()) else {
            return Progress::Done;
        };
        let values = !self.request.keys_only || self.request.sort_target == SortTarget::Value;
        let mut visited = None;
        for (items, newest) in state.space.range(bounds) {
            let mut items = items;
            while !items.is_empty() {
                if left == 0 {
                    self.after = visited.map(|(_, item)| key_of(state, item));
                    return Progress::More;
                }
                if self.request.skip_count && self.keep > 0 && self.kvs.len() == self.keep {
                    return Progress::Done;
                }
                // What is read one by one, and what is only to be counted and has no version newer than the query's.
                let (read, count) = match self.keep - self.kvs.len() {
                    0 if newest <= self.at => (0, items.len().min(left.saturating_mul(COUNTED))),
                    0 => (items.len().min(left), 0),
                    room => (items.len().min(left).min(room), 0),
                };
                for (i, (_, item)) in items[..read].iter().enumerate() {
                    if i % WARMED == 0 {
                        items[i..read.min(i + WARMED)].iter().for_each(|(_, item)| state.space.warm(*item));
                    }
                    let Some(version) = state.space.history_of(*item).at(self.at) else { continue };
                    if self.kvs.len() < self.keep {
                        let needed = self.needed(&version, values);
                        if needed > self.room - self.weight {
                            let before = if i > 0 { Some(items[i - 1]) } else { visited };
                            self.after = before.map(|(_, item)| key_of(state, item)).or_else(|| after.clone());
                            return Progress::Full(needed);
                        }
                        self.weight += needed;
                        let key = self.shelf.copy(version.key);
                        let value = if values { self.shelf.value(version.value) } else { Bytes::new() };
                        self.kvs.push(version.with(key, value));
                    }
                    self.count += 1;
                }
                self.count += items[..count].iter().filter(|(_, item)| !item.is_dead()).count() as i64;
                left -= read + count.div_ceil(COUNTED);
                visited = items.get(read + count - 1).copied();
                items = &items[read + count..];
            }
        }
        Progress::Done
    }

    /// Bytes that a version adds to the answer.
    fn needed(&self, version: &Version<'_>, values: bool) -> usize {
        let value = match version.value {
            Value::Inline(value) if values => value.len(),
            _ => 0,
        };
        // The list doubles when it is full.
        let grown = if self.kvs.len() == self.kvs.capacity() { self.kvs.capacity().max(4) } else { 0 };
        version.key.len() + value + HEAD_BYTES + grown * size_of::<KeyValue>()
    }

    /// Reads the one key that is asked for.
    fn single(&mut self, state: &State) -> Progress {
        let history = state.space.history(&self.request.key);
        let Some(version) = history.and_then(|history| history.at(self.at)) else { return Progress::Done };
        if self.keep > 0 {
            let needed = self.needed(&version, true);
            if needed > self.room {
                return Progress::Full(needed);
            }
            self.weight = needed;
            self.kvs = vec![version.to_kv(&mut Shelf::exact(&version))];
        }
        self.count = 1;
        Progress::Done
    }

    /// Filters, sorts and cuts what the steps have found.
    pub fn finish(self) -> RangeResponse {
        let RangeQuery { request: r, mut kvs, count, revision, .. } = self;
        let within = |n: i64, min: i64, max: i64| (min == 0 || n >= min) && (max == 0 || n <= max);
        kvs.retain(|kv| {
            within(kv.mod_revision, r.min_mod_revision, r.max_mod_revision)
                && within(kv.create_revision, r.min_create_revision, r.max_create_revision)
        });
        // A sort target other than the key means ascending order also when no order is given.
        let order = match r.sort_order {
            SortOrder::None if r.sort_target != SortTarget::Key => SortOrder::Ascend,
            order => order,
        };
        match order {
            SortOrder::None => {}
            SortOrder::Ascend => kvs.sort_by(|a, b| compare(r.sort_target, a, b)),
            SortOrder::Descend => kvs.sort_by(|a, b| compare(r.sort_target, b, a)),
        }
        let limit = usize::try_from(r.limit).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if r.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { revision, kvs, more, count, charge: Charge::default() }
    }
}

fn key_of(state: &State, item: Item) -> Bytes {
    Bytes::copy_from_slice(state.space.history_of(item).get(0).key)
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
