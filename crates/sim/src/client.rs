//! A client: one operation at a time on a few keys, leases that it keeps alive for a while, and one watch that goes on at
//! another member when its connection breaks. Decides what is asked; the world carries it.

use std::collections::{BTreeMap, VecDeque};

use checker::history::{
    Answer, Compare, Delete, Is, Keys, Outcome, Put, Range, Request, Revision, Step, Target, Txn, Watch,
};

use crate::{member::Micros, random::Random};

const KEYS: u64 = 6;
/// A lease is renewed after this part of its time.
const RENEW_PART: u64 = 3;

pub struct Client {
    pub id: u32,
    random: Random,
    pub busy: Option<Busy>,
    /// What it saw last of each key.
    seen: BTreeMap<String, Revision>,
    newest: Revision,
    leases: VecDeque<Held>,
    next_lease: i64,
    next_value: u64,
    pub watch: Option<Watching>,
    /// Where its next watch begins.
    pub resume: Revision,
    /// Writes that succeeded.
    pub written: u64,
    /// Versions of keys that move, as it has heard of them last.
    pub versions: BTreeMap<String, i64>,
    /// Versions that its watch goes on from; none before it has read a list.
    pub told: Option<BTreeMap<String, i64>>,
    /// Requests on keys that move.
    pub wanders: u64,
}

/// An operation without an answer yet.
pub struct Busy {
    pub operation: u64,
    pub node: u64,
    pub incarnation: u64,
    pub invoked: Micros,
    pub request: Request,
}

struct Held {
    id: i64,
    ttl: Micros,
    renew_at: Micros,
    renewals: u64,
}

pub struct Watching {
    pub node: u64,
    pub incarnation: u64,
    pub group: u32,
    pub record: Watch,
    /// What was sent to it arrives in order.
    pub last_at: Micros,
}

impl Client {
    pub fn new(id: u32, random: Random) -> Self {
        Client {
            id,
            random,
            busy: None,
            seen: BTreeMap::new(),
            newest: 0,
            leases: VecDeque::new(),
            next_lease: i64::from(id) * 1_000_000,
            next_value: 0,
            watch: None,
            resume: 0,
            written: 0,
            versions: BTreeMap::new(),
            told: None,
            wanders: 0,
        }
    }

    /// What it watches: some of each group see one key only.
    pub fn watched(&self, groups: u32) -> Keys {
        if (self.id / groups).is_multiple_of(3) { Keys::one("k0") } else { Keys::prefix("k") }
    }

    /// The next thing to ask for.
    pub fn choose(&mut self, now: Micros) -> Request {
        if let Some(due) = self.leases.iter().position(|held| held.renew_at <= now)
            && let Some(held) = self.leases.get_mut(due)
        {
            held.renew_at = now + held.ttl / RENEW_PART;
            held.renewals = held.renewals.saturating_sub(1);
            let lease = held.id;
            if held.renewals == 0 {
                self.leases.remove(due);
            }
            return Request::LeaseKeepAlive { lease };
        }
        match self.random.below(100) {
            0..28 => self.put(),
            28..50 => self.get(false),
            50..60 => self.get(true),
            60..68 => self.delete(),
            68..86 => self.compare_and_put(),
            86..92 => self.grant(now),
            92..94 => self.old(),
            94..97 => self.revoke(),
            _ => Request::Compact { revision: (self.newest - self.random.below(8) as i64).max(1) },
        }
    }

    /// The next thing to ask for of keys that move.
    pub fn wander(&mut self) -> Request {
        self.wanders += 1;
        match self.told {
            None => crate::nomads::list(self.id),
            Some(_) => crate::nomads::choose(self.id, self.wanders, &self.versions, &mut self.random),
        }
    }

    /// Learns from an answer of keys that move.
    pub fn learn_nomads(&mut self, request: &Request, response: &checker::history::Response) {
        match (request, &response.answer) {
            (Request::Txn(txn), Answer::Txn { succeeded: true, .. }) => {
                self.written += 1;
                for compare in &txn.compare {
                    *self.versions.entry(compare.key.clone()).or_default() += 1;
                }
            }
            (_, answer) => {
                let found = answer.kvs().into_iter().map(|kv| (kv.key.clone(), kv.version));
                let found: BTreeMap<String, i64> = found.collect();
                if self.told.is_none() && *request == crate::nomads::list(self.id) {
                    self.told = Some(found.clone());
                    self.resume = response.revision + 1;
                }
                self.versions.extend(found);
            }
        }
    }

