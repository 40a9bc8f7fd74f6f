//! Opening a store, and the handle on it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mvcc::{LeaseTimes, check_command};
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use replica::{
    Answer, Folders, GroupId, LeaseReads, Machine, Recovery, Request, Settings, divided_cluster_id, shards::Shards,
};
use store_api::StoreError;
use tokio::sync::{Notify, oneshot, watch};
use wal::disk::SharedDisk;

use crate::{
    applier::{Applier, measure},
    background,
    budget::Budget,
    caller::Who,
    compact_hash::CompactHashes,
    disk::RealDisk,
    divided,
    folder::{Folder, Founded},
    hub::Hub,
    inbox::{Inbox, Proposal},
    metrics::Metrics,
    moves,
    options::{AutoCompaction, Bootstrap, Options},
    pending::Pending,
    routed::Routed,
    shared::{Group, Shared, Standing},
    snapshot::{self, usage},
    users,
    writer::Writer,
};

/// Bytes of applied entries that are kept for members that are a little behind.
const KEEP_BYTES: usize = 16 << 20;
/// Groups of one member: each has its part of every turn.
const MAX_GROUPS: GroupId = 64;
/// How long a start waits for a lone member to be ready: longer than any log takes to be applied.
const START_LIMIT: Duration = Duration::from_secs(600);

/// A handle on one group of a running member. Clones are handles on the same one; it runs until its group of tasks is
/// stopped.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) group: GroupId,
    pub(crate) who: Who,
}

impl Store {
    /// Reads the data folder and starts the member. Refuses a folder that is damaged, in use, or not a store's.
    pub async fn open(options: Options) -> Result<Store, StoreError> {
        let (tasks, plan, notes) = (options.tasks.clone(), options.auto_compaction, options.lease_checkpoints);
        let advance = options.tick_advance;
        let (store, writer) = runtime::blocking(move || prepare(options)).await?;
        let lone = writer.core.is_lone();
        tasks.spawn_thread("store-writer", move || writer.run());
        let (applier, shared) = (store.applier.clone(), store.shared.clone());
        tasks.spawn_thread("store-apply", move || applier.run(&shared));
        let (shared, stopping) = (store.shared.clone(), tasks.stopping());
        tasks.spawn_to_end("stop", async move {
            stopping.cancelled().await;
            shared.inbox.close();
            shared.groups.iter().for_each(|g| g.hub.close());
        });
        tasks.spawn("quota", background::watch_quota(store.clone()));
        tasks.spawn("leases", background::end_leases(store.clone()));
        if advance && !lone {
            tasks.spawn("first-election", background::advance_ticks(store.clone()));
        }
        if let Some(every) = notes {
            tasks.spawn("lease-notes", background::note_leases(store.clone(), every));
        }
        if store.shared.compact_hashes.enabled() {
            tasks.spawn("compact-hashes", store.clone().hash_compactions());
        }
        if store.groups() > 1 {
            tasks.spawn("shards", moves::run(store.clone()));
            tasks.spawn("revisions", divided::note_revisions(store.clone()));
            tasks.spawn("orphans", divided::end_orphans(store.clone()));
        }
        for group in 0..store.groups() {
            let store = store.for_group(group);
            if group > 0 {
                tasks.spawn("members", divided::follow_members(store.clone()));
            }
            if plan != AutoCompaction::Off {
                tasks.spawn("compaction", background::compact(store.clone(), plan));
            }
            if lone {
                store.ready(START_LIMIT).await?;
            }
        }
        Ok(store)
    }

    /// Waits until a leader is known and everything from before its time is applied.
    pub async fn ready(&self, limit: Duration) -> Result<(), StoreError> {
        let mut changed = self.group().changed.subscribe();
        let ready = async {
            loop {
                if let Some(why) = self.shared.broken.lock().clone() {
                    return Err(StoreError::Unavailable(why));
                }
                let standing = &self.group().standing;
                let term = standing.term.load(Ordering::Acquire);
                let led = standing.leader.load(Ordering::Acquire) != 0;
                if led && standing.applied_term.load(Ordering::Acquire) == term {
                    return Ok(());
                }
                if changed.changed().await.is_err() {
                    return Err(StoreError::Stopped);
                }
            }
        };
        tokio::time::timeout(limit, ready).await.unwrap_or(Err(StoreError::NoLeader))
    }

    /// Adds the store's metrics, under etcd's names.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Writes a snapshot, unless one is being written, and removes the log that it replaces.
    pub async fn snapshot(&self) -> Result<(), StoreError> {
        if self.shared.inbox.is_closed() {
            return Err(StoreError::Stopped);
        }
        let mut written = self.shared.snapshots.subscribe();
        let shared = self.shared.clone();
        runtime::blocking(move || snapshot::write_all(&shared)).await?;
        // The writer removes what was replaced, and says so.
        written.changed().await.map_err(|_| StoreError::Stopped)
    }

