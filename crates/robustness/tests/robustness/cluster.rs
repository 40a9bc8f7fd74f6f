//! Three members, what an operator asks them, and waiting for what they must come to.

use std::time::Duration;

use checker::history::{Hash, Revision};
use etcd_proto::etcdserverpb::{self as pb, maintenance_client::MaintenanceClient};
use tempfile::TempDir;

use crate::{
    client::channel,
    member::Member,
    network::{CLIENTS, Cut, Network},
    program::program,
    record::Recorder,
};

pub const MEMBERS: usize = 3;
const POLL: Duration = Duration::from_millis(50);
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

pub struct Cluster {
    pub members: Vec<Member>,
    pub network: Network,
    pub recorder: Recorder,
    /// Last, so that it goes when nothing runs in it any more.
    _folder: TempDir,
}

/// What a member says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    pub id: u64,
    pub leader: u64,
    pub applied: u64,
    pub revision: Revision,
}

impl Cluster {
    pub fn new(network: Network, folder: TempDir, recorder: Recorder) -> Self {
        let member = |n| Member::new(n, program(), folder.path());
        Cluster { members: (1..=MEMBERS).map(member).collect(), network, recorder, _folder: folder }
    }

    pub fn start(&mut self) {
        (1..=MEMBERS).for_each(|n| self.start_member(n, "new"));
    }

    pub fn start_member(&mut self, n: usize, state: &str) {
        let names: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name(), m.peer_url())).collect();
        self.members[n - 1].start(&self.network, &names.join(","), state);
    }

    pub fn member(&mut self, n: usize) -> &mut Member {
        &mut self.members[n - 1]
    }

    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(Member::url).collect()
    }

    pub async fn status(&self, n: usize) -> Result<Status, String> {
        let mut client = MaintenanceClient::new(channel(&self.members[n - 1].url()));
        let asked = tokio::time::timeout(STATUS_PATIENCE, client.status(pb::StatusRequest {})).await;
        let status = asked.map_err(|_| format!("m{n} is silent"))?.map_err(|status| format!("m{n}: {status}"))?;
        let status = status.into_inner();
        let header = status.header.unwrap_or_default();
        Ok(Status {
            id: header.member_id,
            leader: status.leader,
            applied: status.raft_applied_index,
            revision: header.revision,
        })
    }

    /// The leader that a majority agrees on, by its number. A leader that was cut off may not know better.
    pub async fn leader(&self) -> usize {
        until("there is a leader", Duration::from_secs(15), async || {
            let mut all = Vec::new();
            for n in 1..=MEMBERS {
                all.push(self.status(n).await);
            }
            let known: Vec<(usize, &Status)> =
                all.iter().enumerate().filter_map(|(n, s)| Some((n + 1, s.as_ref().ok()?))).collect();
            for (n, status) in &known {
                let votes = known.iter().filter(|(_, other)| other.leader == status.id).count();
                if votes > MEMBERS / 2 {
                    return Ok(*n);
                }
            }
            Err(format!("{all:?}"))
        })
        .await
    }

    pub async fn follower(&self) -> usize {
        self.leader().await % MEMBERS + 1
    }

    /// Waits until acknowledged writes come again, and says how long that took.
    pub async fn writes_go_on(&self, limit: Duration) {
        /// Enough not to be a leftover of before.
        const WRITES: usize = 20;
        let since = self.recorder.now();
        until("writes go on", limit, async || {
            let count = self.recorder.writes_since(since);
            if count >= WRITES { Ok(()) } else { Err(format!("{count} writes were acknowledged{}", self.logs())) }
        })
        .await;
        self.recorder.note(format!("writes go on after {} ms", (self.recorder.now() - since) / 1000));
    }

    /// Waits until a member has applied everything that the leader has now.
    pub async fn catches_up(&self, n: usize, limit: Duration) {
        let since = self.recorder.now();
        let leader = self.leader().await;
        let goal = self.status(leader).await.unwrap_or_else(|reason| panic!("the leader: {reason}")).revision;
        until("the member catches up", limit, async || {
            let status = self.status(n).await?;
            if status.revision >= goal { Ok(()) } else { Err(format!("{goal} is wanted: {status:?}{}", self.logs())) }
        })
        .await;
        self.recorder.note(format!("m{n} has revision {goal} after {} ms", (self.recorder.now() - since) / 1000));
    }

    /// Waits until all members are at one point, and records their hashes there. Nobody may be writing but leases' ends.
    pub async fn agree(&self, limit: Duration) -> Revision {
        let revision = until("all members agree", limit, async || {
            let mut all = Vec::new();
            for n in 1..=MEMBERS {
                all.push(self.status(n).await?);
            }
            let same = all.iter().all(|s| (s.applied, s.revision) == (all[0].applied, all[0].revision));
            if same { Ok(all[0].revision) } else { Err(format!("{all:?}")) }
        })
        .await;
        for n in 1..=MEMBERS {
            self.hash(n, revision).await;
        }
        revision
    }

    async fn hash(&self, n: usize, revision: Revision) {
        let mut client = MaintenanceClient::new(channel(&self.members[n - 1].url()));
        let response = client.hash_kv(pb::HashKvRequest { revision }).await;
        let response = response.unwrap_or_else(|status| panic!("m{n}: HashKV at {revision}: {status}")).into_inner();
        let member = response.header.unwrap_or_default().member_id;
        let (compact_revision, hash) = (response.compact_revision, response.hash);
        self.recorder.hash(Hash { at: self.recorder.now(), member, revision, compact_revision, hash });
    }

    /// Cuts a member off from some ports: what it sends, what it would receive, or both.
    pub fn cut(&self, n: usize, from: &[usize], sent: bool, received: bool) {
        let others = from.iter().filter(|other| **other != n);
        let directions = others.flat_map(|&other| {
            let out = sent.then_some(Cut { from: n, to: other });
            out.into_iter().chain(received.then_some(Cut { from: other, to: n }))
        });
        self.network.cut(&directions.collect::<Vec<_>>());
    }

    pub fn heal(&self) {
        self.network.cut(&[]);
    }

    /// The newest lines of all logs, for a failure's message.
    pub fn logs(&self) -> String {
        self.members.iter().map(|m| format!("\n--- {} ---\n{}", m.name(), m.log())).collect()
    }
}

/// The members' ports.
pub const PEERS: [usize; MEMBERS] = [1, 2, 3];
pub const EVERYBODY: [usize; MEMBERS + 1] = [1, 2, 3, CLIENTS];

/// Polls until `look` gives a value; fails with the last reason.
pub async fn until<T>(what: &str, limit: Duration, look: impl AsyncFn() -> Result<T, String>) -> T {
    let clock = runtime::Clock::system();
    let deadline = clock.monotonic() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(reason) if clock.monotonic() > deadline => panic!("{what}: not within {limit:?}: {reason}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
