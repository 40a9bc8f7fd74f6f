//! Users and permissions of a running member, by hand; they outlive its process.

use crate::member::{BINARY, Member, Place, clean};

/// What is done with etcdctl, and a part of what it says; `!` before a part is a failure.
const BEFORE: [(&str, &str); 12] = [
    ("user add root:secret", "User root created"),
    ("user grant-role root root", "Role root is granted to user root"),
    ("user add alice:pass", "User alice created"),
    ("role add own", "Role own created"),
    ("role grant-permission own readwrite own/ --prefix", "Role own updated"),
    ("user grant-role alice own", "Role own is granted to user alice"),
    ("auth enable", "Authentication Enabled"),
    ("put own/a 1", "!etcdserver: user name is empty"),
    ("--user alice:pass put own/a 1", "OK"),
    ("--user alice:pass put other 1", "!etcdserver: permission denied"),
    ("--user alice:wrong get own/a", "!etcdserver: authentication failed, invalid user ID or password"),
    ("--user root:secret put other 2", "OK"),
];

const AFTER: [(&str, &str); 8] = [
    ("get own/a", "!etcdserver: user name is empty"),
    ("--user alice:pass get own/a", "own/a\n1"),
    ("--user alice:pass get other", "!etcdserver: permission denied"),
    ("--user alice:pass user list", "!etcdserver: permission denied"),
    ("--user root:secret user list", "alice\nroot"),
    ("--user root:secret get other", "other\n2"),
    ("--user root:secret auth disable", "Authentication Disabled"),
    ("get other", "other\n2"),
];

fn session(place: &Place, lines: &[(&str, &str)]) {
    let endpoint = ["--endpoints".to_owned(), place.url("http")];
    for (line, expected) in lines {
        let ran = place.etcdctl(&endpoint, line);
        let (found, part) = match expected.strip_prefix('!') {
            Some(part) => (ran.expect_error(), part),
            None => (ran.expect_ok(), *expected),
        };
        assert!(found.contains(part), "etcdctl {line}: {found}");
    }
}

#[test]
fn users_are_checked_and_outlive_the_process() {
    let place = Place::new();
    let start = || Member::start(clean(BINARY).args(place.flags("http")).arg("--bcrypt-cost=4"));
    let mut member = start();
    session(&place, &BEFORE);
    member.stop();
    let mut member = start();
    session(&place, &AFTER);
    member.stop();
}

#[test]
fn a_token_that_cannot_be_made_stops_the_start() {
    let place = Place::new();
    let mut member = Member::spawn(clean(BINARY).args(place.flags("http")).arg("--auth-token=jwt,sign-method=RS256"));
    assert_eq!(member.wait(), 1);
    member.wait_for("auth: missing key data");
    assert!(!place.path("data").join("member").exists(), "nothing was begun");
}
