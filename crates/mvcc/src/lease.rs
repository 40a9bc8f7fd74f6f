//! Leases: which live and what hangs on them (part of the state), and when they end (not part of it).
//!
//! The log says that a lease was granted and that it was revoked; time is only told to [`LeaseTimes`], which decides
//! when to propose the revocation. After a restart every lease gets its whole time again, as in etcd: keeping alive
//! writes nothing, so nobody knows how much was left.

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
    /// The newest version of each key attached.
    writes: BTreeSet<Ref>,
}

impl Leases {
    pub fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        if self.0.contains_key(&id) {
            return Err(StoreError::LeaseExists(id));
        }
        self.0.insert(id, Granted { ttl, writes: BTreeSet::new() });
        Ok(Lease { id, ttl })
    }

    pub fn exists(&self, id: LeaseId) -> bool {
        self.0.contains_key(&id)
    }

    pub fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.0.get(&id).map(|l| l.ttl)
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
    timers: HashMap<LeaseId, (Duration, LeaseTimer)>,
    due: BTreeSet<(Duration, LeaseId)>,
}

/// How long after a revocation was handed out it is handed out again, if the lease lives still.
const REVOKE_RETRY: Duration = Duration::from_secs(3);

impl LeaseTimes {
    /// A lease of `ttl` starts at `now`.
    pub fn start(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        self.set(id, ttl, LeaseTimer::Runs { until: now + ttl });
    }

    /// The lease is gone.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some((_, timer)) = self.timers.remove(&id) {
            self.due.remove(&(when(timer), id));
        }
    }

    /// Starts the time again. `None` if there is no such lease or its time is up: then its keys may be half gone.
    pub fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Option<Duration> {
        match self.timers.get(&id) {
            Some((ttl, LeaseTimer::Runs { until })) if *until > now => {
                let ttl = *ttl;
                self.set(id, ttl, LeaseTimer::Runs { until: now + ttl });
                Some(ttl)
            }
            _ => None,
        }
    }

    /// What is left of a lease.
    pub fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        match self.timers.get(&id)?.1 {
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
            let ttl = self.timers.get(id).map_or(Duration::ZERO, |(ttl, _)| *ttl);
            self.set(*id, ttl, LeaseTimer::Ended { retry_at: now + REVOKE_RETRY });
        }
        ended
    }

    fn set(&mut self, id: LeaseId, ttl: Duration, timer: LeaseTimer) {
        if let Some((_, old)) = self.timers.insert(id, (ttl, timer)) {
            self.due.remove(&(when(old), id));
        }
        self.due.insert((when(timer), id));
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
}
