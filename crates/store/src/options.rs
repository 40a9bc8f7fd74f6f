//! What can be chosen about a store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use auth::TOKEN_TTL;
use bytes::Bytes;
use mvcc::Limits;
use replica::{GroupId, cluster_id, member_id};
use runtime::{Clock, Tasks};
use store_api::Member;

use crate::{
    budget::DEFAULT_RANGE_BYTES,
    disk::DiskFault,
    folder::SEGMENT_BYTES,
    peers::{Nobody, Peers},
};

/// How revisions are compacted without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Only by `compact`; Kubernetes' API server asks every five minutes.
    #[default]
    Off,
    /// Keep so many revisions.
    Revisions(i64),
    /// Keep what is younger than this.
    Period(Duration),
}

/// How time is counted between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// etcd's `--heartbeat-interval`.
    pub tick: Duration,
    /// etcd's `--election-timeout`, in ticks.
    pub election_ticks: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { tick: Duration::from_millis(100), election_ticks: 10 }
    }
}

impl Timing {
    pub fn election_timeout(&self) -> Duration {
        self.tick * self.election_ticks
    }

    /// How long a request may wait for its answer: as in etcd, long enough for two elections on the way.
    pub fn request_limit(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout()
    }
}

/// How a fresh data folder begins. One that has a member in it goes on with that.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    /// A new cluster of these members, of whom this is the one with the id `me`.
    New { me: u64, cluster: u64, members: Vec<Member> },
    /// A member that others have added to their cluster, and who will send it everything.
    Join { me: u64, cluster: u64 },
}

impl Bootstrap {
    /// A cluster of one.
    pub fn single(name: &str) -> Self {
        // The address that etcd has by default; nobody listens there.
        let peer_urls = vec!["http://localhost:2380".to_owned()];
        let me = member_id(&peer_urls, "etcd-cluster");
        let member = Member { id: me, name: name.to_owned(), peer_urls, ..Default::default() };
        Bootstrap::New { me, cluster: cluster_id([me]), members: vec![member] }
    }
}

/// Everything that a store is given at its start.
#[derive(Clone)]
pub struct Options {
    /// Taken over if empty; refused if it holds something else.
    pub data_dir: PathBuf,
    /// A folder of its own for the log: etcd's `--wal-dir`.
    pub wal_dir: Option<PathBuf>,
    pub clock: Clock,
    /// The store's own group: stopping it stops the store, joining it waits for the last batch.
    pub tasks: Tasks,
    pub limits: Limits,
    /// Writes that add data are refused while the data takes more than this.
    pub quota_bytes: u64,
    /// Memory for the answers to ranges, of all callers together; past it ranges are refused.
    pub range_bytes: usize,
    pub auto_compaction: AutoCompaction,
    /// A log segment's size.
    pub segment_bytes: u64,
    /// A snapshot is written when the log since the last one is longer than this and than that snapshot.
    pub snapshot_bytes: u64,
    /// And after so many entries of the log, if a number is given.
    pub snapshot_entries: Option<u64>,
    /// Entries before a snapshot that members who are behind may still be sent: etcd's
    /// `--experimental-snapshot-catchup-entries`. `None` keeps what fits into a bound of bytes.
    pub keep_entries: Option<u64>,
    /// Events that a watcher may leave unread.
    pub watch_buffer_events: usize,
    /// How long a watcher with `progress_notify` hears nothing before it is told the revision.
    pub progress_interval: Duration,
    pub bootstrap: Bootstrap,
    /// Raft groups that the keys are divided among, if a fresh folder is to be made; one that is there goes on with its
    /// own.
    pub groups: GroupId,
    /// Prefixes of keys that are not group 0's from the beginning. The same on all founders.
    pub shards: Vec<(Bytes, GroupId)>,
    pub timing: Timing,
    pub pre_vote: bool,
    /// The leader answers linearizable reads without asking the others while it has a lease. Safe as long as members'
    /// clocks run equally fast, within 5 percent, and do not stand still while a member does not run.
    pub lease_reads: bool,
    /// The way to the other members.
    pub peers: Arc<dyn Peers>,
    /// How long a user's token lives after it was last shown: etcd's `--auth-token-ttl`.
    pub token_ttl: Duration,
    /// How often the leader notes in the log what is left of leases that have longer than this; absent: a new leader
    /// gives every lease its whole time again.
    pub lease_checkpoints: Option<Duration>,
    /// Entries that take longer to become state are warned of, batch by batch.
    pub slow_apply: Duration,
    /// Do not wait for the disk: etcd's `--unsafe-no-fsync`. What was acknowledged is lost with the machine's power.
    pub no_fsync: bool,
    /// Let most of the first election's time be over once the other members are connected: etcd's
    /// `--initial-election-tick-advance`.
    pub tick_advance: bool,
    /// Hash what compactions drop, so that members can be compared: etcd's
    /// `--experimental-compact-hash-check-enabled`.
    pub compact_hashes: bool,
    /// Refuse changes of the membership that could lose the quorum: etcd's `--strict-reconfig-check`.
    pub strict_reconfig: bool,
    /// For tests: makes operations on the disk fail.
    pub disk_fault: Option<DiskFault>,
}

/// etcd's `--experimental-warning-apply-duration`.
const SLOW_APPLY: Duration = Duration::from_millis(100);

impl Options {
    /// etcd's defaults.
    pub fn new(data_dir: impl Into<PathBuf>, clock: Clock, tasks: Tasks) -> Self {
        Options {
            data_dir: data_dir.into(),
            wal_dir: None,
            clock,
            tasks,
            limits: Limits::default(),
            quota_bytes: 2 << 30,
            range_bytes: DEFAULT_RANGE_BYTES,
            auto_compaction: AutoCompaction::Off,
            segment_bytes: SEGMENT_BYTES,
            snapshot_bytes: 64 << 20,
            snapshot_entries: None,
            keep_entries: None,
            watch_buffer_events: 16 * 1024,
            progress_interval: Duration::from_secs(600),
            bootstrap: Bootstrap::single("default"),
            groups: 1,
            shards: Vec::new(),
            timing: Timing::default(),
            pre_vote: true,
            lease_reads: false,
            peers: Arc::new(Nobody),
            token_ttl: TOKEN_TTL,
            lease_checkpoints: None,
            slow_apply: SLOW_APPLY,
            no_fsync: false,
            tick_advance: false,
            compact_hashes: false,
            strict_reconfig: true,
            disk_fault: None,
        }
    }
}
