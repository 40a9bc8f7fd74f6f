//! [`Consensus`] by TiKV's engine.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use raft::{
    Config, Error, RawNode, ReadOnlyOption, SnapshotStatus, StateRole,
    eraftpb::{ConfChangeV2, ConfState, Entry, HardState, Message, MessageType},
};

use crate::{
    Base, Consensus, Dropped, LeaseReads, Log, Peer, Persisted, Ready, Role, Status,
    lease::{self, Lease},
    ready::{read_bytes, read_context},
};

/// Entries that have been proposed and are not committed, in bytes; past it proposals are dropped.
const MAX_UNCOMMITTED_BYTES: u64 = 256 << 20;
/// Committed entries that are handed out at once, in bytes.
const MAX_COMMITTED_BYTES: u64 = 16 << 20;
/// The context of a vote that the leader itself has asked for.
const HANDED_OVER: &[u8] = b"CampaignTransfer";

/// How a group behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member; never 0.
    pub id: u64,
    /// A follower that hears nothing for so many ticks, up to twice as many, stands for election.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub pre_vote: bool,
    /// Entries of one message, in bytes.
    pub max_message_bytes: u64,
    /// Messages with entries that a peer may be sent without having answered.
    pub max_inflight: usize,
    /// Where election timeouts come from.
    pub seed: u64,
    /// Reads need no messages while the leader has a lease.
    pub lease_reads: Option<LeaseReads>,
}

impl Options {
    /// etcd's defaults, in ticks of 100 ms.
    pub fn new(id: u64, seed: u64) -> Self {
        Options {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            max_message_bytes: 1 << 20,
            max_inflight: 512,
            seed,
            lease_reads: None,
        }
    }
}

/// What the disk has of a group.
#[derive(Default)]
pub struct Restored {
    pub hard: HardState,
    /// The snapshot; everything up to it is applied.
    pub base: Base,
    /// The log after it.
    pub entries: Vec<Entry>,
}

/// One group. The engine draws a new election timeout whenever it starts to count anew; this wrapper puts one from its
/// seed in its place after every input, before any tick can use it.
pub struct Raft {
    raw: RawNode<Log>,
    random: u64,
    /// The engine's record of the [`Ready`] that is being written.
    pending: Option<raft::Ready>,
    lease: Option<Lease>,
    /// The time as it was last told.
    now: Duration,
}

