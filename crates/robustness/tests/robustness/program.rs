//! Which program is tested, and with what: from the environment, never by guessing on.
//!
//! ROBUSTNESS_PROGRAM  path and leading arguments, such as `target/debug/plinth store`; default: the real etcd
//! ROBUSTNESS_FLAGS    more flags for each member, in place of those that make snapshots frequent

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use test_support::tool;

/// Small logs, so that a member that was away for seconds needs a snapshot and not only the log; compactions in portions.
const FLAGS: &str =
    "--snapshot-count=200 --experimental-snapshot-catchup-entries=100 --experimental-compaction-batch-limit=100";

/// The program of each member, its leading arguments and its extra flags.
pub fn program() -> (PathBuf, Vec<String>) {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let chosen = std::env::var("ROBUSTNESS_PROGRAM").map(|text| words(&text)).unwrap_or_default();
    let flags = words(&std::env::var("ROBUSTNESS_FLAGS").unwrap_or_else(|_| FLAGS.to_owned()));
    match chosen.split_first() {
        Some((path, arguments)) => {
            let path = Path::new(path);
            // Cargo starts tests in their crate's folder; a person names the path from the repository's.
            let path = if path.is_relative() { root().join(path) } else { path.to_owned() };
            assert!(path.is_file(), "ROBUSTNESS_PROGRAM: there is no {}: build it first", path.display());
            (path, arguments.iter().cloned().chain(flags).collect())
        }
        None => (tool("etcd"), flags),
    }
}

/// Whether it is the real etcd, some of whose faults are known (see `Settings::stale_renewals_count` of the checker).
pub fn is_etcd() -> bool {
    std::env::var_os("ROBUSTNESS_PROGRAM").is_none()
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Fails at once, with what to do, when something that the faults need is not there.
pub fn require_tools() {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces and mounts: run them as root");
    for (name, package) in [("ip", "iproute2"), ("nft", "nftables"), ("setpriv", "util-linux")] {
        let found = Command::new(name).arg("--version").output();
        assert!(found.is_ok(), "{name} is missing: apt-get install {package} (tools/deps.sh build test does it)");
    }
    tool("etcdctl");
}
