//! The one thread that writes: takes what waits, lets consensus decide, puts all groups' records to disk as one frame,
//! and hands on what is committed.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use consensus::{MessageType, SnapshotMetadata};
use replica::{Batch, Consensus, Core, Dropped, Entry, GroupId, Members, Message, Output, Role, entry_bytes};
use runtime::Tasks;
use store_api::StoreError;
use tracing::info_span;
use wal::CommitError;

use crate::{
    applier::{Applier, Item, broken},
    folder::Folder,
    inbox::{Input, Proposal, Taken},
    shared::Shared,
    snapshot,
};

/// Proposals of one batch at most.
const MAX_BATCH: usize = 4096;
/// Bytes of one batch, about.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Bytes of one entry, about: a batch may be several.
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// The longest that a batch waits for proposals that are likely to come, and the part of an fsync's time that it may
/// take: callers that were just answered ask again at once, and should share one fsync instead of two.
const LINGER: Duration = Duration::from_micros(200);
const LINGER_PART: u32 = 8;
/// The longest that a batch waits while more than it has is in flight; and bytes in flight that show many callers: few
/// of them get nothing for waiting.
const HOLD: Duration = Duration::from_millis(2);
const MANY_IN_FLIGHT: usize = 4096;
/// The pause before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// A question about the commit index is asked again after so many ticks.
const READ_TICKS: u32 = 5;
/// Proposals that wait for a leader at most.
const MAX_BACKLOG: usize = 16 * 1024;

pub struct Writer {
    pub shared: Arc<Shared>,
    pub core: Core,
    pub applier: Arc<Applier>,
    pub tasks: Tasks,
    /// Locked for as long as something may be written to it.
    pub folder: Arc<Folder>,
    pub snapshot_bytes: u64,
    pub snapshot_entries: Option<u64>,
    /// Bytes of log since the last snapshot.
    pub since_snapshot: u64,
    pub last_snapshot_bytes: u64,
    /// Numbers of proposals: the upper bits are this run's own.
    pub next_id: u64,
    /// Proposals that wait for a leader.
    pub backlog: VecDeque<Proposal>,
    pub next_tick: Duration,
    /// What came while a turn was unfinished and must not be lost.
    pub deferred: Vec<Input>,
    /// Proposals of followers that belong to the next batch.
    pub passed_on: Vec<Input>,
    /// Since when the next batch waits for those before.
    pub held_since: Option<Duration>,
    /// Proposals in the batch before.
    pub last_batch: usize,
    /// How long its fsync took.
    pub last_fsync: Duration,
}

impl Writer {
    /// Runs until the inbox is closed and empty.
    pub fn run(mut self) {
        // As with etcd's ticker, no time has passed at the start: an election comes no sooner than it may.
        self.next_tick = self.shared.clock.monotonic() + self.shared.timing.tick;
        let mut taken = Taken::default();
        if self.core.is_lone() {
            (0..self.shared.groups.len()).for_each(|id| self.core.group(id as GroupId).raft.campaign());
        }
        self.turn();
        while self.shared.inbox.take(&mut taken, MAX_BATCH, MAX_BATCH_BYTES, self.patience()) {
            self.tick();
            if self.is_broken() {
                self.refuse_all(&mut taken);
                continue;
            }
            self.inputs(&mut taken);
            if !self.waits(&taken) {
                std::mem::take(&mut self.passed_on).into_iter().for_each(|input| self.input(input));
                self.linger(&mut taken);
                self.propose(&mut taken.proposals);
            }
            self.ask();
            self.turn();
            self.maybe_snapshot();
        }
        self.applier.drain(&self.shared);
    }

