//! The names, labels and kinds of all metrics that kube-scheduler v1.36 serves: ours serves them, too, or it is said here why
//! not.
//!
//! `metrics/names.txt` has a name, a kind and the labels in each line. It was put together by reading Kubernetes v1.36's source
//! (pkg/scheduler/metrics and its neighbours, component-base/metrics/prometheus) and what a kube-scheduler v1.36.2 served while it
//! placed pods and evicted some. Only the Go runtime's own (`go_*`) are not in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use client::Protocol;
use serde_json::{Value, json};

use crate::{
    api::{ADMIN, Api},
    devices::{self, CLASSES, SLICES},
    scheduler::{Scheduler, ours, real},
};

const NAMES: &str = include_str!("metrics/names.txt");
const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
/// More than it takes until one decision is measured.
const PODS_TO_PLACE: usize = 40;

/// What ours does not serve, and why; a `*` stands for anything.
const LEFT_OUT: [(&str, &str); 23] = [
    ("aggregator_*", "of Kubernetes' server library: there are no aggregated APIs here"),
    (
        "apiserver_*",
        "of Kubernetes' server library: no audit, storage, encryption or validation here; for who asks, see the next",
    ),
    ("authent*", "what it costs to know who asks for metrics is not counted"),
    ("authorization_*", "what it costs to know whether they may is not counted"),
    ("cardinality_enforcement_*", "of Kubernetes' metrics library: there are no flags here that limit labels"),
    ("disabled_metrics_total", "of Kubernetes' metrics library: no metric can be turned off here"),
    ("hidden_metrics_total", "of Kubernetes' metrics library: no metric is hidden here"),
    ("registered_metrics_total", "of Kubernetes' metrics library: metrics have no stages of stability here"),
    ("rest_client_exec_plugin_*", "what a kubeconfig's credential plugins do is not counted"),
    ("rest_client_rate_limiter_duration_seconds", "there is no limit on requests, and no wait for it"),
    ("rest_client_re*_size_bytes", "bodies are streamed, and nothing counts their bytes"),
    ("rest_client_request_retries_total", "the client does not retry: whoever asks knows better"),
    ("rest_client_transport_*", "connections are not kept by way of Go's transports"),
    ("scheduler_async_api_call_*", "there only with SchedulerAsyncAPICalls, which is off by default"),
    ("scheduler_pending_async_api_calls", "there only with SchedulerAsyncAPICalls, which is off by default"),
    ("scheduler_batch_*", "a plan that is taken up again is no hint at one node: all nodes compete as ever"),
    ("scheduler_get_node_hint_duration_seconds", "likewise"),
    ("scheduler_store_schedule_results_duration_seconds", "likewise"),
    ("scheduler_dra_bindingconditions_*", "devices are waited for as a part of PreBind, and not counted by driver"),
    ("scheduler_inflight_events", "a pod is decided on between two events: none is in flight"),
    ("scheduler_podgroup_*", "there only with GenericWorkload, which is off by default; gangs count pod by pod here"),
    ("scheduler_volume_*", "there is no binder with a cache and stages; what fails is PreBind's and the pod's event's"),
    ("workqueue_*", "there are no work queues of Go's controllers"),
];

/// What is served only when it happens, and cannot happen here.
const ELSEWHERE: [(&str, &str); 1] =
    [("scheduler_permit_wait_duration_seconds", "no plugin of Kubernetes' waits: scheduler::metrics::tests")];

/// The kind of a metric and its labels.
type Shape = (String, BTreeSet<String>);

/// What kube-scheduler serves.
fn names() -> BTreeMap<String, Shape> {
    let read = |line: &str| {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let labels = words.next().unwrap_or_default().split(',').filter(|label| !label.is_empty());
        (name, (kind, labels.map(str::to_owned).collect()))
    };
    NAMES.lines().map(read).collect()
}

/// What a text in the Prometheus format has.
fn served(text: &str) -> BTreeMap<String, Shape> {
    let mut all: BTreeMap<String, Shape> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let within = |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|family| all.contains_key(family));
            let suffix = ["_bucket", "_sum", "_count"].into_iter().find(within).unwrap_or_default();
            let family = name.strip_suffix(suffix).unwrap();
            let (_, labels) = all.get_mut(family).unwrap_or_else(|| panic!("of no kind: {line}"));
            labels.extend(labels_of(rest).into_iter().filter(|label| label != "le" && label != "quantile"));
        }
    }
    all
}

/// The labels' names of a sample's line: what stands before `="` outside of values.
fn labels_of(rest: &str) -> Vec<String> {
    let (mut labels, mut word) = (Vec::new(), String::new());
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                labels.push(std::mem::take(&mut word));
                let mut escaped = false;
                characters.by_ref().find(|&value| {
                    let ends = value == '"' && !escaped;
                    escaped = value == '\\' && !escaped;
                    ends
                });
            }
            '{' | ',' | '=' => {}
            '}' => break,
            other => word.push(other),
        }
    }
    labels
}

