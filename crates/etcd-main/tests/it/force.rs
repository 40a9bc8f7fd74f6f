//! The day on which most members are lost for good: one goes on alone with what it has (`--force-new-cluster`), and
//! others join it.

use std::path::{Path, PathBuf};

use test_support::{run, tool, until};

use crate::{
    member::{BINARY, Member, SOON, clean},
    trio::{NAMES, Places, Trio},
};

const KEYS: usize = 200;

fn value(trio: &Trio<'_>, line: &str) -> String {
    trio.ctl(line, None).expect_ok()
}

/// Ends all three, forces the one of that number, and gives what it serves: its members and its keys.
fn check(program: &Path, folder: &str, survivor: usize) {
    let places = Places::new();
    let mut trio = Trio::start(&places, program, folder, &[]);
    trio.leader();
    for n in 0..KEYS {
        trio.ctl(&format!("put k/{n:03} {n}"), None).expect_ok();
    }
    let lease = value(&trio, "lease grant 600").split(' ').nth(1).unwrap().to_owned();
    trio.ctl(&format!("put leased x --lease={lease}"), None).expect_ok();
    trio.ctl("compaction 100", None).expect_ok();
    let id = trio.id(survivor);
    let endpoint = format!("--endpoints={}", places.url(survivor));
    let hash = |trio: &Trio<'_>| value(trio, &format!("endpoint hashkv {endpoint}"));
    // All have everything before the end comes.
    let before = hash(&trio);
    until("the hashes agree", SOON, || {
        let said = value(&trio, "endpoint hashkv");
        let hashes: Vec<_> = said.lines().filter_map(|line| line.split(", ").nth(1)).collect();
        if hashes.iter().all(|one| *one == hashes[0]) { Ok(()) } else { Err(said) }
    });
    (0..3).for_each(|n| trio.kill(n));

    let mut forced = places.command(program.as_os_str(), folder, survivor);
    let mut member = Member::start(forced.arg("--force-new-cluster"));
    let members = value(&trio, &format!("member list {endpoint}"));
    assert!(members.lines().count() == 1 && members.starts_with(&format!("{id:x}, started, ")), "{members}");
    assert_eq!(hash(&trio), before, "{folder}");
    let count = value(&trio, &format!("get k/ --prefix --count-only -w fields {endpoint}"));
    assert!(count.contains(&format!("\"Count\" : {KEYS}")), "{count}");
    assert!(value(&trio, &format!("lease timetolive {lease} --keys {endpoint}")).contains("keys([leased])"));
    trio.ctl(&format!("put after 1 {endpoint}"), None).expect_ok();
    // Without the flag it stays what it is.
    member.signal("TERM");
    member.wait();
    trio.members[survivor] = Some(Member::start(&mut places.command(program.as_os_str(), folder, survivor)));
    assert_eq!(value(&trio, &format!("get after --print-value-only {endpoint}")), "1\n");

    // Another one joins, in a folder of its own.
    let other = (survivor + 1) % 3;
    until("a member is added", SOON, || {
        let ran =
            trio.ctl(&format!("member add {} --peer-urls={} {endpoint}", NAMES[other], places.peer_url(other)), None);
        if ran.ok() { Ok(()) } else { Err(ran.stderr) }
    });
    let mut joins = places.command(program.as_os_str(), "joined", other);
    let urls = [survivor, other].map(|n| format!("{}={}", NAMES[n], places.peer_url(n))).join(",");
    let _joined = Member::start(joins.args(["--initial-cluster-state=existing", &format!("--initial-cluster={urls}")]));
    let mut get = clean(tool("etcdctl"));
    get.args(["get", "k/199", "--print-value-only", "--endpoints", &places.url(other)]);
    assert_eq!(run(&mut get, None, 30).expect_ok(), "199\n", "{folder}");
}

#[test]
fn a_survivor_begins_anew_as_with_etcd() {
    check(&tool("etcd"), "etcd", 1);
}

#[test]
fn a_leader_or_a_follower_begins_anew() {
    for survivor in 0..3 {
        check(&PathBuf::from(BINARY), "ours", survivor);
    }
}
