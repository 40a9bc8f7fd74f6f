//! The behaviours of Kubernetes' conformance and integration tests for scheduling and preemption that show in the API.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::LimitRange;
use kube::api::{WatchEvent, WatchParams};
use sched::{
    Pod, World,
    diagnosis::Rejection,
    framework::{Plugin, Point},
    pre_bind::Progress,
};
use serde_json::{Value, json};

use crate::real::{Api, Made, PODS, condition, pod};

async fn started() -> Api {
    let api = Api::start().await;
    api.schedule("", Vec::new());
    api
}

#[tokio::test]
async fn a_pod_gets_a_node_that_has_what_it_asks_for() {
    let api = started().await;
    // What a node does not say of its allocatable resources is its capacity.
    api.node("a", json!({"cpu": "1", "example.com/beard": "1000"})).await;
    api.pod("fits", json!({"cpu": "700m"}), json!({})).await;
    assert_eq!(api.bound("fits").await, "a");
    let event = api.event("fits", "Scheduled").await;
    assert_eq!(event["message"], "Successfully assigned default/fits to a");
    for (name, requests) in [("cpu", json!({"cpu": "700m"})), ("beard", json!({"example.com/beard": "1001"}))] {
        api.pod(name, requests, json!({})).await;
        let (reason, message) = api.waits(name).await;
        assert_eq!(reason, "Unschedulable");
        assert!(message.starts_with("0/1 nodes are available: 1 Insufficient "), "{message}");
        assert_eq!(api.event(name, "FailedScheduling").await["message"], message);
    }
    // What it can give becomes less than it has; and then more.
    let allocatable = |cpu: &str| json!({"status": {"allocatable": {"cpu": cpu}}});
    api.send("PATCH", "/api/v1/nodes/a/status", allocatable("500m")).await;
    api.send("DELETE", &format!("{PODS}/fits"), json!({})).await;
    api.pod("less", json!({"cpu": "600m"}), json!({})).await;
    api.waits("less").await;
    api.send("PATCH", "/api/v1/nodes/a/status", allocatable("1500m")).await;
    assert_eq!((api.bound("less").await, api.bound("cpu").await), ("a".into(), "a".into()));
}

