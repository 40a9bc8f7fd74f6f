//! No acknowledged write is lost: every later look at its key shows it or what came after it.
//!
//! "Later" is the revision in the looker's answer, and "what came after" is judged by the answers alone, not by the order
//! that the timeline found: a key's revision may not be smaller than that of an acknowledged put, and a key may be gone
//! only if something that can have deleted it stands between. Every read at the end of a run is such a look; whether
//! watches had it all is `watch`'s business.

use std::collections::BTreeMap;

use crate::{
    Cause, Finding, History, Timeline,
    history::{Answer, KeyValue, Operation, Request, Revision, Step},
    report::Findings,
};

pub(crate) fn check(history: &History, timeline: &Timeline, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("durability", all);
    let puts = acknowledged(history);
    let deletions = deletions(timeline);
    for look in &history.operations {
        let (Request::Range(range), Some(response)) = (&look.request, look.response()) else { continue };
        let Answer::Range { kvs, count } = &response.answer else { continue };
        // A part of the keys says nothing of the rest.
        if range.limit > 0 && *count > kvs.len() as i64 {
            continue;
        }
        if timeline.is_cut && response.revision > timeline.last() {
            continue;
        }
        let at = if range.revision > 0 { range.revision } else { response.revision };
        let shown: BTreeMap<&str, &KeyValue> = kvs.iter().map(|kv| (kv.key.as_str(), kv)).collect();
        let keys: Vec<&str> = match range.keys.end.as_str() {
            "" => vec![range.keys.key.as_str()],
            _ => puts.keys().copied().filter(|key| range.keys.contains(key)).collect(),
        };
        for key in keys {
            let Some((revision, put)) = puts.get(key).and_then(|puts| puts.range(..=at).next_back()) else { continue };
            if !is_kept(shown.get(key).copied(), *revision, || deletions.has(key, *revision, at)) {
                let shown = shown.get(key).map_or("nothing".to_owned(), |kv| kv.to_string());
                let message =
                    format!("{put} is lost: #{} (client {}) found {shown} at revision {at}", look.id, look.client);
                findings.add(vec![put.id, look.id], message);
            }
        }
    }
}

/// Whether what is shown of a key is the put of `revision` or something later.
fn is_kept(shown: Option<&KeyValue>, revision: Revision, deleted: impl Fn() -> bool) -> bool {
    match shown {
        Some(kv) => kv.mod_revision >= revision,
        None => deleted(),
    }
}

/// The acknowledged puts of each key.
fn acknowledged(history: &History) -> BTreeMap<&str, BTreeMap<Revision, &Operation>> {
    let mut puts: BTreeMap<&str, BTreeMap<Revision, &Operation>> = BTreeMap::new();
    for operation in &history.operations {
        let Some(revision) = operation.written() else { continue };
        for key in put_keys(operation) {
            puts.entry(key).or_default().insert(revision, operation);
        }
    }
    puts
}

/// The keys that an acknowledged operation has put.
fn put_keys(operation: &Operation) -> Vec<&str> {
    match (&operation.request, operation.response().map(|response| &response.answer)) {
        (Request::Put(put), Some(_)) => vec![&put.key],
        (Request::Txn(txn), Some(Answer::Txn { succeeded, .. })) => {
            let steps = if *succeeded { &txn.success } else { &txn.failure };
            let keys = steps.iter().filter_map(|step| match step {
                Step::Put(put) => Some(put.key.as_str()),
                Step::Range(_) | Step::Delete(_) => None,
            });
            keys.collect()
        }
        _ => Vec::new(),
    }
}

/// When each key was deleted, as far as anybody can have done it.
struct Deletions<'a>(BTreeMap<&'a str, Vec<Revision>>);

fn deletions(timeline: &Timeline) -> Deletions<'_> {
    let mut deletions: BTreeMap<&str, Vec<Revision>> = BTreeMap::new();
    for change in timeline.changes.iter().filter(|change| change.cause != Cause::Unexplained) {
        for event in change.events.iter().filter(|event| event.deleted) {
            deletions.entry(&event.kv.key).or_default().push(change.revision);
        }
    }
    Deletions(deletions)
}

impl Deletions<'_> {
    /// Whether `key` was deleted after `after` and not after `until`.
    fn has(&self, key: &str, after: Revision, until: Revision) -> bool {
        // In the order of revisions, as the timeline is.
        let Some(all) = self.0.get(key) else { return false };
        all.get(all.partition_point(|revision| *revision <= after)).is_some_and(|revision| *revision <= until)
    }
}
