//! The scheduler against an API of a few lines: lists, watches, bindings, status patches and events of pods and nodes; and, where
//! the API itself has a part in it, against the real one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "it/api.rs"]
mod api;
#[path = "it/conformance.rs"]
mod conformance;
#[path = "it/extenders.rs"]
mod extenders;
#[path = "it/plugins.rs"]
mod plugins;
#[path = "it/real.rs"]
mod real;
#[path = "it/simulation.rs"]
mod simulation;

use std::time::Duration;

use api::SchedulerApi;
use runtime::{Clock, Tasks};
use sched_config::{Catalogue, Configuration, Gates, GoDuration};
use serde_json::{Value, json};

struct Scheduler {
    api: SchedulerApi,
    tasks: Tasks,
    metrics: telemetry::Metrics,
}

impl Scheduler {
    fn start() -> Self {
        Scheduler::start_on(SchedulerApi::default())
    }

    fn start_on(api: SchedulerApi) -> Self {
        Scheduler::start_with(api, Configuration::default())
    }

    /// With these lines of a KubeSchedulerConfiguration.
    fn configured(lines: &str) -> Self {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let gates = Gates::default();
        let read = sched_config::read(format!("{head}{lines}\n").as_bytes(), &gates).unwrap();
        let long = GoDuration::seconds(300);
        let configuration = Configuration::new(&read, long, &gates, &Catalogue::in_tree()).unwrap();
        Scheduler::start_with(SchedulerApi::default(), configuration)
    }

    /// Knows all that the API has before it decides.
    fn start_with(api: SchedulerApi, configuration: Configuration) -> Self {
        let (tasks, metrics) = (Tasks::root(), telemetry::Metrics::default());
        let options = scheduler::Options::new(api.client(), Clock::system(), tasks.clone(), metrics.clone());
        let options = scheduler::Options { configuration, ..options };
        scheduler::start(options).unwrap().lead();
        Scheduler { api, tasks, metrics }
    }

    fn node(&self, name: &str, cpu: &str) {
        let allocatable = json!({"cpu": cpu, "memory": "8Gi", "pods": "110"});
        self.api.objects.put("nodes", json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}}));
    }

    fn pod(&self, name: &str, cpu: &str) {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        self.api.objects.put("pods", json!({"metadata": metadata, "spec": {"containers": [container]}}));
    }

    /// The pod's node, once it has one.
    async fn bound(&self, name: &str) -> String {
        let spec = self.api.pod(name, |pod| pod["spec"]["nodeName"].is_string()).await;
        spec["spec"]["nodeName"].as_str().unwrap().to_owned()
    }

    /// Waits for a line of the metrics: they follow the binding, which the pod shows first.
    async fn figure(&self, line: &str) {
        for _ in 0..1000 {
            if self.metrics.encode().lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{line} is not in\n{}", self.metrics.encode());
    }

    async fn condition(&self, name: &str) -> Value {
        let pod = self.api.pod(name, |pod| pod["status"]["conditions"].is_array()).await;
        pod["status"]["conditions"][0].clone()
    }
}

/// What the scheduler thought, as the event says.
fn attempt(event: &Value) -> scheduler::why::Attempt {
    let annotation = event["metadata"]["annotations"][scheduler::why::ANNOTATION].as_str().unwrap();
    serde_json::from_str(annotation).unwrap()
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

#[tokio::test]
async fn a_pod_is_bound_and_the_event_says_so() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "4");
    scheduler.pod("p", "1");
    assert_eq!(scheduler.bound("p").await, "a");
    let event = scheduler.api.event("Scheduled").await;
    assert_eq!(event["message"], "Successfully assigned default/p to a");
    assert_eq!((&event["type"], &event["source"]["component"]), (&json!("Normal"), &json!("default-scheduler")));
    let attempt = attempt(&event);
    assert_eq!((attempt.attempt, attempt.nodes, attempt.feasible), (1, 1, 1));
    assert_eq!(attempt.scores[0].node, "a");
    assert_eq!(attempt.scores[0].plugins.values().sum::<i64>(), attempt.scores[0].score);
    assert!(attempt.scores[0].plugins.contains_key("NodeResourcesFit") && attempt.bound_us.is_some());
    for line in [
        "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"} 1",
        "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
        "scheduler_queue_incoming_pods_total{queue=\"active\",event=\"UnschedulablePodAdd\"} 1",
        "scheduler_cache_size{type=\"nodes\"} 1",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Bind\",status=\"Success\",\
         profile=\"default-scheduler\"} 1",
    ] {
        scheduler.figure(line).await;
    }
}