#[tokio::test]
async fn labels_taints_and_cordons_are_respected() {
    let api = started().await;
    api.node("a", json!({})).await;
    let selecting = || json!({"nodeSelector": {"label": "nonempty"}});
    api.pod("chooses", json!({}), selecting()).await;
    let (_, message) = api.waits("chooses").await;
    assert!(message.contains("1 node(s) didn't match Pod's node affinity/selector"), "{message}");
    api.send("PATCH", "/api/v1/nodes/a", json!({"metadata": {"labels": {"label": "nonempty"}}})).await;
    assert_eq!(api.bound("chooses").await, "a");
    api.send("PATCH", "/api/v1/nodes/a", json!({"spec": {"unschedulable": true}})).await;
    api.pod("plain", json!({}), json!({})).await;
    let (_, message) = api.waits("plain").await;
    assert!(message.contains("1 node(s) were unschedulable"), "{message}");
    api.send("PATCH", "/api/v1/nodes/a", json!({"spec": {"unschedulable": false}})).await;
    assert_eq!(api.bound("plain").await, "a");
    let hot = json!([{"key": "hot", "value": "yes", "effect": "NoSchedule"}]);
    api.send("PATCH", "/api/v1/nodes/a", json!({"spec": {"taints": hot}})).await;
    api.pod("cool", json!({}), json!({})).await;
    api.waits("cool").await;
    let toleration = json!({"key": "hot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"});
    api.pod("tolerant", json!({}), json!({"tolerations": [toleration]})).await;
    assert_eq!(api.bound("tolerant").await, "a");
    // A pod may tolerate more while it waits.
    let mut cool = api.get(&format!("{PODS}/cool")).await;
    let mut all = cool["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    all.push(toleration);
    cool["spec"]["tolerations"] = json!(all);
    cool["metadata"]["resourceVersion"] = Value::Null;
    api.send("PUT", &format!("{PODS}/cool"), cool).await;
    assert_eq!(api.bound("cool").await, "a");
}

#[tokio::test]
async fn the_same_port_of_a_node_is_taken_once() {
    let api = started().await;
    api.node("a", json!({})).await;
    let wants = |ip: &str, protocol: &str| {
        let port = json!({"containerPort": 8080, "hostPort": 54322, "hostIP": ip, "protocol": protocol});
        json!({"containers": [{"name": "c", "image": "i", "ports": [port]}]})
    };
    for (name, ip, protocol) in [("p1", "127.0.0.1", "TCP"), ("p2", "127.0.0.2", "TCP"), ("p3", "127.0.0.2", "UDP")] {
        api.pod(name, json!({}), wants(ip, protocol)).await;
        assert_eq!(api.bound(name).await, "a");
    }
    api.node("b", json!({})).await;
    api.pod("everywhere", json!({}), wants("0.0.0.0", "TCP")).await;
    assert_eq!(api.bound("everywhere").await, "b");
    api.pod("none-left", json!({}), wants("127.0.0.1", "TCP")).await;
    let (_, message) = api.waits("none-left").await;
    assert!(message.contains("2 node(s) didn't have free ports for the requested pod ports"), "{message}");
}

#[tokio::test]
async fn gates_hold_a_pod_until_they_are_gone() {
    let api = started().await;
    api.node("a", json!({})).await;
    api.pod("gated", json!({}), json!({"schedulingGates": [{"name": "example.com/x"}, {"name": "example.com/y"}]}))
        .await;
    let path = format!("{PODS}/gated");
    let found = api.get(&path).await;
    assert_eq!(condition(&found, "PodScheduled")["reason"], "SchedulingGated", "{found}");
    // One that comes later and is bound shows that the first has had its chance.
    api.pod("other", json!({}), json!({})).await;
    api.bound("other").await;
    let gates = |gates: Value| json!({"spec": {"schedulingGates": gates}});
    let less = json!([{"$patch": "delete", "name": "example.com/x"}]);
    api.send("PATCH", &path, gates(less)).await;
    api.pod("another", json!({}), json!({})).await;
    api.bound("another").await;
    assert!(api.get(&path).await["spec"]["nodeName"].is_null());
    api.send("PATCH", &path, gates(Value::Null)).await;
    assert_eq!(api.bound("gated").await, "a");
}

#[tokio::test]
async fn a_binding_is_for_the_pod_that_was_decided_on() {
    let api = Api::start().await;
    api.node("a", json!({})).await;
    api.pod("p", json!({}), json!({})).await;
    let binding = |uid: &str| json!({"metadata": {"name": "p", "uid": uid}, "target": {"kind": "Node", "name": "a"}});
    let path = format!("{PODS}/p/binding");
    let refused = api.ask("POST", &path, binding("another")).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 409), "{refused}");
    let uid = api.get(&format!("{PODS}/p")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    api.send("POST", &path, binding(&uid)).await;
    assert_eq!(api.bound("p").await, "a");
}

#[tokio::test]
async fn profiles_and_schedulers_place_pods_of_their_own() {
    let api = Api::start().await;
    api.schedule("profiles: [{schedulerName: default-scheduler}, {schedulerName: custom}]", Vec::new());
    api.node("a", json!({})).await;
    let named = |name: &str| json!({"schedulerName": name});
    api.pod("foreign", json!({}), named("foreign")).await;
    for (pod, spec, profile) in [
        ("plain", json!({}), "default-scheduler"),
        ("named", named("default-scheduler"), "default-scheduler"),
        ("custom", named("custom"), "custom"),
    ] {
        api.pod(pod, json!({}), spec).await;
        api.bound(pod).await;
        let event = api.event(pod, "Scheduled").await;
        assert_eq!((&event["reportingComponent"], &event["source"]["component"]), (&json!(profile), &json!(profile)));
    }
    assert!(api.get(&format!("{PODS}/foreign")).await["spec"]["nodeName"].is_null());
    api.schedule("profiles: [{schedulerName: foreign}]", Vec::new());
    assert_eq!(api.bound("foreign").await, "a");
}

