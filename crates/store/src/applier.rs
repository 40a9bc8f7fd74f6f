//! The half that applies: committed entries become state, events for the watchers, and answers, while the next batch is
//! on its way to the disk.
//!
//! Its work may be done by the writer itself, when nothing else waits for it, or by a thread of its own: whoever holds
//! the work's lock goes on where the other has stopped.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use auth::TokenEvent;
use mvcc::HashQuery;
use parking_lot::{Condvar, Mutex};
use replica::{Applied, Entry, GroupId, Machine};
use store_api::StoreError;

use crate::shared::{Group, Shared};

/// Writes visited by one step of trimming; readers wait no longer than for that.
const TRIM_STEP: usize = 64;
/// The pause after a step of trimming, in times of what the step took: requests keep the processor. And the shortest.
const TRIM_REST: u32 = 9;
const TRIM_PAUSE: Duration = Duration::from_micros(200);
/// Pause before trying again when a reader still needs the old versions.
const TRIM_RETRY: Duration = Duration::from_millis(50);

/// What is to be applied, in order.
pub enum Item {
    Entries(GroupId, Vec<Entry>),
    /// A snapshot from a peer takes the state's place.
    Install(GroupId, Box<Machine>),
}

#[derive(Default)]
pub struct Applier {
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Held while something is applied.
    work: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    sleeping: bool,
    /// Somebody has something for the thread to do that is no item.
    woken: bool,
    closed: bool,
}

impl Applier {
    pub fn push(&self, item: Item) {
        self.queue.lock().items.push_back(item);
    }

    /// Lets the applier's own thread do what is there.
    pub fn hand_over(&self) {
        let mut queue = self.queue.lock();
        if queue.sleeping && !queue.items.is_empty() {
            queue.sleeping = false;
            self.arrived.notify_one();
        }
    }

    /// Does what is there now.
    pub fn drain(&self, shared: &Shared) {
        let _work = self.work.lock();
        loop {
            let Some(item) = self.queue.lock().items.pop_front() else { return };
            if let Err(why) = apply(shared, item) {
                tracing::error!(error = why, "the member cannot follow its log any more; it stops taking part");
                *shared.broken.lock() = Some(why);
                self.queue.lock().items.clear();
                return;
            }
        }
    }

    /// Applies and trims until closed and empty.
    pub fn run(&self, shared: &Arc<Shared>) {
        let mut patience = None;
        while self.wait(patience) {
            self.drain(shared);
            patience = shared.groups.iter().filter_map(|group| trim(shared, group)).min();
        }
    }

    /// Sleeps until there is something to do, for no longer than `patience`. Returns whether there may be more ever.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let mut queue = self.queue.lock();
        if queue.items.is_empty() {
            if queue.closed {
                return false;
            }
            if !queue.woken {
                queue.sleeping = true;
                match patience {
                    None => self.arrived.wait(&mut queue),
                    Some(patience) => drop(self.arrived.wait_for(&mut queue, patience)),
                }
                queue.sleeping = false;
            }
        }
        queue.woken = false;
        true
    }

    /// Wakes the thread for what is not an item: something was compacted. It may just be on its way to sleep, having seen
    /// nothing to trim.
    pub fn wake(&self) {
        let mut queue = self.queue.lock();
        queue.woken = true;
        queue.sleeping = false;
        self.arrived.notify_one();
    }

    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        self.arrived.notify_one();
    }
}

fn apply(shared: &Shared, item: Item) -> Result<(), String> {
    let start = shared.clock.monotonic();
    let applied = take(shared, item);
    let took = shared.clock.monotonic() - start;
    shared.metrics.commit.observe(took.as_secs_f64());
    if took > shared.slow_apply {
        shared.metrics.slow_applies.inc();
        tracing::warn!(?took, "expected-duration" = ?shared.slow_apply, "apply request took too long");
    }
    applied
}

fn take(shared: &Shared, item: Item) -> Result<(), String> {
    match item {
        Item::Entries(group, entries) => entries.iter().try_for_each(|entry| one(shared, shared.group(group), entry)),
        Item::Install(group, machine) => {
            shared.metrics.installing.inc();
            install(shared, shared.group(group), *machine);
            shared.metrics.installing.dec();
            Ok(())
        }
    }
}