#[tokio::test]
async fn a_pod_without_a_node_says_why_and_is_bound_when_there_is_room() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "1");
    scheduler.pod("first", "1");
    scheduler.bound("first").await;
    scheduler.pod("second", "1");
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: \
                   1 No preemption victims found for incoming pod.";
    let condition = scheduler.condition("second").await;
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("False")));
    assert_eq!((&condition["reason"], &condition["message"]), (&json!("Unschedulable"), &json!(message)));
    assert!(condition["lastTransitionTime"].as_str().unwrap().ends_with('Z'));
    let event = scheduler.api.event("FailedScheduling").await;
    assert_eq!((&event["type"], &event["message"]), (&json!("Warning"), &json!(message)));
    let told = attempt(&event).rejected;
    assert_eq!((&*told[0].plugin, told[0].nodes, &*told[0].reason), ("NodeResourcesFit", 1, "Insufficient cpu"));
    let by_plugin = "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\",profile=\"default-scheduler\"}";
    scheduler.figure(&format!("{by_plugin} 1")).await;
    scheduler.figure("scheduler_preemption_attempts_total 1").await;
    scheduler.api.objects.delete("pods", "first");
    assert_eq!(scheduler.bound("second").await, "a");
    scheduler.figure(&format!("{by_plugin} 0")).await;
}

#[tokio::test]
async fn a_refused_binding_is_told_and_tried_again() {
    let scheduler = Scheduler::start();
    scheduler.api.refuse_bindings(1);
    scheduler.node("a", "1");
    scheduler.pod("p", "1");
    let event = scheduler.api.event("FailedScheduling").await;
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("running Bind plugin \"DefaultBinder\": "), "{message}");
    let condition = scheduler.condition("p").await;
    assert_eq!((&condition["reason"], &condition["message"]), (&json!("SchedulerError"), &json!(message)));
    assert_eq!(scheduler.bound("p").await, "a");
}

#[tokio::test]
async fn another_schedulers_pods_are_left_alone_but_counted() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "1");
    let spec =
        json!({"schedulerName": "other", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    let metadata = json!({"name": "foreign", "namespace": "default", "uid": "uid-foreign"});
    let mut foreign = json!({"metadata": metadata, "spec": spec});
    scheduler.api.objects.put("pods", foreign.clone());
    foreign["spec"]["nodeName"] = "a".into();
    scheduler.api.objects.put("pods", foreign);
    scheduler.pod("own", "1");
    let condition = scheduler.condition("own").await;
    assert!(condition["message"].as_str().unwrap().contains("1 Insufficient cpu"), "{condition}");
}

#[tokio::test]
async fn many_pods_fill_all_nodes() {
    let scheduler = Scheduler::start();
    for node in ["a", "b", "c", "d"] {
        scheduler.node(node, "10");
    }
    for n in 0..400 {
        scheduler.pod(&format!("p{n}"), "100m");
    }
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..400 {
        *counts.entry(scheduler.bound(&format!("p{n}")).await).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [100, 100, 100, 100]);
}

#[tokio::test]
async fn an_idle_scheduler_binds_at_once() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "4");
    scheduler.pod("warm", "1");
    scheduler.bound("warm").await;
    let clock = Clock::system();
    let mut best = Duration::MAX;
    for n in 0..10 {
        let begin = clock.monotonic();
        scheduler.pod(&format!("p{n}"), "10m");
        scheduler.bound(&format!("p{n}")).await;
        best = best.min(clock.monotonic() - begin);
    }
    println!("creation to binding, best of 10: {best:?}");
    assert!(best < Duration::from_millis(20), "{best:?}");
}

