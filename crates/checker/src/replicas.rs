//! Replicas are equal: at one revision, with the same compaction behind them, all members' HashKV are the same.

use std::collections::BTreeMap;

use crate::{Finding, History, history::Hash, report::Findings};

pub(crate) fn check(history: &History, all: &mut Vec<Finding>) {
    let mut findings = Findings::new("replicas", all);
    let mut first: BTreeMap<(i64, i64), &Hash> = BTreeMap::new();
    for hash in &history.hashes {
        // What differs in how much is compacted differs in what is hashed.
        let known = first.entry((hash.revision, hash.compact_revision)).or_insert(hash);
        if known.hash != hash.hash {
            let message = format!(
                "at revision {} (compacted at {}) member {:x} has hash {:08x} and member {:x} {:08x}",
                hash.revision, hash.compact_revision, known.member, known.hash, hash.member, hash.hash
            );
            findings.add(Vec::new(), message);
        }
    }
}