    /// How many groups the keys are divided among.
    pub fn groups(&self) -> GroupId {
        self.shared.identity.groups
    }

    /// The whole store, whichever groups keep it.
    pub fn whole(&self) -> Arc<dyn store_api::Store> {
        match self.groups() {
            1 => Arc::new(self.clone()),
            _ => Arc::new(Routed::new(self.clone())),
        }
    }

    /// The handle on another group.
    pub fn for_group(&self, group: GroupId) -> Store {
        Store { group, ..self.clone() }
    }

    pub(crate) fn group(&self) -> &Group {
        self.shared.group(self.group)
    }

    /// Waits until a read of this group's state is linearizable.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        self.shared.settle(self.group).await
    }

    /// The leader, if it is another member.
    pub(crate) fn other_leader(&self) -> Result<Option<u64>, StoreError> {
        let standing = &self.group().standing;
        match standing.leader.load(Ordering::Acquire) {
            _ if standing.leads() => Ok(None),
            0 => Err(StoreError::NoLeader),
            leader => Ok(Some(leader)),
        }
    }

    /// Commits a request and returns its answer. The span lasts from the request to the answer; the batch's own span,
    /// `fsync`, is its child or follows from it.
    #[tracing::instrument(level = "info", skip_all)]
    pub(crate) async fn propose(&self, request: Request) -> Answer {
        let answer = self.submit(request, None)?.await;
        answer.unwrap_or_else(|_| Err(StoreError::Unavailable("the writer ended before it answered".to_owned())))
    }

    /// Hands a request to the writer; `in_term` refuses it unless this member leads in that term.
    pub(crate) fn submit(
        &self,
        request: Request,
        in_term: Option<u64>,
    ) -> Result<oneshot::Receiver<Answer>, StoreError> {
        match &request {
            Request::Kv(command) | Request::KvAs(_, command) | Request::Own(command) => {
                self.refuse_learner()?;
                check_command(command, &self.shared.limits)?;
                self.refuse_under_alarm(command)?;
            }
            Request::Auth(_) => self.refuse_learner()?,
            _ => {}
        }
        let (frees_space, bytes): (bool, Bytes) = (request.frees_space(), request.encode());
        let (size, limit) = (bytes.len(), self.shared.limits.max_request_bytes);
        if matches!(request, Request::Auth(_)) && size > limit {
            return Err(StoreError::TooLarge { size, limit });
        }
        let (answer, receiver) = oneshot::channel();
        let deadline = self.shared.clock.monotonic() + self.shared.timing.request_limit();
        let span = tracing::Span::current();
        self.shared.inbox.propose(Proposal {
            group: self.group,
            request: bytes,
            frees_space,
            in_term,
            answer,
            deadline,
            span,
        })?;
        Ok(receiver)
    }
}

