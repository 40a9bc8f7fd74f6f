//! Everything that any answer or watch tells about what happened at each revision, whoever asked.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Event, History, KeyValue, Micros, Revision, Watch};

/// What is known of all revisions.
#[derive(Debug, Default)]
pub struct Evidence<'a> {
    /// Puts and deletions that somebody saw.
    seen: BTreeMap<Revision, Seen>,
    spans: Vec<Span<'a>>,
    pub last: Revision,
    /// Of one key at one revision two different values were seen.
    pub conflicts: Vec<Conflict>,
}

/// Two sights that cannot both be true.
#[derive(Debug)]
pub struct Conflict {
    pub one: (Witness, KeyValue),
    pub other: (Witness, KeyValue),
}

/// Who saw something: the id of an operation or of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    Operation(u64),
    Watch(u64),
}

/// What somebody saw of one revision. There may have been more.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub puts: BTreeMap<String, (Witness, KeyValue)>,
    pub deletes: BTreeSet<String>,
    /// What keys had been before, as watches were told.
    pub before: BTreeMap<String, KeyValue>,
}

/// What one watch looked at: between its first revision and the last one that it is known to have passed, it saw
/// everything there was on its keys.
#[derive(Debug)]
struct Span<'a> {
    watch: &'a Watch,
    from: Revision,
    passed: Revision,
    saw: BTreeMap<Revision, Vec<(&'a str, bool)>>,
}

impl<'a> Evidence<'a> {
    pub fn gather(history: &'a History) -> Self {
        let mut evidence = Evidence { last: history.settings.first_revision, ..Evidence::default() };
        for operation in &history.operations {
            let Some(response) = operation.response() else { continue };
            if operation.is_kv() {
                evidence.last = evidence.last.max(response.revision);
            }
            response.answer.kvs().into_iter().for_each(|kv| evidence.saw_put(Witness::Operation(operation.id), kv));
        }
        for watch in &history.watches {
            for event in watch.responses.iter().flat_map(|response| &response.events) {
                evidence.saw_event(Witness::Watch(watch.id), event);
            }
            evidence.spans.extend(Span::of(watch));
        }
        evidence
    }

    pub fn seen(&self, revision: Revision) -> Option<&Seen> {
        self.seen.get(&revision)
    }

    /// Whether these changes can have been all of `revision`: everything that was seen is among them.
    pub fn allows(&self, revision: Revision, events: &[Event]) -> bool {
        let Some(seen) = self.seen.get(&revision) else { return true };
        let put = |(key, (_, kv)): (&String, &(Witness, KeyValue))| {
            events.iter().any(|e| !e.deleted && e.kv.key == *key && e.kv == *kv)
        };
        let deleted = |key: &String| events.iter().any(|e| e.deleted && e.kv.key == *key);
        let was = |(key, kv): (&String, &KeyValue)| {
            events.iter().filter(|e| e.kv.key == *key).all(|e| e.prev.as_ref() == Some(kv))
        };
        seen.puts.iter().all(put) && seen.deletes.iter().all(deleted) && seen.before.iter().all(was)
    }

    /// Whether every watch that looked at `revision` saw exactly these changes.
    pub fn fits(&self, revision: Revision, events: &[Event]) -> bool {
        self.spans.iter().filter(|span| span.from <= revision && revision <= span.passed).all(|span| {
            let wanted = events.iter().filter(|event| span.watch.wants(event));
            let mut wanted: Vec<(&str, bool)> = wanted.map(|event| (event.kv.key.as_str(), event.deleted)).collect();
            wanted.sort_unstable();
            span.saw.get(&revision).map_or(wanted.is_empty(), |saw| *saw == wanted)
        })
    }

    fn saw_put(&mut self, witness: Witness, kv: &KeyValue) {
        self.last = self.last.max(kv.mod_revision);
        let puts = &mut self.seen.entry(kv.mod_revision).or_default().puts;
        let known = puts.entry(kv.key.clone()).or_insert_with(|| (witness, kv.clone()));
        if known.1 != *kv {
            self.conflicts.push(Conflict { one: known.clone(), other: (witness, kv.clone()) });
        }
    }

