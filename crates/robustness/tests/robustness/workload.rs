//! What the clients do: puts, reads of all kinds, deletes, compare-and-put, compaction, leases; and who watches them.

use std::time::Duration;

use checker::history::{Answer, Compare, Delete, Is, Keys, Outcome, Put, Range, Request, Revision, Step, Target, Txn};
use runtime::{Tasks, entropy};
use tokio::sync::watch;

use crate::{
    client::Client,
    record::Recorder,
    watcher::{self, Wish},
};

/// Clients of keys; two more have leases.
const CLIENTS: u32 = 8;
const LEASE_CLIENTS: u32 = 2;
const KEYS: u64 = 10;
/// The longest pause between a client's operations: the machine is not to be the fault that is tested.
const PAUSE_MS: u64 = 8;
/// A lease's seconds, how often it is renewed, and the longest life that its client gives it.
const TTL: i64 = 2;
const RENEWALS: Duration = Duration::from_millis(500);
const MAX_RENEWALS: u64 = 5;
/// Revisions that compaction leaves.
const KEPT: Revision = 400;
/// How long a client looks for an ended lease's keys to go before it turns to the next; the checker knows the bound.
const LOOKS: u32 = 60;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

pub struct Workload {
    tasks: Tasks,
    watchers: Tasks,
    until: watch::Sender<Option<Revision>>,
}

impl Workload {
    /// Starts clients and watchers. Values have `filling` bytes more than they need.
    pub fn start(urls: &[String], recorder: &Recorder, seed: u64, filling: usize, cheats: bool) -> Self {
        let (tasks, watchers) = (Tasks::root(), Tasks::root());
        let (until, wanted) = watch::channel(None);
        for id in 0..CLIENTS {
            let mut client = Client::new(id, urls, recorder);
            client.cheats = cheats;
            let (dice, stop) = (Dice(seed ^ (u64::from(id) << 32)), tasks.stopping());
            tasks.spawn_to_end("client", async move {
                let mut keys = KeyClient { client, dice, filling, newest: 0 };
                while !stop.is_cancelled() {
                    keys.step().await;
                }
            });
        }
        for id in CLIENTS..CLIENTS + LEASE_CLIENTS {
            let client = Client::new(id, urls, recorder);
            let (dice, stop) = (Dice(seed ^ (u64::from(id) << 32)), tasks.stopping());
            tasks.spawn_to_end("leases", async move {
                let mut leases = LeaseClient { client, dice };
                while !stop.is_cancelled() {
                    leases.life(&stop).await;
                }
            });
        }
        for wish in wishes(urls) {
            watchers.spawn("watcher", watcher::run(wish, recorder.clone(), wanted.clone()));
        }
        Workload { tasks, watchers, until }
    }

    /// Ends the clients, each after its present operation.
    pub async fn stop(&self, limit: Duration) {
        self.tasks.stop();
        assert!(self.tasks.join(limit).await, "the clients did not end within {limit:?}");
    }

    /// Waits until every watch has passed `revision`.
    pub async fn watched(&self, revision: Revision, limit: Duration) {
        self.until.send_replace(Some(revision));
        assert!(self.watchers.join(limit).await, "not every watch has passed revision {revision} within {limit:?}");
    }
}

/// Everything at each member, and some that see less.
fn wishes(urls: &[String]) -> Vec<Wish> {
    let all = |client: u32, url: &String| Wish {
        client,
        url: url.clone(),
        keys: Keys::all(),
        start: 2,
        prev_kv: true,
        fragment: false,
        no_delete: false,
    };
    let mut wishes: Vec<Wish> = urls.iter().enumerate().map(|(n, url)| all(100 + n as u32, url)).collect();
    wishes.extend(urls.iter().zip(103..).map(|(url, client)| Wish { fragment: true, ..all(client, url) }));
    wishes.push(Wish { keys: Keys::prefix("k/"), start: 0, ..all(110, &urls[0]) });
    wishes.push(Wish { keys: Keys::one("k/1"), start: 0, prev_kv: false, no_delete: true, ..all(111, &urls[1]) });
    wishes
}

struct KeyClient {
    client: Client,
    dice: Dice,
    filling: usize,
    /// The newest revision that it has seen.
    newest: Revision,
}

