//! What is refused of flags' values, in etcd's order and words.

use store_api::Shard;

use crate::{
    flags::{self, Effect},
    go,
    note::Note,
    tls::suites,
    url::{self, Url},
    values::Values,
};

/// Election timeouts from here on are refused, in milliseconds.
const MAX_ELECTION_MS: u64 = 50_000;

/// Why a configuration is none. All but the last variants are etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("'{0}' is not a valid flag")]
    NotAFlag(String),
    #[error("open {path}: {reason}")]
    File { path: String, reason: String },
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    #[error(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go struct field \
         configYAML.Config.{key} of type {wanted}"
    )]
    YamlType { key: String, found: &'static str, wanted: &'static str },
    #[error("invalid value {value:?} for {variable}: {reason}")]
    Environment { variable: String, value: String, reason: String },
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    #[error("unknown logger option {0:?}")]
    Logger(String),
    #[error("unrecognized level: {0:?}")]
    Level(String),
    #[error("multi logoutput for \"default\" is not supported yet")]
    ManyOutputs,
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotatedOutput,
    #[error("improperly formatted log rotation config: {0}")]
    RotationSyntax(String),
    #[error("{0}")]
    Address(String),
    #[error("expected IP in URL for binding ({0})")]
    NotAnIp(String),
    #[error("--{flag} {urls:?} must be \"host:port\" ({reason})")]
    Advertised { flag: &'static str, urls: String, reason: String },
    #[error("unexpected clusterState {0:?}")]
    ClusterState(String),
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\" or \
         \"discovery-srv\""
    )]
    Conflict,
    #[error("--{flag} must be >0 (set to {value})")]
    NotPositive { flag: &'static str, value: String },
    #[error("--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")]
    ElectionTooShort { election: u64, heartbeat: u64 },
    #[error("--election-timeout[{0}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms")]
    ElectionTooLong(u64),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    UnsetAdvertiseClientUrls,
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    #[error("setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint")]
    LeaseCheckpoint,
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions { min: String, max: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesWithoutTls12,
    #[error("error parsing CompactionRetention: time: invalid duration {0:?}")]
    Retention(String),
    #[error("unsupported compaction mode ")]
    NoCompactionMode,
    #[error("unexpected TLS cipher suite {0:?}")]
    Suite(String),
    #[error("log rotation knows maxsize and maxbackups; maxage, localtime and compress are not supported")]
    RotationFeature,
    #[error("--shards must be between 1 and {max} (set to {given})")]
    Shards { given: u64, max: u64 },
    #[error("--shard-map must be prefix=group[,prefix=group], with groups from 0 to {last}: {part:?}")]
    ShardMap { part: String, last: u64 },
    #[error("--bcrypt-cost must be between 4 and 31 (set to {0})")]
    BcryptCost(u64),
    #[error("tracing sampling rate must be between 0 and 1000000 (set to {0})")]
    SamplingRate(i64),
    #[error("--{flag}={value} is not supported: {why}")]
    Refused { flag: &'static str, value: String, why: &'static str },
}

impl ConfigError {
    /// Told only when everything else was read, as the reason why the member does not start.
    pub fn is_late(&self) -> bool {
        matches!(self, ConfigError::Retention(_) | ConfigError::NoCompactionMode | ConfigError::Suite(_))
    }
}

/// Groups that keys can be spread over.
pub const MAX_SHARDS: u64 = 64;

/// Checks values one by one and against each other.
pub fn validate(values: &Values, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
    crate::assemble::log(values)?;
    for flag in ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls"] {
        check_bound(&values.urls(flag))?;
    }
    if values.urls("listen-client-http-urls").is_empty() {
        notes.push(Note::warn("Running http and grpc server on single port. This is not recommended for production."));
    }
    check_bound(&values.urls("listen-metrics-urls"))?;
    for flag in ["initial-advertise-peer-urls", "advertise-client-urls"] {
        check_advertised(flag, values)?;
    }
    check_bootstrap(values)?;
    check_raft(values)?;
    if values.is_set("listen-client-urls") && !values.is_set("advertise-client-urls") {
        return Err(ConfigError::UnsetAdvertiseClientUrls);
    }
    match values.text("auto-compaction-mode") {
        "" | "periodic" | "revision" => {}
        other => return Err(ConfigError::CompactionMode(other.to_owned())),
    }
    check_experimental(values)?;
    check_tls(values)?;
    check_own(values)?;
    check_effects(values, notes)
}

/// A listener has an address, not a name.
fn check_bound(urls: &[Url]) -> Result<(), ConfigError> {
    for url in urls.iter().filter(|url| !url.scheme.is_unix()) {
        let (host, _) = url::split_host_port(&url.host).map_err(ConfigError::Address)?;
        if host != "localhost" && host.parse::<std::net::IpAddr>().is_err() {
            return Err(ConfigError::NotAnIp(url.as_str().to_owned()));
        }
    }
    Ok(())
}