/// Two nodes with five of a scarce resource each, of which pods have four: the first of low priority, the others of medium.
async fn crowded() -> Api {
    let api = started().await;
    api.classes(&[("low", 1), ("medium", 100), ("high", 1000)]).await;
    for node in ["a", "b"] {
        api.node(node, json!({"example.com/scarce": "5"})).await;
        for n in 0..2 {
            let class = if (node, n) == ("a", 0) { "low" } else { "medium" };
            let spec = json!({"priorityClassName": class, "nodeSelector": {"kubernetes.io/hostname": node}});
            api.pod(&format!("{node}{n}"), scarce("2"), spec).await;
            assert_eq!(api.bound(&format!("{node}{n}")).await, node);
        }
    }
    api
}

fn scarce(amount: &str) -> Value {
    json!({"example.com/scarce": amount})
}

#[tokio::test]
async fn the_least_important_pod_makes_room() {
    for (class, namespace) in [("high", "default"), ("system-cluster-critical", "kube-system")] {
        let api = crowded().await;
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        api.send("POST", &path, pod("preemptor", scarce("2"), json!({"priorityClassName": class}))).await;
        let path = format!("{path}/preemptor");
        let found = api.wait(&path, "it has a node", |pod| pod["spec"]["nodeName"].is_string()).await;
        assert_eq!(found["spec"]["nodeName"], "a");
        assert!(found["status"]["nominatedNodeName"].is_null(), "{found}");
        let event = api.event("a0", "Preempted").await;
        let uid = found["metadata"]["uid"].as_str().unwrap();
        assert_eq!(event["message"], format!("Preempted by pod {uid} on node a"));
        api.gone("a0").await;
        for spared in ["a1", "b0", "b1"] {
            assert!(api.get(&format!("{PODS}/{spared}")).await["metadata"]["deletionTimestamp"].is_null(), "{spared}");
        }
    }
}

