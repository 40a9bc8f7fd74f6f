//! Who is measured: an API server and a scheduler, as processes that end with the value.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use serde_json::json;
use tokio::runtime::Handle;

use super::{
    objects,
    wire::{Pool, is_success},
};
use crate::{
    api::Target,
    peer::KubeApiserver,
    plinth::{self, Cluster},
    ports,
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
    /// `plinth up`, with its own scheduler in it.
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
    Plinth(Cluster),
    Kube(KubeApiserver),
}

/// An API server and the scheduler beside it, if it is not in it.
pub struct Contestant {
    // Ended in this order.
    beside: Option<Beside>,
    server: Server,
    target: Target,
    /// What pods have to say to be placed by the scheduler that is measured.
    name: Option<&'static str>,
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
    /// Starts the API server on an empty store and waits until it serves. No scheduler runs beside it yet.
    pub fn start(api: &Api) -> anyhow::Result<Self> {
        let (server, target) = match api {
            Api::Plinth { program } => {
                let flags =
                    [format!("--https-listen-port={}", ports::free()?), "--etcd-listen-address=none".to_owned()];
                let cluster = Cluster::start(program, &flags)?;
                let target = Handle::current().block_on(plinth::wait_for_node(&cluster))?;
                cordon(&target)?;
                (Server::Plinth(cluster), target)
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
        Ok(Contestant { beside: None, server, target, name: None })
    }

    /// Starts the scheduler.
    pub fn schedule(&mut self, scheduler: &Scheduler) -> anyhow::Result<()> {
        let Scheduler::Kube { program } = scheduler else { return Ok(()) };
        // Where another scheduler is at work, pods say whose they are.
        self.name = matches!(self.server, Server::Plinth(_)).then_some("kube-scheduler");
        self.beside = Some(Beside::start(program, &self.kubeconfig(), self.name)?);
        Ok(())
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The name of the scheduler that pods have to ask for, if it is not the default.
    pub fn name(&self) -> Option<&'static str> {
        self.name
    }

    fn kubeconfig(&self) -> PathBuf {
        match &self.server {
            Server::Plinth(cluster) => cluster.kubeconfig(),
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
            Server::Plinth(cluster) => cost(&[cluster.pid()]),
            Server::Kube(server) => cost(&server.pids()),
        }
    }

    /// The last that the scheduler has said, to be told with a failure.
    pub fn last_words(&self) -> String {
        let Some(beside) = &self.beside else { return String::new() };
        let log = fs::read_to_string(beside.log()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(TOLD_LINES).collect();
        format!("the scheduler's log ends: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

impl Beside {
    fn start(program: &Path, kubeconfig: &Path, name: Option<&str>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-scheduler-").tempdir()?;
        let config = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig, "qps": NO_LIMIT, "burst": NO_LIMIT},
            "leaderElection": {"leaderElect": false},
            "profiles": [{"schedulerName": name.unwrap_or("default-scheduler")}]});
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

/// Keeps pods away from the one node that is real.
fn cordon(target: &Target) -> anyhow::Result<()> {
    let mut pool = Pool::open(target, 1)?;
    let mut request = Vec::new();
    objects::head(target, "GET", "/api/v1/nodes", None, &mut request);
    let nodes: serde_json::Value = serde_json::from_slice(&pool.call(is_success, &request)?)?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let name = node["metadata"]["name"].as_str().context("a node without a name")?;
        let body = json!({"spec": {"unschedulable": true}}).to_string();
        let mut request = Vec::new();
        let kind = "application/merge-patch+json";
        objects::head(target, "PATCH", &format!("/api/v1/nodes/{name}"), Some((kind, body.len())), &mut request);
        request.extend_from_slice(body.as_bytes());
        pool.call(is_success, &request)?;
    }
    Ok(())
}
