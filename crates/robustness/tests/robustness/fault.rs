//! What is done to a cluster, and how it is made good again.

use std::time::Duration;

use nix::sys::signal::Signal;
use test_support::tool;

use crate::cluster::{Cluster, EVERYBODY, MEMBERS, PEERS, until};

/// After a fault of a minority, writes must be acknowledged again: an election (1 to 2 s, perhaps twice) and the
/// clients' patience.
pub const WRITES_GO_ON: Duration = Duration::from_secs(15);
/// After it is healed, a member has everything again: also by a snapshot, also on a machine that others use.
pub const CATCHES_UP: Duration = Duration::from_secs(30);
/// How long a fault lasts when writes go on meanwhile: longer than an election.
const LASTS: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Leader,
    Follower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a new start.
    Kill(Target),
    /// SIGSTOP, and SIGCONT when another has long been leader.
    Pause(Target),
    /// From everybody, also from clients.
    CutOff(Target),
    /// From the other members only: clients still ask it.
    CutFromPeers(Target),
    /// It hears, and nobody hears it.
    Mute(Target),
    /// It is heard, and hears nobody.
    Deafen(Target),
    /// Its data are gone; an operator removes the member and adds it again.
    Erase(Target),
}

impl Fault {
    /// All that need no preparation.
    pub const ALL: [Fault; 14] = [
        Fault::Kill(Target::Leader),
        Fault::Kill(Target::Follower),
        Fault::Pause(Target::Leader),
        Fault::Pause(Target::Follower),
        Fault::CutOff(Target::Leader),
        Fault::CutOff(Target::Follower),
        Fault::CutFromPeers(Target::Leader),
        Fault::CutFromPeers(Target::Follower),
        Fault::Mute(Target::Leader),
        Fault::Mute(Target::Follower),
        Fault::Deafen(Target::Leader),
        Fault::Deafen(Target::Follower),
        Fault::Erase(Target::Leader),
        Fault::Erase(Target::Follower),
    ];

    fn target(self) -> Target {
        match self {
            Fault::Kill(target)
            | Fault::Pause(target)
            | Fault::CutOff(target)
            | Fault::CutFromPeers(target)
            | Fault::Mute(target)
            | Fault::Deafen(target)
            | Fault::Erase(target) => target,
        }
    }

    /// Does it, waits until writes go on without the member, makes it good, and waits until the member is back.
    pub async fn run(self, cluster: &mut Cluster) {
        let n = pick(cluster, self.target()).await;
        cluster.recorder.note(format!("{self:?}: m{n}"));
        let clients = EVERYBODY;
        match self {
            Fault::Kill(_) => cluster.member(n).kill(),
            Fault::Pause(_) => cluster.member(n).signal(Signal::SIGSTOP),
            Fault::CutOff(_) => cluster.cut(n, &clients, true, true),
            Fault::CutFromPeers(_) => cluster.cut(n, &PEERS, true, true),
            Fault::Mute(_) => cluster.cut(n, &PEERS, true, false),
            Fault::Deafen(_) => cluster.cut(n, &PEERS, false, true),
            Fault::Erase(_) => replace(cluster, n).await,
        }
        cluster.writes_go_on(WRITES_GO_ON).await;
        tokio::time::sleep(LASTS).await;
        cluster.recorder.note(format!("m{n} is made good"));
        match self {
            Fault::Kill(_) => cluster.start_member(n, "new"),
            Fault::Pause(_) => cluster.member(n).signal(Signal::SIGCONT),
            Fault::Erase(_) => {}
            _ => cluster.heal(),
        }
        cluster.catches_up(n, CATCHES_UP).await;
        cluster.writes_go_on(WRITES_GO_ON).await;
    }
}

pub async fn pick(cluster: &Cluster, target: Target) -> usize {
    match target {
        Target::Leader => cluster.leader().await,
        Target::Follower => cluster.follower().await,
    }
}

/// What an operator does with a member that has lost its disk.
async fn replace(cluster: &mut Cluster, n: usize) {
    let id = cluster.status(n).await.unwrap_or_else(|reason| panic!("{reason}")).id;
    cluster.member(n).kill();
    cluster.member(n).erase();
    let other = cluster.members[n % MEMBERS].url();
    let (name, peer) = (cluster.member(n).name(), cluster.member(n).peer_url());
    // A cluster that has just lost its leader, or a member that has just come back, makes etcd refuse for some seconds.
    for arguments in
        [vec!["remove".to_owned(), format!("{id:x}")], vec!["add".to_owned(), name, format!("--peer-urls={peer}")]]
    {
        until("the members change", Duration::from_secs(20), async || {
            let mut command = tokio::process::Command::new(tool("etcdctl"));
            command.args(["--endpoints", &other, "--command-timeout=5s", "member"]).args(&arguments).kill_on_drop(true);
            let output = command.output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // An answer may be lost: then the change is already there.
            let done = output.status.success()
                || said.contains("member not found")
                || said.contains("Peer URLs already exists");
            if done { Ok(()) } else { Err(format!("etcdctl member {}: {said}", arguments.join(" "))) }
        })
        .await;
    }
    cluster.recorder.note(format!("m{n} is removed and added"));
    cluster.start_member(n, "existing");
}

/// A member's disk is full, and has room again. It may stop over that; an operator starts it again then.
pub async fn fill_disk(cluster: &mut Cluster, target: Target) {
    let n = pick(cluster, target).await;
    cluster.recorder.note(format!("the disk of m{n} ({target:?}) is full"));
    cluster.member(n).fill_disk();
    cluster.writes_go_on(WRITES_GO_ON).await;
    tokio::time::sleep(LASTS).await;
    cluster.writes_go_on(WRITES_GO_ON).await;
    let ended = cluster.member(n).has_ended();
    cluster.recorder.note(format!("the disk of m{n} has room; it {}", if ended { "had stopped" } else { "runs" }));
    cluster.member(n).free_disk();
    if ended {
        cluster.start_member(n, "new");
    }
    cluster.catches_up(n, CATCHES_UP).await;
    cluster.writes_go_on(WRITES_GO_ON).await;
}
