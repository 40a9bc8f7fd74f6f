//! What happens by itself: leases end, old revisions are compacted. Both sleep until there is something to do.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use mvcc::Command;
use replica::Request;
use store_api::{Alarm, AlarmKind, LeaseId, Revision};

use crate::{divided, inbox::Input, options::AutoCompaction, store::Store};

/// Leases revoked at once.
const REVOKE_BATCH: usize = 256;
/// Leases noted by one proposal, and the pause before the next, as in etcd.
const NOTE_BATCH: usize = 1000;
const NOTE_PAUSE: Duration = Duration::from_secs(1);
/// How often in the time between two notes of a lease it is looked whether one is due.
const NOTE_PARTS: u32 = 10;
/// How often the quota is looked at without being asked.
const QUOTA_EVERY: Duration = Duration::from_secs(1);
/// How often compaction by revisions looks, and the longest pause of compaction by age, as in etcd.
const COMPACT_EVERY: Duration = Duration::from_secs(300);
/// A period is divided into so many parts; what is kept is at most one part too old.
const PERIOD_PARTS: u32 = 10;

/// How long the other members may take to connect after a start, and how often it is looked, as in etcd.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// Ticks that are left to the first election: a leader that is there has the time to say so.
const TICKS_LEFT: u32 = 2;

/// Once most others are connected, nobody has to wait for the whole time of the first election.
pub async fn advance_ticks(store: Store) {
    let (shared, me) = (&store.shared, store.shared.identity.member);
    let election = shared.timing.election_ticks;
    tracing::info!("election-ticks" = election, "starting initial election tick advance");
    for _ in 0..CONNECT_LIMIT.as_millis() / CONNECT_EVERY.as_millis() {
        tokio::time::sleep(CONNECT_EVERY).await;
        let others = shared.everybody().into_iter().filter(|member| member.id != me);
        let connected = others.filter(|member| shared.peers.connected_for(member.id).is_some()).count();
        if connected > 1 {
            let ticks = election.saturating_sub(TICKS_LEFT);
            tracing::info!(
                "forward-ticks" = ticks,
                "active-remote-members" = connected,
                "initialized peer connections; fast-forwarding election ticks"
            );
            // It may be stopping.
            drop(shared.inbox.push(Input::Advance(ticks)));
            return;
        }
    }
}

/// Proposes the revocation of each lease whose time is up, while this member leads. Group 0 decides, and the others
/// follow: so a lease that was renewed meanwhile has lost no key.
pub async fn end_leases(store: Store) {
    let (shared, group) = (&store.shared, store.group());
    loop {
        // What was noted of leases before this member's time may be among what is not applied yet.
        let next = group.lease_times.lock().next().filter(|_| group.standing.has_begun_to_lead());
        match next {
            None => group.lease_sooner.notified().await,
            Some(at) => {
                let pause = at.saturating_sub(shared.clock.monotonic());
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = group.lease_sooner.notified() => {}
                }
            }
        }
        // A member that was paused may lead no more without knowing it yet, and the new leader counts anew.
        let term = group.standing.term.load(Ordering::Acquire);
        if !group.standing.has_begun_to_lead() {
            continue;
        }
        let ended = group.lease_times.lock().tick(shared.clock.monotonic(), REVOKE_BATCH);
        // All are proposed before the first is waited for, so that one fsync can carry them.
        let revoke = |id: &LeaseId| store.submit(Request::Own(Command::LeaseRevoke { id: *id }), Some(term));
        let proposed: Vec<_> = ended.iter().map(revoke).collect();
        for (id, proposal) in ended.iter().zip(proposed) {
            let answer = match proposal {
                Ok(answer) => answer.await,
                Err(error) => Ok(Err(error)),
            };
            match answer {
                Ok(Ok(_)) => {
                    shared.metrics.leases_expired.inc();
                    divided::revoke_elsewhere(&store, *id).await;
                }
                Ok(Err(error)) => tracing::warn!(lease = id, %error, "an ended lease could not be revoked yet"),
                Err(_) => return,
            }
        }
    }
}

