//! What others have sent or asked, and what consensus is told of it.

use std::sync::atomic::Ordering;

use consensus::MessageType;
use replica::{Consensus, Core, Dropped, GroupId, Message, Role, entry_bytes};
use store_api::StoreError;

use super::Writer;
use crate::inbox::{Input, Taken};

impl Writer {
    /// What others have sent or asked. What that commits is applied and answered before the next batch is put together:
    /// who is answered may ask again in it. What followers pass on belongs to that batch.
    pub(super) fn inputs(&mut self, taken: &mut Taken) {
        let deferred = std::mem::take(&mut self.deferred);
        if deferred.is_empty() && taken.inputs.is_empty() {
            return;
        }
        let inputs = deferred.into_iter().chain(std::mem::take(&mut taken.inputs));
        let (passed_on, others): (Vec<Input>, Vec<Input>) = inputs.partition(Input::is_proposal);
        let mut expected = vec![false; self.shared.groups.len()];
        let groups = taken.proposals.iter().map(|proposal| proposal.group);
        for group in groups.chain(passed_on.iter().filter_map(Input::group)) {
            expected.get_mut(group as usize).into_iter().for_each(|expected| *expected = true);
        }
        let more = expected.contains(&true);
        let expect = |core: &mut Core, yes: bool| {
            (0..).zip(&expected).for_each(|(id, expected)| core.group(id).raft.expect_more(yes && *expected));
        };
        expect(&mut self.core, true);
        others.into_iter().for_each(|input| self.input(input));
        if more && !self.core.is_lone() {
            self.turn();
        }
        expect(&mut self.core, false);
        self.passed_on.extend(passed_on);
    }

    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Message(group, message) => self.message(group, message),
            Input::Read(group, read) => self.shared.group(group).pending.read(read),
            Input::Change(group, change, answer) => self.change(group, &change, answer),
            Input::Progress(group, sender) => drop(sender.send(self.core.group(group).raft.status())),
            Input::Transfer(to) => self.core.group(0).raft.transfer(to),
            Input::Advance(ticks) => {
                if self.shared.groups.iter().all(|group| group.standing.leader.load(Ordering::Acquire) == 0) {
                    let now = self.shared.clock.monotonic();
                    (0..ticks).for_each(|_| self.core.tick(now));
                }
            }
            Input::Unreachable(peer) => {
                (0..self.shared.groups.len()).for_each(|id| self.core.group(id as GroupId).raft.unreachable(peer));
            }
            Input::Gone(peer) => self.gone(peer),
            Input::SnapshotSent { group, peer, ok } => self.core.group(group).raft.snapshot_sent(peer, ok),
            Input::SnapshotWritten(written) => self.snapshot_written(written),
        }
    }

    /// Where a leader's process has ended, nobody has to wait until its time is up. The members stand one after another,
    /// in the order of their ids, so that they do not split the votes; the first leaves the others a moment to notice.
    fn gone(&mut self, peer: u64) {
        let me = self.core.settings().member;
        for id in 0..self.shared.groups.len() as GroupId {
            let group = self.core.group(id);
            if group.raft.brief().1 != peer {
                continue;
            }
            let before = group.members.iter().filter(|m| m.id != peer && !m.is_learner && m.id < me).count();
            group.raft.leader_gone(1 + 2 * before);
        }
    }

    fn message(&mut self, group: GroupId, message: Message) {
        if group as usize >= self.shared.groups.len() {
            return;
        }
        let bytes: u64 = message.get_entries().iter().map(|e| entry_bytes(e.data.len() + e.context.len())).sum();
        if bytes > 0 && self.core.prepare(bytes, false).is_err() {
            // Not taken, so not acknowledged: the leader sends it again when there may be room.
            self.shared.full.store(true, Ordering::Release);
            return;
        }
        if message.get_msg_type() == MessageType::MsgPropose && self.core.group(group).raft.brief().0 != Role::Leader {
            return;
        }
        let now = self.shared.clock.monotonic();
        if let Err(error) = self.core.group(group).raft.step(message, now) {
            tracing::debug!(%error, "a message was not taken");
        }
    }

    fn change(
        &mut self,
        group: GroupId,
        change: &replica::MemberChange,
        answer: tokio::sync::oneshot::Sender<replica::Answer>,
    ) {
        let id = self.id();
        let deadline = self.shared.clock.monotonic() + self.shared.timing.request_limit();
        let term = self.core.group(group).raft.brief().2;
        let (raft, context) = change.to_raft(id);
        self.shared.group(group).pending.register([(id, deadline, answer)].into_iter(), term);
        if let Err(error) = self.core.group(group).raft.propose_change(&raft, context)
            && let Some(answer) = self.shared.group(group).pending.withdraw(id)
        {
            drop(answer.send(Err(match error {
                Dropped::NoLeader => StoreError::NoLeader,
                Dropped::Misfit(text) => StoreError::Unavailable(text),
            })));
        }
    }

    /// While a turn is unfinished, consensus takes nothing: peers send again, readers wait.
    pub(super) fn input_while_full(&mut self, input: Input) {
        match input {
            Input::Read(group, read) => self.shared.group(group).pending.read(read),
            Input::Change(_, _, answer) => drop(answer.send(Err(StoreError::NoSpace("the log waits for room".into())))),
            Input::SnapshotWritten(written) => self.snapshot_written(written),
            // A peer gets nothing more until consensus has heard what became of its snapshot.
            Input::SnapshotSent { .. } => self.deferred.push(input),
            _ => {}
        }
    }
}
