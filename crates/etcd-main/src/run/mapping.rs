//! What of a member's configuration goes to the store and to its server. The one place that knows what those can do yet.

use std::time::Duration;

use etcd_server::{AuthOptions, KeepAlive, TokenKind};
use runtime::{Clock, Tasks};
use store::AutoCompaction as StoreCompaction;

use crate::config::{AutoCompaction, Config};

/// How often a watcher without events hears of the revision, where nothing is said.
const DEFAULT_PROGRESS: Duration = Duration::from_secs(600);
/// As in etcd.
const LEASE_CHECKPOINTS_EVERY: Duration = Duration::from_secs(300);
/// What gRPC for Go does where it is told nothing.
const GO_KEEP_ALIVE: KeepAlive = KeepAlive {
    min_time: Duration::from_secs(300),
    interval: Duration::from_secs(7200),
    timeout: Duration::from_secs(20),
};
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

/// Bytes past which writes are refused.
pub fn quota_bytes(config: &Config) -> u64 {
    match config.limits.quota_bytes {
        0 => DEFAULT_QUOTA_BYTES,
        given => u64::try_from(given).unwrap_or(u64::MAX),
    }
}

pub fn store_options(config: &Config, clock: Clock, tasks: Tasks) -> store::Options {
    let mut options = store::Options::new(config.member_dir(), clock, tasks);
    options.wal_dir = config.wal_dir.clone();
    options.limits.max_request_bytes = bounded(config.limits.max_request_bytes);
    options.limits.max_txn_ops = bounded(config.limits.max_txn_ops);
    options.quota_bytes = quota_bytes(config);
    options.range_bytes = bounded(config.limits.range_memory_bytes);
    let election_ticks = config.raft.election_ms.div_ceil(config.raft.heartbeat_ms.max(1));
    options.timing = store::Timing {
        tick: Duration::from_millis(config.raft.heartbeat_ms),
        election_ticks: u32::try_from(election_ticks).unwrap_or(u32::MAX),
    };
    options.pre_vote = config.raft.pre_vote;
    options.lease_reads = config.raft.lease_reads;
    // Left alone, snapshots follow the bytes of the log: an entry of it is a batch of requests, however many.
    options.snapshot_entries = (config.raft.snapshot_count != 100_000).then_some(config.raft.snapshot_count);
    options.keep_entries =
        (config.raft.snapshot_catchup_entries != 5_000).then_some(config.raft.snapshot_catchup_entries);
    options.auto_compaction = match config.auto_compaction {
        AutoCompaction::Off => StoreCompaction::Off,
        AutoCompaction::Revisions(count) => StoreCompaction::Revisions(count),
        AutoCompaction::Period(period) => StoreCompaction::Period(period),
    };
    options.progress_interval = match config.watch_progress_interval {
        Duration::ZERO => DEFAULT_PROGRESS,
        given => given,
    };
    options.lease_checkpoints = config.lease_checkpoint.then_some(LEASE_CHECKPOINTS_EVERY);
    options.token_ttl = config.auth.token_ttl;
    options.groups = config.shards;
    options.shards = config.shard_map.iter().map(|shard| (shard.prefix.clone(), shard.group)).collect();
    options.strict_reconfig = config.strict_reconfig_check;
    options.compact_hashes = config.corruption.compact_hash;
    options.no_fsync = config.no_fsync;
    options.tick_advance = config.raft.initial_election_tick_advance;
    options.slow_apply = config.warning_apply_duration;
    options
}

pub fn server_options(
    config: &Config,
    store: store::Store,
    metrics: telemetry::Metrics,
    clock: Clock,
    tasks: Tasks,
) -> etcd_server::Options {
    let cluster: std::sync::Arc<dyn store_api::Cluster> = std::sync::Arc::new(store.clone());
    let mut options = etcd_server::Options::new(store.whole(), tasks);
    options.cluster = Some(cluster);
    options.name = config.name.clone();
    options.client_urls = crate::url::texts(&config.advertise_client_urls);
    options.max_request_bytes = bounded(config.limits.max_request_bytes);
    options.max_streams = config.limits.max_concurrent_streams;
    options.keep_alive = keep_alive(config);
    options.gateway = config.grpc_gateway;
    options.access = etcd_server::AccessOptions {
        origins: config.cors.iter().cloned().collect(),
        hosts: config.host_whitelist.iter().cloned().collect(),
    };
    options.call_times = config.metrics_extensive.then_some(clock);
    options.leader_interval = Duration::from_millis(config.raft.election_ms);
    options.metrics = Some(metrics);
    options
}

/// What is turned off by zeroes is what Go's gRPC has by itself, as in etcd.
fn keep_alive(config: &Config) -> KeepAlive {
    let given = &config.keepalive;
    let (mut keep_alive, go) = (KeepAlive { min_time: given.min_time, ..GO_KEEP_ALIVE }, GO_KEEP_ALIVE);
    if given.min_time.is_zero() {
        keep_alive.min_time = go.min_time;
    }
    if !given.interval.is_zero() && !given.timeout.is_zero() {
        (keep_alive.interval, keep_alive.timeout) = (given.interval, given.timeout);
    }
    keep_alive
}

/// How users and roles guard the store.
pub fn auth_options(config: &Config, store: &store::Store, tokens: TokenKind, clock: Clock) -> AuthOptions {
    let mut options = AuthOptions::new(std::sync::Arc::new(store.clone()), clock);
    options.tokens = tokens;
    options.bcrypt_cost = u32::try_from(config.auth.bcrypt_cost).unwrap_or(u32::MAX);
    options.client_cert_auth = config.client_tls.client_cert_auth;
    options
}

fn bounded(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
