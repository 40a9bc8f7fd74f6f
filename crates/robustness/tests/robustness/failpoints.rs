//! The driver of failpoints: arms one in a running member, makes the member come there, and waits for what must follow.

use std::time::Duration;

use checker::history::{Keys, Outcome, Request};
use etcd_proto::etcdserverpb::{self as pb, cluster_client::ClusterClient, maintenance_client::MaintenanceClient};
use robustness::{Action, FAILPOINTS, Failpoint, Target, Trigger};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Client, channel},
    cluster::{Cluster, MEMBERS, until},
    fault::{self, CATCHES_UP, WRITES_GO_ON},
    network::address,
    watcher::{self, Wish},
};

/// Where each member serves its failpoints.
const PORT: u16 = 22381;
/// A member that is sent to a failpoint is there within this time.
const REACHES: Duration = Duration::from_secs(20);
/// How many entries a follower misses before it needs a snapshot: two snapshots' worth and some (see program.rs).
const MISSED: u64 = 450;
/// A delay is taken back after this time.
const DELAYS: Duration = Duration::from_secs(3);

/// The environment of a member that serves its failpoints.
pub fn environment() -> Vec<(String, String)> {
    vec![(runtime::failpoint_http::ENVIRONMENT.to_owned(), format!("0.0.0.0:{PORT}"))]
}

/// One failpoint after another; of those whose names have `part` in them.
pub async fn run(cluster: &mut Cluster, part: &str) {
    for failpoint in FAILPOINTS.into_iter().filter(|failpoint| failpoint.name.contains(part)) {
        one(cluster, failpoint).await;
    }
}

async fn one(cluster: &mut Cluster, failpoint: Failpoint) {
    let n = match failpoint.target {
        Target::Leader => fault::pick(cluster, fault::Target::Leader).await,
        Target::Follower | Target::Any => fault::pick(cluster, fault::Target::Follower).await,
    };
    cluster.recorder.note(format!("{}, {:?}, by {:?}: m{n}", failpoint.name, failpoint.action, failpoint.trigger));
    match failpoint.action {
        Action::Panic => die(cluster, n, failpoint).await,
        Action::SleepOneSecond => wait(cluster, n, failpoint).await,
    }
    cluster.catches_up(n, CATCHES_UP).await;
    cluster.writes_go_on(WRITES_GO_ON).await;
}

