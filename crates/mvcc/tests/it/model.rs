//! The obviously right store: slow, and without any structure that could be wrong.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mvcc::{Command, KeyRange};
use store_api::*;

pub type Keys = BTreeMap<Bytes, KeyValue>;

pub struct Model {
    /// What each revision looked like; the index is the revision. Revision 0 does not exist.
    pub copies: Vec<Keys>,
    /// Every event, with its revision in `kv.mod_revision`.
    pub events: Vec<Event>,
    pub compacted: Revision,
    pub leases: BTreeSet<LeaseId>,
}

impl Default for Model {
    fn default() -> Self {
        let copies = vec![Keys::new(), Keys::new()];
        Model { copies, events: Vec::new(), compacted: 0, leases: BTreeSet::new() }
    }
}

impl Model {
    pub fn revision(&self) -> Revision {
        self.copies.len() as Revision - 1
    }

    pub fn now(&self) -> &Keys {
        self.copies.last().unwrap()
    }

    /// Does the command; `false` where it must fail.
    pub fn apply(&mut self, command: &Command) -> bool {
        let mut keys = self.now().clone();
        let before = self.events.len();
        let done = match command {
            Command::Put(put) => self.allowed(put) && self.put(&mut keys, put),
            Command::DeleteRange(delete) => self.delete(&mut keys, &KeyRange::new(&delete.key, &delete.range_end)),
            Command::Txn(txn) => {
                let mut chosen = Vec::new();
                self.choose(txn, &mut chosen) && chosen.iter().all(|op| self.write(&mut keys, op))
            }
            Command::Compact(revision) => {
                let fits = *revision > self.compacted && *revision <= self.revision();
                self.compacted = if fits { *revision } else { self.compacted };
                fits
            }
            Command::LeaseGrant { id, .. } => self.leases.insert(*id),
            Command::LeaseRevoke { id } => {
                let attached: Vec<_> = keys.values().filter(|kv| kv.lease == *id).map(|kv| kv.key.clone()).collect();
                let lives = self.leases.remove(id);
                for key in attached.iter().filter(|_| lives) {
                    self.delete(&mut keys, &KeyRange::new(key, &Bytes::new()));
                }
                lives
            }
            // What was left is for whoever watches over time.
            Command::LeaseCheckpoint(_) => true,
        };
        if self.events.len() > before {
            self.copies.push(keys);
        }
        done
    }

    /// Flattens the branches taken; all comparisons see the state before.
    fn choose(&self, txn: &TxnRequest, chosen: &mut Vec<RequestOp>) -> bool {
        let ops = if txn.compare.iter().all(|c| self.holds(c)) { &txn.success } else { &txn.failure };
        ops.iter().all(|op| match op {
            RequestOp::Txn(txn) => self.choose(txn, chosen),
            op => {
                chosen.push(op.clone());
                match op {
                    RequestOp::Put(put) => self.allowed(put),
                    RequestOp::Range(range) => range.revision <= self.revision() && self.readable(range.revision),
                    _ => true,
                }
            }
        })
    }

    pub fn readable(&self, revision: Revision) -> bool {
        revision == 0 || revision >= self.compacted
    }

    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let missing = [KeyValue::default()];
        let found: Vec<_> = self.now().values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        if found.is_empty() && matches!(compare.target, CompareTarget::Value(_)) {
            return false;
        }
        let kvs = if found.is_empty() { &missing[..] } else { &found[..] };
        kvs.iter().all(|kv| {
            let order = match &compare.target {
                CompareTarget::Version(n) => kv.version.cmp(n),
                CompareTarget::CreateRevision(n) => kv.create_revision.cmp(n),
                CompareTarget::ModRevision(n) => kv.mod_revision.cmp(n),
                CompareTarget::Value(value) => kv.value.cmp(value),
                CompareTarget::Lease(n) => kv.lease.cmp(n),
            };
            match compare.result {
                CompareResult::Equal => order.is_eq(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
            }
        })
    }

    fn allowed(&self, put: &PutRequest) -> bool {
        let needs_key = put.ignore_value || put.ignore_lease;
        (!needs_key || self.now().contains_key(&put.key)) && (put.lease == 0 || self.leases.contains(&put.lease))
    }

    fn write(&mut self, keys: &mut Keys, op: &RequestOp) -> bool {
        match op {
            RequestOp::Put(put) => self.put(keys, put),
            RequestOp::DeleteRange(delete) => self.delete(keys, &KeyRange::new(&delete.key, &delete.range_end)),
            _ => true,
        }
    }

    fn put(&mut self, keys: &mut Keys, put: &PutRequest) -> bool {
        let revision = self.revision() + 1;
        let prev_kv = keys.get(&put.key).cloned();
        let prev = prev_kv.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value { prev.value } else { put.value.clone() },
            create_revision: if prev.version == 0 { revision } else { prev.create_revision },
            mod_revision: revision,
            version: prev.version + 1,
            lease: if put.ignore_lease { prev.lease } else { put.lease },
        };
        keys.insert(put.key.clone(), kv.clone());
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv });
        true
    }

    fn delete(&mut self, keys: &mut Keys, range: &KeyRange) -> bool {
        let mod_revision = self.revision() + 1;
        let gone: Vec<_> = keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        for prev in gone {
            keys.remove(&prev.key);
            let kv = KeyValue { key: prev.key.clone(), mod_revision, ..Default::default() };
            self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(prev) });
        }
        true
    }
}