impl Raft {
    pub fn new(options: &Options, restored: Restored) -> Self {
        let applied = restored.base.index;
        let mut hard = restored.hard;
        hard.commit = hard.commit.max(applied);
        hard.term = hard.term.max(restored.base.term);
        let config = Config {
            id: options.id,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied,
            max_size_per_msg: options.max_message_bytes,
            max_inflight_msgs: options.max_inflight,
            check_quorum: true,
            pre_vote: options.pre_vote,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            max_committed_size_per_ready: MAX_COMMITTED_BYTES,
            ..Default::default()
        };
        let log = Log::new(hard, restored.base, restored.entries);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &logger).expect("the options and the log fit together");
        let (lease, now) = (options.lease_reads.map(Lease::new), options.lease_reads.map(|l| l.started));
        let mut raft = Raft { raw, random: options.seed, pending: None, lease, now: now.unwrap_or_default() };
        raft.draw();
        raft
    }

    /// The last entry of the [`Ready`] that is being written.
    pub fn unstable_last(&self) -> Option<u64> {
        self.pending.as_ref()?.entries().last().map(|e| e.index)
    }

    /// Forgets entries up to `index` until about `bytes` of them are kept.
    pub fn keep(&mut self, index: u64, bytes: usize) {
        self.raw.mut_store().compact_to(index, bytes);
    }

    /// Bytes of entries that are written and not committed yet; 0 for who does not lead others.
    pub fn in_flight(&self) -> usize {
        match self.raw.raft.state {
            StateRole::Leader => self.raw.store().bytes_after(self.raw.raft.raft_log.committed),
            _ => 0,
        }
    }

    /// Role, leader, term, commit index and last index: [`Consensus::status`] without the peers.
    pub fn brief(&self) -> (Role, u64, u64, u64, u64) {
        let raft = &self.raw.raft;
        (role(raft.state), raft.leader_id, raft.term, raft.raft_log.committed, raft.raft_log.last_index())
    }

    /// The leader is known to be gone: its time counts as over, and this member stands for election after `patience`
    /// more ticks, unless another does so before. Whether it is elected is decided as ever. A promise to the leader holds
    /// all the same: its process may live on behind a connection that was cut. The ticks count from the promise's end.
    pub fn leader_gone(&mut self, patience: usize) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower || !raft.promotable() {
            return;
        }
        let ticks = raft.election_timeout();
        raft.election_elapsed = ticks;
        raft.set_randomized_election_timeout(ticks + patience.min(ticks - 1));
    }

    /// Draws a timeout where the engine has begun to count anew.
    fn redraw(&mut self) {
        if self.raw.raft.election_elapsed == 0 {
            self.draw();
        }
    }

    fn draw(&mut self) {
        // splitmix64: small, and enough to keep members from standing at once.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let ticks = self.raw.raft.election_timeout();
        let spread = usize::try_from((z ^ (z >> 31)) % ticks as u64).expect("it is below a number of ticks");
        self.raw.raft.set_randomized_election_timeout(ticks + spread);
    }

    /// Until when reads may be served at the commit index, on this member, without asking the others.
    pub fn leased(&self) -> Option<Duration> {
        let (lease, raft) = (self.lease.as_ref()?, &self.raw.raft);
        // What earlier leaders have committed is known only with an entry of this term.
        if raft.state != StateRole::Leader || !raft.commit_to_current_term() {
            return None;
        }
        let conf = raft.prs().conf().to_conf_state();
        lease.until(raft.id, conf.get_voters(), conf.get_voters_outgoing())
    }

    /// Whether `now` is before the end of a promise to elect nobody but the leader.
    fn is_promised(&self, now: Duration) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_promised(now))
    }

    /// A message's part in leases; `false` if it is not to be taken.
    fn lease(&mut self, message: &mut Message, now: Duration) -> bool {
        let term = self.raw.raft.term;
        let Some(lease) = &mut self.lease else { return true };
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.term >= term => {
                if let Some(answer) = lease::promise(&message.context) {
                    lease.promise(now);
                    message.context = answer.into();
                }
            }
            MessageType::MsgHeartbeatResponse => {
                let (own, sent) = lease::untag(&message.context);
                let own = own.to_vec();
                if let Some(sent) = sent.filter(|_| message.term == term && self.raw.raft.state == StateRole::Leader) {
                    lease.answered(message.from, sent);
                }
                message.context = own.into();
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                let may_be_granted = message.term >= term && message.context != HANDED_OVER;
                return !may_be_granted || !lease.is_promised(now);
            }
            _ => {}
        }
        true
    }

    /// After every input: a term's lease begins with it, and is given up with the first attempt to hand leadership over.
    fn follow_lease(&mut self) {
        let (raft, Some(lease)) = (&self.raw.raft, &mut self.lease) else { return };
        if raft.state == StateRole::Leader {
            lease.leads(raft.term, self.now);
            if raft.lead_transferee.is_some() {
                lease.give_up();
            }
        }
    }

    /// Lets the engine answer the questions of one input from the lease, if there is one.
    fn reading<T>(&mut self, now: Duration, input: impl FnOnce(&mut RawNode<Log>) -> T) -> T {
        let leased = self.leased().is_some_and(|until| now < until);
        self.raw.raft.read_only.option = if leased { ReadOnlyOption::LeaseBased } else { ReadOnlyOption::Safe };
        let result = input(&mut self.raw);
        self.raw.raft.read_only.option = ReadOnlyOption::Safe;
        result
    }

    /// Tells those who are sent a heartbeat when that was. It is a little before: no later than it goes out.
    fn tag(&self, messages: &mut [Message]) {
        if self.lease.is_none() {
            return;
        }
        for message in messages.iter_mut().filter(|m| m.get_msg_type() == MessageType::MsgHeartbeat) {
            message.context = lease::tag(&message.context, self.now).into();
        }
    }

    fn take(&mut self, result: Result<(), Error>) -> Result<(), Dropped> {
        self.redraw();
        self.follow_lease();
        result.map_err(|error| match error {
            Error::ProposalDropped => Dropped::NoLeader,
            other => Dropped::Misfit(other.to_string()),
        })
    }
}