async fn die(cluster: &mut Cluster, n: usize, failpoint: Failpoint) {
    if failpoint.trigger == Trigger::NeedSnapshot {
        miss(cluster, n).await;
        start_armed(cluster, n, &format!("{}=panic", failpoint.name));
    } else {
        // The process may be gone before it has answered.
        let _ = ask(n, "PUT", failpoint.name, "panic").await;
        trigger(cluster, n, failpoint.trigger).await;
    }
    let clock = runtime::Clock::system();
    let deadline = clock.monotonic() + REACHES;
    while !cluster.member(n).has_ended() {
        assert!(clock.monotonic() < deadline, "m{n} does not come to {} ({})", failpoint.name, failpoint.place);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.writes_go_on(WRITES_GO_ON).await;
    cluster.start_member(n, "new");
}

async fn wait(cluster: &Cluster, n: usize, failpoint: Failpoint) {
    let armed = ask(n, "PUT", failpoint.name, "sleep(1000)").await;
    armed.unwrap_or_else(|reason| panic!("m{n} does not take {}: {reason}", failpoint.name));
    trigger(cluster, n, failpoint.trigger).await;
    until("the failpoint is reached", REACHES, async || {
        let list = ask(n, "GET", "", "").await?;
        let reached = list.lines().any(|line| line.starts_with(failpoint.name) && !line.ends_with(" 0"));
        if reached { Ok(()) } else { Err(list) }
    })
    .await;
    tokio::time::sleep(DELAYS).await;
    let disarmed = ask(n, "DELETE", failpoint.name, "").await;
    disarmed.unwrap_or_else(|reason| panic!("m{n} keeps {}: {reason}", failpoint.name));
}

/// Starts a member that has failpoints from the beginning.
fn start_armed(cluster: &mut Cluster, n: usize, armed: &str) {
    cluster.member(n).environment.push((runtime::failpoint::ENVIRONMENT.to_owned(), armed.to_owned()));
    cluster.start_member(n, "new");
    cluster.member(n).environment.pop();
}

async fn trigger(cluster: &Cluster, n: usize, trigger: Trigger) {
    let url = cluster.urls()[n - 1].clone();
    match trigger {
        Trigger::Load | Trigger::NeedSnapshot => {}
        Trigger::ChangeMembers => change_members(cluster, n).await,
        Trigger::Watch => watch(cluster, n, Keys::all()).await,
        Trigger::Bookmark => watch(cluster, n, Keys::one("nobody writes this")).await,
        Trigger::Defragment => drop(MaintenanceClient::new(channel(&url)).defragment(pb::DefragmentRequest {}).await),
        Trigger::Compact | Trigger::CompactMuch => {
            let others: Vec<String> = cluster.urls();
            let mut client = Client::new(300, &others, &cluster.recorder);
            let other = n % MEMBERS + 1;
            let revision = cluster.status(other).await.unwrap_or_else(|reason| panic!("{reason}")).revision;
            let kept = if trigger == Trigger::Compact { 200 } else { 10 };
            // Every member applies it; the clients' own may come between, which serves as well.
            let outcome = client.ask(Request::Compact { revision: revision - kept }).await;
            assert!(!matches!(&outcome, Outcome::Refused(reason) if !reason.contains("compacted")), "{outcome:?}");
        }
    }
}

/// Adds a learner that is never started, and removes it again.
async fn change_members(cluster: &Cluster, n: usize) {
    let client = || ClusterClient::new(channel(&cluster.urls()[n % MEMBERS]));
    let add = pb::MemberAddRequest { peer_ur_ls: vec!["http://10.77.0.99:2380".to_owned()], is_learner: true };
    let id = until("a learner is added", REACHES, async || {
        let added = client().member_add(add.clone()).await.map_err(|status| status.to_string())?;
        added.into_inner().member.map(|member| member.id).ok_or_else(|| "no member is told".to_owned())
    })
    .await;
    until("the learner is removed", REACHES, async || {
        let removed = client().member_remove(pb::MemberRemoveRequest { id }).await;
        removed.map(drop).map_err(|status| status.to_string())
    })
    .await;
}

/// Watches a member from a revision of the past until it has told everything up to now: by events, or where there are
/// none, because it is asked.
async fn watch(cluster: &Cluster, n: usize, keys: Keys) {
    let revision = cluster.status(n).await.unwrap_or_else(|reason| panic!("{reason}")).revision;
    let wish = Wish {
        client: 301,
        url: cluster.urls()[n - 1].clone(),
        keys,
        start: revision - 50,
        prev_kv: true,
        fragment: false,
        no_delete: false,
    };
    let (_until, passed) = tokio::sync::watch::channel(Some(revision));
    let seen = tokio::time::timeout(REACHES, watcher::run(wish, cluster.recorder.clone(), passed)).await;
    assert!(seen.is_ok(), "a watch at m{n} has not come to revision {revision} within {REACHES:?}");
}

/// Ends a follower and waits until the others have given up the log that it misses. To cut it off would not do: what
/// connections have on their way would reach it afterwards.
async fn miss(cluster: &mut Cluster, n: usize) {
    let before = cluster.status(n).await.unwrap_or_else(|reason| panic!("{reason}")).applied;
    cluster.member(n).kill();
    let other = n % MEMBERS + 1;
    until("the follower misses enough", Duration::from_secs(60), async || {
        let now = cluster.status(other).await?.applied;
        if now >= before + MISSED { Ok(()) } else { Err(format!("{} entries", now.saturating_sub(before))) }
    })
    .await;
}

/// One request to a member's failpoints; the answer's body.
async fn ask(n: usize, method: &str, name: &str, body: &str) -> Result<String, String> {
    ask_at(&format!("{}:{PORT}", address(n)), method, name, body).await
}

async fn ask_at(place: &str, method: &str, name: &str, body: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(place).await?;
        let length = body.len();
        let head = format!("{method} /{name} HTTP/1.1\r\nHost: failpoints\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(REACHES, exchange).await.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(answer) }
}

/// What the driver says is what the server's side of failpoints understands.
#[tokio::test]
async fn the_driver_speaks_to_failpoints() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let tasks = runtime::Tasks::root();
    runtime::failpoint_http::serve(listener, &tasks).unwrap();
    let check = async |method: &str, name: &str, body: &str| ask_at(&place, method, name, body).await;
    assert_eq!(check("PUT", "raftBeforeSave", "sleep(1)").await, Ok(String::new()));
    runtime::failpoint!("raftBeforeSave");
    assert_eq!(check("GET", "", "").await, Ok("raftBeforeSave=sleep(1) 1\n".to_owned()));
    assert_eq!(check("DELETE", "raftBeforeSave", "").await, Ok(String::new()));
    assert!(check("PUT", "raftBeforeSave", "nonsense").await.is_err());
    tasks.stop();
}