#[tokio::test]
async fn a_preempted_pod_is_told_and_its_node_is_kept_for_the_other() {
    let api = started().await;
    api.classes(&[("low", 1), ("high", 1000)]).await;
    api.node("a", scarce("1")).await;
    let mut victim = pod("victim", scarce("1"), json!({"priorityClassName": "low"}));
    victim["metadata"]["finalizers"] = json!(["example.com/held"]);
    api.send("POST", PODS, victim).await;
    api.bound("victim").await;
    let never = json!({"metadata": {"name": "polite"}, "value": 1000, "preemptionPolicy": "Never"});
    api.send("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", never).await;
    api.pod("polite", scarce("1"), json!({"priorityClassName": "polite"})).await;
    let (_, message) = api.waits("polite").await;
    assert!(message.ends_with("not eligible due to preemptionPolicy=Never."), "{message}");
    api.send("DELETE", &format!("{PODS}/polite"), json!({})).await;
    api.pod("high", scarce("1"), json!({"priorityClassName": "high"})).await;
    let path = format!("{PODS}/victim");
    let found = api.wait(&path, "it goes", |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    let told = condition(&found, "DisruptionTarget");
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("PreemptionByScheduler")));
    assert_eq!(told["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    let found = api.wait(&format!("{PODS}/high"), "it waits", |pod| pod["status"]["nominatedNodeName"] == "a").await;
    assert_eq!(condition(&found, "PodScheduled")["reason"], "Unschedulable");
    api.send("PATCH", &path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(api.bound("high").await, "a");
}

#[tokio::test]
async fn a_budget_is_kept_where_it_can_be() {
    let api = started().await;
    api.classes(&[("low", 1), ("medium", 100), ("high", 1000)]).await;
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "low"}}}});
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.send("POST", budgets, budget).await;
    let none = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    api.send("PATCH", &format!("{budgets}/b/status"), none).await;
    for (node, name) in [("a", "low"), ("b", "medium")] {
        api.node(node, scarce("1")).await;
        let spec = json!({"priorityClassName": name, "nodeSelector": {"kubernetes.io/hostname": node}});
        api.pod(name, scarce("1"), spec).await;
        api.bound(name).await;
    }
    api.pod("p", scarce("1"), json!({"priorityClassName": "high"})).await;
    assert_eq!(api.bound("p").await, "b");
    assert!(api.get(&format!("{PODS}/low")).await["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_sets_lose_what_it_takes_and_no_more() {
    let api = started().await;
    let informers = client::Informers::new(api.client.clone(), api.tasks.child("informers"));
    let metrics = telemetry::Metrics::default();
    let tasks = api.tasks.child("controllers");
    let options = controllers::Options::new(informers, api.clock.clone(), tasks, metrics, "PEM".into());
    let controllers = controllers::Service::start(options);
    controllers.synced().await;
    api.classes(&[("p1", 1), ("p2", 2), ("p3", 3), ("p4", 4)]).await;
    api.node("a", json!({"example.com/fakecpu": "1000"})).await;
    let fake = |amount: &str| json!({"example.com/fakecpu": amount});
    let sets = [("one", "p1", "200"), ("two", "p2", "300"), ("three", "p3", "450")];
    for (name, class, amount) in sets {
        let template = pod(name, fake(amount), json!({"priorityClassName": class}));
        let template = json!({"metadata": {"labels": {"app": name}}, "spec": template["spec"]});
        let set = json!({"metadata": {"name": name}, "spec": {"replicas": 1,
            "selector": {"matchLabels": {"app": name}}, "template": template}});
        api.send("POST", "/apis/apps/v1/namespaces/default/replicasets", set).await;
    }
    let of = |name: &str| format!("{PODS}?labelSelector=app%3D{name}");
    let node = |pod: &Value| pod["spec"]["nodeName"].is_string();
    let mut first = Vec::new();
    for (name, ..) in sets {
        let has = |list: &Value| list["items"].as_array().is_some_and(|all| all.len() == 1 && node(&all[0]));
        let list = api.wait(&of(name), "its pod has a node", has).await;
        first.push(list["items"][0]["metadata"]["uid"].clone());
    }
    api.pod("four", fake("500"), json!({"priorityClassName": "p4"})).await;
    assert_eq!(api.bound("four").await, "a");
    // Those that went have successors, which wait; the third was spared.
    for ((name, ..), before) in sets.into_iter().zip(first) {
        let waits = |list: &Value| {
            list["items"].as_array().is_some_and(|all| {
                all.len() == 1
                    && all[0]["metadata"]["uid"] != before
                    && condition(&all[0], "PodScheduled")["status"] == "False"
            })
        };
        let stays = |list: &Value| {
            list["items"]
                .as_array()
                .is_some_and(|all| all.len() == 1 && all[0]["metadata"]["uid"] == before && node(&all[0]))
        };
        if name == "three" {
            api.wait(&of(name), "it stays", stays).await;
        } else {
            api.wait(&of(name), "its successor waits", waits).await;
        }
    }
    controllers.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_pod_that_waits_for_its_volume_is_promised_its_node() {
    let api = started().await;
    api.node("a", json!({})).await;
    let class = json!({"metadata": {"name": "slow"}, "provisioner": "example.com/slow", "volumeBindingMode": "WaitForFirstConsumer"});
    api.send("POST", "/apis/storage.k8s.io/v1/storageclasses", class).await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    api.send("POST", claims, claim).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    api.pod("p", json!({}), json!({"volumes": volumes})).await;
    let path = format!("{PODS}/p");
    let found = api.wait(&path, "its node is told", |pod| pod["status"]["nominatedNodeName"] == "a").await;
    assert!(found["spec"]["nodeName"].is_null());
    // The part of the provisioner and of the volume controller.
    let selected = |claim: &Value| claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "a";
    let claim = api.wait(&format!("{claims}/c"), "the node is selected", selected).await;
    let reference =
        json!({"kind": "PersistentVolumeClaim", "namespace": "default", "name": "c", "uid": claim["metadata"]["uid"]});
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"}, "claimRef": reference, "hostPath": {"path": "/tmp/v"}}});
    api.send("POST", "/api/v1/persistentvolumes", volume).await;
    let bound =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
    api.send("PATCH", &format!("{claims}/c"), bound).await;
    api.send("PATCH", &format!("{claims}/c/status"), json!({"status": {"phase": "Bound"}})).await;
    assert_eq!(api.bound("p").await, "a");
}

#[tokio::test]
async fn a_promise_is_taken_back_when_there_is_no_node_any_more() {
    let api = started().await;
    api.classes(&[("low", 1), ("high", 1000)]).await;
    api.node("a", scarce("1")).await;
    let mut victim = pod("victim", scarce("1"), json!({"priorityClassName": "low"}));
    victim["metadata"]["finalizers"] = json!(["example.com/held"]);
    api.send("POST", PODS, victim).await;
    api.bound("victim").await;
    api.pod("high", scarce("1"), json!({"priorityClassName": "high"})).await;
    let path = format!("{PODS}/high");
    api.wait(&path, "it is promised a node", |pod| pod["status"]["nominatedNodeName"] == "a").await;
    api.send("DELETE", "/api/v1/nodes/a", json!({})).await;
    api.send("PATCH", &format!("{PODS}/victim"), json!({"metadata": {"finalizers": null}})).await;
    api.wait(&path, "it is promised nothing", |pod| pod["status"]["nominatedNodeName"].is_null()).await;
}

/// Has pods of little importance wait for a permit, which they get on the small node.
struct Patience;

impl Plugin for Patience {
    fn name(&self) -> &str {
        "Patience"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Permit]
    }

    fn permit(&self, pod: &Pod, _node: &str, _world: &World) -> Result<Option<Duration>, Rejection> {
        Ok((pod.spec.priority == 1).then_some(WAITS))
    }

    fn permitted(&self, _pod: &Pod, node: &str, _world: &World) -> Progress {
        if node == "small" { Progress::Done } else { Progress::Waiting }
    }
}

/// So long a pod waits at most; no test does.
const WAITS: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_victim_that_waits_for_a_permit_stays_and_finds_another_node() {
    let api = Api::start().await;
    let profile = "profiles: [{plugins: {permit: {enabled: [{name: Patience}]}}, pluginConfig: [{name: Patience, args: {patience: 1}}]}]";
    let made = Made { word: "patience", points: &[sched_config::Point::Permit], make: || Box::new(Patience) };
    api.schedule(profile, vec![Arc::new(made)]);
    api.classes(&[("low", 1), ("high", 1000)]).await;
    api.node("large", scarce("2")).await;
    api.pod("victim", scarce("1"), json!({"priorityClassName": "low"})).await;
    let path = format!("{PODS}/victim");
    api.wait(&path, "it waits for its permit", |pod| pod["status"]["nominatedNodeName"] == "large").await;
    api.node("small", scarce("1")).await;
    api.pod("preemptor", scarce("2"), json!({"priorityClassName": "high"})).await;
    assert_eq!(api.bound("preemptor").await, "large");
    let uid = api.get(&format!("{PODS}/preemptor")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let event = api.event("victim", "Preempted").await;
    assert_eq!(event["message"], format!("Preempted by pod {uid} on node large (in kube-scheduler memory)."));
    assert_eq!(api.bound("victim").await, "small");
    let victim = api.get(&path).await;
    assert!(victim["metadata"]["deletionTimestamp"].is_null() && condition(&victim, "DisruptionTarget").is_null());
}

/// Amounts of cpu, memory and local storage; those that are empty are left out.
fn amounts(cpu: &str, memory: &str, storage: &str) -> Value {
    let all = [("cpu", cpu), ("memory", memory), ("ephemeral-storage", storage)];
    all.into_iter().filter(|(_, amount)| !amount.is_empty()).map(|(name, amount)| (name, json!(amount))).collect()
}

/// A limit range for containers with every amount of the conformance tests.
fn limit_range(name: &str, labels: Value) -> Value {
    let item = json!({
        "type": "Container", "min": amounts("50m", "100Mi", "100Gi"), "max": amounts("500m", "500Mi", "500Gi"),
        "default": amounts("500m", "500Mi", "500Gi"), "defaultRequest": amounts("100m", "200Mi", "200Gi"),
    });
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"limits": [item]}})
}

