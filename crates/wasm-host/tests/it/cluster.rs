//! A scheduler with one Wasm plugin, `guest`, and what the tests ask of it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use runtime::{Clock, Tasks};
use sched_config::{Configuration, Gates, GoDuration};
use scheduler::Plugins;
use serde_json::{Value, json};

use crate::api::SchedulerApi;

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Cluster {
    pub api: SchedulerApi,
    tasks: Tasks,
    pub metrics: telemetry::Metrics,
    folder: tempfile::TempDir,
}

/// A module's text with the memory that it must have.
pub fn module(inside: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {inside} (memory (export \"memory\") 1 512))")).unwrap()
}

/// The filter that answers with a code.
pub fn filter(code: i32) -> String {
    format!("(func (export \"filter\") (result i32) (i32.const {code}))")
}

/// Laid over the arguments of a plugin.
pub fn with(mut args: Value, more: &Value) -> Value {
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

impl Cluster {
    /// One whose guest is this module, from a file that is looked at often. It is loaded.
    pub async fn start(module: &[u8], args: Value) -> Self {
        Cluster::start_on(SchedulerApi::default(), module, args).await
    }

    /// The same, where there is something already.
    pub async fn start_on(api: SchedulerApi, module: &[u8], args: Value) -> Self {
        Cluster::start_at(json!({}), api, module, args).await
    }

    /// The same with the plugins of single extension points.
    pub async fn start_at(points: Value, api: SchedulerApi, module: &[u8], args: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest.wasm");
        std::fs::write(&path, module).unwrap();
        let url = format!("file://{}", path.display());
        let args = with(json!({"guestURL": url, "pollInterval": "20ms"}), &args);
        let cluster = Cluster::of(api, folder, points, &args).unwrap();
        cluster.loaded(1).await;
        cluster
    }

    /// One with these arguments, where there is one node, `a`.
    pub fn with_args(args: &Value) -> Self {
        Cluster::of(nodes([("a", json!({}))]), tempfile::tempdir().unwrap(), json!({}), args).unwrap()
    }

    /// What is wrong with these arguments.
    pub fn refusal(args: &Value) -> String {
        Cluster::of(SchedulerApi::default(), tempfile::tempdir().unwrap(), json!({}), args).err().unwrap()
    }

    fn of(api: SchedulerApi, folder: tempfile::TempDir, points: Value, args: &Value) -> Result<Self, String> {
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tasks, metrics) = (Tasks::root(), telemetry::Metrics::default());
        let mut options = scheduler::Options::new(api.client(), Clock::system(), tasks.clone(), metrics.clone());
        options.plugins = vec![Arc::new(wasm_host::SchedulerPlugins::default())];
        options.configuration = configuration(&options.plugins, points, args);
        scheduler::start(options).map_err(|error| error.to_string())?.lead();
        Ok(Cluster { api, tasks, metrics, folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("guest.wasm")
    }

    /// Puts another module in the place of the first.
    pub fn replace(&self, module: &[u8]) {
        let new = self.folder.path().join("new.wasm");
        std::fs::write(&new, module).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    pub async fn loaded(&self, times: usize) {
        self.figure(&format!("scheduler_wasm_loads_total{{plugin=\"guest\",result=\"loaded\"}} {times}")).await;
    }

    /// Waits for a line of the metrics.
    pub async fn figure(&self, line: &str) {
        self.measures(line, |found| found == line).await;
    }

    /// Waits until a figure is so high at least.
    pub async fn reaches(&self, name: &str, least: usize) {
        let high = |line: &str| {
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            value.and_then(|value| value.parse::<usize>().ok()).is_some_and(|value| value >= least)
        };
        self.measures(&format!("{name} {least}"), high).await;
    }

    async fn measures(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let found = async {
            while !self.metrics.encode().lines().any(&holds) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, found).await.is_err() {
            panic!("{what} is not in\n{}", self.metrics.encode());
        }
    }

    pub fn node(&self, name: &str, labels: &Value) {
        put_node(&self.api, name, labels);
    }

    pub fn pod(&self, name: &str, labels: &Value) {
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels});
        let container = json!({"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m"}}});
        self.api.objects.put("pods", json!({"metadata": metadata, "spec": {"containers": [container]}}));
    }

    /// The pod's node, once it has one.
    pub async fn bound(&self, name: &str) -> String {
        let pod = self.api.pod(name, |pod| pod["spec"]["nodeName"].is_string()).await;
        pod["spec"]["nodeName"].as_str().unwrap().to_owned()
    }

    /// Waits until the pod says that it waits for this reason.
    pub async fn waits(&self, name: &str, reason: &str) {
        let says = |pod: &Value| pod["status"]["conditions"][0]["message"].as_str().is_some_and(|m| m.contains(reason));
        self.api.pod(name, says).await;
    }

    /// The message of the first event about a fault.
    pub async fn fault(&self) -> String {
        let event = self.api.event("PluginFailed").await;
        assert_eq!(event["type"], "Warning");
        event["message"].as_str().unwrap().to_owned()
    }
}

/// Adds a node. Where a test is about a choice, nodes must be there before the scheduler is: it hears of nodes and of pods
/// separately.
pub fn put_node(api: &SchedulerApi, name: &str, labels: &Value) {
    let allocatable = json!({"cpu": "8", "memory": "8Gi", "pods": "110"});
    let metadata = json!({"name": name, "labels": labels});
    api.objects.put("nodes", json!({"metadata": metadata, "status": {"allocatable": allocatable}}));
}

/// An API with nodes and nothing else.
pub fn nodes<'a>(nodes: impl IntoIterator<Item = (&'a str, Value)>) -> SchedulerApi {
    let api = SchedulerApi::default();
    nodes.into_iter().for_each(|(name, labels)| put_node(&api, name, &labels));
    api
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn configuration(plugins: &[Arc<dyn Plugins>], points: Value, args: &Value) -> Configuration {
    let everywhere = json!({"multiPoint": {"enabled": [{"name": "guest", "weight": 100}]}});
    let document = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [{
            "plugins": with(everywhere, &points),
            "pluginConfig": [{"name": "guest", "args": args}],
        }],
    });
    let gates = Gates::default();
    let document = sched_config::read(document.to_string().as_bytes(), &gates).unwrap();
    let catalogue = scheduler::catalogue(plugins, &document);
    Configuration::new(&document, GoDuration::seconds(300), &gates, &catalogue).unwrap()
}
