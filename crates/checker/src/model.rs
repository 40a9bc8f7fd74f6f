//! etcd's key space as a sequential program: what an operation answers and changes when it runs alone.
//!
//! Changes come back as events with what was there before, so that they can be taken back: the search for the order of
//! writes goes forth and back over one state.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::history::{
    Answer, Compare, Delete, Event, Is, KeyValue, Keys, Put, Range, Request, Revision, Step, Target, Txn,
};

/// All keys at one revision.
#[derive(Clone, Debug, Default)]
pub struct State {
    keys: BTreeMap<String, KeyValue>,
    attached: BTreeMap<i64, BTreeSet<String>>,
    /// Of all keys and values; the order in which they came makes no difference to it.
    digest: u64,
}

impl State {
    pub fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub fn all(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values()
    }

    /// Equal states have equal digests.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The leases that hold keys.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.attached.keys().copied()
    }

    /// Runs a request that would make `revision` if it writes. Changes the state; [`State::undo`] takes that back.
    pub fn apply(&mut self, request: &Request, revision: Revision) -> (Answer, Vec<Event>) {
        let mut events = Vec::new();
        let answer = match request {
            Request::Range(range) => self.range(range),
            Request::Put(put) => self.put(put, revision, &mut events),
            Request::Delete(delete) => self.delete(delete, revision, &mut events),
            Request::Txn(txn) => self.txn(txn, revision, &mut events),
            Request::LeaseRevoke { lease } => {
                events = self.end_lease(*lease, revision);
                Answer::Done
            }
            Request::Compact { .. } => Answer::Done,
            Request::LeaseGrant { ttl, .. } => Answer::Lease { ttl: *ttl },
            Request::LeaseKeepAlive { .. } => Answer::Lease { ttl: 0 },
        };
        (answer, events)
    }

    /// Removes what is attached to a lease, as its end does.
    pub fn end_lease(&mut self, lease: i64, revision: Revision) -> Vec<Event> {
        let keys: Vec<String> = self.attached.get(&lease).into_iter().flatten().cloned().collect();
        keys.into_iter().map(|key| self.remove(key, revision)).collect()
    }

    /// Makes changes as they were seen.
    pub fn redo(&mut self, events: &[Event]) {
        for event in events {
            self.replace(&event.kv.key, (!event.deleted).then(|| event.kv.clone()));
        }
    }

    /// Takes the changes of the latest request back.
    pub fn undo(&mut self, events: &[Event]) {
        for event in events.iter().rev() {
            self.replace(&event.kv.key, event.prev.clone());
        }
    }

    /// What a range answers now.
    pub fn range(&self, range: &Range) -> Answer {
        let all: Vec<&KeyValue> = self.select(&range.keys).collect();
        let shown = if range.limit > 0 { range.limit as usize } else { usize::MAX };
        Answer::Range { count: all.len() as i64, kvs: all.into_iter().take(shown).cloned().collect() }
    }

    fn select<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = &'a KeyValue> {
        self.keys.range(keys.key.clone()..).map(|(_, kv)| kv).take_while(|kv| keys.contains(&kv.key))
    }

    fn put(&mut self, put: &Put, revision: Revision, events: &mut Vec<Event>) -> Answer {
        let prev = self.keys.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(0, |prev| prev.version) + 1,
            lease: put.lease,
        };
        self.replace(&put.key, Some(kv.clone()));
        events.push(Event { kv, deleted: false, prev: prev.clone() });
        Answer::Put { prev: prev.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &Delete, revision: Revision, events: &mut Vec<Event>) -> Answer {
        let keys: Vec<String> = self.select(&delete.keys).map(|kv| kv.key.clone()).collect();
        let gone: Vec<Event> = keys.into_iter().map(|key| self.remove(key, revision)).collect();
        let prev = gone.iter().filter(|_| delete.prev_kv).filter_map(|event| event.prev.clone()).collect();
        let deleted = gone.len() as i64;
        events.extend(gone);
        Answer::Delete { deleted, prev }
    }

    fn txn(&mut self, txn: &Txn, revision: Revision, events: &mut Vec<Event>) -> Answer {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let steps = if succeeded { &txn.success } else { &txn.failure };
        let run = |step: &Step| match step {
            Step::Range(range) => self.range(range),
            Step::Put(put) => self.put(put, revision, events),
            Step::Delete(delete) => self.delete(delete, revision, events),
        };
        Answer::Txn { succeeded, steps: steps.iter().map(run).collect() }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.keys.get(&compare.key);
        let number = |of: fn(&KeyValue) -> i64, with: &i64| Some(found.map_or(0, of).cmp(with));
        let order = match &compare.target {
            Target::Version(version) => number(|kv| kv.version, version),
            Target::CreateRevision(revision) => number(|kv| kv.create_revision, revision),
            Target::ModRevision(revision) => number(|kv| kv.mod_revision, revision),
            Target::Lease(lease) => number(|kv| kv.lease, lease),
            // etcd: a comparison of a missing key's value is false, whatever it asks.
            Target::Value(value) => found.map(|kv| kv.value.cmp(value)),
        };
        order.is_some_and(|order| match compare.is {
            Is::Equal => order.is_eq(),
            Is::Greater => order.is_gt(),
            Is::Less => order.is_lt(),
            Is::NotEqual => order.is_ne(),
        })
    }

    fn remove(&mut self, key: String, revision: Revision) -> Event {
        let prev = self.keys.get(&key).cloned();
        self.replace(&key, None);
        Event { kv: KeyValue { key, mod_revision: revision, ..KeyValue::default() }, deleted: true, prev }
    }

    fn replace(&mut self, key: &str, with: Option<KeyValue>) {
        if let Some(old) = self.keys.remove(key) {
            self.digest ^= digest(&old);
            if let Some(keys) = self.attached.get_mut(&old.lease) {
                keys.remove(key);
                if keys.is_empty() {
                    self.attached.remove(&old.lease);
                }
            }
        }
        if let Some(kv) = with {
            self.digest ^= digest(&kv);
            if kv.lease != 0 {
                self.attached.entry(kv.lease).or_default().insert(key.to_owned());
            }
            self.keys.insert(key.to_owned(), kv);
        }
    }
}

fn digest(kv: &KeyValue) -> u64 {
    let mut hasher = DefaultHasher::new();
    kv.hash(&mut hasher);
    hasher.finish()
}
