//! A member's commit index does not go back while it runs; after a restart it is at least that of every snapshot that
//! its disk was given. (Between snapshots the commit index alone is not written: it is learned again.)

use std::collections::BTreeMap;

use super::Verdict;

#[derive(Default)]
pub struct Commit {
    running: BTreeMap<u64, u64>,
    snapshots: BTreeMap<u64, u64>,
}

impl Commit {
    pub fn started(&mut self, member: u64, commit: u64) -> Verdict {
        self.running.insert(member, commit);
        let snapshot = self.snapshots.get(&member).copied().unwrap_or(0);
        if commit >= snapshot {
            return Ok(());
        }
        Err(format!("member {member} starts with commit index {commit}, it had a snapshot of entry {snapshot}"))
    }

    pub fn stands(&mut self, member: u64, commit: u64) -> Verdict {
        let before = self.running.insert(member, commit).unwrap_or(0);
        if commit >= before { Ok(()) } else { Err(format!("member {member}'s went back from {before} to {commit}")) }
    }

    pub fn damaged(&mut self, member: u64) {
        self.snapshots.remove(&member);
    }

    pub fn snapshot(&mut self, member: u64, index: u64) {
        let known = self.snapshots.entry(member).or_insert(0);
        *known = index.max(*known);
    }
}
