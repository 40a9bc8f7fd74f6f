//! Whether the members have dropped the same at compactions (etcd's `--experimental-compact-hash-check-enabled`): each
//! hashes what was there, before it is trimmed, and the leader compares. A member that cannot be asked, or that was
//! compacted otherwise, is passed over.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use mvcc::HashQuery;
use parking_lot::Mutex;
use store_api::{Alarm, AlarmKind, Cluster, HashKv, Revision, StoreError};
use tokio::sync::Notify;

use crate::Store;

/// Hashes that are kept, and compactions that may wait to be hashed, as in etcd.
const KEPT: usize = 10;
/// Keys or writes that are visited while the state is locked.
const STEP: usize = 256;

/// One member's hashes.
pub struct CompactHashes {
    enabled: bool,
    inner: Mutex<Inner>,
    begun: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<HashQuery>,
    /// Oldest first.
    made: VecDeque<HashKv>,
}

impl CompactHashes {
    pub fn new(enabled: bool) -> Self {
        CompactHashes { enabled, inner: Mutex::default(), begun: Notify::new() }
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// A compaction was applied just now. Nothing is trimmed until its hash is made.
    pub fn begin(&self, query: HashQuery) {
        let mut inner = self.inner.lock();
        if inner.waiting.len() == KEPT {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(query);
        self.begun.notify_one();
    }

    /// The hash that was made when this revision was compacted.
    pub fn of(&self, revision: Revision) -> Option<HashKv> {
        self.inner.lock().made.iter().find(|hash| hash.hash_revision == revision).cloned()
    }

    /// Those after a revision, the newest first.
    fn after(&self, revision: Revision) -> Vec<HashKv> {
        self.inner.lock().made.iter().rev().filter(|hash| hash.hash_revision > revision).cloned().collect()
    }

    fn next(&self) -> Option<HashQuery> {
        self.inner.lock().waiting.pop_front()
    }

    fn keep(&self, hash: HashKv) {
        let made = &mut self.inner.lock().made;
        if made.len() == KEPT {
            made.pop_front();
        }
        made.push_back(hash);
    }
}

impl Store {
    /// Hashes what compactions leave behind, one after the other.
    pub(crate) async fn hash_compactions(self) {
        let hashes = &self.shared.compact_hashes;
        loop {
            let Some(mut query) = hashes.next() else {
                hashes.begun.notified().await;
                continue;
            };
            let hashed = loop {
                let step = query.step(&self.group().machine.read().kv, STEP);
                match step {
                    Ok(true) => break Some(query.finish()),
                    Ok(false) => tokio::task::yield_now().await,
                    // A snapshot has taken the state's place.
                    Err(_) => break None,
                }
            };
            if let Some(hash) = hashed {
                hashes.keep(hash);
            }
        }
    }

    /// Looks each `interval`, on the leader, at the compactions that were not compared with all members yet.
    pub async fn check_compactions(self, interval: Duration) {
        let mut checked = 0;
        loop {
            tokio::time::sleep(interval).await;
            if !self.group().standing.leads() {
                continue;
            }
            for own in self.shared.compact_hashes.after(checked) {
                match self.compare(&own).await {
                    Ok(false) => {}
                    Ok(true) => {
                        checked = own.hash_revision;
                        break;
                    }
                    Err(error) => tracing::warn!(%error, "failed to check hashes of compactions"),
                }
            }
        }
    }

    /// Whether this compaction needs no further look: all have answered alike, or an alarm stands.
    async fn compare(&self, own: &HashKv) -> Result<bool, StoreError> {
        let others = self.membership().0.len().saturating_sub(1);
        let told = self.ask_peers(own.hash_revision).await;
        let mut members = BTreeMap::from([(own.hash, vec![self.shared.identity.member])]);
        let mut compared = 0;
        for told in told.iter().filter(|told| told.hash.compact_revision == own.compact_revision) {
            members.entry(told.hash.hash).or_default().push(told.member);
            compared += 1;
        }
        let (revision, compact_revision) = (own.hash_revision, own.compact_revision);
        if members.len() == 1 {
            if compared == others {
                tracing::info!(revision, compact_revision, "successfully checked hash on whole cluster");
            }
            return Ok(compared == others);
        }
        for member in corrupt(members, others + 1) {
            let id = format!("{member:x}");
            tracing::error!(revision, compact_revision, member = id, "Detected compaction hash mismatch");
            self.alarm_raise(Alarm { member, kind: AlarmKind::Corrupt }).await?;
        }
        Ok(true)
    }
}

/// Who differs from most of the `count` members; 0 stands for the whole cluster, where most do not agree.
fn corrupt(mut members: BTreeMap<u32, Vec<u64>>, count: usize) -> Vec<u64> {
    let most = members.iter().find(|(_, who)| who.len() > count / 2).map(|(hash, _)| *hash);
    match most {
        None => vec![0],
        Some(hash) => {
            members.remove(&hash);
            members.into_values().flatten().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_differs_from_most() {
        let check = |hashes: &[(u64, u32)], count, expected: &[u64]| {
            let mut members = BTreeMap::<u32, Vec<u64>>::new();
            hashes.iter().for_each(|(member, hash)| members.entry(*hash).or_default().push(*member));
            assert_eq!(corrupt(members, count), expected, "{hashes:?}");
        };
        check(&[(1, 7), (2, 7), (3, 8)], 3, &[3]);
        check(&[(1, 7), (2, 8), (3, 8)], 3, &[1]);
        check(&[(1, 7), (2, 8), (3, 9)], 3, &[0]);
        check(&[(1, 7), (2, 8)], 2, &[0]);
        // One of five does not answer.
        check(&[(1, 7), (2, 7), (3, 7), (4, 8)], 5, &[4]);
        check(&[(1, 7), (2, 7), (3, 8)], 5, &[0]);
    }
}
