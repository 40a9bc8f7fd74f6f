//! What the handle, the writer, the applier, the watchers and the background work have in common: of the whole member,
//! and of each of its groups.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use mvcc::{LeaseTimes, Limits};
use parking_lot::{Mutex, RwLock};
use replica::{GroupId, LeaseChange, Machine, Role};
use runtime::Clock;
use store_api::{LeaseId, Member, Revision, StoreError};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    budget::Budget,
    compact_hash::CompactHashes,
    disk::RealDisk,
    folder::Identity,
    hub::Hub,
    inbox::{Inbox, Input},
    metrics::Metrics,
    options::Timing,
    peers::Peers,
    pending::Pending,
    users,
};

/// A read that waits longer to be linearizable is counted as slow, as in etcd.
const SLOW_READ: Duration = Duration::from_millis(500);

/// One member.
pub struct Shared {
    pub identity: Identity,
    pub clock: Clock,
    pub limits: Limits,
    pub quota_bytes: u64,
    /// For the answers to ranges.
    pub budget: Budget,
    pub progress_interval: Duration,
    pub timing: Timing,
    pub slow_apply: Duration,
    pub compact_hashes: CompactHashes,
    /// Changes of the membership that could lose the quorum are refused.
    pub strict_reconfig: bool,
    pub disk: RealDisk,
    pub wal_dir: PathBuf,
    pub snapshot_dir: PathBuf,
    pub inbox: Inbox,
    pub groups: Vec<Group>,
    pub peers: Arc<dyn Peers>,
    pub metrics: Metrics,
    /// Of group 0's users and roles.
    pub users: users::Standing,
    /// Bytes of snapshots and segments.
    pub disk_bytes: AtomicU64,
    /// Why writes are refused until a restart.
    pub broken: Mutex<Option<String>>,
    /// A write was refused because the quota is used up.
    pub over_quota: Notify,
    /// The last write was refused for want of space.
    pub full: AtomicBool,
    /// A snapshot is being written; only one at a time.
    pub snapshotting: AtomicBool,
    /// Tells whoever waits for a snapshot that one was written, or was not.
    pub snapshots: watch::Sender<u64>,
    /// This member was removed from its cluster.
    pub removed: watch::Sender<bool>,
    /// Snapshots that have begun to come in.
    pub incoming: AtomicU64,
    /// An alarm stands.
    pub alarmed: AtomicBool,
}

/// One group on this member.
pub struct Group {
    pub id: GroupId,
    /// Written by the applier only, and only with what is committed. Readers hold it for a step at a time.
    pub machine: RwLock<Machine>,
    /// Locked before `machine` where both are needed.
    pub hub: Hub,
    pub pending: Pending,
    pub lease_times: Mutex<LeaseTimes>,
    /// A lease now ends sooner than any did, or this member has begun or ceased to lead.
    pub lease_sooner: Notify,
    /// Everything compacted was trimmed.
    pub trimmed: Notify,
    pub standing: Standing,
    /// Told whenever role, leader or term change.
    pub changed: watch::Sender<u64>,
    /// The members have changed.
    pub members_changed: Notify,
    /// Told whenever a shard takes a step here.
    pub shards_changed: watch::Sender<u64>,
    /// Keys and their bytes, as last measured.
    pub keys: AtomicI64,
    pub bytes: AtomicI64,
}

/// Where a group's consensus stands, as the writer has last said.
#[derive(Default)]
pub struct Standing {
    leads: AtomicBool,
    /// The only member: what it has applied is what there is.
    lone: AtomicBool,
    /// It receives the log and has no vote.
    pub learner: AtomicBool,
    pub leader: AtomicU64,
    pub term: AtomicU64,
    /// No less than others may know of.
    pub commit: AtomicU64,
    /// Until when nobody else can be elected, in nanoseconds of the monotonic clock; 0 without a lease.
    lease: AtomicU64,
    pub last: AtomicU64,
    /// The last entry applied, and its term.
    pub applied: AtomicU64,
    pub applied_term: AtomicU64,
}

impl Standing {
    pub fn set(&self, role: Role, leader: u64, term: u64, lone: bool) {
        self.term.store(term, Ordering::Release);
        self.lone.store(lone, Ordering::Release);
        self.leads.store(role == Role::Leader, Ordering::Release);
        self.leader.store(leader, Ordering::Release);
    }

    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// Whether this member leads, and everything from before its leadership is applied.
    pub fn has_begun_to_lead(&self) -> bool {
        self.leads() && self.applied_term.load(Ordering::Acquire) == self.term.load(Ordering::Acquire)
    }

    pub fn committed(&self, index: u64) {
        self.commit.fetch_max(index, Ordering::AcqRel);
    }

    /// What consensus says of the lease.
    pub fn lease(&self, until: Option<Duration>) {
        let nanos = until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
        self.lease.store(nanos, Ordering::Release);
    }

