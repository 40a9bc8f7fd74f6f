//! The one thread that writes: takes what waits, lets consensus decide, puts all groups' records to disk as one frame,
//! and hands on what is committed.

mod inputs;
mod proposing;
mod snapshots;
mod span;
mod turn;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use replica::{Consensus, Core, GroupId};
use runtime::Tasks;
use store_api::StoreError;

use crate::{
    applier::{Applier, broken},
    folder::Folder,
    inbox::{Input, Proposal, Taken},
    shared::Shared,
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

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
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

    /// Nobody knows what is on disk now; only a restart, which reads it, can tell.
    fn fail(&self, why: String) {
        tracing::error!(error = why, "the log failed; no write is accepted until a restart");
        let error = broken(why.clone());
        *self.shared.broken.lock() = Some(why);
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&error));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.inbox.abandon();
        self.shared.groups.iter().for_each(|g| g.pending.fail_all(&StoreError::Stopped));
        self.applier.close();
    }
}