    /// A read of the present.
    pub fn look(&mut self) -> Request {
        self.get(false)
    }

    /// What is read at a run's end.
    pub fn last_look(&self) -> Request {
        Request::Range(Range { keys: Keys::prefix("k"), revision: 0, serializable: false, limit: 0 })
    }

    fn key(&mut self) -> String {
        format!("k{}", self.random.below(KEYS))
    }

    fn value(&mut self) -> String {
        self.next_value += 1;
        // Some take several sectors, so that they can be torn.
        let filler = if self.random.chance(150) { self.random.between(500, 3000) } else { self.random.between(1, 120) };
        format!("{}.{}.{}", self.id, self.next_value, "x".repeat(filler as usize))
    }

    fn put(&mut self) -> Request {
        let (key, value) = (self.key(), self.value());
        let lease = if self.random.chance(300) { self.leases.back().map_or(0, |held| held.id) } else { 0 };
        let prev_kv = self.random.chance(200);
        Request::Put(Put { key, value, lease, prev_kv })
    }

    fn get(&mut self, serializable: bool) -> Request {
        let keys = if self.random.chance(500) { Keys::one(self.key()) } else { Keys::prefix("k") };
        Request::Range(Range { keys, revision: 0, serializable, limit: 0 })
    }

    /// Reads the past.
    fn old(&mut self) -> Request {
        let revision = (self.newest - self.random.below(6) as i64).max(1);
        Request::Range(Range { keys: Keys::prefix("k"), revision, serializable: false, limit: 0 })
    }

    fn delete(&mut self) -> Request {
        let key = self.key();
        let end = if self.random.chance(200) { format!("k{}", self.random.below(KEYS)) } else { String::new() };
        let keys = if end > key { Keys { key, end } } else { Keys::one(key) };
        Request::Delete(Delete { keys, prev_kv: self.random.chance(200) })
    }

    fn compare_and_put(&mut self) -> Request {
        let (key, value) = (self.key(), self.value());
        let known = self.seen.get(&key).copied().unwrap_or(0);
        let compare = vec![Compare { key: key.clone(), is: Is::Equal, target: Target::ModRevision(known) }];
        let success = vec![Step::Put(Put { key: key.clone(), value, lease: 0, prev_kv: false })];
        let range = Range { keys: Keys::one(key), revision: 0, serializable: false, limit: 0 };
        Request::Txn(Txn { compare, success, failure: vec![Step::Range(range)] })
    }

    fn grant(&mut self, now: Micros) -> Request {
        self.next_lease += 1;
        let (id, ttl) = (self.next_lease, self.random.between(1, 4));
        let (ttl_micros, renewals) = (ttl * 1_000_000, self.random.between(1, 12));
        self.leases.push_back(Held { id, ttl: ttl_micros, renew_at: now + ttl_micros / RENEW_PART, renewals });
        Request::LeaseGrant { lease: id, ttl: ttl as i64 }
    }

    fn revoke(&mut self) -> Request {
        match self.leases.pop_front() {
            Some(held) => Request::LeaseRevoke { lease: held.id },
            None => self.get(false),
        }
    }

    /// It renews nothing from now on.
    pub fn let_go(&mut self) {
        self.leases.clear();
    }

    /// Learns from an answer.
    pub fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Done(response) = outcome else { return };
        self.newest = self.newest.max(response.revision);
        self.written += u64::from(response.answer.writes());
        match (request, &response.answer) {
            (Request::Put(put), _) => {
                self.seen.insert(put.key.clone(), response.revision);
            }
            (Request::LeaseKeepAlive { lease }, Answer::Lease { ttl: 0 }) => self.leases.retain(|h| h.id != *lease),
            (Request::Txn(txn), Answer::Txn { succeeded, .. }) => {
                for compare in &txn.compare {
                    let kv = response.answer.kvs().first().map_or(0, |kv| kv.mod_revision);
                    self.seen.insert(compare.key.clone(), if *succeeded { response.revision } else { kv });
                }
            }
            _ => {
                for kv in response.answer.kvs() {
                    self.seen.insert(kv.key.clone(), kv.mod_revision);
                }
            }
        }
    }
}
