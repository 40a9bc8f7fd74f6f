//! Makes a [`Config`] of flags' values: derived defaults, and what belongs together.

use std::{net::IpAddr, time::Duration};

use telemetry::{Traces, zap::Level};

use crate::{
    config::{
        Auth, AutoCompaction, ClusterState, Config, CorruptionChecks, KeepAlive, Limits, Log, Raft, Rotation, Sockets,
        Tls, TlsVersions,
    },
    go,
    note::Note,
    url::Url,
    validate::{self, ConfigError},
    values::Values,
};

/// Reads and writes between members may not be cut off sooner.
const MIN_RAFT_TIMEOUT: Duration = Duration::from_secs(5);
const MIB: u64 = 1 << 20;

/// Reads the values; `validate` has been through them.
pub fn assemble(values: &Values, host: Option<IpAddr>, notes: &mut Vec<Note>) -> Result<Config, ConfigError> {
    let name = values.text("name").to_owned();
    let mut advertise_peer_urls = values.urls("initial-advertise-peer-urls");
    let mut advertise_client_urls = values.urls("advertise-client-urls");
    let listen_peer_urls = values.urls("listen-peer-urls");
    let listen_client_urls = values.urls("listen-client-urls");
    let advertised = [
        advertise_host(&mut advertise_peer_urls, &listen_peer_urls, "http://localhost:2380", host),
        advertise_host(&mut advertise_client_urls, &listen_client_urls, "http://localhost:2379", host),
    ];
    if let Some(host) = host.filter(|_| advertised.contains(&true)) {
        notes.push(Note::info("detected default host for advertise").with("host", host.to_string()));
    }
    // `--name` alone also names the member in the default cluster.
    let initial_cluster_text = match values.text("initial-cluster") {
        DEFAULT_CLUSTER if name != "default" => {
            let named = if name.is_empty() { "default" } else { &name };
            let pairs: Vec<String> =
                advertise_peer_urls.iter().map(|url| format!("{named}={}", url.as_str())).collect();
            pairs.join(",")
        }
        text => text.to_owned(),
    };
    let data_dir = match values.text("data-dir") {
        "" => {
            let default = format!("{name}.etcd");
            notes.push(Note::warn("'data-dir' was empty; using default").with("data-dir", default.clone()));
            default
        }
        given => given.to_owned(),
    };
    Ok(Config {
        data_dir: data_dir.into(),
        wal_dir: Some(values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(Into::into),
        listen_peer_urls,
        listen_client_urls,
        listen_client_http_urls: values.urls("listen-client-http-urls"),
        listen_metrics_urls: values.urls("listen-metrics-urls"),
        advertise_peer_urls,
        advertise_client_urls,
        initial_cluster_text,
        cluster_state: match values.text("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        cluster_token: values.text("initial-cluster-token").to_owned(),
        force_new_cluster: values.bool("force-new-cluster"),
        raft: raft(values, notes),
        limits: limits(values),
        auto_compaction: auto_compaction(values, notes)?,
        client_tls: client_tls(values),
        peer_tls: peer_tls(values),
        tls: TlsVersions {
            min: values.text("tls-min-version").to_owned(),
            max: values.text("tls-max-version").to_owned(),
            cipher_suites: values.list("cipher-suites"),
            self_signed_years: values.uint("self-signed-cert-validity"),
        },
        auth: Auth {
            token: values.text("auth-token").to_owned(),
            bcrypt_cost: values.uint("bcrypt-cost"),
            token_ttl: Duration::from_secs(values.uint("auth-token-ttl")),
        },
        corruption: CorruptionChecks {
            initial: values.bool("experimental-initial-corrupt-check"),
            interval: values.duration("experimental-corrupt-check-time"),
            compact_hash: values.bool("experimental-compact-hash-check-enabled"),
            compact_hash_interval: values.duration("experimental-compact-hash-check-time"),
        },
        keepalive: KeepAlive {
            min_time: values.duration("grpc-keepalive-min-time"),
            interval: values.duration("grpc-keepalive-interval"),
            timeout: values.duration("grpc-keepalive-timeout"),
        },
        sockets: Sockets {
            reuse_port: values.bool("socket-reuse-port"),
            reuse_address: values.bool("socket-reuse-address"),
        },
        metrics_extensive: values.text("metrics") == "extensive",
        grpc_gateway: values.bool("enable-grpc-gateway"),
        no_fsync: values.bool("unsafe-no-fsync"),
        mlock: values.bool("experimental-memory-mlock"),
        cors: values.list("cors"),
        host_whitelist: values.words("host-whitelist"),
        strict_reconfig_check: values.bool("strict-reconfig-check"),
        lease_checkpoint: values.bool("experimental-enable-lease-checkpoint"),
        watch_progress_interval: values.duration("experimental-watch-progress-notify-interval"),
        warning_apply_duration: values.duration("experimental-warning-apply-duration"),
        log: log(values)?,
        // It was found to be small.
        shards: u32::try_from(values.uint("shards")).unwrap_or(u32::MAX),
        shard_map: validate::shard_map(values)?,
        name,
    })
}

const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";

/// Who listens everywhere and says nothing else is reached at the machine's own address.
fn advertise_host(advertise: &mut [Url], listen: &[Url], default: &str, host: Option<IpAddr>) -> bool {
    let (Some(host), [url], Some(first)) = (host, advertise, listen.first()) else { return false };
    if url.as_str() != default || first.hostname() != "0.0.0.0" {
        return false;
    }
    let address = std::net::SocketAddr::new(host, 0).to_string();
    let host = address.trim_end_matches(":0");
    match Url::parse(&format!("http://{host}:{}", first.port())) {
        Ok(detected) => *url = detected,
        Err(_) => return false,
    }
    true
}

fn raft(values: &Values, notes: &mut Vec<Note>) -> Raft {
    let mut timeout = |flag: &str, name: &str| {
        let given = values.duration(flag);
        if given < MIN_RAFT_TIMEOUT {
            notes.push(Note::info(format!("{name} increased to minimum value: 5s")));
        }
        given.max(MIN_RAFT_TIMEOUT)
    };
    Raft {
        heartbeat_ms: values.uint("heartbeat-interval"),
        election_ms: values.uint("election-timeout"),
        initial_election_tick_advance: values.bool("initial-election-tick-advance"),
        pre_vote: values.bool("pre-vote"),
        lease_reads: values.bool("experimental-lease-reads"),
        snapshot_count: values.uint("snapshot-count"),
        snapshot_catchup_entries: values.uint("experimental-snapshot-catchup-entries"),
        read_timeout: timeout("raft-read-timeout", "raft-read-timeout"),
        write_timeout: timeout("raft-write-timeout", "raft-write-timeout"),
    }
}

fn limits(values: &Values) -> Limits {
    Limits {
        quota_bytes: values.int("quota-backend-bytes"),
        max_request_bytes: values.uint("max-request-bytes"),
        range_memory_bytes: values.uint("range-memory-bytes"),
        max_txn_ops: values.uint("max-txn-ops"),
        max_concurrent_streams: u32::try_from(values.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
    }
}

/// A bare number counts revisions or hours; anything else is a duration.
fn auto_compaction(values: &Values, notes: &mut Vec<Note>) -> Result<AutoCompaction, ConfigError> {
    let (mode, text) = (values.text("auto-compaction-mode"), values.text("auto-compaction-retention"));
    let text = if text.is_empty() { "0" } else { text };
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
    let nanoseconds = match number {
        None => go::parse_duration(text).map_err(|_| ConfigError::Retention(text.to_owned()))?,
        Some(number) if mode == "revision" => {
            return Ok(if number == 0 { AutoCompaction::Off } else { AutoCompaction::Revisions(number) });
        }
        Some(hours) => hours.saturating_mul(3_600_000_000_000),
    };
    match (mode, u64::try_from(nanoseconds).unwrap_or(0)) {
        (_, 0) => Ok(AutoCompaction::Off),
        // What counts revisions and is given a duration counts its nanoseconds.
        ("revision", nanoseconds) => Ok(AutoCompaction::Revisions(i64::try_from(nanoseconds).unwrap_or(i64::MAX))),
        ("", _) if number.is_some() => {
            notes.push(Note::warn("auto-compaction-retention has no effect without auto-compaction-mode"));
            Ok(AutoCompaction::Off)
        }
        ("", _) => Err(ConfigError::NoCompactionMode),
        (_, nanoseconds) => Ok(AutoCompaction::Period(Duration::from_nanos(nanoseconds))),
    }
}

fn client_tls(values: &Values) -> Tls {
    let text = |name: &str| values.text(name).to_owned();
    Tls {
        cert_file: text("cert-file"),
        key_file: text("key-file"),
        client_cert_file: text("client-cert-file"),
        client_key_file: text("client-key-file"),
        trusted_ca_file: text("trusted-ca-file"),
        client_cert_auth: values.bool("client-cert-auth"),
        crl_file: text("client-crl-file"),
        allowed_cns: Vec::new(),
        allowed_hostnames: values.list("client-cert-allowed-hostname"),
        auto_tls: values.bool("auto-tls"),
        skip_client_san_verify: true,
    }
}

fn peer_tls(values: &Values) -> Tls {
    let text = |name: &str| values.text(name).to_owned();
    Tls {
        cert_file: text("peer-cert-file"),
        key_file: text("peer-key-file"),
        client_cert_file: text("peer-client-cert-file"),
        client_key_file: text("peer-client-key-file"),
        trusted_ca_file: text("peer-trusted-ca-file"),
        client_cert_auth: values.bool("peer-client-cert-auth"),
        crl_file: text("peer-crl-file"),
        allowed_cns: values.list("peer-cert-allowed-cn"),
        allowed_hostnames: values.list("peer-cert-allowed-hostname"),
        auto_tls: values.bool("peer-auto-tls"),
        skip_client_san_verify: values.bool("experimental-peer-skip-client-san-verification"),
    }
}

/// Where the log goes and how much of it.
pub fn log(values: &Values) -> Result<Log, ConfigError> {
    match values.text("logger") {
        "zap" => {}
        "capnslog" => return Err(ConfigError::Capnslog),
        other => return Err(ConfigError::Logger(other.to_owned())),
    }
    let mut outputs = values.words("log-outputs");
    outputs.retain(|output| !output.is_empty());
    if outputs.is_empty() {
        outputs.push("default".to_owned());
    }
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        return Err(ConfigError::ManyOutputs);
    }
    let rotation = match values.bool("enable-log-rotation") {
        true => Some(rotation(&outputs, values.text("log-rotation-config-json"))?),
        false => None,
    };
    let level = values.text("log-level");
    let level = Level::parse(level).ok_or_else(|| ConfigError::Level(level.to_owned()))?;
    Ok(Log { outputs, level, console: values.text("log-format") == "console", rotation, traces: traces(values)? })
}

/// The collector is asked without TLS, as etcd asks it.
fn traces(values: &Values) -> Result<Option<Traces>, ConfigError> {
    if !values.bool("experimental-enable-distributed-tracing") {
        return Ok(None);
    }
    let text = |name: &str| values.text(name).to_owned();
    let rate = values.int("experimental-distributed-tracing-sampling-rate");
    let per_million = u32::try_from(rate).ok().filter(|rate| *rate <= 1_000_000);
    Ok(Some(Traces {
        endpoint: format!("http://{}", text("experimental-distributed-tracing-address")),
        service: text("experimental-distributed-tracing-service-name"),
        instance: Some(text("experimental-distributed-tracing-instance-id")).filter(|id| !id.is_empty()),
        per_million: per_million.ok_or(ConfigError::SamplingRate(rate))?,
    }))
}

fn rotation(outputs: &[String], json: &str) -> Result<Rotation, ConfigError> {
    let streams = ["default", "stderr", "stdout"];
    let files = outputs.iter().filter(|output| !streams.contains(&output.as_str())).count();
    if files > 1 || (outputs.len() == 1 && files == 0) {
        return Err(ConfigError::RotatedOutput);
    }
    let settings: serde_json::Value =
        serde_json::from_str(json).map_err(|error| ConfigError::RotationSyntax(error.to_string()))?;
    let number = |name: &str| settings[name].as_u64().unwrap_or(0);
    if number("maxage") > 0 || settings["compress"] == true || settings["localtime"] == true {
        return Err(ConfigError::RotationFeature);
    }
    let megabytes = match number("maxsize") {
        0 => 100,
        given => given,
    };
    Ok(Rotation { max_bytes: megabytes.saturating_mul(MIB), max_backups: number("maxbackups") })
}
