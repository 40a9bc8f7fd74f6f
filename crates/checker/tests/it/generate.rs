//! Histories of a store that is right: one order of operations is run alone on the model, and then spread out in time, so
//! that calls overlap, answers are lost, reads are late, and watches get what happened in portions of all kinds.

use std::collections::BTreeMap;

use checker::{
    History,
    history::{
        Answer, Compare, Delete, Event, Hash, Is, Keys, Micros, Operation, Outcome, Put, Range, Request, Response,
        Revision, Settings, Step, Target, Txn, Watch, WatchResponse,
    },
    model::State,
};

/// A small generator of numbers (SplitMix64): the same seed gives the same history.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, without it.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }
}

#[derive(Clone, Copy)]
pub struct Shape {
    pub operations: usize,
    pub clients: u32,
    pub keys: u64,
    /// Of a hundred, how many answers are lost.
    pub lost: u64,
    pub watches: usize,
    /// Old states are kept, so that serializable reads may be late.
    pub late_reads: bool,
}

pub const SMALL: Shape = Shape { operations: 120, clients: 5, keys: 4, lost: 15, watches: 6, late_reads: true };

const SECOND: Micros = 1_000_000;

pub fn history(seed: u64, shape: Shape) -> History {
    let mut world = World {
        dice: Dice(seed),
        shape,
        now: 10_000,
        revision: 1,
        state: State::default(),
        states: BTreeMap::from([(1, State::default())]),
        changes: Vec::new(),
        free: vec![0; shape.clients as usize],
        newest: vec![1; shape.clients as usize],
        leases: BTreeMap::new(),
        values: 0,
        history: History {
            settings: Settings { name: format!("seed {seed}"), lease_late: 2 * SECOND, ..Settings::default() },
            ..History::default()
        },
    };
    for _ in 0..shape.operations {
        world.step();
    }
    for id in 0..shape.watches {
        world.watch(id as u64);
    }
    let mut history = world.history;
    // The list's order means nothing, and the checks must not rely on it.
    for last in (1..history.operations.len()).rev() {
        history.operations.swap(last, world.dice.within(0, last as u64 + 1) as usize);
    }
    history
}

struct World {
    dice: Dice,
    shape: Shape,
    now: Micros,
    revision: Revision,
    state: State,
    states: BTreeMap<Revision, State>,
    changes: Vec<(Micros, Revision, Vec<Event>)>,
    /// When each client may ask again, and the newest revision that it knows of its member.
    free: Vec<Micros>,
    newest: Vec<Revision>,
    /// When the lease was last renewed.
    leases: BTreeMap<i64, Micros>,
    values: u64,
    history: History,
}

impl World {
    fn step(&mut self) {
        self.now += self.dice.within(1_000, 20_000);
        self.expire();
        let client = self.dice.within(0, self.shape.clients.into()) as usize;
        if self.free[client] + 40_000 >= self.now {
            return;
        }
        let request = self.request();
        let unknown = self.dice.chance(self.shape.lost);
        let earliest = (self.free[client] + 1).max(self.now.saturating_sub(60_000));
        let (invoked, returned) = if unknown && self.dice.chance(40) {
            // It happens after the client has given up.
            (earliest, self.dice.within(earliest + 1, self.now))
        } else {
            (self.dice.within(earliest, self.now), self.now + self.dice.within(1, 60_000))
        };
        self.free[client] = returned;
        let outcome = if unknown && self.dice.chance(40) {
            Outcome::Unknown("it never arrived".to_owned())
        } else {
            let response = self.run(client, &request);
            if unknown { Outcome::Unknown("the answer was lost".to_owned()) } else { Outcome::Done(response) }
        };
        let (id, member) = (self.history.operations.len() as u64, client as u64 % 3 + 1);
        let client = client as u32;
        self.history.operations.push(Operation { id, client, member, invoked, returned, request, outcome });
    }

    fn request(&mut self) -> Request {
        let key = format!("k/{}", self.dice.within(0, self.shape.keys));
        self.values += 1;
        let (value, prev_kv) = (format!("v{}", self.values), self.dice.chance(30));
        let range = |keys| Range { keys, revision: 0, serializable: false, limit: 0 };
        match self.dice.within(0, 100) {
            0..30 => Request::Put(Put { key, value, lease: 0, prev_kv }),
            30..45 => Request::Range(range(Keys::one(key))),
            45..50 => Request::Range(Range { limit: 2, ..range(Keys::prefix("k/")) }),
            50..60 => Request::Range(Range { serializable: true, ..range(Keys::one(key)) }),
            60..63 if self.shape.late_reads => {
                let revision = self.dice.within(1, self.revision as u64 + 1) as Revision;
                Request::Range(Range { revision, ..range(Keys::all()) })
            }
            63..70 => Request::Delete(Delete { keys: Keys::one(key), prev_kv }),
            70..72 => Request::Delete(Delete { keys: Keys::prefix("k/"), prev_kv }),
            72..88 => self.txn(key, value),
            88..91 => {
                let lease = self.values as i64;
                Request::LeaseGrant { lease, ttl: 1 }
            }
            91..94 => match self.any_lease() {
                Some(lease) => Request::LeaseKeepAlive { lease },
                None => Request::Range(range(Keys::all())),
            },
            94..95 => match self.any_lease() {
                Some(lease) => Request::LeaseRevoke { lease },
                None => Request::Range(range(Keys::all())),
            },
            _ => match self.any_lease() {
                Some(lease) => Request::Put(Put { key: format!("l/{lease}/{}", self.values), value, lease, prev_kv }),
                None => Request::Put(Put { key, value, lease: 0, prev_kv }),
            },
        }
    }

