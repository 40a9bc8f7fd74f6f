//! The names of figures, beside those of a real etcd: dashboards and alerts ask for them.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use test_support::{run, tool};

use crate::{
    member::BINARY,
    trio::{Places, Trio},
};

/// What a real etcd has and this store does not, and why.
const WITHOUT_MEANING: [(&str, &str); 22] = [
    ("go_", "there is no Go runtime"),
    ("etcd_server_go_version", "there is no Go runtime"),
    ("promhttp_", "of the library that serves etcd's figures"),
    ("etcd_grpc_proxy_", "of another program"),
    ("etcd_debugging_store_", "of the v2 API"),
    ("etcd_debugging_disk_backend_commit_", "parts of a commit to bbolt"),
    ("etcd_disk_backend_snapshot_duration_seconds", "a backup is made as it is read: it ends when its reader does"),
    ("etcd_disk_wal_write_duration_seconds", "written and synced in one: etcd_disk_wal_fsync_duration_seconds"),
    ("etcd_mvcc_db_open_read_transactions", "readers open no transactions"),
    ("etcd_mvcc_hash_duration_seconds", "Hash is HashKV"),
    ("etcd_debugging_mvcc_db_compaction_keys_total", "versions are freed portion by portion and not counted"),
    (
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "it goes on between writes, at no cost of its own",
    ),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "there is no second index"),
    ("etcd_debugging_mvcc_pending_events_total", "a watcher's events wait in its own bounded buffer"),
    ("etcd_debugging_mvcc_slow_watcher_total", "slow watchers are cut off and begin anew from history"),
    ("etcd_debugging_mvcc_watch_stream_total", "watchers are counted, streams cost nothing"),
    ("etcd_debugging_snap_save_marshalling_duration_seconds", "snapshots are written as they are read"),
    ("etcd_snap_", "one file holds a snapshot: etcd_debugging_snap_save_total_duration_seconds"),
    ("etcd_server_apply_duration_seconds", "entries are applied in batches: etcd_disk_backend_commit_duration_seconds"),
    ("etcd_network_peer_round_trip_time_seconds", "messages between members have no answers of their own"),
    ("etcd_network_", "figures of etcd's streams and of probes over HTTP, beyond the bytes, peers and failures"),
    ("grpc_server_msg_", "messages within a stream are not counted, calls are"),
];

/// All of a member's figures.
fn page(trio: &Trio<'_>, n: usize) -> String {
    run(Command::new("curl").args(["-sSf", &format!("{}/metrics", trio.places.url(n))]), None, 20).expect_ok()
}

fn names(trio: &Trio<'_>) -> BTreeSet<String> {
    trio.ctl("put a 1", None).expect_ok();
    let text = [0, 1, 2].map(|n| page(trio, n)).join("\n");
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn dashboards_find_what_they_ask_for() {
    let places = Places::new();
    let [theirs, ours] = [(tool("etcd"), "etcd"), (PathBuf::from(BINARY), "ours")].map(|(program, folder)| {
        let trio = Trio::start(&places, &program, folder, &[]);
        trio.leader();
        names(&trio)
    });
    let known = |name: &str| WITHOUT_MEANING.iter().any(|(start, _)| name.starts_with(start));
    let missing: Vec<_> = theirs.difference(&ours).filter(|name| !known(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for needed in [
        "etcd_network_peer_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
        "etcd_network_active_peers",
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
    ] {
        assert!(ours.contains(needed), "{needed}");
    }
}

/// One of three leads, and none is a learner.
#[test]
fn one_member_says_that_it_leads() {
    let places = Places::new();
    let trio = Trio::start(&places, &PathBuf::from(BINARY), "ours", &[]);
    let leader = trio.leader();
    for n in 0..3 {
        let text = page(&trio, n);
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
            line.unwrap_or_else(|| panic!("{name} in {text}"))
        };
        assert_eq!(figure("etcd_server_has_leader"), "1");
        assert_eq!(figure("etcd_server_is_leader"), if n == leader { "1" } else { "0" });
        assert_eq!(figure("etcd_server_is_learner"), "0");
    }
}
