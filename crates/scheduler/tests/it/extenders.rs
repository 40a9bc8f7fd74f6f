//! Extenders over HTTP: the program beside this, written in another language, is asked as kube-scheduler would ask it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::Scheduler;

/// The extender. It ends with its standard input.
struct Extender {
    child: Child,
    url: String,
}

impl Extender {
    fn start() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/extender.py");
        let mut child =
            Command::new("python3").arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Extender { child, url: format!("http://127.0.0.1:{}/v1", port.trim()) }
    }

    /// A scheduler that has this extender, with these further lines of its configuration.
    fn scheduler(&self, lines: &str) -> Scheduler {
        let extender = format!("{{urlPrefix: {:?}, weight: 2, {lines}}}", self.url);
        Scheduler::configured(&format!("extenders: [{extender}]"))
    }

    /// What it was asked so far.
    async fn calls(&self) -> Vec<Value> {
        let url = self.url.clone();
        let asked = move || {
            let answer = Command::new("curl").args(["-sS", "--max-time", "5", &url]).output().unwrap();
            serde_json::from_slice(&answer.stdout).unwrap()
        };
        runtime::blocking(asked).await
    }

    async fn call(&self, verb: &str) -> Value {
        for _ in 0..500 {
            if let Some(call) = self.calls().await.into_iter().find(|call| call["verb"] == verb) {
                return call["args"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{verb} was not called: {:?}", self.calls().await);
    }
}

impl Drop for Extender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn put_node(scheduler: &Scheduler, name: &str, tier: &str) {
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "example.com/it": "10"});
    let metadata = json!({"name": name, "labels": {"tier": tier, "kubernetes.io/hostname": name}});
    scheduler.api.objects.put("nodes", json!({"metadata": metadata, "status": {"allocatable": allocatable}}));
}

fn put_pod(scheduler: &Scheduler, name: &str, requests: Value, metadata: Value, spec: Value) {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
    });
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    scheduler.api.objects.put("pods", object);
}

#[tokio::test]
async fn it_filters_and_prefers_nodes() {
    for cache in ["", "nodeCacheCapable: true"] {
        let extender = Extender::start();
        let scheduler = extender.scheduler(&format!("filterVerb: filter, prioritizeVerb: prioritize, {cache}"));
        for (name, tier) in [("web-1", "web"), ("web-2", "web"), ("web-3", "web"), ("db-1", "db")] {
            put_node(&scheduler, name, tier);
        }
        let wants = |name: &str, tier: &str| json!({"labels": {"tier": tier}, "annotations": {"wants": name}});
        for (name, tier) in [("web-2", "web"), ("web-3", "web"), ("db-1", "db")] {
            put_pod(&scheduler, &format!("on-{name}"), json!({"cpu": "1"}), wants(name, tier), json!({}));
            assert_eq!(scheduler.bound(&format!("on-{name}")).await, name, "{cache}");
        }
        put_pod(&scheduler, "lost", json!({"cpu": "1"}), wants("", "gpu"), json!({}));
        let told = scheduler.condition("lost").await;
        let message = told["message"].as_str().unwrap();
        assert!(message.starts_with("0/4 nodes are available: 4 another tier. "), "{message}");
        // It is sent the pod as the API has it, and nodes in full unless it knows them.
        let args = extender.call("filter").await;
        assert_eq!(args["Pod"]["metadata"]["annotations"]["wants"], "web-2");
        assert_eq!(args["Nodes"].is_null(), !cache.is_empty());
        if cache.is_empty() {
            assert_eq!(args["Nodes"]["items"][0]["status"]["allocatable"]["example.com/it"], "10");
        }
    }
}

