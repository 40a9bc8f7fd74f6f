//! No acknowledged write is lost: the entry that held it is the entry that every member has applied at its index, and
//! all members come past it. What clients then read is judged by their histories.

use std::collections::BTreeMap;

use consensus::Entry;

use super::{Verdict, fingerprint};

#[derive(Default)]
pub struct Acknowledged(BTreeMap<u64, (u64, u64)>);

impl Acknowledged {
    pub fn acknowledged(&mut self, entry: &Entry) {
        self.0.insert(entry.index, (entry.term, fingerprint(entry)));
    }

    pub fn finished(&self, member: u64, index: u64, applied: impl Fn(u64) -> Option<(u64, u64)>) -> Verdict {
        let last = self.0.last_key_value().map_or(0, |(last, _)| *last);
        if index < last {
            return Err(format!("member {member} ends at entry {index}, entry {last} was acknowledged"));
        }
        match self.0.iter().find(|(index, entry)| applied(**index) != Some(**entry)) {
            Some((index, _)) => Err(format!("entry {index} was acknowledged, another was applied")),
            None => Ok(()),
        }
    }
}
