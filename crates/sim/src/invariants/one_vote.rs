//! A member gives one vote in each term, whatever happens to it in between (Raft, section 5.2).

use std::collections::BTreeMap;

use consensus::{Message, MessageType};

use super::Verdict;

#[derive(Default)]
pub struct OneVote(BTreeMap<(u64, u64), u64>);

impl OneVote {
    pub fn sends(&mut self, member: u64, message: &Message) -> Verdict {
        if message.get_msg_type() != MessageType::MsgRequestVoteResponse || message.reject {
            return Ok(());
        }
        self.gives(member, message.term, message.to)
    }

    /// What its disk says of the vote must be what it said.
    pub fn started(&mut self, member: u64, term: u64, vote: u64) -> Verdict {
        match self.0.get(&(member, term)) {
            Some(given) if *given != vote => {
                Err(format!("member {member} voted for {given} in term {term}, and after a restart for {vote}"))
            }
            _ => Ok(()),
        }
    }

    fn gives(&mut self, member: u64, term: u64, to: u64) -> Verdict {
        let given = *self.0.entry((member, term)).or_insert(to);
        if given == to { Ok(()) } else { Err(format!("member {member} voted for {given} and {to} in term {term}")) }
    }
}