    /// What others have sent or asked. What that commits is applied and answered before the next batch is put together:
    /// who is answered may ask again in it. What followers pass on belongs to that batch.
    fn inputs(&mut self, taken: &mut Taken) {
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

    /// Whether the leader's next batch had better wait, because more is on its way to the others than it has: who is
    /// answered soon asks again, and a small batch costs all members as much as a large one.
    fn waits(&mut self, taken: &Taken) -> bool {
        let passed_on = self.passed_on.iter().filter_map(Input::message).flat_map(|m| m.get_entries());
        let bytes = taken.proposals.iter().map(|p| p.request.len()).sum::<usize>()
            + passed_on.map(|entry| entry.data.len()).sum::<usize>();
        let in_flight: usize = self.core.groups().iter().map(|group| group.raft.in_flight()).sum();
        if bytes == 0 || in_flight < MANY_IN_FLIGHT || bytes >= in_flight {
            self.held_since = None;
            return false;
        }
        let now = self.shared.clock.monotonic();
        let over = now >= *self.held_since.get_or_insert(now) + HOLD;
        self.held_since.take_if(|_| over);
        !over
    }

    /// How long nothing has to happen: ticks are for members that have others, or callers that wait.
    fn patience(&self) -> Option<Duration> {
        let waits = !self.core.is_lone()
            || !self.backlog.is_empty()
            || self.shared.groups.iter().any(|g| !g.standing.leads() || g.pending.waits() || g.pending.asks());
        waits.then(|| {
            let now = self.shared.clock.monotonic();
            let tick = self.next_tick.saturating_sub(now);
            self.held_since.map_or(tick, |since| tick.min((since + HOLD).saturating_sub(now)))
        })
    }

    /// Waits a moment where the batch has not half the size of the one before.
    fn linger(&mut self, taken: &mut Taken) {
        if taken.proposals.is_empty() {
            return;
        }
        if taken.proposals.len() * 2 <= self.last_batch {
            std::thread::sleep((self.last_fsync / LINGER_PART).min(LINGER));
            self.shared.inbox.take_more(taken, MAX_BATCH, MAX_BATCH_BYTES);
        }
        self.last_batch = taken.proposals.len();
    }

    fn tick(&mut self) {
        let now = self.shared.clock.monotonic();
        if now < self.next_tick {
            return;
        }
        let every = self.shared.timing.tick;
        // A process that was paused must not live through all the time that it has missed.
        self.next_tick = (self.next_tick + every).max(now);
        self.core.tick(now);
        for group in &self.shared.groups {
            group.pending.expire(now);
        }
        while let Some(late) = self.backlog.pop_front_if(|waiting| waiting.deadline <= now) {
            drop(late.answer.send(Err(StoreError::Timeout)));
        }
        for group in 0..self.shared.groups.len() as GroupId {
            if self.core.group(group).raft.snapshot_wanted() {
                self.start_snapshot();
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.shared.broken.lock().is_some()
    }

    fn refuse_all(&mut self, taken: &mut Taken) {
        let why = broken(self.shared.broken.lock().clone().unwrap_or_default());
        self.refuse(taken.proposals.drain(..), &why);
        for input in taken.inputs.drain(..) {
            match input {
                // What is applied is on disk; it can still be read where nobody else has to be asked.
                Input::Read(_, read) if self.core.is_lone() => drop(read.send(Ok(()))),
                Input::Read(_, read) => drop(read.send(Err(why.clone()))),
                Input::Change(_, _, answer) => drop(answer.send(Err(why.clone()))),
                _ => {}
            }
        }
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&why));
    }

    fn input(&mut self, input: Input) {
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

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Puts proposals to the log, group by group, in the order in which they came.
    fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        if !self.backlog.is_empty() {
            let mut all: Vec<Proposal> = self.backlog.drain(..).collect();
            all.append(proposals);
            *proposals = all;
        }
        if proposals.is_empty() {
            return;
        }
        self.make_room(proposals);
        let spans = FsyncSpan::of(proposals);
        for group in 0..self.shared.groups.len() as GroupId {
            let mut own: Vec<Proposal> = proposals.extract_if(.., |p| p.group == group).collect();
            if !own.is_empty() {
                self.propose_to(group, &mut own);
            }
        }
        self.turn_in(spans);
    }

    /// Refuses what a full disk or the quota has no room for.
    fn make_room(&mut self, proposals: &mut Vec<Proposal>) {
        if !proposals.iter().all(|p| p.frees_space) {
            let used = self.shared.used_bytes();
            if used > self.shared.quota_bytes {
                let limit = self.shared.quota_bytes;
                let text = format!("{used} bytes are in use, the quota is {limit}; compact, or delete and compact");
                self.refuse_growth(proposals, &StoreError::NoSpace(text));
                self.shared.over_quota.notify_one();
            }
        }
        let bytes: u64 = proposals.iter().map(|p| entry_bytes(p.request.len())).sum();
        let frees_space = proposals.iter().all(|p| p.frees_space);
        match self.core.prepare(bytes, frees_space) {
            Ok(()) => {
                if !frees_space && self.shared.full.swap(false, Ordering::AcqRel) {
                    tracing::info!("there is room again");
                }
            }
            Err(CommitError::Broken(why)) => {
                self.fail(why);
                let why = broken(self.shared.broken.lock().clone().unwrap_or_default());
                self.refuse(proposals.drain(..), &why);
            }
            Err(CommitError::Refused(error)) => {
                // What gives space back may use what the log holds back for it.
                if !self.shared.full.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "writes are refused until there is room");
                }
                self.refuse_growth(proposals, &error);
                let bytes: u64 = proposals.iter().map(|p| entry_bytes(p.request.len())).sum();
                if let Err(CommitError::Refused(error)) = self.core.prepare(bytes, true) {
                    self.refuse(proposals.drain(..), &error);
                }
            }
        }
    }

    fn propose_to(&mut self, group: GroupId, proposals: &mut Vec<Proposal>) {
        let (role, leader, term, ..) = self.core.group(group).raft.brief();
        let misplaced = |p: &mut Proposal| p.in_term.is_some_and(|wanted| role != Role::Leader || wanted != term);
        self.refuse(proposals.extract_if(.., misplaced), &StoreError::NotLeader);
        if leader == 0 {
            let room = MAX_BACKLOG.saturating_sub(self.backlog.len());
            let over = proposals.split_off(proposals.len().min(room));
            self.backlog.extend(proposals.drain(..));
            return self.refuse(over.into_iter(), &StoreError::TooManyRequests);
        }
        let mut batch = Batch::default();
        let mut registered = Vec::new();
        for proposal in proposals.drain(..) {
            if batch.len() + proposal.request.len() > MAX_ENTRY_BYTES && !batch.is_empty() {
                self.propose_batch(group, &mut batch, &mut registered, term);
            }
            let id = self.id();
            batch.push(id, &proposal.request);
            registered.push((id, proposal.deadline, proposal.answer));
        }
        self.propose_batch(group, &mut batch, &mut registered, term);
    }

    fn propose_batch(
        &mut self,
        group: GroupId,
        batch: &mut Batch,
        registered: &mut Vec<(u64, Duration, tokio::sync::oneshot::Sender<replica::Answer>)>,
        term: u64,
    ) {
        let ids: Vec<u64> = registered.iter().map(|(id, ..)| *id).collect();
        let pending = &self.shared.group(group).pending;
        pending.register(registered.drain(..), term);
        if let Err(error) = self.core.group(group).raft.propose(batch.take()) {
            let error = match error {
                Dropped::NoLeader => StoreError::NoLeader,
                Dropped::Misfit(text) => StoreError::Unavailable(text),
            };
            ids.into_iter().filter_map(|id| pending.withdraw(id)).for_each(|a| drop(a.send(Err(error.clone()))));
        }
    }

    /// Asks the others for the commit index, where reads wait for it.
    fn ask(&mut self) {
        let (now, patience) = (self.shared.clock.monotonic(), self.shared.timing.tick * READ_TICKS);
        for id in 0..self.shared.groups.len() as GroupId {
            let context = self.next_id + 1;
            if self.shared.group(id).pending.ask(context, now, patience) {
                self.next_id = context;
                self.core.group(id).raft.read_index(context, now);
            }
        }
    }

    fn turn(&mut self) {
        self.turn_in(FsyncSpan::default());
    }

    /// One turn of consensus, with the fsync in a span that is found from the proposals in it.
    fn turn_in(&mut self, span: FsyncSpan) {
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

    /// While a turn is unfinished, consensus takes nothing: peers send again, readers wait.
    fn input_while_full(&mut self, input: Input) {
        match input {
            Input::Read(group, read) => self.shared.group(group).pending.read(read),
            Input::Change(_, _, answer) => drop(answer.send(Err(StoreError::NoSpace("the log waits for room".into())))),
            Input::SnapshotWritten(written) => self.snapshot_written(written),
            // A peer gets nothing more until consensus has heard what became of its snapshot.
            Input::SnapshotSent { .. } => self.deferred.push(input),
            _ => {}
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

    fn refuse(&self, proposals: impl Iterator<Item = Proposal>, error: &StoreError) {
        for proposal in proposals {
            self.shared.metrics.failed.inc();
            drop(proposal.answer.send(Err(error.clone())));
        }
    }

    fn refuse_growth(&self, proposals: &mut Vec<Proposal>, error: &StoreError) {
        let growth = proposals.extract_if(.., |p| !p.frees_space);
        self.refuse(growth, error);
    }

    /// Nobody knows what is on disk now; only a restart, which reads it, can tell.
    fn fail(&self, why: String) {
        tracing::error!(error = why, "the log failed; no write is accepted until a restart");
        let error = broken(why.clone());
        *self.shared.broken.lock() = Some(why);
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&error));
    }

    fn maybe_snapshot(&mut self) {
        let many = self.snapshot_entries.is_some_and(|count| self.core.entries_since_snapshot() >= count);
        let due = many || self.since_snapshot >= self.snapshot_bytes.max(self.last_snapshot_bytes);
        if due && !self.shared.snapshotting.load(Ordering::Acquire) {
            // If it fails, the next try comes after as much log again.
            self.since_snapshot = 0;
            self.start_snapshot();
        }
    }

    fn start_snapshot(&self) {
        let (shared, folder) = (self.shared.clone(), self.folder.clone());
        self.tasks.spawn_thread("snapshot", move || {
            if let Err(error) = snapshot::write_all(&shared) {
                tracing::warn!(%error, "no snapshot was written; the log grows until the next");
            }
            drop(folder);
        });
    }

    fn snapshot_written(&mut self, written: Option<(GroupId, replica::Base, u64)>) {
        if let Some((group, base, bytes)) = written {
            self.last_snapshot_bytes = bytes;
            let segments = self.core.snapshot_written(group, base.clone());
            snapshot::purge(&self.shared, group, base.index, &segments);
            runtime::failpoint!("raftAfterWALRelease");
        }
        self.shared.snapshots.send_modify(|n| *n += 1);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.inbox.abandon();
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&StoreError::Stopped));
        self.applier.close();
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

/// The span of a batch's fsync: the child of the first proposal, linked both ways with the others, so that the fsync is
/// found from whichever request one looks at.
#[derive(Default)]
struct FsyncSpan(Option<tracing::Span>);

impl FsyncSpan {
    fn of(proposals: &[Proposal]) -> Self {
        let Some(first) = proposals.first() else { return FsyncSpan(None) };
        let bytes: usize = proposals.iter().map(|p| p.request.len()).sum();
        let span = info_span!(parent: &first.span, "fsync", batch = proposals.len(), bytes);
        if !span.is_disabled() {
            for waiting in proposals.iter().skip(1).map(|p| &p.span).filter(|waiting| !waiting.is_disabled()) {
                span.follows_from(waiting);
                waiting.follows_from(&span);
            }
        }
        FsyncSpan(Some(span))
    }

    fn enter(&self) -> Option<tracing::span::Entered<'_>> {
        self.0.as_ref().map(tracing::Span::enter)
    }
}
