//! What a member has acknowledged to a leader is on its disk: after a restart in the same term its log still has it, and
//! its term is not an earlier one.

use std::collections::BTreeMap;

use consensus::{Message, MessageType};

use super::Verdict;

/// By member: the greatest term it spoke in, and the greatest index that it acknowledged in that term.
#[derive(Default)]
pub struct Persistence(BTreeMap<u64, (u64, u64)>);

impl Persistence {
    pub fn sends(&mut self, member: u64, message: &Message) {
        // Asking for a vote before the election speaks of a term that may never come.
        let speaks = match message.get_msg_type() {
            MessageType::MsgAppendResponse if !message.reject => Some(message.index),
            MessageType::MsgRequestVote | MessageType::MsgHeartbeatResponse => Some(0),
            _ => None,
        };
        let Some(index) = speaks else { return };
        let known = self.0.entry(member).or_insert((message.term, 0));
        if message.term > known.0 {
            *known = (message.term, index);
        } else if message.term == known.0 {
            known.1 = known.1.max(index);
        }
    }

    pub fn started(&mut self, member: u64, term: u64, last: u64) -> Verdict {
        let Some((spoke, acknowledged)) = self.0.get(&member) else { return Ok(()) };
        if term < *spoke {
            return Err(format!("member {member} starts in term {term}, it spoke in term {spoke}"));
        }
        if term == *spoke && last < *acknowledged {
            return Err(format!(
                "member {member} starts with entries up to {last}, it acknowledged {acknowledged} in term {term}"
            ));
        }
        Ok(())
    }
}
