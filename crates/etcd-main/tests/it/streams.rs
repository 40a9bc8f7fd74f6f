//! etcdctl where it goes on until something happens: watches, elections and locks before three members, of etcd and of
//! ours; and what it hears when most members are gone.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
};

use test_support::{run, tool, until};

use crate::{
    commands::masked,
    member::{BINARY, SOON},
    trio::{Places, Trio},
};

/// A command that runs, and its lines.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(trio: &Trio<'_>, line: &str) -> Self {
        let mut child = trio.spawn(line);
        let (sender, lines) = channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = sender.clone();
        let send = |sender: std::sync::mpsc::Sender<String>, line| drop(sender.send(line));
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| send(sender.clone(), line));
        });
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| send(errors.clone(), line));
        });
        Running { child, lines }
    }

    /// The next line that is no account of the client's own attempts.
    fn next(&self) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON).expect("a line in time");
            if !line.starts_with("{\"level\"") {
                return masked(&line);
            }
        }
    }

    fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()).collect()
    }

    /// As Ctrl-C: what it holds is let go.
    fn interrupt(&mut self) {
        let pid = self.child.id().to_string();
        assert!(run(Command::new("kill").args(["-INT", &pid]), None, 5).ok());
        until("the command ends", SOON, || self.child.try_wait().unwrap().ok_or_else(|| "it goes on".to_owned()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn play(trio: &Trio<'_>) -> Vec<String> {
    trio.ctl("put w/1 before", None).expect_ok();
    let watch = Running::start(trio, "watch w/ --prefix --prev-kv --rev=1");
    let mut said = watch.take(3);
    trio.ctl("put w/1 after", None).expect_ok();
    trio.ctl("del w/1", None).expect_ok();
    said.extend(watch.take(10));

    for line in ["elect chief", "lock door"] {
        let by = |name: &str| if line.starts_with("elect") { format!("{line} {name}") } else { line.to_owned() };
        let lines = if line.starts_with("elect") { 2 } else { 1 };
        let mut first = Running::start(trio, &by("one"));
        said.extend(first.take(lines));
        let listener = line.starts_with("elect").then(|| Running::start(trio, &format!("{line} --listen")));
        said.extend(listener.iter().flat_map(|listener| listener.take(2)));
        let second = Running::start(trio, &by("two"));
        first.interrupt();
        said.extend(second.take(lines));
        said.extend(listener.iter().flat_map(|listener| listener.take(2)));
    }
    said
}

#[test]
fn watches_elections_and_locks_go_as_before_etcd() {
    let places = Places::new();
    let [theirs, ours] = [(tool("etcd"), "etcd"), (PathBuf::from(BINARY), "ours")].map(|(program, folder)| {
        let trio = Trio::start(&places, &program, folder, &[]);
        trio.leader();
        play(&trio)
    });
    assert_eq!(ours, theirs);
}

/// `etcdctl watch` asks for a leader (the metadata `hasleader`), as the API servers' watches do.
#[test]
fn a_watch_that_wants_a_leader_hears_of_its_loss() {
    let places = Places::new();
    for (program, folder) in [(tool("etcd"), "etcd"), (PathBuf::from(BINARY), "ours")] {
        let mut trio = Trio::start(&places, &program, folder, &["--heartbeat-interval=50", "--election-timeout=250"]);
        trio.leader();
        trio.ctl("put a 1", None).expect_ok();
        let left = format!("--endpoints={}", places.url(2));
        let watch = Running::start(&trio, &format!("watch a --rev=1 {left}"));
        assert_eq!(watch.take(3), ["PUT", "a", "1"], "{folder}");
        trio.kill(0);
        trio.kill(1);
        assert_eq!(watch.next(), "watch was canceled (etcdserver: no leader)", "{folder}");
        // At once, where there is none.
        let refused = Running::start(&trio, &format!("watch a {left}"));
        assert_eq!(refused.next(), "watch was canceled (etcdserver: no leader)", "{folder}");
    }
}

/// etcd's own check of whether a cluster is fast enough, and of how much memory it takes.
#[test]
fn checks_of_speed_and_of_memory_run() {
    let places = Places::new();
    let trio = Trio::start(&places, &PathBuf::from(BINARY), "ours", &["--quota-backend-bytes=8589934592"]);
    trio.leader();
    let ran = run(&mut trio.command(&["check", "perf", "--load=s", "--auto-compact", "--auto-defrag"]), None, 180);
    // Its limits are for a quiet machine and a fast disk: here it counts that all of it was served.
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(told.contains("Throughput") && !told.contains("error"), "{ran:?}");
    let ran = run(&mut trio.command(&["check", "datascale", "--load=s", "--auto-compact", "--auto-defrag"]), None, 180);
    assert!(ran.stdout.contains("PASS: Approximate system memory used"), "{ran:?}");
    assert_eq!(trio.ctl("get /etcdctl-check --prefix --keys-only", None).expect_ok(), "", "nothing is left");
}