    fn any_lease(&mut self) -> Option<i64> {
        let all: Vec<i64> = self.leases.keys().copied().collect();
        (!all.is_empty()).then(|| all[self.dice.within(0, all.len() as u64) as usize])
    }

    /// Compare and put, sometimes with an old revision.
    fn txn(&mut self, key: String, value: String) -> Request {
        let known = self.state.get(&key).map_or(0, |kv| kv.mod_revision);
        let expected = if self.dice.chance(70) { known } else { known + 1 };
        let read = Range { keys: Keys::one(key.clone()), revision: 0, serializable: false, limit: 0 };
        let put = Step::Put(Put { key: key.clone(), value, lease: 0, prev_kv: false });
        let other =
            Step::Put(Put { key: "k/txn".to_owned(), value: format!("t{}", self.values), lease: 0, prev_kv: true });
        let success = if self.dice.chance(30) { vec![put, other, Step::Range(read.clone())] } else { vec![put] };
        let compare = vec![Compare { key, is: Is::Equal, target: Target::ModRevision(expected) }];
        Request::Txn(Txn { compare, success, failure: vec![Step::Range(read)] })
    }

    /// Runs a request at this moment.
    fn run(&mut self, client: usize, request: &Request) -> Response {
        if let Request::Range(range) = request {
            let header = if range.serializable && self.shape.late_reads {
                self.dice.within(self.newest[client].max(self.revision - 5) as u64, self.revision as u64 + 1)
                    as Revision
            } else {
                self.revision
            };
            self.newest[client] = header;
            let at = if range.revision > 0 { range.revision } else { header };
            let state = self.states.get(&at).unwrap_or(&self.state);
            return Response { revision: header, answer: state.range(range) };
        }
        match request {
            Request::LeaseGrant { lease, .. } => drop(self.leases.insert(*lease, self.now)),
            Request::LeaseKeepAlive { lease } => {
                let alive = self.leases.contains_key(lease);
                self.leases.entry(*lease).and_modify(|at| *at = self.now);
                return Response { revision: self.revision, answer: Answer::Lease { ttl: alive.into() } };
            }
            Request::LeaseRevoke { lease } => drop(self.leases.remove(lease)),
            _ => {}
        }
        let (answer, events) = self.state.apply(request, self.revision + 1);
        self.commit(events);
        self.newest[client] = self.revision;
        Response { revision: self.revision, answer }
    }

    fn commit(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        if self.shape.late_reads {
            self.states.insert(self.revision, self.state.clone());
        }
        self.changes.push((self.now, self.revision, events));
    }

    fn expire(&mut self) {
        let over = |at: Micros| at + SECOND + 200_000 < self.now;
        let ended: Vec<i64> = self.leases.iter().filter(|(_, at)| over(**at)).map(|(lease, _)| *lease).collect();
        for lease in ended {
            self.leases.remove(&lease);
            let events = self.state.end_lease(lease, self.revision + 1);
            self.commit(events);
        }
        if self.dice.chance(5) {
            let hash = |member| Hash {
                at: self.now,
                member,
                revision: self.revision,
                compact_revision: 0,
                hash: self.state.digest() as u32,
            };
            self.history.hashes.extend([1, 2, 3].map(hash));
        }
    }

    fn watch(&mut self, id: u64) {
        // One watch sees it all from the beginning, as in every run of the real test.
        let all = id == 0;
        let keys = match self.dice.within(0, 3) {
            _ if all => Keys::all(),
            0 => Keys::all(),
            1 => Keys::prefix("k/"),
            _ => Keys::one(format!("k/{}", self.dice.within(0, self.shape.keys))),
        };
        let created = self.dice.within(1, self.revision as u64 + 1) as Revision;
        let start = if all {
            2
        } else if self.dice.chance(50) {
            0
        } else {
            self.dice.within(1, created as u64 + 2) as Revision
        };
        let mut watch = Watch {
            id,
            client: 100 + id as u32,
            member: 1,
            keys,
            start,
            prev_kv: self.dice.chance(60),
            fragment: self.dice.chance(30),
            no_put: !all && self.dice.chance(10),
            no_delete: !all && self.dice.chance(10),
            responses: vec![WatchResponse {
                at: self.now,
                revision: created,
                created: true,
                ..WatchResponse::default()
            }],
        };
        let from = watch.from().expect("it is created");
        let until = self.dice.within(from as u64, self.revision as u64 + 1) as Revision;
        let until = if all { self.revision } else { until };
        let mut portion: Vec<Event> = Vec::new();
        let changes: Vec<_> = self.changes.iter().filter(|(_, r, _)| (from..=until).contains(r)).cloned().collect();
        for (at, revision, events) in changes {
            let wanted = events.into_iter().filter(|event| watch.wants(event));
            let known = |event: Event| if watch.prev_kv { event } else { Event { prev: None, ..event } };
            let mut wanted: Vec<Event> = wanted.map(known).collect();
            if watch.fragment && wanted.len() > 1 && self.dice.chance(50) {
                let rest = wanted.split_off(1);
                portion.append(&mut wanted);
                watch.responses.push(response(at, revision, std::mem::take(&mut portion), true));
                wanted = rest;
            }
            portion.append(&mut wanted);
            if !portion.is_empty() && self.dice.chance(60) {
                watch.responses.push(response(at, revision, std::mem::take(&mut portion), false));
            }
            if portion.is_empty() && self.dice.chance(20) {
                watch.responses.push(response(at, revision, Vec::new(), false));
            }
        }
        self.history.watches.push(watch);
    }
}

fn response(at: Micros, revision: Revision, events: Vec<Event>, fragment: bool) -> WatchResponse {
    WatchResponse { at, revision, events, fragment, ..WatchResponse::default() }
}
