//! The keys that are held, and how much they take.
//!
//! Knows no store and no waiting.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use store_api::{Event, EventKind, KeyValue, Revision};

use crate::{CacheError, LimitKind, Limits, Page};

/// Memory of a key beside its bytes: the map's node, and the counts of the byte strings.
const OVERHEAD: u64 = 192;

/// A prefix at one revision.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub revision: Revision,
    map: BTreeMap<Bytes, KeyValue>,
    bytes: u64,
}

impl Content {
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.map.get(key)
    }

    /// Keys from `start` on and before `end` (empty: to the end), at most `limit`.
    pub fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Page {
        if !end.is_empty() && start >= end {
            return Page::default();
        }
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let mut found = self.map.range::<[u8], _>((Bound::Included(start), upper));
        let kvs: Vec<KeyValue> = found.by_ref().take(limit).map(|(_, kv)| kv.clone()).collect();
        Page { more: found.next().is_some(), kvs }
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn insert(&mut self, kv: KeyValue, limits: &Limits) -> Result<(), CacheError> {
        self.bytes += size(&kv);
        if let Some(before) = self.map.insert(kv.key.clone(), kv) {
            self.bytes -= size(&before);
        }
        if self.map.len() > limits.keys {
            return Err(CacheError::TooLarge { kind: LimitKind::Keys, limit: limits.keys as u64 });
        }
        if self.bytes > limits.bytes {
            return Err(CacheError::TooLarge { kind: LimitKind::Bytes, limit: limits.bytes });
        }
        Ok(())
    }

    pub fn apply(&mut self, events: &[std::sync::Arc<Event>], limits: &Limits) -> Result<(), CacheError> {
        for event in events {
            match event.kind {
                EventKind::Put => self.insert(event.kv.clone(), limits)?,
                EventKind::Delete => {
                    if let Some(before) = self.map.remove(&event.kv.key) {
                        self.bytes -= size(&before);
                    }
                }
            }
        }
        Ok(())
    }
}

fn size(kv: &KeyValue) -> u64 {
    OVERHEAD + (kv.key.len() + kv.value.len()) as u64
}
