//! The scheduler beside the real API server, in one process: what is written goes through admission, validation and storage.

use std::{sync::Arc, time::Duration};

use apiserver::{ApiServer, Identity, ServiceAccountOptions};
use client::Client;
use runtime::{Clock, Tasks};
use sched::framework::Plugin;
use sched_config::{Configuration, Gates, GoDuration, Point};
use scheduler::{Place, Plugins};
use serde_json::{Value, json};

/// The plugins whose arguments have a word.
pub struct Made {
    pub word: &'static str,
    pub points: &'static [Point],
    pub make: fn() -> Box<dyn Plugin>,
}

impl Plugins for Made {
    fn claims(&self, args: &sched_config::Value) -> bool {
        format!("{args:?}").contains(self.word)
    }

    fn points(&self) -> &'static [Point] {
        self.points
    }

    fn make(&self, _name: &str, _args: &sched_config::Value, _place: Place) -> Result<Box<dyn Plugin>, String> {
        Ok((self.make)())
    }
}

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// An API server without nodes.
pub struct Api {
    pub client: Client,
    pub clock: Clock,
    pub tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Api {
    /// Pods can be made in the namespaces `default` and `kube-system`.
    pub async fn start() -> Self {
        let (clock, tasks) = (Clock::system(), Tasks::root());
        let folder = tempfile::tempdir().unwrap();
        let options = store::Options::new(folder.path().join("store"), clock.clone(), tasks.child("store"));
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let issuer = "https://kubernetes.default.svc".to_owned();
        let signing_key = apiserver::generate_signing_key().unwrap();
        let accounts = ServiceAccountOptions { signing_key, issuer: issuer.clone(), audiences: vec![issuer] };
        let metrics = telemetry::Metrics::default();
        let options = apiserver::Options::new(store, accounts, clock.clone(), tasks.child("apiserver"), metrics);
        let server = ApiServer::start(options).await.unwrap();
        server.ready().await;
        let client = Client::new(server.local(Identity::admin()), "default");
        let api = Api { client, clock, tasks, _folder: folder };
        for namespace in ["default", "kube-system"] {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            api.send("POST", &path, json!({"metadata": {"name": "default"}})).await;
        }
        api
    }

    /// A scheduler with these lines of its configuration, and these plugins.
    pub fn schedule(&self, lines: &str, plugins: Vec<Arc<dyn Plugins>>) {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let gates = Gates::default();
        let read = sched_config::read(format!("{head}{lines}\n").as_bytes(), &gates).unwrap();
        let catalogue = scheduler::catalogue(&plugins, &read);
        let configuration = Configuration::new(&read, GoDuration::seconds(300), &gates, &catalogue).unwrap();
        let (client, clock, metrics) = (self.client.clone(), self.clock.clone(), telemetry::Metrics::default());
        let options = scheduler::Options::new(client, clock, self.tasks.clone(), metrics);
        scheduler::start(scheduler::Options { configuration, plugins, ..options }).unwrap().lead();
    }

    pub async fn node(&self, name: &str, room: Value) {
        let labels = json!({"kubernetes.io/hostname": name});
        let mut capacity = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        capacity.as_object_mut().unwrap().extend(room.as_object().unwrap().clone());
        let node = json!({"metadata": {"name": name, "labels": labels},
            "status": {"capacity": capacity, "conditions": [{"type": "Ready", "status": "True"}]}});
        self.send("POST", "/api/v1/nodes", node).await;
    }

    /// A pod that asks for these resources and goes at once when it is deleted; `spec` is laid over its spec.
    pub async fn pod(&self, name: &str, requests: Value, spec: Value) {
        self.send("POST", PODS, pod(name, requests, spec)).await;
    }

    /// The answer of the API, or its refusal.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> kube::Result<Value> {
        let kind = if method == "PATCH" { "application/strategic-merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        self.client.request(request.body(body.to_string().into_bytes()).unwrap()).await
    }

    pub async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What is at a path; null where nothing is.
    pub async fn get(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        match self.client.request(request).await {
            Ok(value) => value,
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Waits until what is at a path satisfies `holds`.
    pub async fn wait(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                last = self.get(path).await;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: not in time: {last}");
        last
    }

    /// The node of a pod, once it has one; by then the API says that it is scheduled, and promised to no other node.
    pub async fn bound(&self, pod: &str) -> String {
        let path = format!("{PODS}/{pod}");
        let found = self.wait(&path, "a node", |pod| pod["spec"]["nodeName"].is_string()).await;
        assert_eq!(condition(&found, "PodScheduled")["status"], "True", "{found}");
        assert!(found["status"]["nominatedNodeName"].is_null(), "{found}");
        found["spec"]["nodeName"].as_str().unwrap().to_owned()
    }

    /// Why a pod waits, once the API says so.
    pub async fn waits(&self, pod: &str) -> (String, String) {
        let path = format!("{PODS}/{pod}");
        let told = |pod: &Value| {
            let told = condition(pod, "PodScheduled");
            told["status"] == "False" && told["reason"] != "SchedulingGated"
        };
        let found = self.wait(&path, "it is told why", told).await;
        let told = condition(&found, "PodScheduled");
        assert!(found["spec"]["nodeName"].is_null());
        (told["reason"].as_str().unwrap().to_owned(), told["message"].as_str().unwrap().to_owned())
    }

    /// The first event with this reason about a pod.
    pub async fn event(&self, pod: &str, reason: &str) -> Value {
        let is = |event: &&Value| event["involvedObject"]["name"] == pod && event["reason"] == reason;
        let find = |list: &Value| list["items"].as_array().unwrap().iter().find(is).cloned();
        let list = self.wait("/api/v1/namespaces/default/events", reason, |list| find(list).is_some()).await;
        find(&list).unwrap()
    }

    /// Waits until a pod is gone.
    pub async fn gone(&self, pod: &str) {
        self.wait(&format!("{PODS}/{pod}"), "it is gone", Value::is_null).await;
    }

    /// A priority class for each of these names.
    pub async fn classes(&self, classes: &[(&str, i32)]) {
        for (name, value) in classes {
            let class = json!({"metadata": {"name": name}, "value": value});
            self.send("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        }
    }
}

pub fn pod(name: &str, requests: Value, spec: Value) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": requests, "limits": requests}});
    let mut object = json!({"metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

/// A condition of an object; null where it has none of this type.
pub fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.cloned().unwrap_or(Value::Null)
}
