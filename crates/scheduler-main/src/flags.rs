//! kube-scheduler's flags: names, kinds, defaults and groups of v1.36. What they are for is told in our own words.

/// What a flag's value is. The names are those that the help shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Int32,
    Int32Slice,
    Float32,
    Text,
    Texts,
    Duration,
    Ip,
    Level,
    VModule,
    Quantity,
    Map,
    CertKey,
    Gates,
    Version,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "",
            Kind::Int => "int",
            Kind::Int32 => "int32",
            Kind::Int32Slice => "int32Slice",
            Kind::Float32 => "float32",
            Kind::Text => "string",
            Kind::Texts => "strings",
            Kind::Duration => "duration",
            Kind::Ip => "ip",
            Kind::Level => "Level",
            Kind::VModule => "pattern=N,...",
            Kind::Quantity => "quantity",
            Kind::Map => "stringToString",
            Kind::CertKey => "namedCertKey",
            Kind::Gates => "colonSeparatedMultimapStringString",
            Kind::Version => "version[=true]",
        }
    }

    /// What the flag stands for when it has no value; `None`: it needs one.
    pub fn alone(self) -> Option<&'static str> {
        matches!(self, Kind::Bool | Kind::Version).then_some("true")
    }

    /// Whether a flag that is given twice has both values.
    pub fn adds_up(self) -> bool {
        matches!(self, Kind::Texts | Kind::Int32Slice | Kind::Map | Kind::CertKey | Kind::Gates)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
}

pub struct Group {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// The flag with this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags).find(|flag| flag.name == name)
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help }
}

/// In the order of the help.
pub const GROUPS: [Group; 10] = [
    Group { title: "Misc", flags: &MISC },
    Group { title: "Secure serving", flags: &SERVING },
    Group { title: "Authentication", flags: &AUTHENTICATION },
    Group { title: "Authorization", flags: &AUTHORIZATION },
    Group { title: "Deprecated", flags: &DEPRECATED },
    Group { title: "Leader election", flags: &ELECTION },
    Group { title: "Feature gate", flags: &GATES },
    Group { title: "Metrics", flags: &METRICS },
    Group { title: "Logs", flags: &LOGS },
    Group { title: "Global", flags: &GLOBAL },
];

const MISC: [Flag; 3] = [
    flag("config", Kind::Text, "", "File with a KubeSchedulerConfiguration, in YAML or JSON."),
    flag("master", Kind::Text, "", "Address of the API server; it wins over the kubeconfig's."),
    flag("write-config-to", Kind::Text, "", "Write the configuration that would be run with to this file, and exit."),
];

const SERVING: [Flag; 13] = [
    flag("bind-address", Kind::Ip, "0.0.0.0", "Address to listen on for --secure-port; 0.0.0.0 and :: stand for all."),
    flag(
        "cert-dir",
        Kind::Text,
        "",
        "Folder where a self-signed certificate is kept; empty: it is made anew at each start and kept in memory.",
    ),
    flag("disable-http2-serving", Kind::Bool, "false", "Serve HTTP/1.1 only."),
    flag(
        "http2-max-streams-per-connection",
        Kind::Int,
        "0",
        "Requests that a client may have open on one HTTP/2 connection; 0: 250.",
    ),
    flag("permit-address-sharing", Kind::Bool, "false", "Listen with SO_REUSEADDR."),
    flag(
        "permit-port-sharing",
        Kind::Bool,
        "false",
        "Listen with SO_REUSEPORT, so that several processes can share the port.",
    ),
    flag("secure-port", Kind::Int, "10259", "Port for HTTPS; 0: serve nothing."),
    flag(
        "tls-cert-file",
        Kind::Text,
        "",
        "Certificate for HTTPS, followed by those of its authorities. Without it a self-signed one is made.",
    ),
    flag(
        "tls-cipher-suites",
        Kind::Texts,
        "",
        "Cipher suites to offer, by Go's names. Those of TLS 1.3 cannot be chosen.",
    ),
    flag(
        "tls-curve-preferences",
        Kind::Int32Slice,
        "",
        "Key exchanges to offer, by Go's CurveID: 23 (P256), 24 (P384), 29 (X25519).",
    ),
    flag(
        "tls-min-version",
        Kind::Text,
        "",
        "Oldest version of TLS: VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13.",
    ),
    flag("tls-private-key-file", Kind::Text, "", "Key of --tls-cert-file."),
    flag(
        "tls-sni-cert-key",
        Kind::CertKey,
        "",
        "Certificate and key for certain names: cert.pem,key.pem or cert.pem,key.pem:name,*.domain. Can be given several times.",
    ),
];