/// Notes in the log, while this member leads, what is left of leases that have longer than `every`, so that a new leader
/// does not give them their whole time again.
pub async fn note_leases(store: Store, every: Duration) {
    let standing = &store.group().standing;
    loop {
        tokio::time::sleep(every / NOTE_PARTS).await;
        let term = standing.term.load(Ordering::Acquire);
        while standing.has_begun_to_lead() {
            match store.note_some(every, term, NOTE_BATCH).await {
                Ok(false) => break,
                Ok(true) => tokio::time::sleep(NOTE_PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "what is left of leases could not be noted; it is tried again");
                    break;
                }
            }
        }
    }
}

/// Raises an alarm while this member has more than the quota, so that all refuse what grows, and takes it back by itself
/// when there is room again: nobody has to be called at night for what a compaction has mended.
pub async fn watch_quota(store: Store) {
    let shared = &store.shared;
    let alarm = Alarm { member: shared.identity.member, kind: AlarmKind::NoSpace };
    loop {
        tokio::select! {
            () = tokio::time::sleep(QUOTA_EVERY) => {}
            () = shared.over_quota.notified() => {}
        }
        let used = shared.used_bytes();
        let stands = shared.group(0).machine.read().alarms.contains(&alarm);
        let request = match stands {
            false if used > shared.quota_bytes => Request::AlarmRaise(alarm),
            true if used < shared.quota_bytes / 10 * 9 => Request::AlarmDisarm(alarm),
            _ => continue,
        };
        tracing::warn!(used, quota = shared.quota_bytes, raised = !stands, "alarm NOSPACE");
        if let Err(error) = store.propose(request).await {
            tracing::warn!(%error, "the alarm could not be told; it is tried again");
        }
    }
}

/// Proposes compactions by the store's own plan.
pub async fn compact(store: Store, plan: AutoCompaction) {
    let mut compactor = Compactor::new(plan);
    loop {
        tokio::time::sleep(compactor.every).await;
        let revision = store.group().revision();
        let Some(revision) = compactor.tick(store.shared.clock.monotonic(), revision) else { continue };
        if store.group().standing.leads()
            && revision > store.group().machine.read().kv.compacted()
            && let Err(error) = store.propose(Request::Own(Command::Compact(revision))).await
        {
            tracing::warn!(revision, %error, "automatic compaction failed; it is tried again");
        }
    }
}

/// Decides up to where to compact.
struct Compactor {
    plan: AutoCompaction,
    every: Duration,
    /// Revisions by the time they were current.
    samples: VecDeque<(Duration, Revision)>,
}

impl Compactor {
    fn new(plan: AutoCompaction) -> Self {
        let every = match plan {
            AutoCompaction::Period(period) => (period / PERIOD_PARTS).clamp(Duration::from_secs(1), COMPACT_EVERY),
            AutoCompaction::Off | AutoCompaction::Revisions(_) => COMPACT_EVERY,
        };
        Compactor { plan, every, samples: VecDeque::new() }
    }

    fn tick(&mut self, now: Duration, revision: Revision) -> Option<Revision> {
        match self.plan {
            AutoCompaction::Off => None,
            AutoCompaction::Revisions(keep) => Some(revision - keep.max(0)).filter(|r| *r > 0),
            AutoCompaction::Period(period) => {
                self.samples.push_back((now, revision));
                let mut old = None;
                while let Some((_, revision)) = self.samples.pop_front_if(|(at, _)| *at + period <= now) {
                    old = Some(revision);
                }
                old
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(plan: AutoCompaction, ticks: &[(u64, Revision, Option<Revision>)]) {
        let mut compactor = Compactor::new(plan);
        for (now, revision, expected) in ticks {
            assert_eq!(compactor.tick(Duration::from_secs(*now), *revision), *expected, "{plan:?} at {now} s");
        }
    }

    #[test]
    fn plans_keep_what_they_say() {
        check(AutoCompaction::Off, &[(300, 1000, None)]);
        check(AutoCompaction::Revisions(100), &[(300, 50, None), (600, 100, None), (900, 150, Some(50))]);
        let minute = AutoCompaction::Period(Duration::from_secs(60));
        check(minute, &[(0, 1, None), (30, 5, None), (60, 9, Some(1)), (90, 9, Some(5)), (300, 20, Some(9))]);
    }
}
