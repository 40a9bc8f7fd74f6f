//! Three members of one kind on places of their own, and etcdctl before all of them.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use test_support::{Ran, run, tool, until};

use crate::member::{Member, Place, SOON, clean};

pub const NAMES: [&str; 3] = ["a", "b", "c"];
/// For one command; etcd waits for some of its own accord.
const COMMAND_SECONDS: u32 = 60;

/// Where three members live. Kept over their end, so that others may take the same ports, and so the same ids.
pub struct Places([Place; 3]);

impl Places {
    pub fn new() -> Self {
        Places([Place::new(), Place::new(), Place::new()])
    }

    pub fn urls(&self) -> String {
        self.0.each_ref().map(|place| place.url("http")).join(",")
    }

    pub fn peer_url(&self, n: usize) -> String {
        self.0[n].peer_url()
    }

    pub fn url(&self, n: usize) -> String {
        self.0[n].url("http")
    }

    /// A command of one member, in the folder of that name.
    pub fn command(&self, program: &OsStr, folder: &str, n: usize) -> Command {
        let (client, peer) = (self.0[n].url("http"), self.0[n].peer_url());
        let cluster: Vec<String> = (0..3).map(|n| format!("{}={}", NAMES[n], self.0[n].peer_url())).collect();
        let mut command = clean(program);
        command.args([
            format!("--name={}", NAMES[n]),
            format!("--data-dir={}", self.0[n].path(folder).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", cluster.join(",")),
        ]);
        command
    }
}

/// Three members that serve.
pub struct Trio<'a> {
    pub places: &'a Places,
    pub members: [Option<Member>; 3],
}

impl<'a> Trio<'a> {
    /// Starts them all with more flags and waits until each serves.
    pub fn start(places: &'a Places, program: &Path, folder: &str, flags: &[&str]) -> Self {
        let spawn = |n| Member::spawn(places.command(program.as_os_str(), folder, n).args(flags));
        let members = [0, 1, 2].map(spawn);
        members.iter().for_each(|member| drop(member.wait_for(crate::member::READY_LINE)));
        Trio { places, members: members.map(Some) }
    }

    /// Ends a member as a power failure would.
    pub fn kill(&mut self, n: usize) {
        let mut member = self.members[n].take().expect("it runs");
        member.signal("KILL");
        assert_eq!(member.wait(), -9);
    }

    /// Starts a member again on what it has.
    pub fn restart(&mut self, n: usize, program: &Path, folder: &str) {
        assert!(self.members[n].is_none(), "it runs");
        self.members[n] = Some(Member::start(&mut self.places.command(program.as_os_str(), folder, n)));
    }

    /// etcdctl before all of them, or those that `--endpoints` among the words names.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = clean(tool("etcdctl"));
        command.args(words);
        if !words.iter().any(|word| word.starts_with("--endpoints")) {
            command.env("ETCDCTL_ENDPOINTS", self.places.urls());
        }
        command
    }

    pub fn ctl(&self, line: &str, input: Option<&str>) -> Ran {
        run(&mut self.command(&line.split(' ').collect::<Vec<_>>()), input, COMMAND_SECONDS)
    }

    /// etcdctl that goes on, its output to be read.
    pub fn spawn(&self, line: &str) -> Child {
        let mut command = self.command(&line.split(' ').collect::<Vec<_>>());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Which of the members leads, once all agree.
    pub fn leader(&self) -> usize {
        until("a leader that all know", SOON, || {
            let said = self.ctl("endpoint status -w json", None);
            let statuses: Value = serde_json::from_str(&said.stdout).map_err(|error| format!("{error}: {said:?}"))?;
            let statuses = statuses.as_array().cloned().unwrap_or_default();
            let status = |n: usize| &statuses[n]["Status"];
            if statuses.len() < 3 || (1..3).any(|n| status(n)["leader"] != status(0)["leader"]) {
                return Err(said.stdout);
            }
            let leads = |n: &usize| status(*n)["header"]["member_id"] == status(*n)["leader"];
            (0..3).find(leads).ok_or(said.stdout)
        })
    }

    /// Waits until the first two have a leader and take writes.
    pub fn leader_of_two(&self) {
        let endpoints = format!("--endpoints={},{}", self.places.url(0), self.places.url(1));
        until("two go on", SOON, || match self.ctl(&format!("put two go-on {endpoints}"), None) {
            ran if ran.ok() => Ok(()),
            ran => Err(format!("{ran:?}")),
        });
    }

    pub fn id(&self, n: usize) -> u64 {
        let statuses = self.ctl("endpoint status -w json", None).expect_ok();
        let statuses: Value = serde_json::from_str(&statuses).unwrap();
        statuses[n]["Status"]["header"]["member_id"].as_u64().unwrap()
    }

    /// Makes a member the leader.
    pub fn lead(&self, n: usize) {
        let id = self.id(n);
        until("the leader is moved", SOON, || match self.leader() {
            leader if leader == n => Ok(()),
            _ => Err(format!("{:?}", self.ctl(&format!("move-leader {id:x}"), None))),
        });
    }
}
