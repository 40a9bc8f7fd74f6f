//! The store as `store-api` wants it.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use mvcc::{Command, HashQuery, Progress, RangeQuery, Response, check_command, check_range};
use replica::Request;
use store_api::{
    Alarm, AlarmKind, DeleteRangeRequest, DeleteRangeResponse, HashKv, Lease, LeaseId, LeaseStatus, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, Revision, Status, StoreError, TxnRequest, TxnResponse,
    WatchRequest, Watcher,
};

use crate::{
    budget::FREE_BYTES,
    peers::{Question, Reply},
    snapshot::usage,
    store::Store,
    watch::StoreWatcher,
};

/// The etcd version whose behaviour is served.
const ETCD_VERSION: &str = "3.5.30";
/// A lease's shortest time in seconds.
const MIN_LEASE_TTL: i64 = 1;
/// Keys read under one lock: a long list must not hold up the writer.
const READ_STEP: usize = 2048;

#[async_trait]
impl store_api::Store for Store {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        check_range(&request)?;
        self.shared.metrics.ranges.inc();
        if !request.serializable {
            self.settle().await?;
        }
        let group = self.group();
        let (mut query, mut progress, _pin) = {
            let machine = group.machine.read();
            self.allow(&machine, |permit, _| permit.range(&request))?;
            machine.shards.readable_at(&request.key, &request.range_end, request.revision)?;
            let mut query = RangeQuery::new(&machine.kv, request)?;
            query.set_room(FREE_BYTES);
            match query.step(&machine.kv, READ_STEP) {
                Progress::Done => return Ok(query.finish()),
                progress => (query, progress, machine.kv.pin()),
            }
        };
        let mut reservation = self.shared.budget.reserve();
        loop {
            match progress {
                Progress::Done => break,
                Progress::More => tokio::task::yield_now().await,
                Progress::Full(next) => {
                    reservation.grow((query.weight() + next).saturating_sub(reservation.room())).await?;
                    query.set_room(reservation.room());
                }
            }
            progress = query.step(&group.machine.read().kv, READ_STEP);
        }
        let charge = reservation.settle(query.weight());
        Ok(RangeResponse { charge, ..query.finish() })
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, StoreError> {
        self.shared.metrics.puts.inc();
        self.shared.metrics.put_bytes.inc_by((request.key.len() + request.value.len()) as i64);
        match self.command(Command::Put(request)).await? {
            Response::Put(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, StoreError> {
        self.shared.metrics.deletes.inc();
        match self.command(Command::DeleteRange(request)).await? {
            Response::DeleteRange(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, StoreError> {
        self.shared.metrics.txns.inc();
        if !writes(&request) {
            let command = Command::Txn(request);
            check_command(&command, &self.shared.limits)?;
            let Command::Txn(request) = command else { unreachable!("it was made a transaction above") };
            return self.read_txn(&request).await;
        }
        match self.command(Command::Txn(request)).await? {
            Response::Txn(response) => Ok(response),
            other => Err(mismatch(&other)),
        }
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, StoreError> {
        let current = match self.command(Command::Compact(revision)).await? {
            Response::Compacted(current) => current,
            other => return Err(mismatch(&other)),
        };
        self.applier.wake();
        while physical && !self.shared.inbox.is_closed() {
            let trimmed = self.group().trimmed.notified();
            if !self.group().machine.read().kv.needs_trim() {
                break;
            }
            trimmed.await;
        }
        Ok(current)
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watcher>, StoreError> {
        // As in etcd, who may watch is asked once: a watch goes on when the permission is taken back.
        self.allow(&self.group().machine.read(), |permit, _| permit.watch(&request.key, &request.range_end))?;
        Ok(Box::new(StoreWatcher::start(self.shared.clone(), self.group, &request)?))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, StoreError> {
        let id = if id == 0 { (runtime::entropy::random_u64() >> 1).max(1).cast_signed() } else { id };
        match self.command(Command::LeaseGrant { id, ttl: ttl.max(MIN_LEASE_TTL) }).await? {
            Response::LeaseGranted(lease) => Ok(lease),
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        match self.command(Command::LeaseRevoke { id }).await? {
            Response::LeaseRevoked(revision) => Ok(revision),
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.allow_settled(|permit, kv| permit.lease_keep_alive(id, |id| kv.lease_keys(id))).await?;
        if let Some(leader) = self.other_leader()? {
            return match self.shared.peers.ask(leader, Question::KeepAlive(self.group, id)).await? {
                Reply::KeepAlive(lease) => Ok(lease),
                other => Err(strange(&other)),
            };
        }
        self.keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError> {
        self.allow_settled(|permit, kv| permit.lease_time_to_live(id, keys, |id| kv.lease_keys(id))).await?;
        if let Some(leader) = self.other_leader()? {
            return match self.shared.peers.ask(leader, Question::TimeToLive(self.group, id, keys)).await? {
                Reply::TimeToLive(status) => Ok(status),
                other => Err(strange(&other)),
            };
        }
        self.time_to_live(id, keys).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        self.settle().await?;
        let machine = self.group().machine.read();
        let ids = || machine.kv.leases().map(|(id, _)| id);
        self.allow(&machine, |permit, kv| permit.leases(ids(), |id| kv.lease_keys(id)))?;
        Ok(ids().collect())
    }

    async fn has_leader(&self) -> Result<bool, StoreError> {
        Ok(self.group().standing.leader.load(Ordering::Acquire) != 0)
    }

    async fn status(&self) -> Result<Status, StoreError> {
        let shared = self.shared.clone();
        let db_size = runtime::blocking(move || usage(&shared.wal_dir) + usage(&shared.snapshot_dir)).await;
        self.shared.disk_bytes.store(db_size, Ordering::Relaxed);
        let mut errors = Vec::new();
        errors.extend(self.shared.broken.lock().clone());
        let (group, identity) = (self.group(), self.shared.identity);
        let machine = group.machine.read();
        let over_quota = machine.kv.bytes() > self.shared.quota_bytes
            || machine.alarms.contains(&Alarm { member: identity.member, kind: AlarmKind::NoSpace });
        if over_quota || self.shared.full.load(Ordering::Acquire) {
            errors.push("NOSPACE".to_owned());
        }
        Ok(Status {
            version: ETCD_VERSION.to_owned(),
            revision: machine.kv.revision(),
            compact_revision: machine.kv.compacted(),
            db_size: db_size.cast_signed(),
            db_size_in_use: machine.kv.bytes().cast_signed(),
            keys: machine.kv.keys().cast_signed(),
            cluster_id: identity.cluster,
            member_id: identity.member,
            leader: group.standing.leader.load(Ordering::Acquire),
            raft_term: group.standing.term.load(Ordering::Acquire),
            raft_index: group.standing.last.load(Ordering::Acquire),
            raft_applied_index: machine.index,
            is_learner: group.standing.learner.load(Ordering::Acquire),
            errors,
        })
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        let (group, start) = (self.group(), self.shared.clock.monotonic());
        let mut query = HashQuery::new(&group.machine.read().kv, revision)?;
        while !query.step(&group.machine.read().kv, READ_STEP)? {
            tokio::task::yield_now().await;
        }
        self.shared.metrics.hash.observe((self.shared.clock.monotonic() - start).as_secs_f64());
        Ok(query.finish())
    }
}

impl Store {
    /// Runs a transaction without writes, again with more room where its ranges have not enough.
    async fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, StoreError> {
        self.settle().await?;
        let mut reservation = self.shared.budget.reserve();
        loop {
            let mut room = reservation.room();
            let answer = {
                let machine = self.group().machine.read();
                self.allow(&machine, |permit, kv| permit.txn(request, |id| kv.lease_keys(id)))?;
                machine.shards.readable_txn(request)?;
                machine.kv.read_txn(request, &mut room)
            };
            match answer {
                Ok(response) => {
                    let weight = reservation.room() - room;
                    return Ok(TxnResponse { charge: reservation.settle(weight), ..response });
                }
                // It begins anew, so it asks for as much again as it had.
                Err(StoreError::RangeTooLarge { .. }) => reservation.grow(reservation.room()).await?,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn command(&self, command: Command) -> Result<Response, StoreError> {
        if self.group != 0 && self.shared.users.enabled() {
            // Who may do what is group 0's knowledge.
            self.shared.settle(0).await?;
        }
        match self.propose(self.signed(command)?).await? {
            replica::Response::Kv(response) => Ok(response),
            other => Err(StoreError::Unavailable(format!("the state machine answered another request: {other:?}"))),
        }
    }

    /// Starts a lease's time again on this member, which leads. One that is not known may have been granted through a
    /// follower that has applied more than the leader.
    pub(crate) async fn keep_alive(&self, id: LeaseId) -> Result<Lease, StoreError> {
        // Most members must say that this one leads: one that was deposed would renew what its successor lets end.
        self.settle().await?;
        if !self.group().standing.leads() {
            return Err(StoreError::LeaderChanged);
        }
        let (renewed, taken_back) = {
            let mut times = self.group().lease_times.lock();
            let renewed = times.keep_alive(id, self.shared.clock.monotonic());
            // Proposed under the lock, so that the order of the log is that of the notes.
            let back = times.noted(id).filter(|_| renewed.is_some()).map(|note| {
                let whole = Request::Own(Command::LeaseCheckpoint(vec![(id, 0)]));
                (note, self.submit(whole, Some(self.group().standing.term.load(Ordering::Acquire))))
            });
            (renewed, back)
        };
        let ttl = renewed.ok_or(StoreError::LeaseNotFound(id))?;
        if let Some((note, answer)) = taken_back {
            // Before the caller counts on the new time: the next leader must not know of less.
            answer?.await.unwrap_or(Err(StoreError::Stopped))?;
            self.group().lease_times.lock().note_gone(id, note);
        }
        self.shared.metrics.leases_renewed.inc();
        Ok(Lease { id, ttl: ttl.as_secs().cast_signed() })
    }

    /// What is left of a lease by the time of this member, which leads.
    pub(crate) async fn time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus, StoreError> {
        let status = self.time_to_live_now(id, keys);
        if status.ttl >= 0 {
            return Ok(status);
        }
        self.settle().await?;
        Ok(self.time_to_live_now(id, keys))
    }

    /// Notes what is left of at most `limit` leases for which that is due. Returns whether there were any.
    pub(crate) async fn note_some(&self, every: Duration, term: u64, limit: usize) -> Result<bool, StoreError> {
        let answer = {
            let mut times = self.group().lease_times.lock();
            let left = times.to_note(every, self.shared.clock.monotonic(), limit);
            if left.is_empty() {
                return Ok(false);
            }
            // Under the lock, as in `keep_alive`.
            self.submit(Request::Own(Command::LeaseCheckpoint(left)), Some(term))
        };
        answer?.await.unwrap_or(Err(StoreError::Stopped))?;
        Ok(true)
    }

    fn time_to_live_now(&self, id: LeaseId, keys: bool) -> LeaseStatus {
        let left = self.group().lease_times.lock().left(id, self.shared.clock.monotonic());
        let machine = self.group().machine.read();
        let (Some(left), Some(granted_ttl)) = (left, machine.kv.lease_ttl(id)) else {
            return LeaseStatus { id, ttl: -1, ..Default::default() };
        };
        let keys = if keys { machine.kv.lease_keys(id) } else { Vec::new() };
        LeaseStatus { id, ttl: left.as_secs().cast_signed(), granted_ttl, keys }
    }
}

/// Whether either branch, at any depth, can write.
fn writes(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        RequestOp::Range(_) => false,
        RequestOp::Put(_) | RequestOp::DeleteRange(_) => true,
        RequestOp::Txn(txn) => writes(txn),
    })
}

fn strange(reply: &Reply) -> StoreError {
    StoreError::Unavailable(format!("the leader answered another question: {reply:?}"))
}

fn mismatch(response: &Response) -> StoreError {
    StoreError::Unavailable(format!("the state machine gave an answer to another command: {response:?}"))
}
