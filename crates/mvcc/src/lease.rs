//! Leases: which live and what hangs on them (part of the state), and when they end (not part of it).
//!
//! The log says that a lease was granted and that it was revoked; time is only told to [`LeaseTimes`], which decides
//! when to propose the revocation. Keeping alive writes nothing, so that after a restart, or on a new leader, every lease
//! has its whole time again, as in etcd; unless what was left of it is noted in the log from time to time.
//!
//! What is noted may only be too much. So a lease that is renewed after its end was noted is noted anew, as one that
//! has its whole time, before whoever renews it hears of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use store_api::{Lease, LeaseId, StoreError};

use crate::slab::Ref;

#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<LeaseId, Granted>);

#[derive(Debug)]
struct Granted {
    ttl: i64,
    /// Seconds that were left when that was noted; 0: the whole time.
    left: i64,
    /// The newest version of each key attached.
    writes: BTreeSet<Ref>,
}

impl Leases {
    pub fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        if self.0.contains_key(&id) {
            return Err(StoreError::LeaseExists(id));
        }
        self.0.insert(id, Granted { ttl, left: 0, writes: BTreeSet::new() });
        Ok(Lease { id, ttl })
    }

    pub fn exists(&self, id: LeaseId) -> bool {
        self.0.contains_key(&id)
    }

    pub fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.0.get(&id).map(|l| l.ttl)
    }

    /// Notes what was left of a lease, if it lives.
    pub fn note(&mut self, id: LeaseId, left: i64) {
        if let Some(lease) = self.0.get_mut(&id) {
            lease.left = left.clamp(0, lease.ttl.max(0));
        }
    }

    /// The newest versions of the keys attached.
    pub fn writes(&self, id: LeaseId) -> impl Iterator<Item = Ref> + '_ {
        self.0.get(&id).into_iter().flat_map(|l| l.writes.iter().copied())
    }

    pub fn remove(&mut self, id: LeaseId) {
        self.0.remove(&id);
    }

    /// A key has a new version, with a lease or with none.
    pub fn move_key(&mut self, from: Option<(Ref, LeaseId)>, (to, lease): (Ref, LeaseId)) {
        if let Some((before, lease)) = from
            && lease != 0
            && let Some(lease) = self.0.get_mut(&lease)
        {
            lease.writes.remove(&before);
        }
        if lease != 0
            && let Some(lease) = self.0.get_mut(&lease)
        {
            lease.writes.insert(to);
        }
    }

    /// A record has moved.
    pub fn replace(&mut self, lease: LeaseId, from: Ref, to: Ref) {
        if let Some(lease) = self.0.get_mut(&lease)
            && lease.writes.remove(&from)
        {
            lease.writes.insert(to);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.0.iter().map(|(id, l)| (*id, l.ttl))
    }

    pub fn iter_left(&self) -> impl Iterator<Item = (LeaseId, i64, i64)> + '_ {
        self.0.iter().map(|(id, l)| (*id, l.ttl, l.left))
    }
}

/// When a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseTimer {
    Runs {
        until: Duration,
    },
    /// Time is up and the revocation was handed out; it ends when the revocation is applied, or when the proposal
    /// failed and is tried again.
    Ended {
        retry_at: Duration,
    },
}

/// The leases' ends. All times are [monotonic](Duration) since a fixed point of the caller's.
#[derive(Debug, Default)]
pub struct LeaseTimes {
    timers: HashMap<LeaseId, Timed>,
    due: BTreeSet<(Duration, LeaseId)>,
    /// Notes so far.
    notes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    ttl: Duration,
    timer: LeaseTimer,
    /// When the time was last started, or what is left of it was noted.
    since: Duration,
    /// The note that says less than the whole time, as a number of this leader's; 0: there is none.
    note: u64,
}

/// How long after a revocation was handed out it is handed out again, if the lease lives still.
const REVOKE_RETRY: Duration = Duration::from_secs(3);

impl LeaseTimes {
    /// A lease of `ttl` starts at `now`.
    pub fn start(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        self.set(id, Timed { ttl, timer: LeaseTimer::Runs { until: now + ttl }, since: now, note: 0 });
    }

    /// A lease of `ttl` of which, as was noted, `left` is left at `now`.
    pub fn resume(&mut self, id: LeaseId, ttl: Duration, left: Duration, now: Duration) {
        let note = self.next_note();
        self.set(id, Timed { ttl, timer: LeaseTimer::Runs { until: now + left }, since: now, note });
    }

