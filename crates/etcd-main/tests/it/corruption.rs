//! The checks of corruption among three members that have the same keys: they look, and find nothing.

use std::path::Path;

use test_support::until;

use crate::{
    member::{BINARY, Member, SOON},
    trio::{Places, Trio},
};

const FLAGS: [&str; 2] = ["--experimental-initial-corrupt-check=true", "--experimental-corrupt-check-time=200ms"];

#[test]
fn members_that_agree_go_on() {
    let places = Places::new();
    let program = Path::new(BINARY);
    let mut trio = Trio::start(&places, program, "ours", &FLAGS);
    trio.leader();
    for n in 0..20 {
        trio.ctl(&format!("put k{n} v"), None).expect_ok();
    }
    trio.kill(0);
    // It may have led: what is asked before the others know is refused.
    until("the others go on", SOON, || match trio.ctl("put meanwhile v", None) {
        ran if ran.ok() => Ok(()),
        ran => Err(format!("{ran:?}")),
    });
    let member = Member::start(places.command(program.as_os_str(), "ours", 0).args(FLAGS));
    let compared = member.wait_for("compared the keys with peers");
    assert!(compared.contains("\"peers\":2"), "{compared}");
    assert!(!member.log().contains("flag has no effect"), "{}", member.log());
    trio.members[0] = Some(member);
    // Long enough for some looks: each member answers writes meanwhile.
    until("all have all of it", SOON, || {
        trio.ctl("put once more", None).expect_ok();
        let hashes = trio.ctl("endpoint hashkv", None).expect_ok();
        let hashes: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
        if hashes.iter().all(|hash| *hash == hashes[0]) { Ok(()) } else { Err(format!("{hashes:?}")) }
    });
    assert_eq!(trio.ctl("alarm list", None).expect_ok(), "");
}
