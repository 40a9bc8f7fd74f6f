//! A cluster of one node for each test, with a check afterwards that nothing of it is left on the machine.

use std::{fs, future::Future, panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use apiserver::{ApiServer, Identity, ServiceAccountOptions};
use client::{Api, Client, Informer, Informers, Key, Recorder};
use containers::Runtime;
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{DeleteParams, PostParams};
use node::{Handle, Node, Options};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};
use telemetry::Metrics;
use test_support::{image::busybox_archive, traces};

use crate::network::Namespaces;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How the folders of these tests are called.
const FOLDERS: &str = "pn";
pub const NODE: &str = "node-1";
pub const BUSYBOX: &str = "docker.io/library/busybox:test";

pub struct World {
    pub dir: PathBuf,
    pub client: Client,
    pub pods: Informer<Pod>,
    pub tasks: Tasks,
    cgroup_root: String,
    node: Option<RunningNode>,
}

struct RunningNode {
    handle: Handle,
    runtime: Runtime,
    tasks: Tasks,
}

/// Runs `test` in a world of its own, then removes everything and checks that it is gone.
pub fn with_world<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: containers need root");
        return;
    }
    // The process-wide choice may have been made by another test of this binary.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = traces::folder(FOLDERS);
    let dir = folder.path().to_path_buf();
    let root = traces::cgroup_root(&dir);
    let tasks = Tasks::root();
    let outcome = tokio.block_on(async {
        traces::remove_abandoned(FOLDERS, async |dir, root| {
            let _ = containers::cleanup(&dir.join("run"), &dir.join("data"), &root).await;
        })
        .await;
        let body = async {
            let mut world = test(World::open(dir.clone(), root.clone(), tasks.clone()).await).await;
            world.stop_node().await;
        };
        let outcome = AssertUnwindSafe(tokio::time::timeout(3 * PATIENCE, body)).catch_unwind().await;
        // Also after a panic nothing may go on while it is cleaned up.
        tasks.stop();
        tokio::time::sleep(Duration::from_millis(20)).await;
        containers::cleanup(&dir.join("run"), &dir.join("data"), &root).await.expect("cleaning up");
        outcome
    });
    tokio.shutdown_timeout(Duration::from_secs(1));
    traces::unmount_below(&dir);
    match outcome {
        Ok(finished) => finished.expect("the test took too long"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    folder.close().expect("the folder can be removed");
}

impl World {
    async fn open(dir: PathBuf, cgroup_root: String, tasks: Tasks) -> World {
        let clock = Clock::system();
        let options = store::Options::new(dir.join("store"), clock.clone(), tasks.child("store"));
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let accounts = ServiceAccountOptions {
            signing_key: apiserver::generate_signing_key().unwrap(),
            issuer: "https://kubernetes.default.svc".into(),
            audiences: vec!["https://kubernetes.default.svc".into()],
        };
        let options =
            apiserver::Options::new(store, accounts, clock.clone(), tasks.child("apiserver"), Metrics::default());
        let server = ApiServer::start(options).await.unwrap();
        server.ready().await;
        let client = Client::new(server.local(Identity::admin()), "default");
        let pods = Informers::new(client.clone(), tasks.child("informers")).all::<Pod>();
        let mut world = World { dir, client, pods, tasks, cgroup_root, node: None };
        world.start_node().await;
        world.node().handle.ready().await;
        world
            .create_raw(
                "/api/v1/namespaces/default/serviceaccounts",
                json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } }),
            )
            .await;
        world
    }

    pub async fn start_node(&mut self) {
        let (clock, tasks) = (Clock::system(), self.tasks.child("node"));
        let options = containers::Options {
            state_dir: self.dir.join("run"),
            data_dir: self.dir.join("data"),
            cgroup_root: self.cgroup_root.clone(),
            shim_command: vec![env!("CARGO_BIN_EXE_node-shim").into()],
            tasks: tasks.child("containers"),
            clock: clock.clone(),
        };
        let runtime = Runtime::open(options).await.expect("open the runtime");
        if runtime.images().get(BUSYBOX).is_none() {
            let archive = self.dir.join("busybox.tar");
            fs::write(&archive, busybox_archive(BUSYBOX)).unwrap();
            runtime.images().import(&archive).await.expect("import busybox");
        }
        let options = Options {
            client: self.client.clone(),
            informers: Informers::new(self.client.clone(), tasks.child("informers")),
            runtime: runtime.clone(),
            network: Arc::new(Namespaces { dir: self.dir.join("netns"), tasks: tasks.child("network") }),
            node_name: NODE.into(),
            node_ips: vec![[127, 0, 0, 1].into()],
            data_dir: self.dir.join("node"),
            cluster_dns: vec![[10, 43, 0, 10].into()],
            cluster_domain: "cluster.local".into(),
            pod_cidr: Some("10.99.0.0/24".into()),
            resolv_conf: "/etc/resolv.conf".into(),
            max_pods: node::DEFAULT_MAX_PODS,
            kubelet_port: 10250,
            recorder: Recorder::new(self.client.clone(), "kubelet", NODE, clock.clone(), &tasks),
            metrics: Metrics::default(),
            clock,
            tasks: tasks.clone(),
        };
        let handle = Node::start(options).await.expect("start the node");
        self.node = Some(RunningNode { handle, runtime, tasks });
    }

    fn node(&self) -> &RunningNode {
        self.node.as_ref().expect("the node runs")
    }

    pub fn runtime(&self) -> &Runtime {
        &self.node().runtime
    }

    /// Stops the node as a kill would: containers go on.
    pub async fn stop_node(&mut self) {
        if let Some(node) = self.node.take() {
            node.tasks.stop();
            assert!(node.tasks.join(PATIENCE).await, "the node's tasks end");
        }
    }

    pub async fn create_raw(&self, path: &str, object: Value) {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&object).unwrap())
            .unwrap();
        self.client.request::<Value>(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub async fn patch_raw(&self, path: &str, patch: Value) {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(&patch).unwrap())
            .unwrap();
        self.client.request::<Value>(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod that is bound to the node already.
    pub async fn pod(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!(NODE);
        if spec.get("automountServiceAccountToken").is_none() {
            spec["automountServiceAccountToken"] = json!(false);
        }
        for container in spec["containers"].as_array_mut().unwrap() {
            if container.get("image").is_none() {
                container["image"] = json!(BUSYBOX);
            }
        }
        let pod = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": name } }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.api().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.api().delete(name, &DeleteParams::default()).await.unwrap();
        self.until_gone(name).await;
    }

    /// Asks for the deletion and waits for nothing.
    pub async fn delete_now(&self, name: &str, parameters: &DeleteParams) {
        self.api().delete(name, parameters).await.unwrap();
    }

    /// Waits until the pod satisfies `holds`.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let mut changes = self.pods.subscribe();
        let key = Key::new("default", name);
        let wait = async {
            loop {
                if let Some(pod) = self.pods.get(&key).filter(|pod| holds(pod)) {
                    return pod;
                }
                changes.next().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(pod) => pod,
            Err(_) => {
                let status = self.pods.get(&key).and_then(|pod| pod.status.clone());
                panic!("never seen: {name} {what}\n{}", serde_json::to_string_pretty(&status).unwrap())
            }
        }
    }

    pub async fn until_gone(&self, name: &str) {
        let mut changes = self.pods.subscribe();
        let key = Key::new("default", name);
        let wait = async {
            while self.pods.get(&key).is_some() {
                changes.next().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never gone: {name}"));
    }

    pub async fn until_ready(&self, name: &str) -> Arc<Pod> {
        self.until(name, "is ready", |pod| condition(pod, "Ready") == "True").await
    }

    /// Waits for an event about the pod with this reason, and returns its message.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        self.event_with(name, reason, "").await
    }

    /// Waits for an event about the pod with this reason and this text in its message.
    pub async fn event_with(&self, name: &str, reason: &str, text: &str) -> String {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let wait = async {
            loop {
                let events = api.list(&Default::default()).await.unwrap();
                let found = events.items.into_iter().find(|event| {
                    event.involved_object.name.as_deref() == Some(name)
                        && event.reason.as_deref() == Some(reason)
                        && event.message.as_deref().is_some_and(|message| message.contains(text))
                });
                if let Some(event) = found {
                    return event.message.unwrap_or_default();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no event {reason} {text:?} about {name}"))
    }

    /// Sends a GET to the node's own HTTP service and reads the answer to its end.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use http_body_util::BodyExt;
        let response = self.open_get(path).await;
        let status = response.status().as_u16();
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("the answer ends");
        (status, String::from_utf8_lossy(&body.unwrap().to_bytes()).into_owned())
    }

    pub async fn open_get(&self, path: &str) -> http::Response<hyper::body::Incoming> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let handle = self.node().handle.clone();
        self.tasks.spawn("serve", async move {
            // The connection ends with the test's side of it.
            let _ = handle.serve_connection(theirs).await;
        });
        let io = hyper_util::rt::TokioIo::new(ours);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        self.tasks.spawn("connection", async move {
            let _ = connection.await;
        });
        let request = http::Request::get(path).header("host", "node").body(String::new()).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// What the pod has left on the node: its folders, sandboxes and mounts.
    pub fn left_of(&self, uid: &str) -> Vec<String> {
        let mounts = traces::mounts_below(&self.dir).into_iter().map(|point| point.display().to_string());
        let mut left: Vec<String> = mounts.filter(|point| point.contains(uid)).collect();
        for parent in ["node/pods", "node/logs", "netns"] {
            let entries = fs::read_dir(self.dir.join(parent)).into_iter().flatten().flatten();
            left.extend(entries.map(|e| e.path().display().to_string()).filter(|path| path.contains(uid)));
        }
        let sandboxes = self.runtime().list();
        left.extend(sandboxes.iter().filter(|s| s.config.uid == uid).map(|s| format!("sandbox {}", s.id)));
        left
    }

    /// Waits until nothing is left of the pod on the node.
    pub async fn until_nothing_left(&self, uid: &str) {
        let wait = async {
            while !self.left_of(uid).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("left on the node: {:?}", self.left_of(uid));
        }
    }
}

pub fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

pub fn condition(pod: &Pod, name: &str) -> String {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut found = conditions.filter(|condition| condition.type_ == name).map(|condition| condition.status.clone());
    found.next().unwrap_or_default()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)
}

/// Why a container waits, or empty.
pub fn waiting(pod: &Pod, name: &str) -> String {
    let state = container(pod, name).and_then(|status| status.state.as_ref());
    state.and_then(|state| state.waiting.as_ref()).and_then(|w| w.reason.clone()).unwrap_or_default()
}

/// A container that runs `script` with busybox.
pub fn shell(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": BUSYBOX, "command": ["sh", "-c", script] })
}