    /// The index at which a read may be served by the lease. The order matters: where the time is before the end of what
    /// was read before it, nobody else had committed anything then, and the commit index is at least that of then.
    pub fn leased(&self, clock: &Clock) -> Option<u64> {
        let until = self.lease.load(Ordering::Acquire);
        let holds = until > 0 && clock.monotonic().as_nanos() < u128::from(until);
        holds.then(|| self.commit.load(Ordering::Acquire))
    }

    /// Whether the applied state is what a linearizable read must see: nobody else can have committed anything, and
    /// everything from before this member's leadership is applied.
    pub fn is_last_word(&self) -> bool {
        self.lone.load(Ordering::Acquire) && self.has_begun_to_lead()
    }
}

impl Group {
    /// The time of leases goes on as the state says; `term` is that of the entry that said it. It is group 0's; the others
    /// know only which keys a lease has.
    pub fn follow_leases(&self, changes: &[LeaseChange], term: u64, now: Duration, metrics: &Metrics) {
        if self.id != 0 {
            return;
        }
        for change in changes {
            match *change {
                LeaseChange::Granted(id, ttl) => {
                    metrics.leases_granted.inc();
                    metrics.lease_ttl.observe(ttl as f64);
                    self.start_lease(id, ttl, now);
                }
                LeaseChange::Revoked(id) => {
                    metrics.leases_revoked.inc();
                    self.lease_times.lock().remove(id);
                }
                // What this leader has noted itself it knows better: the lease may have been renewed since.
                LeaseChange::Noted(..)
                    if self.standing.leads() && term == self.standing.term.load(Ordering::Acquire) => {}
                LeaseChange::Noted(id, ttl, left) => resume_lease(&mut self.lease_times.lock(), id, ttl, left, now),
            }
        }
    }

    /// A lease of `ttl` seconds begins now.
    fn start_lease(&self, id: LeaseId, ttl: i64, now: Duration) {
        let mut times = self.lease_times.lock();
        let before = times.next();
        times.start(id, Duration::from_secs(ttl.max(1).unsigned_abs()), now);
        if before.is_none_or(|before| times.next().is_some_and(|next| next < before)) {
            self.lease_sooner.notify_one();
        }
    }

    /// All leases have their whole time from now on, or what was noted to be left: after a start, a snapshot, or when
    /// this member begins to lead.
    pub fn restart_leases(&self, now: Duration) {
        if self.id != 0 {
            return;
        }
        // Held while the state is read: a lease that is revoked meanwhile must not come back as a time without a lease.
        let mut held = self.lease_times.lock();
        let mut times = LeaseTimes::default();
        for (id, ttl, left) in self.machine.read().kv.leases_left() {
            resume_lease(&mut times, id, ttl, left, now);
        }
        *held = times;
        drop(held);
        self.lease_sooner.notify_one();
    }

    pub fn revision(&self) -> Revision {
        self.machine.read().kv.revision()
    }
}

fn resume_lease(times: &mut LeaseTimes, id: LeaseId, ttl: i64, left: i64, now: Duration) {
    let ttl = Duration::from_secs(ttl.max(1).unsigned_abs());
    match u64::try_from(left) {
        Ok(1..) => times.resume(id, ttl, Duration::from_secs(left.unsigned_abs()), now),
        _ => times.start(id, ttl, now),
    }
}

impl Shared {
    /// The members as group 0 has them, and those that it has let go while another group still needs them.
    pub fn everybody(&self) -> Vec<Member> {
        let mut all = self.group(0).machine.read().members.list();
        for group in &self.groups[1..] {
            let others = group.machine.read().members.list();
            let staying = others.into_iter().filter(|m| all.iter().all(|known| known.id != m.id));
            let staying: Vec<Member> = staying.collect();
            all.extend(staying);
        }
        all
    }

    /// Bytes that all groups' data takes.
    pub fn used_bytes(&self) -> u64 {
        self.groups.iter().map(|g| g.machine.read().kv.bytes()).sum()
    }

    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[id as usize]
    }

    /// Waits until a read of the group's state is linearizable.
    pub async fn settle(&self, group: GroupId) -> Result<(), StoreError> {
        if self.group(group).standing.is_last_word() {
            return Ok(());
        }
        if self.group(group).standing.learner.load(Ordering::Acquire) {
            return Err(StoreError::Learner);
        }
        let (sender, receiver) = oneshot::channel();
        let standing = &self.group(group).standing;
        match standing.leased(&self.clock) {
            Some(index) => {
                self.metrics.lease_reads.inc();
                if standing.applied.load(Ordering::Acquire) >= index {
                    return Ok(());
                }
                self.group(group).pending.wait_for(index, &standing.applied, sender);
            }
            None => self.inbox.push(Input::Read(group, sender))?,
        }
        let start = self.clock.monotonic();
        let settled = match tokio::time::timeout(self.timing.request_limit(), receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::Timeout),
        };
        if settled.is_err() {
            self.metrics.failed_reads.inc();
        } else if self.clock.monotonic() - start > SLOW_READ {
            self.metrics.slow_reads.inc();
        }
        settled
    }
}
