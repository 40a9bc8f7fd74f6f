//! What a member is told at its start, as plain data. Where it came from (flags, environment, file) is forgotten here.

use std::{path::PathBuf, time::Duration};

use crate::url::{Cluster, Url};

/// Everything that can be chosen about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    pub listen_client_http_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub advertise_peer_urls: Vec<Url>,
    pub advertise_client_urls: Vec<Url>,
    /// As it was given; [`Config::initial_cluster`] reads it.
    pub initial_cluster_text: String,
    pub cluster_state: ClusterState,
    pub cluster_token: String,
    pub force_new_cluster: bool,
    pub raft: Raft,
    pub limits: Limits,
    pub auto_compaction: AutoCompaction,
    pub client_tls: Tls,
    pub peer_tls: Tls,
    pub tls: TlsVersions,
    pub auth: Auth,
    pub corruption: CorruptionChecks,
    pub keepalive: KeepAlive,
    pub sockets: Sockets,
    pub metrics_extensive: bool,
    pub grpc_gateway: bool,
    /// Origins of pages and names of this server that plain HTTP may come with; `*` is all.
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub strict_reconfig_check: bool,
    pub no_fsync: bool,
    pub mlock: bool,
    pub watch_progress_interval: Duration,
    /// What is left of leases is kept in the log.
    pub lease_checkpoint: bool,
    pub warning_apply_duration: Duration,
    pub log: Log,
    /// Raft groups that the keys of a new cluster are divided among.
    pub shards: u32,
    /// Prefixes of keys that are not group 0's from the beginning.
    pub shard_map: Vec<store_api::Shard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// The members of the initial cluster begin it.
    New,
    /// The cluster runs and knows this member already.
    Existing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    pub heartbeat_ms: u64,
    pub election_ms: u64,
    pub initial_election_tick_advance: bool,
    pub pre_vote: bool,
    /// The leader answers reads by its lease.
    pub lease_reads: bool,
    /// Entries between snapshots.
    pub snapshot_count: u64,
    /// Entries kept after a snapshot for members that lag.
    pub snapshot_catchup_entries: u64,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// 0 is the default, negative no limit.
    pub quota_bytes: i64,
    /// For the answers to all reads together.
    pub range_memory_bytes: u64,
    pub max_request_bytes: u64,
    pub max_txn_ops: u64,
    pub max_concurrent_streams: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// Keep so many revisions.
    Revisions(i64),
    /// Keep what is younger than this.
    Period(Duration),
}

/// Certificates of one side: clients or other members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub cert_file: String,
    pub key_file: String,
    pub client_cert_file: String,
    pub client_key_file: String,
    pub trusted_ca_file: String,
    pub client_cert_auth: bool,
    pub crl_file: String,
    pub allowed_cns: Vec<String>,
    pub allowed_hostnames: Vec<String>,
    pub auto_tls: bool,
    pub skip_client_san_verify: bool,
}

/// What holds for both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    pub min: String,
    pub max: String,
    pub cipher_suites: Vec<String>,
    pub self_signed_years: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `simple`, or `jwt` with options.
    pub token: String,
    pub bcrypt_cost: u64,
    pub token_ttl: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    pub initial: bool,
    /// Zero turns it off.
    pub interval: Duration,
    pub compact_hash: bool,
    pub compact_hash_interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    pub min_time: Duration,
    /// Zero turns it off, as does a zero timeout.
    pub interval: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub outputs: Vec<String>,
    pub level: telemetry::zap::Level,
    pub console: bool,
    pub rotation: Option<Rotation>,
    /// Where spans go, if anywhere.
    pub traces: Option<telemetry::Traces>,
}

/// When a log file is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub max_bytes: u64,
    /// Old files that are kept; 0 keeps all.
    pub max_backups: u64,
}

impl Tls {
    /// There is no certificate.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }

    /// As etcd logs it.
    pub fn describe(&self) -> String {
        format!(
            "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
            self.cert_file,
            self.key_file,
            self.client_cert_file,
            self.client_key_file,
            self.trusted_ca_file,
            self.client_cert_auth,
            self.crl_file
        )
    }
}

impl Config {
    /// Where the store keeps its files.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// The first members.
    pub fn initial_cluster(&self) -> Result<Cluster, crate::url::UrlError> {
        crate::url::parse_cluster(&self.initial_cluster_text)
    }
}