    fn saw_event(&mut self, witness: Witness, event: &Event) {
        if let Some(prev) = &event.prev {
            self.saw_put(witness, prev);
            let before = &mut self.seen.entry(event.kv.mod_revision).or_default().before;
            before.entry(event.kv.key.clone()).or_insert_with(|| prev.clone());
        }
        if event.deleted {
            self.last = self.last.max(event.kv.mod_revision);
            self.seen.entry(event.kv.mod_revision).or_default().deletes.insert(event.kv.key.clone());
        } else {
            self.saw_put(witness, &event.kv);
        }
    }
}

impl Witness {
    pub fn operation(&self) -> Option<u64> {
        match self {
            Witness::Operation(id) => Some(*id),
            Witness::Watch(_) => None,
        }
    }
}

impl std::fmt::Display for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Witness::Operation(id) => write!(f, "#{id}"),
            Witness::Watch(id) => write!(f, "watch {id}"),
        }
    }
}

impl<'a> Span<'a> {
    fn of(watch: &'a Watch) -> Option<Self> {
        let mut saw: BTreeMap<Revision, Vec<(&str, bool)>> = BTreeMap::new();
        for event in watch.responses.iter().flat_map(|response| &response.events) {
            saw.entry(event.kv.mod_revision).or_default().push((&event.kv.key, event.deleted));
        }
        saw.values_mut().for_each(|keys| keys.sort_unstable());
        Some(Span { watch, from: watch.from()?, passed: watch.passed(), saw })
    }
}

impl Watch {
    /// The first revision that it must deliver; none while it was not created.
    pub fn from(&self) -> Option<Revision> {
        let created = self.responses.iter().find(|response| response.created && !response.canceled)?;
        Some(if self.start > 0 { self.start } else { created.revision + 1 })
    }

    /// The last revision that it is known to have delivered completely: that of a bookmark, or of the last event in a
    /// response after which no fragment follows.
    pub fn passed(&self) -> Revision {
        let passed = self.responses.iter().filter_map(|response| match response.events.last() {
            Some(_) if response.fragment => None,
            Some(event) => Some(event.kv.mod_revision),
            None => response.is_bookmark().then_some(response.revision),
        });
        passed.max().unwrap_or(0)
    }

    pub fn wants(&self, event: &Event) -> bool {
        let filtered = if event.deleted { self.no_delete } else { self.no_put };
        !filtered && self.keys.contains(&event.kv.key)
    }
}

impl crate::history::WatchResponse {
    /// It says only how far the watch has come.
    pub fn is_bookmark(&self) -> bool {
        self.events.is_empty() && !self.created && !self.canceled
    }
}

/// When each revision is known to have been made: the earliest time at which somebody saw it or a later one.
pub struct FirstSeen(BTreeMap<Revision, Micros>);

impl FirstSeen {
    pub fn gather(history: &History) -> Self {
        let answers = history.operations.iter().filter_map(|operation| {
            let response = operation.response()?;
            Some((response.revision, operation.returned))
        });
        let watched = history.watches.iter().flat_map(|watch| &watch.responses).map(|response| {
            let newest = response.events.iter().map(|event| event.kv.mod_revision).max().unwrap_or(0);
            (newest.max(response.revision), response.at)
        });
        let mut earliest: BTreeMap<Revision, Micros> = BTreeMap::new();
        for (revision, at) in answers.chain(watched) {
            let slot = earliest.entry(revision).or_insert(at);
            *slot = at.min(*slot);
        }
        let mut known = Micros::MAX;
        for at in earliest.values_mut().rev() {
            known = known.min(*at);
            *at = known;
        }
        FirstSeen(earliest)
    }

    pub fn of(&self, revision: Revision) -> Option<Micros> {
        self.0.range(revision..).next().map(|(_, at)| *at)
    }

    /// Whether somebody knew a later revision before `at`.
    pub fn is_old(&self, revision: Revision, at: Micros) -> bool {
        self.of(revision + 1).is_some_and(|seen| seen < at)
    }
}