const AUTHENTICATION: [Flag; 11] = [
    flag(
        "authentication-kubeconfig",
        Kind::Text,
        "",
        "Kubeconfig for asking whose a token is (tokenreviews.authentication.k8s.io). Without it, who presents a token is anonymous.",
    ),
    flag(
        "authentication-skip-lookup",
        Kind::Bool,
        "false",
        "Do not look for authorities of clients' certificates in the cluster.",
    ),
    flag("authentication-token-webhook-cache-ttl", Kind::Duration, "10s", "How long an answer about a token is good."),
    flag(
        "authentication-tolerate-lookup-failure",
        Kind::Bool,
        "true",
        "Go on when the authorities cannot be looked up.",
    ),
    flag(
        "client-ca-file",
        Kind::Text,
        "",
        "Authorities of clients' certificates; a client is who its certificate says.",
    ),
    flag(
        "requestheader-allowed-names",
        Kind::Texts,
        "",
        "Names of the proxies that may say who a request is of; empty: every one with a certificate of --requestheader-client-ca-file.",
    ),
    flag("requestheader-client-ca-file", Kind::Text, "", "Authorities of the certificates of such proxies."),
    flag(
        "requestheader-extra-headers-prefix",
        Kind::Texts,
        "x-remote-extra-",
        "Prefixes of the headers in which a proxy gives more of a user.",
    ),
    flag(
        "requestheader-group-headers",
        Kind::Texts,
        "x-remote-group",
        "Headers in which a proxy gives a user's groups.",
    ),
    flag("requestheader-uid-headers", Kind::Texts, "", "Headers in which a proxy gives a user's UID."),
    flag(
        "requestheader-username-headers",
        Kind::Texts,
        "x-remote-user",
        "Headers in which a proxy gives a user's name.",
    ),
];

const AUTHORIZATION: [Flag; 4] = [
    flag(
        "authorization-always-allow-paths",
        Kind::Texts,
        "/healthz,/readyz,/livez",
        "Paths that everyone may get; a * at the end stands for anything.",
    ),
    flag(
        "authorization-kubeconfig",
        Kind::Text,
        "",
        "Kubeconfig for asking what a user may do (subjectaccessreviews.authorization.k8s.io). Without it, what is not allowed always is forbidden.",
    ),
    flag("authorization-webhook-cache-authorized-ttl", Kind::Duration, "10s", "How long a permission is good."),
    flag("authorization-webhook-cache-unauthorized-ttl", Kind::Duration, "10s", "How long a refusal is good."),
];

const DEPRECATED: [Flag; 7] = [
    flag(
        "contention-profiling",
        Kind::Bool,
        "true",
        "DEPRECATED: accepted, without effect here. Ignored with --config.",
    ),
    flag(
        "kube-api-burst",
        Kind::Int32,
        "100",
        "DEPRECATED: accepted; requests to the API server are not throttled here. Ignored with --config.",
    ),
    flag(
        "kube-api-content-type",
        Kind::Text,
        "application/vnd.kubernetes.protobuf",
        "DEPRECATED: accepted; requests are made in JSON here. Ignored with --config.",
    ),
    flag(
        "kube-api-qps",
        Kind::Float32,
        "50",
        "DEPRECATED: accepted; requests to the API server are not throttled here. Ignored with --config.",
    ),
    flag(
        "kubeconfig",
        Kind::Text,
        "",
        "DEPRECATED: how to reach the API server. Ignored with --config, which names one itself.",
    ),
    flag(
        "pod-max-in-unschedulable-pods-duration",
        Kind::Duration,
        "5m0s",
        "DEPRECATED: how long a pod that fits nowhere waits for an event before it is tried again all the same.",
    ),
    flag("profiling", Kind::Bool, "true", "DEPRECATED: accepted, without effect here. Ignored with --config."),
];

