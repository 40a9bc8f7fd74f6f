//! Flags of the groups Experimental distributed tracing, Experimental feature and Unsafe feature.

use super::{Flag, Kind, applied, nothing};

const NO_BATCHES: &str = "compaction does not hold writes up";

pub(super) const TRACING: &[Flag] = &[
    applied("experimental-enable-distributed-tracing", Kind::Bool, "false", "Export spans."),
    applied("experimental-distributed-tracing-address", Kind::Text, "localhost:4317", "The collector."),
    applied("experimental-distributed-tracing-service-name", Kind::Text, "etcd", "The spans' service."),
    applied("experimental-distributed-tracing-instance-id", Kind::Text, "", "The spans' instance."),
    applied("experimental-distributed-tracing-sampling-rate", Kind::Int, "0", "Spans kept of a million."),
];

pub(super) const FEATURES: &[Flag] = &[
    applied(
        "experimental-initial-corrupt-check",
        Kind::Bool,
        "false",
        "Compare the data with the other members' before serving.",
    ),
    applied("experimental-corrupt-check-time", Kind::Duration, "0s", "How often members compare their data."),
    applied(
        "experimental-compact-hash-check-enabled",
        Kind::Bool,
        "false",
        "The leader compares hashes of what was compacted.",
    ),
    applied("experimental-compact-hash-check-time", Kind::Duration, "1m0s", "How often it does."),
    nothing("experimental-enable-v2v3", Kind::Text, "", "Serve v2 from v3.", "the v2 API is not served"),
    applied(
        "experimental-enable-lease-checkpoint",
        Kind::Bool,
        "false",
        "Keep in the log how long leases have left, so that a new leader does not begin their time anew.",
    ),
    nothing(
        "experimental-enable-lease-checkpoint-persist",
        Kind::Bool,
        "false",
        "Keep that on disk.",
        "what is in the log is on disk in any case",
    ),
    nothing("experimental-compaction-batch-limit", Kind::Int, "1000", "Revisions compacted in one batch.", NO_BATCHES),
    nothing("experimental-compaction-sleep-interval", Kind::Duration, "10ms", "The pause between batches.", NO_BATCHES),
    applied(
        "experimental-peer-skip-client-san-verification",
        Kind::Bool,
        "false",
        "Do not compare a member's address with its certificate.",
    ),
    applied(
        "experimental-watch-progress-notify-interval",
        Kind::Duration,
        "10m0s",
        "How often a watcher without events is told the revision.",
    ),
    nothing(
        "experimental-downgrade-check-time",
        Kind::Duration,
        "5s",
        "How often a downgrade is looked for.",
        "no member runs another version",
    ),
    applied("experimental-memory-mlock", Kind::Bool, "false", "Keep the data in RAM."),
    applied("experimental-warning-apply-duration", Kind::Duration, "100ms", "A request that takes longer is logged."),
    nothing(
        "experimental-txn-mode-write-with-shared-buffer",
        Kind::Bool,
        "true",
        "Share a buffer between a transaction's reads and writes.",
        "transactions read the state itself",
    ),
    nothing(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Kind::Uint,
        "0",
        "Defragment at the start if it frees so much.",
        "there is nothing to defragment at the start",
    ),
    nothing(
        "experimental-stop-grpc-service-on-defrag",
        Kind::Bool,
        "false",
        "Stop serving while defragmenting.",
        "defragmenting does not hold requests up",
    ),
    applied(
        "experimental-snapshot-catchup-entries",
        Kind::Uint,
        "5000",
        "Entries kept for slow members after a snapshot.",
    ),
    applied(
        "experimental-lease-reads",
        Kind::Bool,
        "false",
        "The leader answers linearizable reads without asking the others, while they have promised to elect nobody else. \
         Trusts the members' clocks to run equally fast, within 5 percent. Not in etcd.",
    ),
];

pub(super) const UNSAFE: &[Flag] = &[
    applied(
        "force-new-cluster",
        Kind::Bool,
        "false",
        "Begin a cluster of this member alone with the data that is there.",
    ),
    applied("unsafe-no-fsync", Kind::Bool, "false", "Do not wait for the disk: a power failure loses data."),
];
