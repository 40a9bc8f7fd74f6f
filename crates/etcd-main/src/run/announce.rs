//! The lines of a start that say what the member is, in etcd's words.

use std::{path::Path, time::Duration};

use serde_json::Value;
use store_api::Status;
use telemetry::zap;

use super::{data_dir::Found, mapping};
use crate::{
    config::{AutoCompaction, ClusterState, Config, Sockets},
    go::format_duration,
    help::ETCD_VERSION,
    url::{self, Cluster, Url},
};

/// A request larger than this is more than etcd recommends.
const RECOMMENDED_REQUEST_BYTES: u64 = 10 << 20;
/// A quota larger than this is more than etcd recommends.
const RECOMMENDED_QUOTA_BYTES: u64 = 8 << 30;

pub fn socket_options(sockets: Sockets) {
    if sockets != Sockets::default() {
        let Sockets { reuse_port, reuse_address } = sockets;
        tracing::info!("reuse-address" = reuse_address, "reuse-port" = reuse_port, "configuring socket options");
    }
}

/// Before the store is opened.
pub fn starting(config: &Config, found: Found, cluster: &Cluster) {
    let path = |path: &Path| Value::from(path.display().to_string());
    let milliseconds = |number: u64| Value::from(format_duration(Duration::from_millis(number)));
    let urls = |urls: &[Url]| Value::from(url::texts(urls));
    let (mode, retention) = match config.auto_compaction {
        AutoCompaction::Off => ("periodic", Duration::ZERO),
        AutoCompaction::Period(period) => ("periodic", period),
        AutoCompaction::Revisions(count) => ("revision", Duration::from_nanos(count.unsigned_abs())),
    };
    let retention = format_duration(retention);
    let state = if config.cluster_state == ClusterState::New { "new" } else { "existing" };
    let wal_dir = config.wal_dir.as_deref().map_or_else(|| Value::from(""), path);
    let fields = [
        ("etcd-version", ETCD_VERSION.into()),
        ("plinth-version", env!("CARGO_PKG_VERSION").into()),
        ("max-cpu-set", runtime::cpu::worker_threads().into()),
        ("member-initialized", (found == Found::Member).into()),
        ("name", config.name.clone().into()),
        ("data-dir", path(&config.data_dir)),
        ("wal-dir", wal_dir.clone()),
        ("wal-dir-dedicated", wal_dir),
        ("member-dir", path(&config.member_dir())),
        ("force-new-cluster", config.force_new_cluster.into()),
        ("heartbeat-interval", milliseconds(config.raft.heartbeat_ms)),
        ("election-timeout", milliseconds(config.raft.election_ms)),
        ("initial-election-tick-advance", config.raft.initial_election_tick_advance.into()),
        ("snapshot-count", config.raft.snapshot_count.into()),
        ("snapshot-catchup-entries", config.raft.snapshot_catchup_entries.into()),
        ("initial-advertise-peer-urls", urls(&config.advertise_peer_urls)),
        ("listen-peer-urls", urls(&config.listen_peer_urls)),
        ("advertise-client-urls", urls(&config.advertise_client_urls)),
        ("listen-client-urls", urls(&config.listen_client_urls)),
        ("listen-metrics-urls", urls(&config.listen_metrics_urls)),
        ("initial-cluster", url::cluster_text(cluster).into()),
        ("initial-cluster-state", state.into()),
        ("initial-cluster-token", config.cluster_token.clone().into()),
        ("quota-backend-bytes", mapping::quota_bytes(config).into()),
        ("max-request-bytes", config.limits.max_request_bytes.into()),
        ("max-concurrent-streams", config.limits.max_concurrent_streams.into()),
        ("pre-vote", config.raft.pre_vote.into()),
        ("initial-corrupt-check", config.corruption.initial.into()),
        ("corrupt-check-time-interval", format_duration(config.corruption.interval).into()),
        ("compact-check-time-enabled", config.corruption.compact_hash.into()),
        ("compact-check-time-interval", format_duration(config.corruption.compact_hash_interval).into()),
        ("auto-compaction-mode", mode.into()),
        ("auto-compaction-retention", retention.clone().into()),
        ("auto-compaction-interval", retention.into()),
        ("lease-reads", config.raft.lease_reads.into()),
        ("shards", config.shards.into()),
    ];
    tracing::info!(zap = zap::fields(&fields), "starting an etcd server");
    warn_of_sizes(config);
}

fn warn_of_sizes(config: &Config) {
    let bytes = config.limits.max_request_bytes;
    if bytes > RECOMMENDED_REQUEST_BYTES {
        tracing::warn!(
            "max-request-bytes" = bytes,
            "recommended-request-bytes" = RECOMMENDED_REQUEST_BYTES,
            "exceeded recommended request limit"
        );
    }
    match config.limits.quota_bytes {
        ..0 => tracing::info!("quota-size-bytes" = config.limits.quota_bytes, "disabled backend quota"),
        given if given.unsigned_abs() > RECOMMENDED_QUOTA_BYTES => tracing::warn!(
            "quota-size-bytes" = given,
            "quota-maximum-size-bytes" = RECOMMENDED_QUOTA_BYTES,
            "quota exceeds the maximum value"
        ),
        _ => {}
    }
}

/// When the member leads or follows, and has told the cluster of itself.
pub fn elected(config: &Config, status: &Status) {
    let member = format!("{:x}", status.member_id);
    tracing::info!("raft.node: {member} elected leader {:x} at term {}", status.leader, status.raft_term);
    let urls = url::texts(&config.advertise_client_urls).join(" ");
    tracing::info!(
        "local-member-id" = member,
        "local-member-attributes" = format!("{{Name:{} ClientURLs:[{urls}]}}", config.name),
        "request-path" = format!("/0/members/{member}/attributes"),
        "cluster-id" = format!("{:x}", status.cluster_id),
        "publish-timeout" = "7s",
        "published local member to cluster through raft"
    );
}

/// Per listener, when it serves.
pub fn serving(url: &Url, address: &str, traffic: &str) {
    tracing::info!("ready to serve client requests");
    if url.scheme.is_secure() {
        tracing::info!(traffic, address, "serving client traffic securely");
    } else {
        tracing::info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
    }
}

pub fn now_serving(config: &Config, status: &Status) {
    tracing::info!(
        "local-member-id" = format!("{:x}", status.member_id),
        "initial-advertise-peer-urls" = ?url::texts(&config.advertise_peer_urls),
        "listen-peer-urls" = ?url::texts(&config.listen_peer_urls),
        "advertise-client-urls" = ?url::texts(&config.advertise_client_urls),
        "listen-client-urls" = ?url::texts(&config.listen_client_urls),
        "listen-metrics-urls" = ?url::texts(&config.listen_metrics_urls),
        "now serving peer/client/metrics"
    );
}