async fn place(api: &Api, name: &str, cpu: &str, class: Option<&str>) {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    let mut spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
    spec["priorityClassName"] = class.map_or(Value::Null, Into::into);
    api.send("POST", PODS, json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn bound(api: &Api, name: &str) {
    api.wait(&format!("{PODS}/{name}"), name, |pod| pod["spec"]["nodeName"].is_string()).await;
}

/// A node, and devices on it that stand for an extended resource.
async fn node(api: &Api) {
    api.make("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let priority = json!({"metadata": {"name": "high"}, "value": 1000});
    api.make("/apis/scheduling.k8s.io/v1/priorityclasses", priority).await;
    let selector = json!({"cel": {"expression": "true"}});
    let class = json!({"selectors": [selector], "extendedResourceName": "example.com/gpu"});
    api.make(CLASSES, json!({"metadata": {"name": "gpu"}, "spec": class})).await;
    api.send("POST", SLICES, devices::slice("n", vec![devices::device(0, "small", 8)])).await;
    let mut node = api.send("POST", NODES, json!({"metadata": {"name": "n"}})).await;
    node["status"] = json!({"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}});
    api.send("PUT", &format!("{NODES}/n/status"), node).await;
}

/// One pod that waits, many that do not, one that has another evicted, and one with a device.
async fn pods(api: &Api) {
    place(api, "large", "64", None).await;
    let waits = |pod: &Value| pod["status"]["conditions"][0]["reason"] == "Unschedulable";
    api.wait(&format!("{PODS}/large"), "it waits", waits).await;
    for n in 0..PODS_TO_PLACE {
        place(api, &format!("p{n}"), "1m", None).await;
        bound(api, &format!("p{n}")).await;
    }
    place(api, "low", "3", None).await;
    bound(api, "low").await;
    place(api, "high", "3", Some("high")).await;
    api.wait(&format!("{PODS}/low"), "it is evicted", Value::is_null).await;
    bound(api, "high").await;
    let amounts = json!({"example.com/gpu": "1"});
    let container = json!({"name": "c", "image": "i", "resources": {"requests": amounts, "limits": amounts}});
    let pod = json!({"metadata": {"name": "gpu"}, "spec": {"containers": [container]}});
    api.send("POST", PODS, pod).await;
    bound(api, "gpu").await;
}

/// Everything that a scheduler serves after some work.
async fn scenario(program: &Path) -> BTreeMap<String, Shape> {
    let api = Api::start().await;
    node(&api).await;
    let config = api.dir.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\npodInitialBackoffSeconds: 1\n\
         clientConnection: {{kubeconfig: {}, qps: 10000, burst: 10000, contentType: application/json}}\n",
        api.kubeconfig().display()
    );
    std::fs::write(&config, text).unwrap();
    let flag = |name: &str| format!("--{name}={}", api.kubeconfig().display());
    let config = format!("--config={}", config.display());
    let arguments = [config, flag("authentication-kubeconfig"), flag("authorization-kubeconfig")];
    let scheduler = Scheduler::start(program, &arguments);
    pods(&api).await;
    for path in ["/healthz", "/livez", "/readyz"] {
        scheduler.ask(path, None, Protocol::Http1).await;
    }
    let mut all = BTreeMap::new();
    for path in ["/metrics", "/metrics/slis", "/metrics/resources"] {
        let (code, kind, text) = scheduler.ask(path, Some(ADMIN), Protocol::Http1).await;
        assert!(code == 200 && kind.starts_with("text/plain; version=0.0.4"), "{path}: {code} {kind} {text}");
        all.extend(served(&text));
    }
    all
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|(pattern, _)| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((head, tail)) => name.starts_with(head) && name.ends_with(tail),
        None => name == pattern,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_served_or_it_is_said_why_not() {
    let found = scenario(&ours()).await;
    let mut wrong = Vec::new();
    for (name, shape) in names() {
        let elsewhere = ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == name);
        match found.get(&name) {
            Some(_) if is_left_out(&name) => wrong.push(format!("{name} is said to be left out and is served")),
            Some(own) if *own != shape => wrong.push(format!("{name} is {own:?} and not {shape:?}")),
            None if !is_left_out(&name) && !elsewhere => wrong.push(format!("{name} is missing")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}\nserved: {:?}", wrong.join("\n"), found.keys());
    let unused = |pattern: &&str| !names().keys().any(|name| matches(pattern, name));
    let unused: Vec<&str> = LEFT_OUT.iter().map(|(pattern, _)| *pattern).filter(unused).collect();
    assert!(unused.is_empty(), "left out, and nobody has it: {unused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_one_serves_these_names() {
    let Some(real) = real() else { return };
    let (names, mut wrong) = (names(), Vec::new());
    for (name, (kind, labels)) in scenario(&real).await {
        match names.get(&name) {
            // A metric that has counted nothing yet may have no sample, and so no labels.
            Some((known, all)) if *known == kind && (labels.is_empty() || labels == *all) => {}
            Some(known) => wrong.push(format!("{name} is {kind} {labels:?} and not {known:?}")),
            None if name.starts_with("go_") => {}
            None => wrong.push(format!("{name} is not in the list")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
