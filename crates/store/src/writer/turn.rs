//! A turn of consensus: what it decides is written, sent and handed on, and everybody is told where it stands.

use std::sync::atomic::Ordering;

use consensus::{MessageType, SnapshotMetadata};
use replica::{Entry, GroupId, Members, Message, Output, Role};
use wal::CommitError;

use super::{FULL_PAUSE, MAX_BATCH, MAX_BATCH_BYTES, Writer, span::FsyncSpan};
use crate::{
    applier::{Applier, Item},
    inbox::Taken,
    shared::Shared,
    snapshot,
};

impl Writer {
    pub(super) fn turn(&mut self) {
        self.turn_in(FsyncSpan::default());
    }

    /// One turn of consensus, with the fsync in a span that is found from the proposals in it.
    pub(super) fn turn_in(&mut self, span: FsyncSpan) {
        if self.is_broken() {
            return;
        }
        for group in &self.shared.groups {
            self.core.applied(group.id, group.standing.applied.load(Ordering::Acquire));
        }
        // Before anything is sent: readers must not use a lease that is let go when another member may be elected.
        for (group, core) in self.shared.groups.iter().zip(self.core.groups()) {
            group.standing.lease(core.raft.leased());
        }
        loop {
            let (before, start) = (self.core.appended, self.shared.clock.monotonic());
            let begun = self.core.wal().begun_bytes();
            let turned = {
                let _entered = span.enter();
                self.core.turn(&mut Hands { shared: &self.shared, applier: &self.applier })
            };
            let bytes = self.core.appended - before;
            if bytes > 0 {
                self.last_fsync = self.shared.clock.monotonic() - start;
                self.shared.metrics.fsync.observe(self.last_fsync.as_secs_f64());
                self.shared.metrics.wal_bytes.inc_by(bytes as i64);
                self.shared.disk_bytes.fetch_add(self.core.wal().begun_bytes() - begun, Ordering::Relaxed);
                self.since_snapshot += bytes;
            }
            match turned {
                Ok(()) => break,
                Err(CommitError::Broken(why)) => {
                    self.fail(why);
                    break;
                }
                Err(CommitError::Refused(error)) => {
                    if !self.shared.full.swap(true, Ordering::AcqRel) {
                        tracing::warn!(%error, "the log waits for room");
                    }
                    if self.shared.inbox.is_closed() {
                        break;
                    }
                    // What came meanwhile is told at once that there is no room.
                    let mut taken = Taken::default();
                    self.shared.inbox.take(&mut taken, MAX_BATCH, MAX_BATCH_BYTES, Some(FULL_PAUSE));
                    self.refuse(taken.proposals.drain(..), &error);
                    taken.inputs.into_iter().for_each(|input| self.input_while_full(input));
                }
            }
        }
        self.publish();
        if self.shared.inbox.is_empty() {
            self.applier.drain(&self.shared);
        } else {
            self.applier.hand_over();
        }
    }

    /// Tells everybody where consensus stands.
    fn publish(&mut self) {
        let lone = self.core.is_lone();
        let learner = self.core.is_learner();
        for (group, core) in self.shared.groups.iter().zip(self.core.groups()) {
            group.standing.learner.store(learner, Ordering::Release);
            let (role, leader, term, commit, last) = core.raft.brief();
            let standing = &group.standing;
            standing.committed(commit);
            standing.last.store(last, Ordering::Release);
            let led = standing.leads();
            let before = (standing.leader.load(Ordering::Acquire), standing.term.load(Ordering::Acquire));
            if role == Role::Leader && !led {
                // Before it counts as leading: the times that it had as a follower were never renewed.
                group.restart_leases(self.shared.clock.monotonic());
            }
            standing.set(role, leader, term, lone);
            if (led, before) != (role == Role::Leader, (leader, term)) {
                if group.id == 0 {
                    self.shared.metrics.standing(role == Role::Leader, learner, leader, before.0);
                }
                group.lease_sooner.notify_one();
                group.changed.send_modify(|n| *n += 1);
            }
        }
    }
}

/// Carries a turn's decisions out.
struct Hands<'a> {
    shared: &'a Shared,
    applier: &'a Applier,
}

impl Output for Hands<'_> {
    fn send(&mut self, group: GroupId, messages: Vec<Message>) {
        if self.shared.group(group).standing.leads() {
            runtime::failpoint!("raftBeforeLeaderSend");
        } else {
            runtime::failpoint!("raftBeforeFollowerSend");
        }
        let standing = &self.shared.group(group).standing;
        for message in messages {
            // Who hears of a commit index may answer by it: readers here have to know it by then.
            standing.committed(message.commit.max(commit_told(&message)));
            self.shared.peers.send(group, message);
        }
    }

    fn apply(&mut self, group: GroupId, entries: Vec<Entry>) {
        self.applier.push(Item::Entries(group, entries));
    }

    fn install(&mut self, group: GroupId, metadata: SnapshotMetadata) -> Result<Members, String> {
        runtime::failpoint!("raftBeforeApplySnap");
        let machine = snapshot::load(self.shared, group, metadata.index, metadata.term)?;
        let members = machine.members.clone();
        self.applier.push(Item::Install(group, Box::new(machine)));
        Ok(members)
    }

    fn read(&mut self, group: GroupId, context: u64, index: u64) {
        let group = self.shared.group(group);
        group.pending.confirm(context, index, &group.standing.applied);
    }

    fn changed(&mut self, _group: GroupId, role: Role, leader: u64) {
        tracing::info!(?role, leader = format!("{leader:x}"), "role");
    }

    fn removed(&mut self) {
        self.shared.removed.send_replace(true);
    }
}

/// The commit index that the answer to another member's question tells.
fn commit_told(message: &Message) -> u64 {
    if message.get_msg_type() == MessageType::MsgReadIndexResp { message.index } else { 0 }
}