#[tokio::test]
async fn it_binds() {
    let extender = Extender::start();
    let managed = "managedResources: [{name: example.com/it, ignoredByScheduler: true}]";
    let scheduler = extender.scheduler(&format!("bindVerb: bind, {managed}"));
    put_node(&scheduler, "a", "");
    put_pod(&scheduler, "not-its", json!({"cpu": "1"}), json!({}), json!({}));
    assert_eq!(scheduler.bound("not-its").await, "a");
    // More than the node has: the resource is the extender's business.
    put_pod(&scheduler, "its", json!({"example.com/it": "11"}), json!({}), json!({}));
    let expected = json!({"PodName": "its", "PodNamespace": "default", "PodUID": "uid-its", "Node": "a"});
    assert_eq!(extender.call("bind").await, expected);
    let message = "Successfully assigned default/its to a";
    scheduler.api.objects.wait("events", "its", |event| event["message"] == message).await;
}

#[tokio::test]
async fn it_spares_victims() {
    for cache in ["", "nodeCacheCapable: true"] {
        let extender = Extender::start();
        let scheduler = extender.scheduler(&format!("preemptVerb: preempt, {cache}"));
        for name in ["spare-1", "other"] {
            put_node(&scheduler, name, "");
            let spec = json!({"nodeName": name, "priority": if name == "other" { 5 } else { 1 }});
            put_pod(&scheduler, &format!("on-{name}"), json!({"cpu": "4"}), json!({}), spec);
        }
        put_pod(&scheduler, "high", json!({"cpu": "4"}), json!({}), json!({"priority": 100}));
        assert_eq!(scheduler.bound("high").await, "other", "{cache}");
        let args = extender.call("preempt").await;
        let (full, meta) = (&args["NodeNameToVictims"], &args["NodeNameToMetaVictims"]);
        match cache {
            "" => assert_eq!(full["spare-1"]["Pods"][0]["spec"]["nodeName"], "spare-1"),
            _ => assert_eq!(meta["spare-1"]["Pods"][0]["UID"], "uid-on-spare-1"),
        }
    }
}

#[tokio::test]
async fn one_that_fails_fails_the_attempt_unless_it_is_ignorable() {
    let check = async |verb: &str, expected: &str| {
        let extender = Extender::start();
        let verb = format!("filterVerb: {verb}, nodeCacheCapable: true, httpTimeout: 300ms");
        let scheduler = extender.scheduler(&verb);
        put_node(&scheduler, "a", "");
        put_pod(&scheduler, "p", json!({"cpu": "1"}), json!({}), json!({}));
        let told = scheduler.condition("p").await;
        assert_eq!(told["reason"], "SchedulerError");
        let message = told["message"].as_str().unwrap().replace(&extender.url, "URL");
        assert_eq!(message, expected);
        let ignoring = extender.scheduler(&format!("{verb}, ignorable: true"));
        put_node(&ignoring, "a", "");
        put_pod(&ignoring, "p", json!({"cpu": "1"}), json!({}), json!({}));
        assert_eq!(ignoring.bound("p").await, "a");
    };
    check("broken", "failed broken with extender at URL URL: code 500").await;
    check("slow", "failed slow with extender at URL URL: no answer within 300ms").await;
    check("refuse", "the moon is full").await;
    let lie = "extender \"URL\" claims a filtered node \"made-up\" which is not found in the input node list";
    check("lying", lie).await;
}

#[tokio::test]
async fn one_that_is_not_there_is_named() {
    let scheduler = Scheduler::configured(
        "extenders: [{urlPrefix: 'http://127.0.0.1:1', filterVerb: filter, weight: 1, nodeCacheCapable: true}]",
    );
    put_node(&scheduler, "a", "");
    put_pod(&scheduler, "p", json!({"cpu": "1"}), json!({}), json!({}));
    let told = scheduler.condition("p").await;
    let message = told["message"].as_str().unwrap();
    let (start, end) = ("failed filter with extender at URL http://127.0.0.1:1: ", "Connection refused (os error 111)");
    assert!(message.starts_with(start) && message.ends_with(end), "{message}");
}
