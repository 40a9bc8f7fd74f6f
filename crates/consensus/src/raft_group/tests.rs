//! Lease reads on three members whose messages and clocks are in the test's hands.

use std::collections::BTreeMap;

use super::*;
use crate::{ConfChangeSingle, ConfChangeType};

const TICK: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(1000);
const DISK: &str = "a member in memory takes its part";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

struct Trio {
    members: BTreeMap<u64, Raft>,
    now: Duration,
    /// Answers to questions: who asked, the context, the index.
    reads: Vec<(u64, u64, u64)>,
    /// Messages since it was last looked at.
    sent: usize,
    /// They neither hear nor are heard.
    cut: Vec<u64>,
}

fn member(id: u64, lease_reads: bool, started: Duration, hard: HardState) -> Raft {
    let mut options = Options::new(id, id);
    options.lease_reads = lease_reads.then_some(LeaseReads { election_timeout: TIMEOUT, started });
    let conf = ConfState { voters: vec![1, 2, 3], ..Default::default() };
    let base = Base { index: 1, term: 1, conf };
    Raft::new(&options, Restored { hard, base, entries: Vec::new() })
}

impl Trio {
    /// Member 1 leads, everybody has heard it, and the promises of their starts are over.
    fn led(lease_reads: [bool; 3]) -> Self {
        let members = (1..).zip(lease_reads).map(|(id, on)| (id, member(id, on, ms(0), HardState::default())));
        let mut trio = Trio { members: members.collect(), now: TIMEOUT, reads: Vec::new(), sent: 0, cut: Vec::new() };
        trio.of(1).campaign();
        trio.settle();
        assert_eq!(trio.of(1).brief().0, Role::Leader);
        trio.tick(2);
        trio
    }

    fn of(&mut self, id: u64) -> &mut Raft {
        self.members.get_mut(&id).expect(DISK)
    }

    /// Everybody's time goes on; messages arrive at once.
    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += TICK;
            let now = self.now;
            self.members.values_mut().for_each(|raft| raft.tick(now));
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (id, raft) in &mut self.members {
                let Some(ready) = raft.ready() else { continue };
                self.reads.extend(ready.reads.iter().map(|(context, index)| (*id, *context, *index)));
                messages.extend(ready.messages);
                let persisted = raft.persisted();
                messages.extend(persisted.messages);
                for entry in ready.committed.iter().chain(&persisted.committed) {
                    if let Some(change) = crate::change_of(entry) {
                        raft.apply_change(&change);
                    }
                    raft.applied(entry.index);
                }
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.sent += 1;
                if !self.cut.contains(&message.from) && !self.cut.contains(&message.to) {
                    let now = self.now;
                    drop(self.of(message.to).step(message, now));
                }
            }
        }
    }

    /// Member `id` reads. Whether it was answered at the leader's commit index, and how many messages that took.
    fn read(&mut self, id: u64) -> (bool, usize) {
        let now = self.now;
        (self.sent, self.reads) = (0, Vec::new());
        self.of(id).read_index(7, now);
        self.settle();
        let commit = self.of(1).brief().3;
        (self.reads == [(id, 7, commit)], self.sent)
    }

    /// What member `id` says when 3 asks it for its vote in a term.
    fn vote(&mut self, id: u64, term: u64) -> Option<bool> {
        let (_, _, _, commit, last) = self.of(id).brief();
        let mut ask = Message { from: 3, to: id, term, log_term: 2, index: last + 1, commit, ..Default::default() };
        ask.set_msg_type(MessageType::MsgRequestVote);
        let now = self.now;
        self.of(id).step(ask, now).expect(DISK);
        let mut ready = self.of(id).ready()?;
        ready.messages.extend(self.of(id).persisted().messages);
        ready.messages.iter().find(|m| m.get_msg_type() == MessageType::MsgRequestVoteResponse).map(|m| !m.reject)
    }
}

#[test]
fn under_a_lease_a_read_sends_nothing() {
    let mut trio = Trio::led([true; 3]);
    assert_eq!(trio.read(1), (true, 0));
    assert_eq!(trio.read(2), (true, 2), "a follower's question and its answer");
    let mut asking = Trio::led([false; 3]);
    assert_eq!(asking.read(1), (true, 4), "two heartbeats and their answers");
    assert_eq!(asking.read(2), (true, 6));
}

#[test]
fn a_lease_ends_by_itself_and_a_read_asks_again() {
    let mut trio = Trio::led([true; 3]);
    let until = trio.of(1).leased().unwrap();
    assert_eq!(until, trio.now + TIMEOUT * 9 / 10);
    trio.cut = vec![1];
    trio.now = until - ms(1);
    assert_eq!(trio.read(1), (true, 0), "nobody else can lead yet");
    trio.now = until;
    assert_eq!(trio.read(1), (false, 2), "it asks, and nobody answers");
}

