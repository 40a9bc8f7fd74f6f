//! Two logs that have an entry of the same index and term have the same entries up to it (Raft, section 5.3). By
//! induction it is enough that index and term name one entry, and that the entry before it is always of the same term.
//! Seen in what leaders send.

use std::collections::BTreeMap;

use consensus::{Message, MessageType};

use super::{Verdict, fingerprint};

/// By index and term: what the entry says, and the term of the one before.
#[derive(Default)]
pub struct LogMatching(BTreeMap<(u64, u64), (u64, u64)>);

impl LogMatching {
    pub fn sends(&mut self, message: &Message) -> Verdict {
        if message.get_msg_type() != MessageType::MsgAppend {
            return Ok(());
        }
        let mut before = message.log_term;
        for entry in message.get_entries() {
            let said = (fingerprint(entry), before);
            let known = *self.0.entry((entry.index, entry.term)).or_insert(said);
            if known.0 != said.0 {
                return Err(format!("there are two entries {} of term {}", entry.index, entry.term));
            }
            if known.1 != said.1 {
                let (index, term) = (entry.index, entry.term);
                return Err(format!(
                    "entry {index} of term {term} follows one of term {} and one of {before}",
                    known.1
                ));
            }
            before = entry.term;
        }
        Ok(())
    }
}
