//! A log in a folder of its own (`--wal-dir`): it is there, it is all that counts, and a member does not start without it.

use std::{fs, path::Path};

use test_support::{Ran, run, tool};

use crate::member::{BINARY, Member, Place, clean};

fn segments(folder: &Path) -> usize {
    let names = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    names.unwrap_or_else(|_| Vec::new()).iter().filter(|path| path.extension().is_some_and(|e| e == "wal")).count()
}

struct Apart {
    place: Place,
}

impl Apart {
    fn flags(&self) -> Vec<String> {
        let mut flags = self.place.flags("http");
        flags.push(format!("--wal-dir={}", self.place.path("log").display()));
        flags
    }

    fn start(&self, program: impl AsRef<std::ffi::OsStr>) -> Member {
        Member::start(clean(program).args(self.flags()))
    }

    fn ctl(&self, line: &str) -> Ran {
        self.place.etcdctl(&["--endpoints".into(), self.place.url("http")], line)
    }

    fn refused(&self, flags: &[String], words: &str) {
        let ran = run(clean(BINARY).args(flags), None, 20);
        assert!(ran.code == Some(1) && ran.stderr.contains(words), "{ran:?}");
    }
}

/// What a member does, ours or etcd's: the segments are there and only there, also after a power failure.
fn check(program: &Path) -> Apart {
    let apart = Apart { place: Place::new() };
    let mut member = apart.start(program);
    apart.ctl("put kept 1").expect_ok();
    let (log, inside) = (apart.place.path("log"), apart.place.path("data").join("member/wal"));
    assert!(segments(&log) > 0 && segments(&inside) == 0);
    member.signal("KILL");
    assert_eq!(member.wait(), -9);
    let mut member = apart.start(program);
    assert_eq!(apart.ctl("get kept --print-value-only").expect_ok(), "1\n");
    member.signal("TERM");
    member.wait();
    apart
}

#[test]
fn the_log_is_in_its_folder_as_with_etcd() {
    check(&tool("etcd"));
    let apart = check(Path::new(BINARY));
    let (log, away) = (apart.place.path("log"), apart.place.path("away"));
    // Without its folder, with an empty one, with one that is not there: nothing is begun anew.
    apart.refused(&apart.place.flags("http"), "start with --wal-dir");
    fs::rename(&log, &away).unwrap();
    apart.refused(&apart.flags(), "is its disk mounted?");
    fs::create_dir(&log).unwrap();
    apart.refused(&apart.flags(), "has a log, and there is none in");
    assert_eq!(segments(&log), 0);
    fs::remove_dir_all(&log).unwrap();
    fs::rename(&away, &log).unwrap();

    // Another's log, and a log without its data folder.
    let other = check(Path::new(BINARY));
    let mut flags = other.place.flags("http");
    flags.push(format!("--wal-dir={}", log.display()));
    apart.refused(&flags, "is not that of the member");
    flags[0] = format!("--data-dir={}", other.place.path("fresh").display());
    apart.refused(&flags, "choose an empty folder");

    let file = apart.place.path("backup.db");
    let line = format!("export {} --data-dir {} --wal-dir {}", file.display(), apart.place.data_dir(), log.display());
    run(clean(BINARY).args(line.split(' ')), None, 20).expect_ok();
    let mut forced = Member::start(clean(BINARY).args(apart.flags()).arg("--force-new-cluster"));
    assert_eq!(apart.ctl("get kept --print-value-only").expect_ok(), "1\n");
    forced.stop();

    let imported = Apart { place: Place::new() };
    let (data, log) = (imported.place.data_dir(), imported.place.path("log"));
    let peer = imported.place.peer_url();
    let cluster = format!("--initial-cluster default={peer} --initial-advertise-peer-urls {peer}");
    let line =
        format!("import --from-snapshot {} --data-dir {data} --wal-dir {} {cluster}", file.display(), log.display());
    run(clean(BINARY).args(line.split(' ')), None, 20).expect_ok();
    assert!(segments(&log) > 0);
    let _member = imported.start(BINARY);
    assert_eq!(imported.ctl("get kept --print-value-only").expect_ok(), "1\n");
}
