//! Flags of the groups Clustering and v2 Proxy.

use super::{Flag, Kind, applied, nothing, refused};

const NO_V2: &str = "the v2 API is not served";
const NO_DISCOVERY: &str = "there is no discovery service; name the members with --initial-cluster";
const NO_PROXY: &str = "there is no v2 proxy";

pub(super) const CLUSTERING: &[Flag] = &[
    applied(
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "The peer URLs that other members are told.",
    ),
    applied("initial-cluster", Kind::Text, "default=http://localhost:2380", "The first members, as name=URL pairs."),
    applied(
        "initial-cluster-state",
        Kind::Choice(&["new", "existing"]),
        "new",
        "Whether the cluster begins now or takes this member in.",
    ),
    applied("initial-cluster-token", Kind::Text, "etcd-cluster", "Tells clusters with the same members apart."),
    applied("advertise-client-urls", Kind::Urls, "http://localhost:2379", "The client URLs that clients are told."),
    refused("discovery", Kind::Text, "", "A discovery service's URL.", NO_DISCOVERY),
    nothing(
        "discovery-fallback",
        Kind::Choice(&["proxy", "exit"]),
        "proxy",
        "What to do when discovery fails.",
        NO_DISCOVERY,
    ),
    nothing("discovery-proxy", Kind::Text, "", "A proxy on the way to the discovery service.", NO_DISCOVERY),
    refused("discovery-srv", Kind::Text, "", "A domain whose SRV records name the members.", NO_DISCOVERY),
    refused("discovery-srv-name", Kind::Text, "", "A suffix for those records' names.", NO_DISCOVERY),
    applied(
        "strict-reconfig-check",
        Kind::Bool,
        "true",
        "Refuse changes of the membership that would lose the quorum.",
    ),
    applied("pre-vote", Kind::Bool, "true", "Ask before standing for election."),
    applied("auto-compaction-retention", Kind::Text, "0", "How much history is kept; 0 keeps all."),
    applied(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "What that counts: periodic (a duration, or hours) or revision.",
    ),
    nothing("enable-v2", Kind::Bool, "false", "Serve the v2 API.", NO_V2),
    nothing(
        "v2-deprecation",
        Kind::Choices(&["not-yet", "write-only", "write-only-drop-data", "gone"]),
        "",
        "Phase of the v2 store's end.",
        NO_V2,
    ),
];

pub(super) const PROXY: &[Flag] = &[
    refused("proxy", Kind::Choice(&["off", "readonly", "on"]), "off", "Be a proxy and no member.", NO_PROXY),
    nothing("proxy-failure-wait", Kind::Uint, "5000", "Milliseconds that an endpoint counts as failed.", NO_PROXY),
    nothing("proxy-refresh-interval", Kind::Uint, "30000", "Milliseconds between looks at the endpoints.", NO_PROXY),
    nothing("proxy-dial-timeout", Kind::Uint, "1000", "Milliseconds for a connection.", NO_PROXY),
    nothing("proxy-write-timeout", Kind::Uint, "5000", "Milliseconds for a write.", NO_PROXY),
    nothing("proxy-read-timeout", Kind::Uint, "0", "Milliseconds for a read.", NO_PROXY),
];