#[tokio::test]
async fn a_volume_is_bound_before_its_pod() {
    let scheduler = Scheduler::start();
    let objects = &scheduler.api.objects;
    scheduler.node("a", "4");
    let class = json!({"metadata": {"name": "local", "uid": "uid-local"}, "volumeBindingMode": "WaitForFirstConsumer",
        "provisioner": "kubernetes.io/no-provisioner"});
    objects.put("storageclasses", class);
    let modes = json!(["ReadWriteOnce"]);
    let volume = json!({"metadata": {"name": "v", "uid": "uid-v"}, "spec": {"storageClassName": "local",
        "accessModes": modes, "capacity": {"storage": "1Gi"}}, "status": {"phase": "Available"}});
    objects.put("persistentvolumes", volume);
    let metadata = json!({"name": "c", "namespace": "default", "uid": "uid-c"});
    let mut claim = json!({"metadata": metadata, "spec": {"storageClassName": "local", "accessModes": modes,
        "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
    objects.put("persistentvolumeclaims", claim.clone());
    let spec = json!({"containers": [{"name": "c"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]});
    let metadata = json!({"name": "p", "namespace": "default", "uid": "uid-p"});
    objects.put("pods", json!({"metadata": metadata, "spec": spec}));
    let volume = objects.wait("persistentvolumes", "v", |volume| volume["spec"]["claimRef"].is_object()).await;
    assert_eq!(volume["spec"]["claimRef"]["uid"], "uid-c");
    assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    assert!(objects.get("pods", "p").unwrap()["spec"]["nodeName"].is_null(), "its volume is not bound yet");
    // The part of the volume controller.
    claim["spec"]["volumeName"] = json!("v");
    claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    claim["status"]["phase"] = json!("Bound");
    objects.put("persistentvolumeclaims", claim);
    assert_eq!(scheduler.bound("p").await, "a");
}

#[tokio::test]
async fn a_pod_of_lower_priority_makes_room() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "1");
    scheduler.pod("low", "1");
    scheduler.bound("low").await;
    let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
    let metadata = json!({"name": "high", "namespace": "default", "uid": "uid-high"});
    let spec = json!({"priority": 1000, "containers": [container]});
    scheduler.api.objects.put("pods", json!({"metadata": metadata, "spec": spec}));
    let event = scheduler.api.event("Preempted").await;
    assert_eq!(event["message"], "Preempted by pod uid-high on node a");
    assert_eq!(event["involvedObject"]["name"], "low");
    assert_eq!(scheduler.bound("high").await, "a");
    let high = scheduler.api.objects.get("pods", "high").unwrap();
    assert_eq!(high["status"]["nominatedNodeName"], "a");
}

#[tokio::test]
async fn a_gang_waits_for_all_its_pods() {
    let scheduler = Scheduler::start();
    scheduler.node("a", "4");
    let member = |name: &str| {
        let spec = json!({"containers": [{"name": "c"}], "schedulingGroup": {"podGroupName": "g"}});
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        scheduler.api.objects.put("pods", json!({"metadata": metadata, "spec": spec}));
    };
    let metadata = json!({"name": "g", "namespace": "default", "uid": "uid-g"});
    let policy = json!({"gang": {"minCount": 2}});
    scheduler.api.objects.put("podgroups", json!({"metadata": metadata, "spec": {"schedulingPolicy": policy}}));
    member("m1");
    // One that comes later and is bound shows that the first has had its chance.
    scheduler.pod("other", "1");
    scheduler.bound("other").await;
    assert!(scheduler.api.objects.get("pods", "m1").unwrap()["spec"]["nodeName"].is_null());
    member("m2");
    scheduler.bound("m1").await;
    scheduler.bound("m2").await;
}

#[tokio::test]
async fn a_service_spreads_its_pods() {
    let api = SchedulerApi::default();
    for (name, cpu) in [("large", "16"), ("small", "4")] {
        let allocatable = json!({"cpu": cpu, "memory": "64Gi", "pods": "110"});
        let labels = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}});
        api.objects.put("nodes", node);
    }
    let selector = json!({"app": "web"});
    let metadata = json!({"name": "web", "namespace": "default", "uid": "uid-web"});
    api.objects.put("services", json!({"metadata": metadata, "spec": {"selector": selector}}));
    let scheduler = Scheduler::start_on(api);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..4 {
        let name = format!("w{n}");
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "labels": selector});
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        scheduler.api.objects.put("pods", json!({"metadata": metadata, "spec": {"containers": [container]}}));
        *counts.entry(scheduler.bound(&name).await).or_default() += 1;
    }
    // By what is left, the large one would get three at least.
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn a_device_has_one_claim_at_a_time() {
    let scheduler = Scheduler::start();
    let objects = &scheduler.api.objects;
    scheduler.node("a", "4");
    objects.put("deviceclasses", json!({"metadata": {"name": "gpu", "uid": "uid-gpu"}, "spec": {}}));
    let slice = json!({"driver": "gpu.example.com", "nodeName": "a", "devices": [{"name": "gpu-0"}],
        "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}});
    objects.put("resourceslices", json!({"metadata": {"name": "s", "uid": "uid-s"}, "spec": slice}));
    let claim = |name: &str| {
        let request = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        json!({"metadata": metadata, "spec": {"devices": {"requests": [{"name": "r", "exactly": request}]}}})
    };
    let pod = |name: &str, claim: &str| {
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        let claims = json!([{"name": "gpu", "resourceClaimName": claim}]);
        json!({"metadata": metadata, "spec": {"containers": [{"name": "c"}], "resourceClaims": claims}})
    };
    objects.put("pods", pod("first", "one"));
    // One that comes later and is bound shows that the first has had its chance.
    scheduler.pod("other", "1");
    scheduler.bound("other").await;
    assert!(objects.get("pods", "first").unwrap()["spec"]["nodeName"].is_null(), "its claim is not there yet");
    objects.put("resourceclaims", claim("one"));
    assert_eq!(scheduler.bound("first").await, "a");
    let mut one = objects.get("resourceclaims", "one").unwrap();
    assert_eq!(one["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));
    assert_eq!(one["status"]["allocation"]["devices"]["results"][0]["device"], "gpu-0");
    assert!(one["status"]["allocation"]["allocationTimestamp"].as_str().unwrap().ends_with('Z'));
    let user = json!([{"resource": "pods", "name": "first", "uid": "uid-first"}]);
    assert_eq!(one["status"]["reservedFor"], user);
    objects.put("resourceclaims", claim("two"));
    objects.put("pods", pod("second", "two"));
    let condition = scheduler.condition("second").await;
    let message = "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are \
        available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(condition["message"], message);
    // The part of the claims' controller.
    objects.delete("pods", "first");
    one["status"] = json!({});
    objects.put("resourceclaims", one);
    assert_eq!(scheduler.bound("second").await, "a");
}

#[tokio::test]
async fn a_failed_binding_takes_its_claims_back() {
    let scheduler = Scheduler::start();
    let objects = &scheduler.api.objects;
    scheduler.node("a", "4");
    let on = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["a"]}]}]});
    let result = json!({"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "gpu-0"});
    let metadata = json!({"name": "c", "namespace": "default", "uid": "uid-c"});
    let allocation = json!({"devices": {"results": [result]}, "nodeSelector": on});
    let claim = json!({"metadata": metadata, "spec": {}, "status": {"allocation": allocation}});
    objects.put("resourceclaims", claim);
    scheduler.api.refuse_bindings(1);
    let metadata = json!({"name": "p", "namespace": "default", "uid": "uid-p"});
    let spec = json!({"containers": [{"name": "c"}], "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]});
    objects.put("pods", json!({"metadata": metadata, "spec": spec}));
    scheduler.api.event("FailedScheduling").await;
    let free = |claim: &serde_json::Value| claim["status"]["reservedFor"] == json!([]);
    objects.wait("resourceclaims", "c without users", free).await;
    assert_eq!(scheduler.bound("p").await, "a");
    let claim = objects.get("resourceclaims", "c").unwrap();
    assert_eq!(claim["status"]["reservedFor"][0]["uid"], "uid-p");
}
