//! Who is measured: an API server and a scheduler, as processes that end with the value.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use serde_json::json;
use tokio::runtime::Handle;

use super::server::PlinthServer;
use crate::{
    api::Target,
    peer::KubeApiserver,
    process::{self, Usage},
};

/// Lines of a scheduler's log that are told when it has failed.
const TOLD_LINES: usize = 5;
/// Requests per second that no scheduler reaches: its client's limit is off.
const NO_LIMIT: u32 = 1_000_000;

/// What Kubernetes needs for gangs.
const FEATURES: &str = "--feature-gates=GenericWorkload=true,GangScheduling=true";

/// Which API server.
#[derive(Clone, Debug)]
pub enum Api {
    /// `plinth up` without node and controllers.
    Plinth {
        program: PathBuf,
    },
    Kube {
        apiserver: PathBuf,
        etcd: PathBuf,
    },
}

/// Which scheduler.
#[derive(Clone, Debug)]
pub enum Scheduler {
    /// That of `plinth up`.
    Inside,
    /// A kube-scheduler.
    Kube { program: PathBuf },
}

enum Server {
    Plinth(PlinthServer),
    Kube(KubeApiserver),
}

/// An API server and the scheduler beside it, if it is not in it.
pub struct Contestant {
    // Ended in this order.
    beside: Option<Beside>,
    server: Server,
    target: Target,
}

/// A scheduler as a process of its own.
struct Beside {
    child: Child,
    dir: tempfile::TempDir,
}

/// Processor time in microseconds, and the most memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub cpu: u64,
    pub peak: f64,
}

impl Contestant {
    /// Starts the API server on an empty store and waits until it serves. A scheduler that is a process of its own is
    /// not there yet.
    pub fn start(api: &Api, scheduler: &Scheduler) -> anyhow::Result<Self> {
        let (server, target) = match api {
            Api::Plinth { program } => {
                let server = PlinthServer::start(program, matches!(scheduler, Scheduler::Inside))?;
                let target = server.target().clone();
                (Server::Plinth(server), target)
            }
            Api::Kube { apiserver, etcd } => {
                // As scheduler_perf runs it: nobody makes service accounts, and nodes keep the taints that they have.
                let flags = [
                    "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                    "--runtime-config=scheduling.k8s.io/v1alpha2=true",
                    FEATURES,
                ];
                let server = Handle::current().block_on(KubeApiserver::start(apiserver, etcd, &flags))?;
                let target = server.target.clone();
                (Server::Kube(server), target)
            }
        };
        Ok(Contestant { beside: None, server, target })
    }

    /// Starts the scheduler, unless it is in the API server's process.
    pub fn schedule(&mut self, scheduler: &Scheduler) -> anyhow::Result<()> {
        if let Scheduler::Kube { program } = scheduler {
            self.beside = Some(Beside::start(program, &self.kubeconfig())?);
        }
        Ok(())
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    fn kubeconfig(&self) -> PathBuf {
        match &self.server {
            Server::Plinth(server) => server.kubeconfig(),
            Server::Kube(server) => server.kubeconfig(),
        }
    }

    /// What the scheduler has cost so far, where it is a process of its own.
    pub fn scheduler_cost(&self) -> anyhow::Result<Option<Cost>> {
        self.beside.as_ref().map(|beside| cost(&[beside.child.id()])).transpose()
    }

    /// What the API server and its store have cost so far, and a scheduler in it.
    pub fn server_cost(&self) -> anyhow::Result<Cost> {
        match &self.server {
            Server::Plinth(server) => cost(&[server.pid()]),
            Server::Kube(server) => cost(&server.pids()),
        }
    }

    /// The last that both have said, to be told with a failure.
    pub fn last_words(&self) -> String {
        let scheduler = self.beside.as_ref().map(|beside| ("scheduler", beside.log()));
        let server = match &self.server {
            Server::Plinth(server) => Some(("server", server.log())),
            Server::Kube(_) => None,
        };
        let tail = |(who, path): (&str, PathBuf)| {
            let log = fs::read_to_string(path).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(TOLD_LINES).collect();
            format!("the {who}'s log ends: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        scheduler.into_iter().chain(server).map(tail).collect::<Vec<_>>().join("; ")
    }
}

impl Beside {
    fn start(program: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-scheduler-").tempdir()?;
        let config = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig, "qps": NO_LIMIT, "burst": NO_LIMIT},
            "leaderElection": {"leaderElect": false}});
        let path = dir.path().join("config.yaml");
        // JSON is YAML.
        fs::write(&path, config.to_string())?;
        let log = File::create(dir.path().join("log"))?;
        let child = Command::new(program)
            .arg(format!("--config={}", path.display()))
            .args(["--secure-port=0", FEATURES])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Beside { child, dir })
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cost(pids: &[u32]) -> anyhow::Result<Cost> {
    let mut sum = Cost::default();
    for pid in pids {
        sum.cpu += process::cpu_micros(*pid)?;
        sum.peak += Usage::of(*pid)?.peak_kib as f64 / 1024.0;
    }
    Ok(sum)
}