fn one(shared: &Shared, group: &Group, entry: &Entry) -> Result<(), String> {
    if entry.get_entry_type() != consensus::EntryType::EntryNormal {
        runtime::failpoint!("beforeApplyOneConfChange");
    }
    runtime::failpoint!("commitBeforePreCommitHook");
    let mut applied = Applied::default();
    let mut dispatch = group.hub.begin();
    let (revision, compacted) = {
        let mut machine = group.machine.write();
        let before = machine.kv.compacted();
        machine.apply(entry, &mut applied)?;
        let compacted = machine.kv.compacted() > before;
        if compacted {
            // Group 0 stands for the others, as where all keys are compared.
            if group.id == 0 && shared.compact_hashes.enabled() {
                shared.compact_hashes.begin(HashQuery::of_compaction(&machine.kv, before));
            }
            // Nobody sees it yet.
            runtime::failpoint!("compactBeforeCommitScheduledCompact");
        }
        runtime::failpoint!("beforeCommit");
        if !applied.tokens.is_empty() {
            shared.users.follow(applied.tokens.drain(..), &machine.users, shared.clock.monotonic());
        }
        measure(shared, group, &machine);
        (machine.kv.revision(), compacted)
    };
    if compacted {
        runtime::failpoint!("compactAfterCommitScheduledCompact");
    }
    runtime::failpoint!("beforeWritebackBuf");
    applied.released.iter().for_each(|prefix| dispatch.release(prefix));
    dispatch.finish(std::mem::take(&mut applied.events), revision, &shared.metrics);
    group.follow_leases(&applied.leases, entry.term, shared.clock.monotonic(), &shared.metrics);
    runtime::failpoint!("afterWritebackBuf");
    reached(shared, group, entry.index, entry.term, applied.members_changed);
    runtime::failpoint!("commitAfterPreCommitHook");
    runtime::failpoint!("afterCommit");
    if applied.shards_changed {
        group.shards_changed.send_modify(|n| *n += 1);
    }
    group.pending.answer(applied.answers);
    Ok(())
}

fn install(shared: &Shared, group: &Group, machine: Machine) {
    runtime::failpoint!("raftAfterApplySnap");
    runtime::failpoint!("applyBeforeOpenSnapshot");
    let (index, term) = (machine.index, machine.term);
    let dispatch = group.hub.begin();
    {
        let mut current = group.machine.write();
        *current = machine;
        measure(shared, group, &current);
        if group.id == 0 {
            // Who was given a token has to show the password again: it is not known whose were taken back meanwhile.
            shared.users.follow([TokenEvent::AllForgotten], &current.users, shared.clock.monotonic());
        }
        dispatch.jump(current.kv.revision());
    }
    group.restart_leases(shared.clock.monotonic());
    group.shards_changed.send_modify(|n| *n += 1);
    reached(shared, group, index, term, true);
}

fn reached(shared: &Shared, group: &Group, index: u64, term: u64, members_changed: bool) {
    let standing = &group.standing;
    let before = standing.applied_term.swap(term, Ordering::AcqRel);
    standing.applied.store(index, Ordering::Release);
    group.pending.applied(index);
    if before != term {
        group.pending.term_applied(term);
        group.lease_sooner.notify_one();
        group.changed.send_modify(|n| *n += 1);
    }
    if members_changed {
        shared.peers.update(shared.everybody());
        group.members_changed.notify_waiters();
    }
}

pub fn measure(shared: &Shared, group: &Group, machine: &Machine) {
    let (m, state) = (&shared.metrics, &machine.kv);
    group.keys.store(state.keys() as i64, Ordering::Relaxed);
    group.bytes.store(state.bytes() as i64, Ordering::Relaxed);
    m.keys.set(shared.groups.iter().map(|g| g.keys.load(Ordering::Relaxed)).sum());
    m.live_bytes.set(shared.groups.iter().map(|g| g.bytes.load(Ordering::Relaxed)).sum());
    m.disk_bytes.set(shared.disk_bytes.load(Ordering::Relaxed) as i64);
    m.pending.set(shared.inbox.len() as i64);
    if group.id == 0 {
        m.revision.set(state.revision());
        m.compact_revision.set(state.compacted());
        m.committed.set(machine.index as i64);
        m.applied.set(machine.index as i64);
        m.auth_revision.set(machine.users.revision().cast_signed());
        shared.alarmed.store(!machine.alarms.is_empty(), Ordering::Release);
    }
}

/// Frees a portion of what was compacted, or moves a portion of what is scattered together, so that memory goes back;
/// says when to come again.
fn trim(shared: &Shared, group: &Group) -> Option<Duration> {
    let (needed, pinned) = {
        let machine = group.machine.read();
        (machine.kv.needs_trim(), machine.kv.is_pinned())
    };
    if needed && pinned {
        return Some(TRIM_RETRY);
    }
    let mut machine = group.machine.write();
    let start = shared.clock.monotonic();
    if !needed {
        return machine.kv.tidy(TRIM_STEP).then_some(TRIM_PAUSE);
    }
    runtime::failpoint!("compactBeforeCommitBatch");
    machine.kv.trim(TRIM_STEP);
    let took = shared.clock.monotonic() - start;
    shared.metrics.trim.observe(took.as_secs_f64() * 1000.0);
    runtime::failpoint!("compactAfterCommitBatch");
    if !machine.kv.needs_trim() {
        runtime::failpoint!("compactBeforeSetFinishedCompact");
        runtime::failpoint!("compactAfterSetFinishedCompact");
        shared.metrics.compacted_at.set(shared.clock.now().as_second());
        group.trimmed.notify_waiters();
    }
    Some(TRIM_PAUSE.max(took * TRIM_REST))
}

/// What everybody hears who waits for a member that has stopped taking part.
pub fn broken(why: String) -> StoreError {
    StoreError::Unavailable(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_woken_before_it_sleeps_does_not_sleep() {
        let applier = Applier::default();
        applier.wake();
        assert!(applier.wait(None));
        applier.close();
        assert!(!applier.wait(None));
    }
}
