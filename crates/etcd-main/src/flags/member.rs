//! Flags of the groups Member, Profiling and Monitoring, and Logging.

use super::{Flag, Kind, applied, nothing};

const NO_BBOLT: &str = "there is no bbolt file behind this store";

pub(super) const MEMBER: &[Flag] = &[
    applied("name", Kind::Text, "default", "The member's name, for people and for --initial-cluster."),
    applied("data-dir", Kind::Text, "", "The data folder. Default: ${name}.etcd."),
    applied("wal-dir", Kind::Text, "", "A folder of its own for the log."),
    applied("snapshot-count", Kind::Uint, "100000", "A snapshot is written after so many committed entries."),
    applied("heartbeat-interval", Kind::Uint, "100", "Milliseconds between a leader's heartbeats."),
    applied(
        "election-timeout",
        Kind::Uint,
        "1000",
        "Milliseconds without a leader after which a member stands for election.",
    ),
    applied("initial-election-tick-advance", Kind::Bool, "true", "Shorten the first election after the start."),
    applied("listen-peer-urls", Kind::Urls, "http://localhost:2380", "Where other members reach this one."),
    applied("listen-client-urls", Kind::Urls, "http://localhost:2379", "Where clients reach this member."),
    applied("listen-client-http-urls", Kind::Urls, "", "Where only plain HTTP is spoken with clients, and no gRPC."),
    nothing("max-snapshots", Kind::Uint, "5", "Snapshot files to keep.", "a snapshot replaces the one before it"),
    nothing("max-wals", Kind::Uint, "5", "Log files to keep.", "the log is purged when a snapshot replaces it"),
    applied(
        "quota-backend-bytes",
        Kind::Int,
        "0",
        "Bytes of data past which writes are refused; 0 is 2 GiB, negative is no limit.",
    ),
    applied(
        "range-memory-bytes",
        Kind::Uint,
        "1073741824",
        "Memory for the answers to all reads together; past it reads are refused. Not in etcd.",
    ),
    nothing("backend-bbolt-freelist-type", Kind::Text, "map", "bbolt's free list.", NO_BBOLT),
    nothing("backend-batch-interval", Kind::Duration, "0s", "The longest time between commits of bbolt.", NO_BBOLT),
    nothing("backend-batch-limit", Kind::Int, "0", "The most operations between commits of bbolt.", NO_BBOLT),
    applied("max-txn-ops", Kind::Uint, "128", "Operations that a transaction may have."),
    applied("max-request-bytes", Kind::Uint, "1572864", "Bytes that a request may have."),
    applied("max-concurrent-streams", Kind::Uint32, "4294967295", "Streams that a client may have open at one time."),
    applied("enable-grpc-gateway", Kind::Bool, "true", "Serve the JSON gateway."),
    applied("grpc-keepalive-min-time", Kind::Duration, "5s", "A client that pings more often is sent away."),
    applied(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h0m0s",
        "How often a silent client is asked whether it is there; 0 turns it off.",
    ),
    applied("grpc-keepalive-timeout", Kind::Duration, "20s", "How long it has to answer; 0 turns it off."),
    applied("socket-reuse-port", Kind::Bool, "false", "Set SO_REUSEPORT on listeners."),
    applied("socket-reuse-address", Kind::Bool, "false", "Set SO_REUSEADDR on listeners."),
    applied("raft-read-timeout", Kind::Duration, "5s", "How long a read from another member may take."),
    applied("raft-write-timeout", Kind::Duration, "5s", "How long a write to another member may take."),
    applied(
        "shards",
        Kind::Uint,
        "1",
        "Raft groups that the keys of a new cluster are divided among, all in one log. Not in etcd.",
    ),
    applied(
        "shard-map",
        Kind::Text,
        "",
        "Which keys of a new cluster are not group 0's: prefix=group[,prefix=group]. Not in etcd.",
    ),
];

pub(super) const MONITORING: &[Flag] = &[
    nothing("enable-pprof", Kind::Bool, "false", "Go's profiles over HTTP.", "there is no Go runtime to profile"),
    applied("metrics", Kind::Text, "basic", "Detail of the metrics: basic, or extensive with histograms of the calls."),
    applied("listen-metrics-urls", Kind::Urls, "", "Where only /metrics and /health are served."),
];

pub(super) const LOGGING: &[Flag] = &[
    applied("logger", Kind::Text, "zap", "The shape of the log; zap is the only one."),
    applied(
        "log-outputs",
        Kind::Words,
        "default",
        "Where the log goes: default, stderr, stdout, systemd/journal, or files.",
    ),
    applied(
        "log-level",
        Kind::Text,
        "info",
        "The least level that is logged: debug, info, warn, error, panic or fatal.",
    ),
    applied(
        "log-format",
        Kind::Choice(&["json", "console"]),
        "json",
        "Lines as JSON objects, or for reading. As in etcd 3.6.",
    ),
    applied("enable-log-rotation", Kind::Bool, "false", "Start a new log file when the old one is full."),
    applied(
        "log-rotation-config-json",
        Kind::Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When a log file is full (maxsize, in MB) and how many are kept (maxbackups).",
    ),
];