fn prepare(options: Options) -> Result<(Store, Writer), StoreError> {
    let disk = RealDisk::new(options.disk_fault, options.no_fsync);
    let bootstrap = options.bootstrap;
    let who = || bootstrap.founded(options.groups, &options.shards);
    let folder = Arc::new(Folder::open(&options.data_dir, options.wal_dir.as_deref(), &disk, who)?);
    let (wal_dir, snapshot_dir) = (folder.wal(), folder.snapshots());
    let (shared_disk, identity): (SharedDisk, _) = (Arc::new(disk.clone()), folder.identity);
    let folders =
        Folders { wal: &wal_dir, snapshots: &snapshot_dir, salt: identity.salt, segment_bytes: options.segment_bytes };
    let settings = Settings {
        member: identity.member,
        election_ticks: options.timing.election_ticks as usize,
        heartbeat_ticks: 1,
        pre_vote: options.pre_vote,
        keep_bytes: KEEP_BYTES,
        keep_entries: options.keep_entries,
        seed: runtime::entropy::random_u64(),
        lease_reads: options.lease_reads.then(|| LeaseReads {
            election_timeout: options.timing.election_timeout(),
            started: options.clock.monotonic(),
        }),
    };
    let recovered = if folder.fresh {
        let begun =
            replica::found(&shared_disk, &folders, settings, identity.groups, &options.shards, bootstrap.founders())?;
        folder.seal(&disk)?;
        begun
    } else {
        replica::recover(&shared_disk, &folders, settings, identity.groups)?
    };
    tell(&recovered);
    let Recovery { core, machines, since_snapshot, snapshot_bytes, .. } = recovered;
    let metrics = Metrics::default();
    metrics.quota.set(i64::try_from(options.quota_bytes).unwrap_or(i64::MAX));
    let disk_bytes = usage(&wal_dir) + usage(&snapshot_dir);
    let buffer = options.watch_buffer_events;
    let users = users::Standing::new(&machines[0].users, options.token_ttl);
    let groups = machines.into_iter().enumerate().map(|(id, machine)| group(id, machine, buffer)).collect();
    let shared = Arc::new(Shared {
        identity,
        clock: options.clock,
        limits: options.limits,
        quota_bytes: options.quota_bytes,
        budget: Budget::new(options.range_bytes),
        progress_interval: options.progress_interval,
        timing: options.timing,
        slow_apply: options.slow_apply,
        compact_hashes: CompactHashes::new(options.compact_hashes),
        strict_reconfig: options.strict_reconfig,
        disk,
        wal_dir,
        snapshot_dir,
        inbox: Inbox::default(),
        groups,
        peers: options.peers,
        metrics,
        users,
        disk_bytes: AtomicU64::new(disk_bytes),
        broken: Mutex::new(None),
        over_quota: Notify::new(),
        full: AtomicBool::new(false),
        snapshotting: AtomicBool::new(false),
        snapshots: watch::channel(0).0,
        removed: watch::channel(false).0,
        incoming: AtomicU64::new(0),
        alarmed: AtomicBool::new(false),
    });
    for group in &shared.groups {
        group.restart_leases(shared.clock.monotonic());
        measure(&shared, group, &group.machine.read());
    }
    shared.metrics.disk_bytes.set(disk_bytes as i64);
    shared.peers.update(shared.everybody());
    let applier = Arc::new(Applier::default());
    let writer = Writer {
        shared: shared.clone(),
        core,
        applier: applier.clone(),
        folder,
        tasks: options.tasks,
        snapshot_bytes: options.snapshot_bytes,
        snapshot_entries: options.snapshot_entries,
        since_snapshot,
        last_snapshot_bytes: snapshot_bytes,
        next_id: runtime::entropy::random_u64() & !0xffff_ffff,
        backlog: VecDeque::new(),
        next_tick: Duration::ZERO,
        deferred: Vec::new(),
        passed_on: Vec::new(),
        held_since: None,
        last_batch: 0,
        last_fsync: Duration::ZERO,
    };
    Ok((Store { shared, applier, group: 0, who: Who::Program }, writer))
}

fn group(id: usize, machine: Machine, buffer: usize) -> Group {
    let standing = Standing::default();
    standing.applied.store(machine.index, Ordering::Release);
    standing.applied_term.store(machine.term, Ordering::Release);
    Group {
        id: GroupId::try_from(id).expect("groups are few"),
        hub: Hub::new(machine.kv.revision(), buffer),
        machine: RwLock::new(machine),
        pending: Pending::default(),
        lease_times: Mutex::new(LeaseTimes::default()),
        lease_sooner: Notify::new(),
        trimmed: Notify::new(),
        standing,
        changed: watch::channel(0).0,
        members_changed: Notify::new(),
        shards_changed: watch::channel(0).0,
        keys: AtomicI64::new(0),
        bytes: AtomicI64::new(0),
    }
}

fn tell(recovered: &Recovery) {
    let wal = recovered.core.wal();
    if recovered.torn > 0 {
        tracing::warn!(
            bytes = recovered.torn,
            segment = %wal.path().display(),
            offset = wal.offset(),
            "the log ended in an unfinished batch, which was cut off; nothing in it had been acknowledged"
        );
    }
    for (group, machine) in recovered.machines.iter().enumerate() {
        let (revision, keys) = (machine.kv.revision(), machine.kv.keys());
        tracing::info!(group, snapshot = machine.index, revision, keys, "data folder read");
    }
}

impl Bootstrap {
    /// What a folder of so many groups is made for. Whoever joins a cluster knows its id.
    pub(crate) fn founded(&self, groups: GroupId, shards: &[(Bytes, GroupId)]) -> Result<Founded, StoreError> {
        if !(1..=MAX_GROUPS).contains(&groups) {
            return Err(StoreError::InvalidArgument(format!("{groups} shards: a store has 1 to {MAX_GROUPS}")));
        }
        Shards::check(shards, groups)?;
        let (cluster, member) = match self {
            Bootstrap::New { me, cluster, .. } => (divided_cluster_id(*cluster, groups, shards), *me),
            Bootstrap::Join { me, cluster } => (*cluster, *me),
        };
        Ok(Founded { cluster, member, groups })
    }

    pub(crate) fn founders(&self) -> &[store_api::Member] {
        match self {
            Bootstrap::New { members, .. } => members,
            Bootstrap::Join { .. } => &[],
        }
    }
}
