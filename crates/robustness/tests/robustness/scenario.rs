//! One run: a cluster, its clients, something that happens to it, and the verdict over everything that was seen.

use std::{
    fs::{self, File},
    panic::{AssertUnwindSafe, resume_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use checker::{
    Report,
    history::{Keys, Range, Request, Settings},
};
use futures::FutureExt as _;
use nix::fcntl::{Flock, FlockArg};
use test_support::traces;

use crate::{
    client::Client,
    cluster::{Cluster, MEMBERS, until},
    network::Network,
    program::{is_etcd, require_tools, root},
    record::Recorder,
    workload::Workload,
};

const FOLDERS: &str = "plinth-robustness-";
/// Before a fault and after it the clients work undisturbed for this time.
const CALM: Duration = Duration::from_millis(700);
const START: Duration = Duration::from_secs(30);
/// Clients end after their present operation; who has a lease looks once more.
const STOP: Duration = Duration::from_secs(10);
/// Members and watches come to one point when nobody writes.
const SETTLE: Duration = Duration::from_secs(30);

pub struct Options {
    pub name: &'static str,
    pub seed: u64,
    /// Members' data are on small disks of their own, and values are larger.
    pub small_disks: bool,
    /// Clients record old reads as new ones, and the checker must find that.
    pub cheats: bool,
    /// Environment of the members.
    pub environment: Vec<(String, String)>,
}

impl Options {
    pub fn new(name: &'static str) -> Self {
        Options { name, seed: 1, small_disks: false, cheats: false, environment: Vec::new() }
    }
}

/// Runs `body` on a cluster under load and checks what happened.
pub fn run(options: Options, body: impl AsyncFnOnce(&mut Cluster) + Send + 'static) {
    require_tools();
    let _alone = alone();
    let (network, clients) = Network::new(MEMBERS);
    let folder = traces::folder(FOLDERS);
    let settings = Settings {
        name: format!("{} seed {}", options.name, options.seed),
        stale_renewals_count: !is_etcd(),
        ..Settings::default()
    };
    let recorder = Recorder::new(settings);
    let cluster = Cluster::new(network, folder, recorder);
    // Sockets belong to the namespace of the thread that makes them: the runtime's threads are born in the clients'.
    clients.run(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(options, cluster, body));
    });
}

async fn live(options: Options, mut cluster: Cluster, body: impl AsyncFnOnce(&mut Cluster)) {
    traces::remove_abandoned(FOLDERS, async |_, _| {}).await;
    let recorder = cluster.recorder.clone();
    let lived = AssertUnwindSafe(async {
        for member in &mut cluster.members {
            member.environment = options.environment.clone();
            if options.small_disks {
                member.use_small_disk();
            }
        }
        cluster.start();
        for n in 1..=MEMBERS {
            until("the members start", START, async || {
                let status = cluster.status(n).await.map_err(|reason| format!("{reason}{}", cluster.logs()))?;
                if status.leader == 0 { Err(format!("no leader{}", cluster.logs())) } else { Ok(()) }
            })
            .await;
        }
        recorder.note("the cluster is there");
        let filling = if options.small_disks { 8 << 10 } else { 0 };
        let workload = Workload::start(&cluster.urls(), &recorder, options.seed, filling, options.cheats);
        tokio::time::sleep(CALM).await;
        body(&mut cluster).await;
        tokio::time::sleep(CALM).await;
        workload.stop(STOP).await;
        recorder.note("the clients have ended");
        let everything = Range { keys: Keys::all(), revision: 0, serializable: false, limit: 0 };
        for n in 0..MEMBERS as u32 {
            Client::new(200 + n, &cluster.urls()[n as usize..=n as usize], &recorder)
                .ask(Request::Range(everything.clone()))
                .await;
        }
        let revision = cluster.agree(SETTLE).await;
        workload.watched(revision, SETTLE).await;
    })
    .catch_unwind()
    .await;
    let report = checker::check(&recorder.history());
    let verdict = report.to_string();
    // What is found because it was put there is not told in full: it would look like a failure.
    recorder.note(if options.cheats { verdict.lines().next().unwrap_or_default() } else { &verdict });
    if options.cheats {
        let found =
            |finding: &checker::Finding| finding.invariant == "linearizability" && finding.message.contains("is older");
        assert!(lived.is_ok() && report.findings.iter().any(found), "old reads were not found: {report}");
        return;
    }
    if lived.is_err() || !report.is_good() {
        let kept = keep(&options, &cluster, &recorder, &report);
        println!("everything is kept in {}", kept.display());
    }
    if let Err(panic) = lived {
        resume_unwind(panic);
    }
    assert!(report.is_good(), "{report}");
}

/// Only one run at a time, in whatever process: they would be each other's fault.
fn alone() -> Flock<File> {
    let path = std::env::temp_dir().join("plinth-robustness.lock");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
}

/// Keeps what a person needs to look at a failure.
fn keep(options: &Options, cluster: &Cluster, recorder: &Recorder, report: &Report) -> PathBuf {
    let kept = root().join(format!("target/robustness/{}-{}", options.name, std::process::id()));
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("history.jsonl"), checker::jsonl::write(&recorder.history())).unwrap();
    fs::write(kept.join("report.txt"), report.to_string()).unwrap();
    for member in &cluster.members {
        copy_logs(member.folder(), &kept, &member.name());
    }
    kept
}

fn copy_logs(from: &Path, to: &Path, name: &str) {
    for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let file = format!("{name}-{}", entry.file_name().to_string_lossy());
        fs::copy(entry.path(), to.join(file)).unwrap();
    }
}
