//! Keys that move from group to group, and what must hold of them wherever they are.
//!
//! Each is a counter: a client reads it, and puts the next version where the version is still the one it has read. So a key
//! is linearizable if each version has one value, and whoever asks after another has heard of a version hears of no
//! earlier one. Versions and the revision of creation stay when a shard moves; revisions only ever go up. A watch that
//! follows a list tells each version once, in order, until it ends: after that everything has to be read anew.

use std::collections::BTreeMap;

use checker::history::{Answer, Compare, Event, Is, KeyValue, Keys, Put, Range, Request, Revision, Step, Target, Txn};

use crate::{member::Micros, random::Random};

/// Shards, the last of which has the others in it.
pub const SHARDS: [&str; 3] = ["n/a/", "n/b/", "n/"];
const KEYS: u64 = 3;

/// What is known of one key.
#[derive(Default)]
struct Counter {
    created: Option<Revision>,
    /// The value of each version, from the first on.
    values: BTreeMap<i64, String>,
    /// At a time, the greatest version and revision that anybody had heard of.
    heard: Vec<(Micros, i64, Revision)>,
}

/// All of them.
#[derive(Default)]
pub struct Nomads {
    counters: BTreeMap<String, Counter>,
}

type Verdict = Result<(), String>;

impl Nomads {
    /// A client hears what came of a request that it had begun at `invoked`.
    pub fn heard(
        &mut self,
        request: &Request,
        answer: &Answer,
        revision: Revision,
        invoked: Micros,
        now: Micros,
    ) -> Verdict {
        match (request, answer) {
            (Request::Range(range), _) => {
                let found: BTreeMap<&str, &KeyValue> =
                    answer.kvs().into_iter().map(|kv| (kv.key.as_str(), kv)).collect();
                for key in keys().filter(|key| range.keys.contains(key)) {
                    self.saw(&key, found.get(key.as_str()).copied(), (!range.serializable).then_some(invoked), now)?;
                }
                Ok(())
            }
            (Request::Txn(txn), Answer::Txn { succeeded, .. }) => {
                let (Some(compare), Some(Step::Put(put))) = (txn.compare.first(), txn.success.first()) else {
                    return Ok(());
                };
                let Target::Version(before) = compare.target else { return Ok(()) };
                if *succeeded {
                    let known = self.counters.get(&put.key).and_then(|counter| counter.created);
                    let created = if before == 0 { revision } else { known.unwrap_or(revision) };
                    let kv = KeyValue {
                        key: put.key.clone(),
                        value: put.value.clone(),
                        create_revision: created,
                        mod_revision: revision,
                        version: before + 1,
                        lease: 0,
                    };
                    return self.saw(&put.key, Some(&kv), Some(invoked), now);
                }
                let kvs = answer.kvs();
                let found = kvs.first().copied();
                if found.map_or(0, |kv| kv.version) == before {
                    return Err(format!("{} has version {before}, and a comparison with that failed", put.key));
                }
                self.saw(&put.key, found, Some(invoked), now)
            }
            _ => Ok(()),
        }
    }

    /// A key was seen as it is. By whom it must not be older than what had been heard at `since`.
    fn saw(&mut self, key: &str, kv: Option<&KeyValue>, since: Option<Micros>, now: Micros) -> Verdict {
        let counter = self.counters.entry(key.to_owned()).or_default();
        let (version, revision) = kv.map_or((0, 0), |kv| (kv.version, kv.mod_revision));
        if let Some(kv) = kv {
            counter.has(kv)?;
        }
        let Some(since) = since else { return Ok(()) };
        let before = counter.heard.partition_point(|(at, ..)| *at < since);
        if let Some((_, known, at)) = before.checked_sub(1).and_then(|last| counter.heard.get(last))
            && (version < *known || revision < *at)
        {
            return Err(format!(
                "{key} had version {known} of revision {at} for somebody, and later version {version} of {revision}"
            ));
        }
        let last = counter.heard.last().map_or((0, 0), |(_, version, revision)| (*version, *revision));
        counter.heard.push((now, last.0.max(version), last.1.max(revision)));
        Ok(())
    }

    /// A watch told of a change.
    pub fn told(&mut self, seen: &mut BTreeMap<String, i64>, event: &Event) -> Verdict {
        let kv = &event.kv;
        let before = seen.insert(kv.key.clone(), kv.version).unwrap_or(0);
        if event.deleted || kv.version != before + 1 {
            return Err(format!(
                "{} was told as version {} after {before}, deleted: {}",
                kv.key, kv.version, event.deleted
            ));
        }
        self.counters.entry(kv.key.clone()).or_default().has(kv)
    }

    /// At the end a watch has told everything.
    pub fn ended(&self, watched: &Keys, seen: &BTreeMap<String, i64>) -> Verdict {
        for (key, counter) in self.counters.iter().filter(|(key, _)| watched.contains(key)) {
            let (told, is) = (seen.get(key).copied().unwrap_or(0), counter.heard.last().map_or(0, |heard| heard.1));
            if told != is {
                return Err(format!("{key} ends at version {is}, and was told up to {told}"));
            }
        }
        Ok(())
    }
}

impl Counter {
    fn has(&mut self, kv: &KeyValue) -> Verdict {
        let KeyValue { key, version, .. } = kv;
        let created = *self.created.get_or_insert(kv.create_revision);
        if created != kv.create_revision {
            return Err(format!("{key} was created at {created}, and at {}", kv.create_revision));
        }
        let value = self.values.entry(*version).or_insert_with(|| kv.value.clone());
        if *value != kv.value {
            return Err(format!("version {version} of {key} has two values: {value:.20} and {:.20}", kv.value));
        }
        Ok(())
    }
}

fn keys() -> impl Iterator<Item = String> {
    SHARDS[..2].iter().flat_map(|shard| (0..KEYS).map(move |n| format!("{shard}{n}")))
}

/// What a client watches and lists: one of the shards.
pub fn home(client: u32) -> Keys {
    Keys::prefix(SHARDS[(client % 2) as usize])
}

/// The list from which a client's watch goes on.
pub fn list(client: u32) -> Request {
    Request::Range(Range { keys: home(client), revision: 0, serializable: false, limit: 0 })
}

/// The next thing that a client asks for; `known` are the versions that it has heard of.
pub fn choose(client: u32, number: u64, known: &BTreeMap<String, i64>, random: &mut Random) -> Request {
    let all: Vec<String> = keys().collect();
    let key = random.pick(&all).unwrap_or_default();
    let range = |keys, serializable| Range { keys, revision: 0, serializable, limit: 0 };
    match random.below(100) {
        0..15 => Request::Range(range(Keys::one(key), false)),
        15..22 => Request::Range(range(Keys::one(key), true)),
        22..32 => list(client),
        _ => {
            let before = known.get(&key).copied().unwrap_or(0);
            let value = format!("{client}.{number}.{}", "x".repeat(random.between(1, 400) as usize));
            let compare = vec![Compare { key: key.clone(), is: Is::Equal, target: Target::Version(before) }];
            let success = vec![Step::Put(Put { key: key.clone(), value, lease: 0, prev_kv: false })];
            Request::Txn(Txn { compare, success, failure: vec![Step::Range(range(Keys::one(key), false))] })
        }
    }
}
