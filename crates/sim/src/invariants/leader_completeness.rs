//! An entry that is committed in some term is in the logs of the leaders of all later terms (Raft, section 5.4).

use std::collections::BTreeMap;

use consensus::{Entry, Message, MessageType};

use super::{Verdict, fingerprint};

#[derive(Default)]
pub struct LeaderCompleteness {
    /// Committed entries: the term by which they were committed at the latest, their own, and their content.
    committed: BTreeMap<u64, (u64, u64, u64)>,
}

impl LeaderCompleteness {
    /// An entry is committed, in `term` or before: that of the member that is about to apply it.
    pub fn committed(&mut self, entry: &Entry, term: u64) {
        let known = self.committed.entry(entry.index).or_insert((term, entry.term, fingerprint(entry)));
        known.0 = known.0.min(term);
    }

    /// A leader's log reaches at least as far as what was committed in earlier terms.
    pub fn leads(&self, member: u64, term: u64, last: u64) -> Verdict {
        match self.committed.last_key_value() {
            Some((index, (by, ..))) if *by < term && *index > last => {
                Err(format!("member {member} leads in term {term} with entries up to {last}, but {index} is committed"))
            }
            _ => Ok(()),
        }
    }

    /// What a leader sends agrees with what was committed in earlier terms.
    pub fn sends(&self, message: &Message) -> Verdict {
        if message.get_msg_type() != MessageType::MsgAppend {
            return Ok(());
        }
        for entry in message.get_entries() {
            if let Some((by, term, content)) = self.committed.get(&entry.index)
                && *by < message.term
                && (*term, *content) != (entry.term, fingerprint(entry))
            {
                let (from, now, index) = (message.from, message.term, entry.index);
                return Err(format!(
                    "member {from} leads in term {now} without entry {index} of term {term}, committed by term {by}"
                ));
            }
        }
        Ok(())
    }
}
