//! What is refused: the same exit code and the same first words as a real etcd's, argument for argument.

use std::{net::TcpListener, path::Path};

use serde_json::Value;
use test_support::{Ran, run, tool};

use crate::member::{BINARY, Place, clean, write};

/// The words that a person reads: the first line, or the error of the last line that has one.
fn told(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let mut errors = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(|line| {
        let serious = matches!(line["level"].as_str(), Some("warn" | "error" | "fatal"));
        serious.then(|| {
            format!("{}: {}", line["msg"].as_str().unwrap_or_default(), line["error"].as_str().unwrap_or_default())
        })
    });
    let first = lines.first().map(|line| (*line).to_owned()).unwrap_or_default();
    if first.starts_with('{') { errors.next_back().unwrap_or_default() } else { first }
}

fn ran(program: &Path, place: &Place, line: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = clean(program);
    let line = line.replace("{dir}", &place.folder.path().display().to_string());
    command.args(line.split(' ').filter(|word| !word.is_empty())).envs(environment.iter().copied());
    // Each in a folder of its own: what one leaves in its data folder, the other refuses.
    let folder = place.path(&format!("of-{}", program.file_name().unwrap().display()));
    std::fs::create_dir_all(&folder).unwrap();
    command.current_dir(folder);
    let ran = run(&mut command, None, 20);
    (ran.code, told(&ran))
}

/// The same arguments for both programs; ours in its first words too, so that the test says something without etcd.
fn check(place: &Place, line: &str, environment: &[(&str, &str)], code: i32, words: &str) {
    let (ours, said) = ran(Path::new(BINARY), place, line, environment);
    assert_eq!(ours, Some(code), "{line}: {said}");
    assert!(said.contains(words), "{line}: {said:?}, expected {words:?}");
    let theirs = ran(&tool("etcd"), place, line, environment);
    assert_eq!((ours, said), theirs, "{line}");
}

