//! One key's versions, oldest first, as readers see them.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use store_api::{KeyValue, Revision};

use crate::{record::Facts, shelf::Shelf, slab::Ref, versions::Versions};

/// A value where it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// To be copied.
    Inline(&'a [u8]),
    /// To be shared.
    Shared(&'a Bytes),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Inline(value) => value,
            Value::Shared(value) => value,
        }
    }
}

/// A write of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    pub key: &'a [u8],
    pub facts: Facts,
    pub value: Value<'a>,
}

impl Version<'_> {
    pub fn to_kv(self, shelf: &mut Shelf) -> KeyValue {
        let key = shelf.copy(self.key);
        let value = shelf.value(self.value);
        self.with(key, value)
    }

    /// The version with copies of its key and value that somebody else made.
    pub fn with(self, key: Bytes, value: Bytes) -> KeyValue {
        key_value(&self.facts, key, value)
    }
}

pub(crate) fn key_value(facts: &Facts, key: Bytes, value: Bytes) -> KeyValue {
    let Facts { revision, create, version, lease, .. } = *facts;
    KeyValue { key, value, create_revision: create, mod_revision: revision, version, lease }
}

/// Never empty.
#[derive(Clone, Copy)]
pub(crate) struct History<'a> {
    pub versions: &'a Versions,
    pub refs: Refs<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Refs<'a> {
    One(Ref),
    Many(&'a VecDeque<Ref>),
}

impl<'a> History<'a> {
    pub fn len(&self) -> usize {
        match self.refs {
            Refs::One(_) => 1,
            Refs::Many(refs) => refs.len(),
        }
    }

    pub fn get(&self, i: usize) -> Version<'a> {
        self.versions.get(match self.refs {
            Refs::One(one) => one,
            Refs::Many(refs) => refs[i],
        })
    }

    /// Position of a version.
    pub fn position(&self, of: Ref) -> Option<usize> {
        match self.refs {
            Refs::One(one) => Some(0).filter(|_| one == of),
            Refs::Many(refs) => {
                let at = |r: &Ref| self.versions.when(*r);
                refs.binary_search_by_key(&self.versions.when(of), at).ok().filter(|i| refs[*i] == of)
            }
        }
    }

    /// What a reader at `revision` sees.
    pub fn at(&self, revision: Revision) -> Option<Version<'a>> {
        let newest = self.get(self.len() - 1);
        let version = match newest.facts.revision <= revision {
            true => newest,
            false => self.get(self.up_to(revision).checked_sub(1)?),
        };
        Some(version).filter(|v| !v.facts.tombstone)
    }

    /// The versions that a compaction at `compacted` leaves: what a reader there sees, and everything newer. A
    /// tombstone survives only on the very revision, where a watcher may still start.
    pub fn surviving(&self, compacted: Revision) -> Range<usize> {
        let newer = self.up_to(compacted);
        let keep = match newer.checked_sub(1).map(|i| self.get(i).facts) {
            Some(last) if !last.tombstone || last.revision == compacted => newer - 1,
            _ => newer,
        };
        keep..self.len()
    }

    /// How many versions have a revision of at most `revision`.
    pub fn up_to(&self, revision: Revision) -> usize {
        match self.refs {
            Refs::One(one) => usize::from(self.versions.when(one).0 <= revision),
            Refs::Many(refs) => refs.partition_point(|r| self.versions.when(*r).0 <= revision),
        }
    }
}
