//! At most one leader in each term (Raft, figure 3).

use std::collections::BTreeMap;

use consensus::{Message, MessageType};

use super::Verdict;

#[derive(Default)]
pub struct ElectionSafety(BTreeMap<u64, u64>);

impl ElectionSafety {
    pub fn leads(&mut self, member: u64, term: u64) -> Verdict {
        let leader = *self.0.entry(term).or_insert(member);
        if leader == member { Ok(()) } else { Err(format!("members {leader} and {member} both lead in term {term}")) }
    }

    /// Only a leader sends entries and heartbeats.
    pub fn sends(&mut self, member: u64, message: &Message) -> Verdict {
        match message.get_msg_type() {
            MessageType::MsgAppend | MessageType::MsgHeartbeat => self.leads(member, message.term),
            _ => Ok(()),
        }
    }
}
