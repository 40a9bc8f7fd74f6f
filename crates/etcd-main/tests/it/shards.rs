//! Keys divided among groups, by etcdctl and by our own command.

use serde_json::{Value, json};
use test_support::{Ran, run};

use crate::member::{BINARY, Member, Place, clean};

fn shards(place: &Place, line: &str) -> Ran {
    let mut command = clean(BINARY);
    command.args(["shards"]).args(line.split_whitespace()).args(["--endpoints", &place.url("http")]);
    run(&mut command, None, 30)
}

#[test]
fn etcdctl_sees_one_store_where_shards_are_several() {
    let place = Place::new();
    let divided = ["--shards=3".to_owned(), "--shard-map=/a/=1,/b/=2".to_owned()];
    let mut member = Member::start(clean(BINARY).args(place.flags("http")).args(&divided));
    member.wait_for("now serving peer/client/metrics");
    let endpoint = ["--endpoints".to_owned(), place.url("http")];
    let etcdctl = |line: &str| place.etcdctl(&endpoint, line);
    for key in ["/a/1", "/a/2", "/b/1", "/c/1"] {
        assert_eq!(etcdctl(&format!("put {key} value-of-{key}")).expect_ok(), "OK\n");
    }
    assert_eq!(etcdctl("get /a/ --prefix --keys-only").expect_ok(), "/a/1\n\n/a/2\n\n");
    let refused = etcdctl("get / --prefix");
    assert!(!refused.ok() && refused.stderr.contains("the keys of one request are in several shards"), "{refused:?}");
    let lease = etcdctl("lease grant 60").expect_ok();
    let lease = lease.split(' ').nth(1).unwrap().to_owned();
    for key in ["/a/leased", "/b/leased", "/c/leased"] {
        etcdctl(&format!("put {key} x --lease={lease}")).expect_ok();
    }
    let told = etcdctl(&format!("lease timetolive {lease} --keys")).expect_ok();
    assert!(told.contains("attached keys([/a/leased /b/leased /c/leased])"), "{told}");

    let listed = shards(&place, "").expect_ok();
    assert_eq!(listed, "0, , \n1, , /a/\n2, , /b/\n");
    let moved: Value = serde_json::from_str(&shards(&place, "move /a/ 2 -w json").expect_ok()).unwrap();
    let shard = |prefix: &str, group: u32| json!({"prefix": prefix, "group": group, "movingTo": null});
    assert_eq!(moved, json!({"shards": [shard("", 0), shard("/a/", 2), shard("/b/", 2)]}));
    assert_eq!(etcdctl("get /a/2 --print-value-only").expect_ok(), "value-of-/a/2\n");
    etcdctl(&format!("lease revoke {lease}")).expect_ok();
    assert_eq!(etcdctl("get /a/leased").expect_ok(), "");
    for (line, expected) in [
        ("move /a/ 7", "there is no group 7: the groups are 0 to 2"),
        ("move /a/", "2 arguments where 3 are expected"),
        ("--endpoints http://127.0.0.1:1", "--endpoints is given twice"),
    ] {
        let refused = shards(&place, line);
        assert!(!refused.ok() && refused.stderr.contains(expected), "{line}: {refused:?}");
    }
    member.stop();
    // Started without the flags, it goes on as it is.
    let mut again = Member::start(clean(BINARY).args(place.flags("http")));
    again.wait_for("now serving peer/client/metrics");
    assert!(shards(&place, "list -w table").expect_ok().contains("|     2 |           |    /a/ |"));
    assert_eq!(etcdctl("get /b/1 --print-value-only").expect_ok(), "value-of-/b/1\n");
    again.stop();
}