#[test]
fn bad_command_lines() {
    let place = Place::new();
    for (line, words) in [
        ("--foo", "flag provided but not defined: -foo"),
        ("-foo=1", "flag provided but not defined: -foo"),
        ("--name", "flag needs an argument: -name"),
        ("---name x", "bad flag syntax: ---name"),
        ("--=x", "bad flag syntax: --=x"),
        ("--enable-v2=maybe", "invalid boolean value \"maybe\" for -enable-v2: parse error"),
        ("--pre-vote=", "invalid boolean value \"\" for -pre-vote: parse error"),
        ("--heartbeat-interval x", "invalid value \"x\" for flag -heartbeat-interval: parse error"),
        ("--heartbeat-interval -1", "parse error"),
        ("--quota-backend-bytes 99999999999999999999", "value out of range"),
        ("--max-concurrent-streams x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
        ("--max-concurrent-streams 4294967296", "strconv.ParseUint: parsing \"4294967296\": value out of range"),
        ("--grpc-keepalive-min-time 5", "parse error"),
        ("--listen-client-urls bad", "URL scheme must be http, https, unix, or unixs: bad"),
        ("--listen-client-urls localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
        ("--listen-client-urls 127.0.0.1:2379", "first path segment in URL cannot contain colon"),
        ("--listen-client-urls http://a:b", "invalid port \":b\" after host"),
        ("--listen-peer-urls http://127.0.0.1", "URL address does not have the form \"host:port\""),
        ("--listen-metrics-urls http://127.0.0.1:1/x", "URL must not contain a path: http://127.0.0.1:1/x"),
        ("--advertise-client-urls http://a:1,ftp://b:1", "URL scheme must be"),
        ("--initial-cluster-state foo", "invalid value \"foo\" for flag -initial-cluster-state: invalid value"),
        ("--v2-deprecation foo", "invalid value \"foo\""),
        ("--proxy foo", "invalid value"),
        ("--log-level foo", "panic: unrecognized level: \"foo\""),
    ] {
        check(&place, line, &[], 2, words);
    }
}

#[test]
fn flags_that_do_not_fit() {
    let place = Place::new();
    for (line, words) in [
        ("stray", "failed to verify flags: 'stray' is not a valid flag"),
        ("--name x -- y", "'y' is not a valid flag"),
        (
            "--listen-client-urls http://foo:1 --advertise-client-urls http://a:1",
            "expected IP in URL for binding (http://foo:1)",
        ),
        ("--listen-peer-urls http://example.com:2380", "expected IP in URL for binding"),
        ("--listen-client-urls http://127.0.0.1:1", "--advertise-client-urls is required when --listen-client-urls"),
        (
            "--advertise-client-urls unix:///x",
            "--advertise-client-urls \"unix:///x\" must be \"host:port\" (missing port in address)",
        ),
        ("--initial-advertise-peer-urls http://:2380", "unexpected empty host (http://:2380)"),
        ("--discovery http://x --initial-cluster a=http://b:1", "multiple discovery or bootstrap flags are set."),
        ("--discovery http://x --discovery-srv y", "multiple discovery or bootstrap flags are set."),
        ("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"),
        ("--election-timeout 0", "--election-timeout must be >0 (set to 0ms)"),
        ("--election-timeout 400", "should be at least as 5 times as --heartbeat-interval[100ms]"),
        ("--election-timeout 50001", "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        ("--auto-compaction-mode foo", "unknown auto-compaction-mode \"foo\""),
        ("--experimental-enable-lease-checkpoint-persist", "requires experimental-enable-lease-checkpoint"),
        ("--experimental-compact-hash-check-time 0s", "must be >0 (set to 0s)"),
        ("--experimental-compact-hash-check-time=-90s", "must be >0 (set to -1m30s)"),
        ("--tls-min-version foo", "unexpected TLS version \"foo\""),
        (
            "--tls-min-version TLS1.3 --tls-max-version TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version TLS1.3 --cipher-suites x",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        ("--logger capnslog", "--logger=capnslog is removed in v3.5"),
        ("--logger foo", "unknown logger option \"foo\""),
        ("--log-outputs default,stderr", "multi logoutput for \"default\" is not supported yet"),
        ("--enable-log-rotation", "--log-outputs requires a single file path when --log-rotate-config-json is defined"),
        ("--log-outputs {dir}/none/log", "open sink"),
        ("--config-file {dir}/none", "no such file or directory"),
    ] {
        check(&place, line, &[], 1, words);
    }
}

#[test]
fn members_that_cannot_begin() {
    let place = Place::new();
    let own = format!("--listen-peer-urls http://127.0.0.1:{}", place.peer);
    let both = format!(
        "{own} {}",
        format_args!(
            "--listen-client-urls http://127.0.0.1:{0} --advertise-client-urls http://127.0.0.1:{0}",
            place.client
        )
    );
    for (line, words) in [
        (
            "--initial-cluster x=http://localhost:2380",
            "discovery failed: couldn't find local name \"default\" in the initial cluster configuration",
        ),
        ("--name y --initial-cluster x=http://localhost:2380", "couldn't find local name \"y\""),
        ("--initial-cluster default=bad", "error setting up initial cluster: URL scheme must be"),
        ("--initial-cluster default=http://localhost:2380,b=http://localhost:2380", "has duplicate url"),
        (
            "--initial-advertise-peer-urls http://127.0.0.9:1 --initial-cluster default=http://localhost:2380,default=http://127.0.0.9:1",
            "(len([\"http://127.0.0.9:1\"]) != len([\"http://127.0.0.9:1\" \"http://localhost:2380\"]))",
        ),
        (
            "--initial-cluster default=http://127.0.0.9:1",
            "(resolved urls: \"http://localhost:2380\" != \"http://127.0.0.9:1\")",
        ),
        ("--auto-compaction-retention foo", "error parsing CompactionRetention: time: invalid duration \"foo\""),
        ("--cipher-suites foo", "unexpected TLS cipher suite \"foo\""),
    ] {
        check(&place, &format!("{both} {line}"), &[], 1, words);
    }
    let https = both
        .replace("http://127.0.0.1:", "https://127.0.0.1:")
        .replace("--listen-peer-urls https", "--listen-peer-urls http");
    check(
        &place,
        &https,
        &[],
        1,
        "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:",
    );
    let taken = TcpListener::bind(("127.0.0.1", place.client)).unwrap();
    check(&place, &both, &[], 1, "bind: address already in use");
    drop(taken);
    let file = write(&place, "file", "");
    check(&place, &format!("{both} --data-dir {file}"), &[], 1, "failed to list data directory: ");
}

#[test]
fn variables_and_files() {
    let place = Place::new();
    check(
        &place,
        "",
        &[("ETCD_HEARTBEAT_INTERVAL", "x")],
        1,
        "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error",
    );
    check(&place, "--name y", &[("ETCD_NAME", "x")], 1, "conflicting environment variable is shadowed by");
    check(&place, "--version --name", &[], 2, "flag needs an argument: -name");
    for (text, code, words) in [
        (
            "max-txn-ops: abc\n",
            1,
            "cannot unmarshal string into Go struct field configYAML.Config.max-txn-ops of type uint",
        ),
        ("log-outputs: stderr\n", 1, "configYAML.Config.log-outputs of type []string"),
        ("listen-client-urls: foo\n", 1, "unexpected error setting up listen-client-urls: URL scheme must be"),
        ("initial-cluster-state: foo\n", 1, "unexpected clusterState \"foo\""),
        ("heartbeat-interval: 0\n", 1, "--heartbeat-interval must be >0 (set to 0ms)"),
        ("listen-peer-urls: http://foo:1\n", 1, "expected IP in URL for binding (http://foo:1)"),
    ] {
        let file = write(&place, "etcd.yml", text);
        check(&place, &format!("--config-file {file}"), &[], code, words);
        check(&place, "", &[("ETCD_CONFIG_FILE", &file)], code, words);
    }
}

#[test]
fn what_this_store_cannot_do_is_refused() {
    let place = Place::new();
    for (line, words) in [
        ("--discovery http://x:1", "--discovery=http://x:1 is not supported: "),
        ("--discovery-srv example.com", "--discovery-srv=example.com is not supported: "),
        ("--proxy on", "--proxy=on is not supported: "),
        (
            "--experimental-enable-distributed-tracing --experimental-distributed-tracing-sampling-rate -1",
            "tracing sampling rate must be between",
        ),
        ("--shards 0", "--shards must be between 1 and 64 (set to 0)"),
        ("--shards 2 --shard-map /a/=2", "with groups from 0 to 1: \"/a/=2\""),
        ("--shard-map /a/", "--shard-map must be prefix=group[,prefix=group]"),
        ("--bcrypt-cost 3", "--bcrypt-cost must be between 4 and 31 (set to 3)"),
        ("gateway start", "gateway is not part of this store"),
        ("grpc-proxy start", "grpc-proxy is not part of this store"),
        ("import", "import takes one of --from-snapshot"),
        ("export", "0 arguments where 1 are expected"),
    ] {
        let (code, said) = ran(Path::new(BINARY), &place, line, &[]);
        assert_eq!(code, Some(1), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
}