impl KeyClient {
    async fn step(&mut self) {
        let request = self.request();
        let outcome = self.client.ask(request).await;
        let Outcome::Done(response) = outcome else { return };
        self.newest = self.newest.max(response.revision);
        if let Answer::Range { kvs, .. } = &response.answer
            && let [kv] = kvs.as_slice()
            && self.dice.chance(50)
        {
            let request = self.compare_and_put(kv.key.clone(), kv.mod_revision);
            self.client.ask(request).await;
        }
        tokio::time::sleep(Duration::from_millis(self.dice.below(PAUSE_MS))).await;
    }

    fn request(&mut self) -> Request {
        let key = format!("k/{}", self.dice.below(KEYS));
        let range = |keys| Range { keys, revision: 0, serializable: false, limit: 0 };
        let prev_kv = self.dice.chance(30);
        match self.dice.below(1000) {
            0..400 => Request::Put(Put { value: self.value(), key, lease: 0, prev_kv }),
            400..600 => Request::Range(range(Keys::one(key))),
            600..700 => Request::Range(Range { serializable: true, ..range(Keys::one(key)) }),
            700..750 => Request::Range(range(Keys::prefix("k/"))),
            750..780 => Request::Range(Range { limit: 3, serializable: true, ..range(Keys::all()) }),
            780..810 => {
                let revision = (self.newest - self.dice.below(50) as Revision).max(0);
                Request::Range(Range { revision, ..range(Keys::prefix("k/")) })
            }
            810..890 => Request::Delete(Delete { keys: Keys::one(key), prev_kv }),
            890..894 => Request::Delete(Delete { keys: Keys::prefix("k/"), prev_kv }),
            894..897 if self.newest > KEPT => Request::Compact { revision: self.newest - KEPT },
            _ => self.compare_and_put(key, 0),
        }
    }

    /// Puts two keys at once if the first is as expected; reads it otherwise.
    fn compare_and_put(&mut self, key: String, expected: Revision) -> Request {
        let read = Range { keys: Keys::one(key.clone()), revision: 0, serializable: false, limit: 0 };
        let put = Step::Put(Put { key: key.clone(), value: self.value(), lease: 0, prev_kv: false });
        let both = Step::Put(Put { key: "k/txn".to_owned(), value: self.value(), lease: 0, prev_kv: true });
        let success = if self.dice.chance(30) { vec![put, both] } else { vec![put] };
        let compare = vec![Compare { key, is: Is::Equal, target: Target::ModRevision(expected) }];
        Request::Txn(Txn { compare, success, failure: vec![Step::Range(read)] })
    }

    /// No two values are the same, so that a value names its writer.
    fn value(&self) -> String {
        format!("c{}-{}{}", self.client.id, self.client.recorder.number(), "-".repeat(self.filling))
    }
}

struct LeaseClient {
    client: Client,
    dice: Dice,
}

impl LeaseClient {
    /// One lease from its grant to the end of its keys.
    async fn life(&mut self, stop: &runtime::CancellationToken) {
        // Random, because a number may not be used again, not even by the next run on the same data.
        let lease = (entropy::random_u64() >> 2) as i64 | 1;
        if !matches!(self.client.ask(Request::LeaseGrant { lease, ttl: TTL }).await, Outcome::Done(_)) {
            return;
        }
        let prefix = format!("l/{lease:x}/");
        for n in 0..2 {
            let value = format!("l{}", self.client.recorder.number());
            self.client.ask(Request::Put(Put { key: format!("{prefix}{n}"), value, lease, prev_kv: false })).await;
        }
        for _ in 0..self.dice.below(MAX_RENEWALS) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEWALS) => {}
            }
            self.client.ask(Request::LeaseKeepAlive { lease }).await;
        }
        if self.dice.chance(40) {
            self.client.ask(Request::LeaseRevoke { lease }).await;
        }
        for _ in 0..LOOKS {
            let range = Range { keys: Keys::prefix(&prefix), revision: 0, serializable: false, limit: 0 };
            let outcome = self.client.ask(Request::Range(range)).await;
            let gone = matches!(&outcome, Outcome::Done(r) if matches!(r.answer, Answer::Range { count: 0, .. }));
            if gone || stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// A small generator of numbers (SplitMix64): the same seed makes the same choices.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