const ELECTION: [Flag; 7] = [
    flag("leader-elect", Kind::Bool, "true", "Schedule only while this one leads among those that share the lease."),
    flag(
        "leader-elect-lease-duration",
        Kind::Duration,
        "15s",
        "How long others wait for a leader that no longer renews its lease.",
    ),
    flag(
        "leader-elect-renew-deadline",
        Kind::Duration,
        "10s",
        "How long a leader tries to renew before it stops leading. Shorter than the lease's duration.",
    ),
    flag("leader-elect-resource-lock", Kind::Text, "leases", "Kind of the object that is the lock: leases."),
    flag("leader-elect-resource-name", Kind::Text, "kube-scheduler", "Name of the lease."),
    flag("leader-elect-resource-namespace", Kind::Text, "kube-system", "Namespace of the lease."),
    flag("leader-elect-retry-period", Kind::Duration, "2s", "Pause between two attempts to get or renew the lease."),
];

const GATES: [Flag; 3] = [
    flag(
        "emulated-version",
        Kind::Texts,
        "",
        "Version of Kubernetes to behave as: kube=1.36, which is the only one here.",
    ),
    flag(
        "feature-gates",
        Kind::Gates,
        "",
        "Features to turn on and off, as Name=true|false, several with commas between them. Can be given several times. There are:",
    ),
    flag(
        "min-compatibility-version",
        Kind::Texts,
        "",
        "Oldest version in the control plane: kube=1.33 to kube=1.36. Without effect here.",
    ),
];

const METRICS: [Flag; 4] = [
    flag(
        "allow-metric-labels",
        Kind::Map,
        "",
        "Accepted, without effect here: no label takes its values from outside.",
    ),
    flag("allow-metric-labels-manifest", Kind::Text, "", "Accepted, without effect here."),
    flag("disabled-metrics", Kind::Texts, "", "Accepted, without effect here."),
    flag(
        "show-hidden-metrics-for-version",
        Kind::Text,
        "",
        "Show metrics that this version hides: only the previous minor version is meaningful. No metric is hidden here.",
    ),
];

const LOGS: [Flag; 8] = [
    flag("log-flush-frequency", Kind::Duration, "5s", "Accepted, without effect here: no line waits."),
    flag("log-json-info-buffer-size", Kind::Quantity, "0", "Accepted with 0 only: no line waits."),
    flag(
        "log-json-split-stream",
        Kind::Bool,
        "false",
        "Needs the feature LoggingAlphaOptions, and has no effect here.",
    ),
    flag("log-text-info-buffer-size", Kind::Quantity, "0", "Accepted with 0 only: no line waits."),
    flag(
        "log-text-split-stream",
        Kind::Bool,
        "false",
        "Needs the feature LoggingAlphaOptions, and has no effect here.",
    ),
    flag("logging-format", Kind::Text, "text", "Format of the log: text or json."),
    flag("v", Kind::Level, "0", "How much is logged: from 4 on debug lines, from 6 on every detail."),
    flag(
        "vmodule",
        Kind::VModule,
        "",
        "How much is logged by files that match a pattern; accepted, without effect here.",
    ),
];

const GLOBAL: [Flag; 2] = [
    flag("help", Kind::Bool, "false", "Show this."),
    flag("version", Kind::Version, "false", "Show the version, or with --version=raw all of it, and exit."),
];