impl Consensus for Raft {
    fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let raft = &self.raw.raft;
        // Ticks are coarser than a promise: the last before an election waits for its end.
        let stands = raft.state != StateRole::Leader && raft.election_elapsed + 1 >= raft.election_timeout();
        if stands && self.is_promised(now) {
            return;
        }
        self.raw.tick();
        self.redraw();
        self.follow_lease();
    }

    fn step(&mut self, mut message: Message, now: Duration) -> Result<(), Dropped> {
        self.now = self.now.max(now);
        if !self.lease(&mut message, now) {
            return Ok(());
        }
        let result = match message.get_msg_type() {
            MessageType::MsgReadIndex => self.reading(now, |raw| raw.step(message)),
            _ => self.raw.step(message),
        };
        self.take(result)
    }

    fn propose(&mut self, data: Bytes) -> Result<(), Dropped> {
        // The engine takes an owned buffer and turns it into `Bytes` again: the message is made here instead.
        let mut message = Message { from: self.raw.raft.id, ..Default::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![Entry { data, ..Default::default() }].into());
        let result = self.raw.raft.step(message);
        self.take(result)
    }

    fn expect_more(&mut self, more: bool) {
        self.raw.skip_bcast_commit(more);
    }

    fn propose_change(&mut self, change: &ConfChangeV2, context: Bytes) -> Result<(), Dropped> {
        let result = self.raw.propose_conf_change(context.to_vec(), change.clone());
        self.take(result)
    }

    fn read_index(&mut self, context: u64, now: Duration) {
        self.now = self.now.max(now);
        self.reading(now, |raw| raw.read_index(read_bytes(context)));
    }

    fn transfer(&mut self, to: u64) {
        self.raw.transfer_leader(to);
        self.redraw();
        self.follow_lease();
    }

    fn campaign(&mut self) {
        // It fails only where the member may not stand, and then it does not.
        drop(self.raw.campaign());
        self.redraw();
        self.follow_lease();
    }

    fn unreachable(&mut self, peer: u64) {
        self.raw.report_unreachable(peer);
    }

    fn snapshot_sent(&mut self, peer: u64, ok: bool) {
        self.raw.report_snapshot(peer, if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
    }

    fn ready(&mut self) -> Option<Ready> {
        debug_assert!(self.pending.is_none(), "the last one was not persisted");
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().get_metadata().clone());
        let reads = ready.take_read_states();
        let mut messages = ready.take_messages();
        self.tag(&mut messages);
        let out = Ready {
            messages,
            snapshot,
            entries: ready.entries().clone(),
            hard_state: ready.hs().cloned(),
            committed: ready.take_committed_entries(),
            reads: reads.iter().filter_map(|r| Some((read_context(&r.request_ctx)?, r.index))).collect(),
            changed: ready.ss().map(|ss| (role(ss.raft_state), ss.leader_id)),
        };
        self.pending = Some(ready);
        Some(out)
    }

    fn persisted(&mut self) -> Persisted {
        let Some(mut ready) = self.pending.take() else { return Persisted::default() };
        let log = self.raw.mut_store();
        let snapshot = ready.snapshot().get_metadata().index;
        if snapshot > 0 {
            let metadata = ready.snapshot().get_metadata();
            let conf = metadata.get_conf_state().clone();
            log.reset(&Base { index: metadata.index, term: metadata.term, conf });
        }
        log.append(ready.entries());
        if let Some(hard) = ready.hs() {
            log.set_hard_state(hard.clone());
        }
        let mut messages = ready.take_persisted_messages();
        let mut light = self.raw.advance_append(ready);
        if snapshot > 0 {
            // Before it stands for election, the engine looks for changes of membership in what is not applied: nothing
            // of what the snapshot holds is in the log any more.
            self.raw.advance_apply_to(snapshot);
        }
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().set_commit(commit);
        }
        messages.append(&mut light.take_messages());
        self.tag(&mut messages);
        Persisted { messages, committed: light.take_committed_entries() }
    }

    fn apply_change(&mut self, change: &ConfChangeV2) -> ConfState {
        // The engine refuses only changes that it would not have let into the log.
        let applied = self.raw.apply_conf_change(change);
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && !raft.prs().conf().voters().contains(raft.id) {
            // It could take no proposal any more, and its heartbeats would keep the others from electing one who can.
            raft.become_follower(raft.term, 0);
        }
        self.redraw();
        self.follow_lease();
        if let Some(lease) = &mut self.lease {
            lease.members_changed(self.now);
        }
        applied.unwrap_or_else(|_| self.conf_state())
    }

    fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
    }

    fn snapshot_available(&mut self, base: Base) {
        self.raw.mut_store().set_snapshot(base);
    }

    fn snapshot_wanted(&mut self) -> bool {
        self.raw.store().take_wanted()
    }

    fn compact(&mut self, index: u64) {
        self.raw.mut_store().compact(index);
    }

    fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let learners = raft.prs().conf().learners();
        let peers = raft.prs().iter().filter(|_| raft.state == StateRole::Leader).map(|(id, progress)| Peer {
            id: *id,
            matched: progress.matched,
            learner: learners.contains(id),
            active: *id == raft.id || progress.recent_active,
            snapshot: progress.state == raft::ProgressState::Snapshot,
        });
        Status {
            role: role(raft.state),
            term: raft.term,
            leader: raft.leader_id,
            commit: raft.raft_log.committed,
            last: raft.raft_log.last_index(),
            applied: raft.raft_log.applied,
            peers: peers.collect(),
        }
    }

    fn conf_state(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    fn hard_state(&self) -> HardState {
        self.raw.store().hard_state().clone()
    }
}

fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}