fn check_advertised(flag: &'static str, values: &Values) -> Result<(), ConfigError> {
    let urls = values.urls(flag);
    let failed = |reason: String| ConfigError::Advertised { flag, urls: url::joined(&urls), reason };
    for url in &urls {
        let (host, _) = url::split_host_port(&url.host).map_err(failed)?;
        if host.is_empty() {
            return Err(failed(format!("unexpected empty host ({})", url.as_str())));
        }
    }
    Ok(())
}

/// One way to find the other members, not several.
fn check_bootstrap(values: &Values) -> Result<(), ConfigError> {
    let discovery = ["discovery", "discovery-srv", "discovery-srv-name"];
    let discovers = discovery.iter().any(|flag| !values.text(flag).is_empty());
    // The default cluster does not count where members are discovered.
    let cluster = !values.text("initial-cluster").is_empty() && (values.is_set("initial-cluster") || !discovers);
    let ways = [cluster, !values.text("discovery").is_empty(), !values.text("discovery-srv").is_empty()];
    match values.text("initial-cluster-state") {
        "new" | "existing" => {}
        other => return Err(ConfigError::ClusterState(other.to_owned())),
    }
    if ways.into_iter().filter(|way| *way).count() > 1 { Err(ConfigError::Conflict) } else { Ok(()) }
}

fn check_raft(values: &Values) -> Result<(), ConfigError> {
    let (heartbeat, election) = (values.uint("heartbeat-interval"), values.uint("election-timeout"));
    let not_positive = |flag: &'static str| ConfigError::NotPositive { flag, value: "0ms".to_owned() };
    if heartbeat == 0 {
        return Err(not_positive("heartbeat-interval"));
    }
    if election == 0 {
        return Err(not_positive("election-timeout"));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(ConfigError::ElectionTooShort { election, heartbeat });
    }
    if election > MAX_ELECTION_MS {
        return Err(ConfigError::ElectionTooLong(election));
    }
    Ok(())
}

fn check_experimental(values: &Values) -> Result<(), ConfigError> {
    let persist = values.bool("experimental-enable-lease-checkpoint-persist");
    if persist && !values.bool("experimental-enable-lease-checkpoint") {
        return Err(ConfigError::LeaseCheckpoint);
    }
    let flag = "experimental-compact-hash-check-time";
    match values.nanoseconds(flag) {
        1.. => Ok(()),
        0 => Err(ConfigError::NotPositive { flag, value: "0s".to_owned() }),
        negative => {
            let printed = go::format_duration(std::time::Duration::from_nanos(negative.unsigned_abs()));
            Err(ConfigError::NotPositive { flag, value: format!("-{printed}") })
        }
    }
}

fn check_tls(values: &Values) -> Result<(), ConfigError> {
    let (min, max) = (values.text("tls-min-version"), values.text("tls-max-version"));
    for version in [min, max] {
        if !["", "TLS1.2", "TLS1.3"].contains(&version) {
            return Err(ConfigError::TlsVersion(version.to_owned()));
        }
    }
    if !max.is_empty() && min > max {
        return Err(ConfigError::TlsVersions { min: min.to_owned(), max: max.to_owned() });
    }
    let chosen = values.list("cipher-suites");
    if min == "TLS1.3" && !chosen.is_empty() {
        return Err(ConfigError::SuitesWithoutTls12);
    }
    match chosen.into_iter().find(|name| !suites::is_known(name)) {
        Some(name) => Err(ConfigError::Suite(name)),
        None => Ok(()),
    }
}

/// The shards that are not group 0's.
pub fn shard_map(values: &Values) -> Result<Vec<Shard>, ConfigError> {
    let last = values.uint("shards").saturating_sub(1);
    let read = |part: &str| part.parse().ok().filter(|shard: &Shard| u64::from(shard.group) <= last);
    let parts = values.text("shard-map").split(',').filter(|part| !part.is_empty());
    parts.map(|part| read(part).ok_or_else(|| ConfigError::ShardMap { part: part.to_owned(), last })).collect()
}

fn check_own(values: &Values) -> Result<(), ConfigError> {
    match values.uint("shards") {
        given if !(1..=MAX_SHARDS).contains(&given) => return Err(ConfigError::Shards { given, max: MAX_SHARDS }),
        _ => {}
    }
    shard_map(values)?;
    match values.uint("bcrypt-cost") {
        cost if !(4..=31).contains(&cost) => Err(ConfigError::BcryptCost(cost)),
        _ => Ok(()),
    }
}

/// Flags that would lie are refused; those without effect are told.
fn check_effects(values: &Values, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
    for flag in values.names().filter_map(flags::find) {
        let value = values.text(flag.name);
        match flag.effect {
            Effect::Applied => {}
            Effect::Refused(_) if value == flag.default || value.is_empty() => {}
            Effect::Refused(why) => {
                return Err(ConfigError::Refused { flag: flag.name, value: value.to_owned(), why });
            }
            Effect::Nothing(_) if value == flag.default => {}
            Effect::Nothing(why) => {
                let note = Note::warn("flag has no effect").with("flag-name", flag.name).with("reason", why);
                notes.push(note);
            }
        }
    }
    Ok(())
}
