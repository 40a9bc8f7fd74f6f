//! Messages that a mutation changes on their way in.

use std::time::Duration;

use consensus::{Message, MessageType};
use replica::{GroupId, Role};

use crate::{member::Running, mutation::Mutation};

/// An acknowledgment that nobody gave, of entries that are on their way.
pub fn acknowledged(mutation: Option<Mutation>, message: &Message) -> Option<Message> {
    let last = message.get_entries().last()?.index;
    if mutation != Some(Mutation::AcknowledgedOnTheWay) || message.get_msg_type() != MessageType::MsgAppend {
        return None;
    }
    let mut early =
        Message { from: message.to, to: message.from, term: message.term, index: last, ..Default::default() };
    early.set_msg_type(MessageType::MsgAppendResponse);
    Some(early)
}

/// An answer to a heartbeat that says it was sent now, by the leader's own clock.
pub fn answered_now(mutation: Option<Mutation>, message: &mut Message, clock: Duration) {
    let answers = message.get_msg_type() == MessageType::MsgHeartbeatResponse;
    if mutation != Some(Mutation::LeaseCountsFromAnswers) || !answers {
        return;
    }
    let mut context = message.context.to_vec();
    if let Some((_, [time @ .., _])) = context.split_last_chunk_mut::<9>() {
        *time = u64::try_from(clock.as_nanos()).expect("a run does not take centuries").to_le_bytes();
        message.context = context.into();
    }
}

/// Changes a message that is about to reach a member, where the mutation asks for it.
pub fn message(mutation: Option<Mutation>, running: &mut Running, group: GroupId, message: &mut Message) {
    let (role, _, term, ..) = running.core.group(group).raft.brief();
    match (mutation, message.get_msg_type()) {
        (Some(Mutation::TermsAreNotChecked), MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse)
            if role == Role::Leader && message.term > term =>
        {
            message.term = term;
        }
        (Some(Mutation::TermsAreNotChecked), MessageType::MsgAppend | MessageType::MsgHeartbeat)
            if message.term < term =>
        {
            message.term = term;
        }
        (Some(Mutation::RefusedVotesCount), MessageType::MsgRequestVoteResponse) => message.reject = false,
        (Some(Mutation::PromisesAreNotKept), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            message.context = bytes::Bytes::from_static(b"CampaignTransfer");
        }
        _ => {}
    }
}
