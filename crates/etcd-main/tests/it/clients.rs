//! Client libraries that nobody here wrote, before this store and before a real etcd: the same script, the same words.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use test_support::{run, tool, tool_at};

use crate::member::{BINARY, Member, Place, clean};

/// A session has leases that end by themselves.
const SECONDS: u32 = 120;

/// Runs a session before a fresh member of each and compares what it printed.
fn check(script: &[&Path], parts: usize) {
    let mut said = [PathBuf::from(BINARY), tool("etcd")].map(|program| {
        let place = Place::new();
        let _member = Member::start(clean(program).args(place.flags("http")));
        let (interpreter, arguments) = script.split_first().expect("a script is run by something");
        let mut command = Command::new(interpreter);
        command.args(arguments).arg(place.client.to_string());
        let ran = run(&mut command, None, SECONDS);
        let what = format!("{command:?}: {ran:?}");
        let said = ran.expect_ok();
        assert_eq!(said.lines().filter(|line| line.starts_with("-- ")).count(), parts, "{what}");
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let [ours, theirs] = &mut said;
    for (ours, theirs) in ours.iter().zip(theirs.iter()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

fn session(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// `etcd3` of PyPI, over grpcio.
#[test]
fn of_python() {
    check(&[&tool_at(Path::new("clients/bin/python")), &session("session.py")], 6);
}

/// `etcd3` of npm, over grpc-js.
#[test]
fn of_javascript() {
    let node = tool_at(Path::new("clients/bin/node"));
    check(&[&node, &session("session.js"), &tool_at(Path::new("clients/js"))], 6);
}
