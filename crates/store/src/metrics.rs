//! The store's figures under etcd's names.

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

pub struct Metrics {
    pub fsync: Histogram,
    pub snapshot: Histogram,
    pub wal_bytes: Gauge,
    pub ranges: Counter,
    pub puts: Counter,
    pub deletes: Counter,
    pub txns: Counter,
    pub keys: Gauge,
    pub revision: Gauge,
    pub compact_revision: Gauge,
    pub watchers: Gauge,
    pub slow_watchers: Counter,
    pub events: Counter,
    pub disk_bytes: Gauge,
    pub live_bytes: Gauge,
    pub committed: Gauge,
    pub applied: Gauge,
    pub pending: Gauge,
    pub failed: Counter,
    pub leases_granted: Counter,
    pub leases_revoked: Counter,
    pub leases_expired: Counter,
    pub leases_renewed: Counter,
    pub quota: Gauge,
    pub leader: Gauge,
    pub leads: Gauge,
    pub learner: Gauge,
    pub leader_changes: Counter,
    pub promotions: Gauge,
    pub slow_applies: Counter,
    pub slow_reads: Counter,
    pub failed_reads: Counter,
    pub lease_reads: Counter,
    pub installing: Gauge,
    pub commit: Histogram,
    pub trim: Histogram,
    pub compacted_at: Gauge,
    pub hash: Histogram,
    pub defrag: Histogram,
    pub defragmenting: Gauge,
    pub lease_ttl: Histogram,
    pub put_bytes: Gauge,
    pub auth_revision: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // etcd's own buckets: 1 ms to 8 s for the log, 10 ms to 80 s for snapshots.
        let (fsync, snapshot) = (exponential_buckets(0.001, 2.0, 14), exponential_buckets(0.01, 2.0, 14));
        let (hash, defrag) = (exponential_buckets(0.01, 2.0, 15), exponential_buckets(0.1, 2.0, 13));
        Metrics {
            fsync: Histogram::new(fsync),
            snapshot: Histogram::new(snapshot),
            wal_bytes: Gauge::default(),
            ranges: Counter::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            keys: Gauge::default(),
            revision: Gauge::default(),
            compact_revision: Gauge::default(),
            watchers: Gauge::default(),
            slow_watchers: Counter::default(),
            events: Counter::default(),
            disk_bytes: Gauge::default(),
            live_bytes: Gauge::default(),
            committed: Gauge::default(),
            applied: Gauge::default(),
            pending: Gauge::default(),
            failed: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_expired: Counter::default(),
            leases_renewed: Counter::default(),
            quota: Gauge::default(),
            leader: Gauge::default(),
            leads: Gauge::default(),
            learner: Gauge::default(),
            leader_changes: Counter::default(),
            promotions: Gauge::default(),
            slow_applies: Counter::default(),
            slow_reads: Counter::default(),
            failed_reads: Counter::default(),
            lease_reads: Counter::default(),
            installing: Gauge::default(),
            commit: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            trim: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            compacted_at: Gauge::default(),
            hash: Histogram::new(hash),
            defrag: Histogram::new(defrag),
            defragmenting: Gauge::default(),
            lease_ttl: Histogram::new(exponential_buckets(1.0, 2.0, 24)),
            put_bytes: Gauge::default(),
            auth_revision: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Counters get `_total` from the text format; where etcd has a gauge of that name, it is in the name here.
    pub fn register(&self, r: &mut Registry) {
        let sync = "The latency distributions of fsync called by WAL.";
        r.register("etcd_disk_wal_fsync_duration_seconds", sync, self.fsync.clone());
        for (name, help, histogram) in [
            (
                "etcd_disk_backend_commit_duration_seconds",
                "Time in which committed entries become state.",
                &self.commit,
            ),
            ("etcd_disk_backend_defrag_duration_seconds", "Time of defragmentations.", &self.defrag),
            ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Pauses by compaction.", &self.trim),
            ("etcd_mvcc_hash_rev_duration_seconds", "Time of hashes of the keys by revision.", &self.hash),
            ("etcd_debugging_lease_ttl_total", "Times to live of leases that were granted.", &self.lease_ttl),
        ] {
            r.register(name, help, histogram.clone());
        }
        let snap = "The total latency distributions of snapshots saved to disk.";
        r.register("etcd_debugging_snap_save_total_duration_seconds", snap, self.snapshot.clone());
        for (name, help, counter) in [
            ("etcd_mvcc_range", "Ranges seen by this member.", &self.ranges),
            ("etcd_mvcc_put", "Puts seen by this member.", &self.puts),
            ("etcd_mvcc_delete", "Deletes seen by this member.", &self.deletes),
            ("etcd_mvcc_txn", "Transactions seen by this member.", &self.txns),
            ("etcd_debugging_mvcc_events", "Events sent by this member.", &self.events),
            ("etcd_debugging_mvcc_slow_watchers_cancelled", "Watchers cut off at their bound.", &self.slow_watchers),
            ("etcd_server_proposals_failed", "Failed proposals seen.", &self.failed),
            ("etcd_debugging_mvcc_range", "Ranges seen by this member.", &self.ranges),
            ("etcd_server_leader_changes_seen", "Leader changes seen.", &self.leader_changes),
            ("etcd_server_slow_apply", "Batches of entries that took longer than is warned of.", &self.slow_applies),
            ("etcd_server_slow_read_indexes", "Reads that waited for long to be linearizable.", &self.slow_reads),
            ("etcd_server_read_indexes_failed", "Reads that could not be made linearizable.", &self.failed_reads),
            ("plinth_store_lease_reads", "Reads made linearizable by the lease, without a message.", &self.lease_reads),
            ("etcd_debugging_lease_granted", "Leases granted.", &self.leases_granted),
            ("etcd_debugging_lease_revoked", "Leases revoked.", &self.leases_revoked),
            ("etcd_debugging_lease_renewed", "Leases renewed.", &self.leases_renewed),
            ("etcd_debugging_server_lease_expired", "Leases expired.", &self.leases_expired),
        ] {
            r.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            ("etcd_disk_wal_write_bytes_total", "Bytes written to the WAL.", &self.wal_bytes),
            ("etcd_debugging_mvcc_keys_total", "Keys.", &self.keys),
            ("etcd_debugging_mvcc_current_revision", "The current revision.", &self.revision),
            ("etcd_debugging_mvcc_compact_revision", "The last compact revision.", &self.compact_revision),
            ("etcd_debugging_mvcc_watcher_total", "Watchers.", &self.watchers),
            ("etcd_mvcc_db_total_size_in_bytes", "Bytes of files on disk.", &self.disk_bytes),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of data in use.", &self.live_bytes),
            ("etcd_server_proposals_committed_total", "Consensus proposals committed.", &self.committed),
            ("etcd_server_proposals_applied_total", "Consensus proposals applied.", &self.applied),
            ("etcd_server_proposals_pending", "Pending proposals to commit.", &self.pending),
            ("etcd_server_quota_backend_bytes", "The quota of the data.", &self.quota),
            ("etcd_server_has_leader", "Whether a leader exists.", &self.leader),
            ("etcd_server_is_leader", "Whether this member is the leader.", &self.leads),
            ("etcd_server_learner_promote_successes", "Learners promoted by this member.", &self.promotions),
            ("etcd_server_is_learner", "Whether this member is a learner.", &self.learner),
            ("etcd_server_snapshot_apply_in_progress_total", "Snapshots being taken over.", &self.installing),
            ("etcd_disk_defrag_inflight", "Whether a defragmentation is under way.", &self.defragmenting),
            (
                "etcd_debugging_mvcc_db_compaction_last",
                "The unix time of the last compaction's end.",
                &self.compacted_at,
            ),
            ("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of puts by this member's clients.", &self.put_bytes),
            ("etcd_debugging_auth_revision", "The revision of users and roles.", &self.auth_revision),
        ] {
            r.register(name, help, gauge.clone());
        }
    }

    /// Where the member stands after a change of leader or term.
    pub fn standing(&self, leads: bool, learner: bool, leader: u64, before: u64) {
        self.leader.set(i64::from(leader != 0));
        self.leads.set(i64::from(leads));
        self.learner.set(i64::from(learner));
        if leader != 0 && leader != before {
            self.leader_changes.inc();
        }
    }
}