#[test]
fn members_who_do_not_promise_do_not_count() {
    assert!(Trio::led([true, false, false]).of(1).leased().is_none());
    assert!(Trio::led([true, true, false]).of(1).leased().is_some());
    let mut off = Trio::led([false, true, true]);
    assert!(off.of(1).leased().is_none());
    assert_eq!(off.read(1), (true, 4));
}

#[test]
fn a_lease_is_given_up_for_its_term_when_leadership_is_handed_over() {
    let mut trio = Trio::led([true; 3]);
    trio.cut = vec![3];
    trio.of(1).transfer(3);
    assert!(trio.of(1).leased().is_none());
    trio.settle();
    // The attempt is over, and leads to nothing.
    trio.tick(15);
    assert_eq!(trio.of(1).brief().0, Role::Leader);
    assert!(trio.of(1).leased().is_none());
    trio.cut = vec![];
    trio.of(1).transfer(2);
    trio.settle();
    assert_eq!(trio.of(2).brief().0, Role::Leader, "whoever is handed it need not wait");
    trio.tick(2);
    assert!(trio.of(2).leased().is_some() && trio.of(1).leased().is_none());
}

#[test]
fn a_closed_connection_does_not_end_a_promise() {
    let mut trio = Trio::led([true; 3]);
    let heard = trio.now;
    trio.cut = vec![1];
    trio.of(2).leader_gone(1);
    trio.of(3).leader_gone(3);
    trio.tick(9);
    assert_eq!((trio.of(2).brief().0, trio.of(3).brief().0), (Role::Follower, Role::Follower));
    trio.tick(2);
    assert_eq!(trio.of(2).brief().0, Role::Leader, "it stands as soon as the promises are over");
    assert!(trio.now - heard <= TIMEOUT + TICK);
    let mut free = Trio::led([false; 3]);
    free.cut = vec![1];
    free.of(2).leader_gone(1);
    free.of(3).leader_gone(3);
    free.tick(1);
    assert_eq!(free.of(2).brief().0, Role::Leader);
}

#[test]
fn a_member_that_starts_again_keeps_what_it_may_have_promised() {
    let mut trio = Trio::led([true; 3]);
    // Its log is as short as at its founding; that does not matter here.
    let hard = HardState { commit: 1, ..trio.of(2).hard_state() };
    trio.now += ms(50);
    let restarted = member(2, true, trio.now, hard.clone());
    trio.members.insert(2, restarted);
    let started = trio.now;
    trio.now = started + TIMEOUT - ms(1);
    assert_eq!(trio.vote(2, hard.term + 1), None);
    trio.now = started + TIMEOUT;
    assert_eq!(trio.vote(2, hard.term + 1), Some(true));
    let free = member(2, false, trio.now, hard.clone());
    trio.members.insert(2, free);
    assert_eq!(trio.vote(2, hard.term + 1), Some(true), "without lease reads nobody waits");
}

#[test]
fn a_promise_outlives_the_knowledge_of_a_leader() {
    let mut trio = Trio::led([true; 3]);
    let term = trio.of(2).brief().2;
    // Somebody of a later term, for whatever reason.
    let mut stray = Message { from: 3, to: 2, term: term + 1, ..Default::default() };
    stray.set_msg_type(MessageType::MsgAppendResponse);
    let now = trio.now;
    trio.of(2).step(stray, now).expect(DISK);
    assert_eq!((trio.of(2).brief().1, trio.of(2).brief().2), (0, term + 1));
    assert_eq!(trio.vote(2, term + 1), None);
    assert_eq!(trio.vote(2, term + 2), None);
    trio.now += TIMEOUT;
    assert_eq!(trio.vote(2, term + 2), Some(true));
}

#[test]
fn changed_members_promise_anew() {
    let mut trio = Trio::led([true; 3]);
    let mut single = ConfChangeSingle { node_id: 3, ..Default::default() };
    single.set_change_type(ConfChangeType::RemoveNode);
    let change = ConfChangeV2 { changes: vec![single].into(), ..Default::default() };
    trio.of(1).propose_change(&change, Bytes::from_static(b"a change")).expect(DISK);
    trio.settle();
    assert_eq!(trio.of(1).conf_state().voters.len(), 2);
    assert!(trio.of(1).leased().is_none());
    trio.tick(2);
    assert!(trio.of(1).leased().is_some());
}
