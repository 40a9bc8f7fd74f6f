//! What must hold in the whole cluster at every moment, one file for each invariant. The world tells all of them what
//! its members do; what clients saw is judged by the crate `checker`.
//!
//! Knows everything, as no member can: every message, every applied entry, every stop.

mod acknowledged;
mod commit;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod one_vote;
mod persistence;
mod replicas;
mod state_machine_safety;

use consensus::{Entry, Message};
use replica::{Consensus, Group, Machine, Role};

/// Violations that are kept; the first is the cause of most.
const KEPT: usize = 20;

#[derive(Default)]
pub struct Invariants {
    violations: Vec<String>,
    election_safety: election_safety::ElectionSafety,
    one_vote: one_vote::OneVote,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    commit: commit::Commit,
    persistence: persistence::Persistence,
    replicas: replicas::Replicas,
    acknowledged: acknowledged::Acknowledged,
}

/// An invariant's word.
type Verdict = Result<(), String>;

impl Invariants {
    pub fn violated(&mut self, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(what);
        }
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    fn take(&mut self, invariant: &str, verdict: Verdict) {
        if let Err(what) = verdict {
            self.violated(format!("{invariant}: {what}"));
        }
    }

    /// A member has read its disk and goes on.
    pub fn started(&mut self, member: u64, group: &mut Group, machine: &Machine) {
        let (_, _, term, commit, last) = group.raft.brief();
        let vote = group.raft.hard_state().vote;
        let verdict = self.persistence.started(member, term, last);
        self.take("persistence", verdict);
        let verdict = self.commit.started(member, commit);
        self.take("commit", verdict);
        let verdict = self.one_vote.started(member, term, vote);
        self.take("one vote", verdict);
        self.state_machine_safety.started(member, machine.index);
        let verdict = self.replicas.holds(member, machine);
        self.take("replicas", verdict);
    }

    /// A stopped member's disk was damaged: it may begin with an older snapshot, as long as the log goes on from there.
    pub fn damaged(&mut self, member: u64) {
        self.commit.damaged(member);
    }

    /// Where a member's consensus stands after a turn.
    pub fn stands(&mut self, member: u64, role: Role, term: u64, commit: u64, last: u64) {
        let verdict = self.commit.stands(member, commit);
        self.take("commit", verdict);
        if role == Role::Leader {
            let verdict = self.election_safety.leads(member, term);
            self.take("election safety", verdict);
            let verdict = self.leader_completeness.leads(member, term, last);
            self.take("leader completeness", verdict);
        }
    }

    pub fn sends(&mut self, member: u64, message: &Message) {
        let verdict = self.election_safety.sends(member, message);
        self.take("election safety", verdict);
        let verdict = self.one_vote.sends(member, message);
        self.take("one vote", verdict);
        let verdict = self.log_matching.sends(message);
        self.take("log matching", verdict);
        let verdict = self.leader_completeness.sends(message);
        self.take("leader completeness", verdict);
        self.persistence.sends(member, message);
    }

    /// A member, in its term, is about to apply an entry; its state is that after entry `before`.
    pub fn applies(&mut self, member: u64, term: u64, entry: &Entry, before: u64) {
        let verdict = self.state_machine_safety.applies(member, entry, before);
        self.take("state machine safety", verdict);
        self.leader_completeness.committed(entry, term);
    }

    pub fn applied(&mut self, member: u64, index: u64, machine: &Machine) {
        debug_assert_eq!(index, machine.index);
        let verdict = self.replicas.holds(member, machine);
        self.take("replicas", verdict);
    }

    /// A snapshot has taken the place of a member's state.
    pub fn installed(&mut self, member: u64, machine: &Machine) {
        let verdict = self.state_machine_safety.installed(member, machine.index);
        self.take("state machine safety", verdict);
        let verdict = self.replicas.holds(member, machine);
        self.take("replicas", verdict);
        self.commit.snapshot(member, machine.index);
    }

    pub fn snapshot_written(&mut self, member: u64, index: u64) {
        self.commit.snapshot(member, index);
    }

    /// Somebody is told that a request in this entry is done.
    pub fn acknowledged(&mut self, entry: &Entry) {
        self.acknowledged.acknowledged(entry);
    }

    /// The run is over; a member has come to this point.
    pub fn finished(&mut self, member: u64, index: u64) {
        let verdict = self.acknowledged.finished(member, index, |i| self.state_machine_safety.entry(i));
        self.take("acknowledged", verdict);
    }
}

/// A number that is another one for another entry.
fn fingerprint(entry: &Entry) -> u64 {
    let kind = [entry.get_entry_type() as u8];
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for byte in kind.iter().chain(entry.data.iter()).chain(entry.context.iter()) {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    sum
}
