//! No two members apply different entries at one index (Raft, section 5.4.3), and each applies every entry once, in
//! order, starting after what its disk has.

use std::collections::BTreeMap;

use consensus::Entry;

use super::{Verdict, fingerprint};

#[derive(Default)]
pub struct StateMachineSafety {
    /// By index: term, content, and who applied it first.
    entries: BTreeMap<u64, (u64, u64, u64)>,
    /// What each member has applied.
    reached: BTreeMap<u64, u64>,
}

impl StateMachineSafety {
    pub fn started(&mut self, member: u64, index: u64) {
        self.reached.insert(member, index);
    }

    pub fn installed(&mut self, member: u64, index: u64) -> Verdict {
        let before = self.reached.insert(member, index).unwrap_or(0);
        if index > before { Ok(()) } else { Err(format!("member {member} went back from entry {before} to {index}")) }
    }

    pub fn applies(&mut self, member: u64, entry: &Entry, machine: u64) -> Verdict {
        let before = self.reached.insert(member, entry.index).unwrap_or(0);
        if entry.index != before + 1 || machine != before {
            let index = entry.index;
            return Err(format!(
                "member {member} applies entry {index} after {before}, its state is that of {machine}"
            ));
        }
        let applied = (entry.term, fingerprint(entry), member);
        let known = *self.entries.entry(entry.index).or_insert(applied);
        if (known.0, known.1) != (applied.0, applied.1) {
            let (first, index) = (known.2, entry.index);
            let terms = (known.0, applied.0);
            return Err(format!("members {first} and {member} apply different entries {index} (terms {terms:?})"));
        }
        Ok(())
    }

    /// Term and content of an applied entry.
    pub fn entry(&self, index: u64) -> Option<(u64, u64)> {
        self.entries.get(&index).map(|(term, content, _)| (*term, *content))
    }
}