const LIMIT_RANGES: &str = "/api/v1/namespaces/default/limitranges";

#[tokio::test]
async fn a_limit_range_gives_defaults_and_sets_bounds() {
    let api = Api::start().await;
    let ranges: kube::Api<LimitRange> = kube::Api::namespaced(api.client.clone(), "default");
    let selected = WatchParams::default().labels("time=now");
    let watch = ranges.watch(&selected, "0").await.unwrap();
    api.send("POST", LIMIT_RANGES, limit_range("limit-range", json!({"time": "now"}))).await;
    let event = std::pin::pin!(watch).try_next().await.unwrap();
    assert!(matches!(event, Some(WatchEvent::Added(_))), "{event:?}");
    let path = format!("{LIMIT_RANGES}/limit-range");
    let mut range = api.get(&path).await;
    let (requests, limits) = (amounts("100m", "200Mi", "200Gi"), amounts("500m", "500Mi", "500Gi"));
    let item = &range["spec"]["limits"][0];
    assert_eq!((&item["defaultRequest"], &item["default"]), (&requests, &limits));

    let ask = |name: &str, requests: Value, limits: Value| {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": requests, "limits": limits}});
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [container]}});
        let api = &api;
        async move { api.ask("POST", PODS, pod).await }
    };
    let usual = json!({"requests": requests, "limits": limits});
    // A limit is a request, too: the default for requests counts where there is no limit either.
    let partial = json!({"requests": amounts("300m", "150Mi", "150Gi"), "limits": amounts("300m", "500Mi", "500Gi")});
    for (name, requests, limits, expected) in [
        ("no-resources", json!({}), json!({}), usual),
        ("partial-resources", amounts("", "150Mi", "150Gi"), amounts("300m", "", ""), partial),
    ] {
        ask(name, requests, limits).await.unwrap();
        let pod = api.get(&format!("{PODS}/{name}")).await;
        assert_eq!(pod["spec"]["containers"][0]["resources"], expected, "{name}");
    }
    let (low, high) = (amounts("10m", "50Mi", "50Gi"), amounts("600m", "600Mi", "600Gi"));
    ask("low", low.clone(), json!({})).await.unwrap_err();
    ask("high", high.clone(), json!({})).await.unwrap_err();
    range["spec"]["limits"][0]["min"] = amounts("9m", "49Mi", "49Gi");
    let updated = api.send("PUT", &path, range).await;
    assert_eq!(updated["spec"]["limits"][0]["min"], amounts("9m", "49Mi", "49Gi"));
    ask("low", low, json!({})).await.unwrap();
    ask("high", high.clone(), json!({})).await.unwrap_err();
    api.send("DELETE", &path, json!({"gracePeriodSeconds": 30})).await;
    assert_eq!(api.get(LIMIT_RANGES).await["items"], json!([]));
    ask("high", high, json!({})).await.unwrap();
}