    /// The lease is gone.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(timed) = self.timers.remove(&id) {
            self.due.remove(&(when(timed.timer), id));
        }
    }

    /// Starts the time again. `None` if there is no such lease or its time is up: then its keys may be half gone.
    pub fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Option<Duration> {
        let timed = *self.timers.get(&id)?;
        match timed.timer {
            LeaseTimer::Runs { until } if until > now => {
                let timer = LeaseTimer::Runs { until: now + timed.ttl };
                self.set(id, Timed { timer, since: now, ..timed });
                Some(timed.ttl)
            }
            _ => None,
        }
    }

    /// The note that gives the lease less than its whole time, if there is one.
    pub fn noted(&self, id: LeaseId) -> Option<u64> {
        self.timers.get(&id).map(|timed| timed.note).filter(|note| *note > 0)
    }

    /// The note was taken back: unless there is a later one, the log gives the lease its whole time.
    pub fn note_gone(&mut self, id: LeaseId, note: u64) {
        if let Some(timed) = self.timers.get_mut(&id).filter(|timed| timed.note == note) {
            timed.note = 0;
        }
    }

    /// At most `limit` leases, with the seconds left, whose rest was not noted for `every` and is longer than that. They
    /// count as noted: the caller proposes it before anything else of theirs.
    pub fn to_note(&mut self, every: Duration, now: Duration, limit: usize) -> Vec<(LeaseId, i64)> {
        let note = self.next_note();
        let mut found = Vec::new();
        for (id, timed) in &mut self.timers {
            let LeaseTimer::Runs { until } = timed.timer else { continue };
            let left = until.saturating_sub(now);
            if left <= every || timed.since + every > now {
                continue;
            }
            if found.len() == limit {
                break;
            }
            (timed.since, timed.note) = (now, note);
            // Rounded up: what is noted may only be too much.
            found.push((*id, i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)));
        }
        found
    }

    /// What is left of a lease.
    pub fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        match self.timers.get(&id)?.timer {
            LeaseTimer::Runs { until } => Some(until.saturating_sub(now)),
            LeaseTimer::Ended { .. } => Some(Duration::ZERO),
        }
    }

    /// When [`LeaseTimes::tick`] has something to do next.
    pub fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// At most `limit` leases to revoke now. Each is handed out again later if it is not removed by then.
    pub fn tick(&mut self, now: Duration, limit: usize) -> Vec<LeaseId> {
        let ended: Vec<_> = self.due.iter().take_while(|(at, _)| *at <= now).take(limit).map(|(_, id)| *id).collect();
        for id in &ended {
            if let Some(timed) = self.timers.get(id).copied() {
                self.set(*id, Timed { timer: LeaseTimer::Ended { retry_at: now + REVOKE_RETRY }, ..timed });
            }
        }
        ended
    }

    fn next_note(&mut self) -> u64 {
        self.notes += 1;
        self.notes
    }

    fn set(&mut self, id: LeaseId, timed: Timed) {
        if let Some(old) = self.timers.insert(id, timed) {
            self.due.remove(&(when(old.timer), id));
        }
        self.due.insert((when(timed.timer), id));
    }
}

fn when(timer: LeaseTimer) -> Duration {
    match timer {
        LeaseTimer::Runs { until } => until,
        LeaseTimer::Ended { retry_at } => retry_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_once_unless_its_revocation_is_lost() {
        let secs = Duration::from_secs;
        let mut times = LeaseTimes::default();
        times.start(1, secs(10), secs(0));
        times.start(2, secs(5), secs(0));
        assert_eq!(times.next(), Some(secs(5)));
        assert_eq!(times.keep_alive(2, secs(4)), Some(secs(5)));
        assert_eq!(times.tick(secs(8), 10), []);
        assert_eq!(times.tick(secs(9), 10), [2]);
        assert_eq!(times.keep_alive(2, secs(9)), None, "its end is decided");
        assert_eq!(times.tick(secs(10), 10), [1]);
        assert_eq!(times.left(1, secs(10)), Some(Duration::ZERO));
        times.remove(1);
        assert_eq!(times.tick(secs(12), 10), [2], "handed out again");
        times.remove(2);
        assert_eq!((times.next(), times.left(2, secs(12))), (None, None));
    }

    #[test]
    fn the_rest_of_long_leases_is_noted_now_and_then() {
        let secs = Duration::from_secs;
        let mut times = LeaseTimes::default();
        times.start(1, secs(1000), secs(0));
        times.start(2, secs(100), secs(0));
        assert_eq!(times.to_note(secs(300), secs(299), 9), [], "it is too soon for one, and no use for the other");
        assert_eq!((times.to_note(secs(300), secs(300), 9), times.noted(2)), (vec![(1, 700)], None));
        assert_eq!(times.to_note(secs(300), secs(599), 9), []);
        assert_eq!(times.keep_alive(1, secs(400)), Some(secs(1000)));
        let note = times.noted(1).expect("a renewal alone takes no note back");
        assert_eq!(times.to_note(secs(300), secs(700), 9), [(1, 700)]);
        times.note_gone(1, note);
        assert!(times.noted(1).is_some(), "there is a later one");
        times.resume(3, secs(500), secs(40), secs(0));
        assert_eq!((times.left(3, secs(30)), times.noted(3).is_some()), (Some(secs(10)), true));
        assert_eq!(times.keep_alive(3, secs(30)), Some(secs(500)));
    }
}
