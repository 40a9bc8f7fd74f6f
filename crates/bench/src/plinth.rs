//! The whole process, measured from outside as a user sees it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    api::Target,
    load,
    process::Usage,
    report::{Goal::*, Report, median},
};

pub const READYZ: &str = "process start to /readyz";
pub const CREATES: &str = "create ConfigMaps of 1 KiB, 32 at once";
pub const LISTS: &str = "list them all as JSON, p50";

const ADDRESS: &str = "127.0.0.1:6443";
const RUN_DIR: &str = "/run/plinth-bench";
const PODS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster in a folder of its own, taken down with the value.
struct Cluster {
    binary: PathBuf,
    dir: tempfile::TempDir,
    child: Child,
}

impl Cluster {
    fn start(binary: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("plinth-bench-").tempdir()?;
        let child = Command::new(binary)
            .arg("up")
            .args(folders(dir.path()))
            .args(["--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Cluster { binary: binary.to_owned(), dir, child })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig.yaml")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = Command::new(&self.binary)
            .args(["down", "--purge"])
            .args(folders(self.dir.path()))
            .stdout(Stdio::null())
            .status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("plinth down failed");
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn folders(dir: &Path) -> Vec<String> {
    vec![
        format!("--data-dir={}", dir.join("data").display()),
        format!("--run-dir={RUN_DIR}"),
        format!("--write-kubeconfig={}", dir.join("kubeconfig.yaml").display()),
    ]
}

pub async fn measure(
    binary: &Path,
    kubectl: &Path,
    starts: usize,
    objects: usize,
    idle: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut readyz, mut ready) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..starts.max(1) {
        drop(last.take());
        let began = Instant::now();
        let cluster = Cluster::start(binary)?;
        wait_for_readyz().await?;
        readyz.push(began.elapsed().as_secs_f64());
        let target = wait_for_node(&cluster).await?;
        ready.push(began.elapsed().as_secs_f64());
        last = Some((cluster, target));
    }
    let (cluster, target) = last.context("nothing was started")?;
    report.plinth(READYZ, median(&mut readyz), "s", AtMost(0.5));
    report.plinth("process start to node Ready", median(&mut ready), "s", AtMost(1.5));

    let took = apply_example(&cluster, kubectl, &target).await?;
    report.plinth("kubectl apply of the example to 3 pods Ready", took, "s", AtMost(2.0));
    measure_idle(&cluster, idle, report).await?;
    let mut times = pod_starts(&target).await?;
    report.plinth("one pod, Bound to Running, p50", median(&mut times), "ms", AtMost(80.0));

    let per_second = load::create(&target, "default", objects).await?;
    report.plinth(CREATES, per_second, "/s", AtLeast(5000.0));
    let (milliseconds, size) = load::list(&target, "default").await?;
    report.plinth(LISTS, milliseconds, "ms", AtMost(40.0));
    report.note(&format!("one list of {objects} objects is {:.1} MB of JSON", size as f64 / 1e6));
    Ok(())
}

async fn wait_for_readyz() -> anyhow::Result<()> {
    let target = Target::anonymous(ADDRESS);
    let began = Instant::now();
    loop {
        if let Ok(mut connection) = target.connect().await
            && connection.call(Method::GET, "/readyz", Bytes::new()).await.is_ok()
        {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "/readyz did not answer");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wait_for_node(cluster: &Cluster) -> anyhow::Result<Target> {
    let began = Instant::now();
    loop {
        if let Ok(target) = Target::from_kubeconfig(&cluster.kubeconfig()) {
            let mut connection = target.connect().await?;
            while began.elapsed() < PATIENCE {
                let nodes = connection.get("/api/v1/nodes").await?;
                if condition(&nodes["items"][0], "Ready") {
                    return Ok(target);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        ensure!(began.elapsed() < PATIENCE, "the node did not become Ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|c| c["type"] == name && c["status"] == "True"))
}

async fn apply_example(cluster: &Cluster, kubectl: &Path, target: &Target) -> anyhow::Result<f64> {
    let mut connection = target.connect().await?;
    let began = Instant::now();
    let applied = Command::new(kubectl)
        .args(["apply", "-f", "examples/web.yaml"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("KUBECACHEDIR", cluster.dir.path().join("cache"))
        .stdout(Stdio::null())
        .status()
        .context("cannot run kubectl: make tools brings it")?;
    ensure!(applied.success(), "kubectl apply failed");
    loop {
        let pods = connection.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb").await?;
        let ready =
            pods["items"].as_array().map_or(0, |list| list.iter().filter(|pod| condition(pod, "Ready")).count());
        if ready == 3 {
            return Ok(began.elapsed().as_secs_f64());
        }
        ensure!(began.elapsed() < PATIENCE, "the pods did not become Ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Milliseconds from the event that shows the pod bound to the one that shows it running, for pods one after another.
async fn pod_starts(target: &Target) -> anyhow::Result<Vec<f64>> {
    let mut watching = target.connect().await?;
    let mut writing = target.connect().await?;
    let path = "/api/v1/namespaces/default/pods";
    let (status, mut body) =
        watching.send(Method::GET, &format!("{path}?watch=1&labelSelector=bench%3Dpods"), Bytes::new()).await?;
    ensure!(status == 200, "watch: {status}");
    let mut times = Vec::new();
    let mut buffer = Vec::new();
    for n in 0..PODS {
        let name = format!("bench-{n}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"bench": "pods"}},
            "spec": {"containers": [{"name": "a", "image": "plinth.io/demo:v1"}]}});
        writing.call(Method::POST, path, Bytes::from(pod.to_string())).await?;
        let mut bound = None;
        let running = async {
            while let Some(frame) = body.frame().await {
                buffer.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    let event: Value = serde_json::from_slice(&line)?;
                    let pod = &event["object"];
                    if pod["metadata"]["name"] != name.as_str() {
                        continue;
                    }
                    if bound.is_none() && pod["spec"]["nodeName"].is_string() {
                        bound = Some(Instant::now());
                    }
                    if let (Some(bound), "Running") = (bound, pod["status"]["phase"].as_str().unwrap_or("")) {
                        return Ok(bound.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            bail!("the watch ended")
        };
        times.push(tokio::time::timeout(PATIENCE, running).await.context("a pod did not start")??);
    }
    for n in 0..PODS {
        writing.call(Method::DELETE, &format!("{path}/bench-{n}?gracePeriodSeconds=0"), Bytes::new()).await?;
    }
    Ok(times)
}

/// Memory and CPU of the process and all its descendants, shims included, with three pods and nothing to do.
async fn measure_idle(cluster: &Cluster, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    // What starting has stirred up settles first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = processes(cluster)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = processes(cluster)?;
    let mib = |pick: fn(&Usage) -> u64| after.iter().map(pick).sum::<u64>() as f64 / 1024.0;
    report.plinth("idle with 3 pods: resident memory, all processes", mib(|p| p.resident_kib), "MiB", AtMost(150.0));
    report.plinth("  of it shared counted once (PSS)", mib(|p| p.proportional_kib), "MiB", Open);
    report.plinth(
        "  of it the main process",
        after.first().map_or(0.0, |p| p.resident_kib as f64 / 1024.0),
        "MiB",
        Open,
    );
    let ticks = |list: &[Usage]| list.iter().map(|p| p.ticks).sum::<u64>() as f64;
    let share = (ticks(&after) - ticks(&before)) / seconds as f64;
    report.plinth("idle with 3 pods: CPU", share, "% of a core", AtMost(1.0));
    Ok(())
}

/// The main process first, then every shim: all that run this binary.
fn processes(cluster: &Cluster) -> anyhow::Result<Vec<Usage>> {
    let binary = fs::canonicalize(&cluster.binary)?;
    let main = cluster.child.id();
    let mut found = vec![Usage::of(main)?];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let runs_it = fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == binary);
        if runs_it
            && pid != main
            && let Ok(process) = Usage::of(pid)
        {
            found.push(process);
        }
    }
    Ok(found)
}