#[tokio::test]
async fn limit_ranges_are_listed_patched_and_deleted_by_their_labels() {
    let api = Api::start().await;
    let range = limit_range("r", json!({"e2e-test": "r", "r": "created"}));
    let created = api.send("POST", LIMIT_RANGES, range.clone()).await;
    api.send("POST", "/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await;
    api.send("POST", "/api/v1/namespaces/other/limitranges", range).await;
    let everywhere = "/api/v1/limitranges?labelSelector=e2e-test%3Dr";
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(api.get(everywhere).await), 2);
    let mut limits = created["spec"]["limits"].clone();
    limits[0]["min"] = amounts("9m", "49Mi", "49Gi");
    let patch = json!({"metadata": {"labels": {"r": "patched"}}, "spec": {"limits": limits}});
    let patched = api.send("PATCH", &format!("{LIMIT_RANGES}/r"), patch).await;
    assert_eq!(patched["metadata"]["labels"], json!({"e2e-test": "r", "r": "patched"}));
    assert_eq!(patched["spec"]["limits"], limits);
    let version = |range: &Value| range["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(version(&patched) > version(&created));
    let of_patched = format!("{LIMIT_RANGES}?labelSelector=r%3Dpatched");
    assert_eq!(count(api.get(&of_patched).await), 1);
    api.send("DELETE", &of_patched, json!({})).await;
    assert_eq!(count(api.get(&of_patched).await), 0);
    assert_eq!(count(api.get(everywhere).await), 1);
}
