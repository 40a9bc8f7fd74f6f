//! Objects that say what a test is about and nothing else, and clusters with the plugins that it is about.

use std::time::Duration;

use sched::{Engine, Extender, Options, Pauses, Profile, convert, framework::Plugin, plugins};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::storage::{Cluster, with};

/// A node with room for much.
pub fn node(name: &str, more: Value) -> Value {
    let object = json!({"kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
    with(object, more)
}

/// The same with labels such as `zone=a disk`.
pub fn labelled(name: &str, labels: &str) -> Value {
    node(name, marked(labels))
}

/// The same with so much CPU.
pub fn sized(name: &str, cpu: &str) -> Value {
    node(name, json!({"status": {"allocatable": {"cpu": cpu}}}))
}

/// The same with a taint such as `key=value:NoSchedule`.
pub fn tainted(name: &str, taint: &str) -> Value {
    node(name, json!({"spec": {"taints": [self::taint(taint)]}}))
}

pub fn taint(text: &str) -> Value {
    let (name, effect) = text.split_once(':').unwrap();
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    json!({"key": key, "value": value, "effect": effect})
}

/// A pod that asks for nothing.
pub fn pod(name: &str, more: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default", "uid": name});
    with(json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c"}]}}), more)
}

/// A pod that asks for so much CPU.
pub fn asking(name: &str, cpu: &str, more: Value) -> Value {
    let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
    with(pod(name, json!({"spec": {"containers": containers}})), more)
}

/// What gives an object labels such as `zone=a disk`.
pub fn marked(labels: &str) -> Value {
    let pairs = labels.split_whitespace().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    json!({"metadata": {"labels": pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect::<Value>()}})
}

/// What puts a pod on a node.
pub fn at(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

/// A label selector such as `app=a|b, tier!=x, disk, !spinning`; an empty one selects everything.
pub fn selector(text: &str) -> Value {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    json!({"matchExpressions": parts.map(requirement).collect::<Value>()})
}

/// One requirement of a [`selector`]; node affinity writes them in the same way.
pub fn requirement(text: &str) -> Value {
    let values = |text: &str| text.split('|').map(Value::from).collect::<Value>();
    if let Some((key, list)) = text.split_once("!=") {
        json!({"key": key, "operator": "NotIn", "values": values(list)})
    } else if let Some((key, list)) = text.split_once('=') {
        json!({"key": key, "operator": "In", "values": values(list)})
    } else if let Some((key, bound)) = text.split_once('>') {
        json!({"key": key, "operator": "Gt", "values": [bound]})
    } else if let Some((key, bound)) = text.split_once('<') {
        json!({"key": key, "operator": "Lt", "values": [bound]})
    } else if let Some(key) = text.strip_prefix('!') {
        json!({"key": key, "operator": "DoesNotExist"})
    } else {
        json!({"key": text, "operator": "Exists"})
    }
}

/// A term of (anti-)affinity: pods that a [`selector`] selects, in the same domain of a topology.
pub fn term(topology_key: &str, who: &str) -> Value {
    json!({"topologyKey": topology_key, "labelSelector": selector(who)})
}

/// What requires pods to be near.
pub fn near(terms: Value) -> Value {
    json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

/// What requires pods to be elsewhere.
pub fn apart(terms: Value) -> Value {
    json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

/// What requires labels of the node, such as `disk=ssd, !spinning`.
pub fn on_nodes(labels: &str) -> Value {
    let terms = json!([selector(labels)]);
    json!({"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
}

/// A rule to spread the pods that a [`selector`] selects.
pub fn rule(max_skew: i32, topology_key: &str, who: &str, more: Value) -> Value {
    let rule = json!({"maxSkew": max_skew, "topologyKey": topology_key, "labelSelector": selector(who),
        "whenUnsatisfiable": "DoNotSchedule"});
    with(rule, more)
}

pub fn spread(rules: Value) -> Value {
    json!({"spec": {"topologySpreadConstraints": rules}})
}

pub fn priority(priority: i32) -> Value {
    json!({"spec": {"priority": priority}})
}

/// A profile with these of kube-scheduler's plugins, and what no profile is without.
pub fn profile(names: &[&str]) -> Profile {
    let always = ["SchedulingGates", "PrioritySort", "DefaultBinder"];
    let wanted = |name: &str| always.contains(&name) || names.contains(&name);
    let all = plugins::registry(&plugins::Args::default());
    let some: Vec<_> = all.into_iter().filter(|(plugin, _)| wanted(plugin.name())).collect();
    assert_eq!(some.len(), always.len() + names.len(), "no such plugins: {names:?}");
    some.into_iter().fold(Profile::new("default-scheduler"), |profile, (plugin, weight)| profile.with(plugin, weight))
}

/// kube-scheduler's own profile and one plugin more.
pub fn default_and(plugin: Box<dyn Plugin>) -> Profile {
    plugins::default_profile("default-scheduler").with(plugin, 1)
}

/// A cluster with this profile, in which nobody has to pause.
pub fn cluster(profile: Profile, objects: &[Value]) -> Cluster {
    let pauses = Pauses { initial_backoff: Duration::ZERO, max_backoff: Duration::ZERO, ..Default::default() };
    with_options(Options { profiles: vec![profile], pauses, ..Default::default() }, objects)
}

pub fn with_options(options: Options, objects: &[Value]) -> Cluster {
    let mut cluster = Cluster { engine: Engine::new(options), now: Duration::from_secs(1) };
    objects.iter().for_each(|object| apply(&mut cluster, object));
    cluster
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// An object has appeared or changed; also one of the kinds that have nothing to do with storage.
pub fn apply(cluster: &mut Cluster, object: &Value) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").into();
    let name = object["metadata"]["name"].as_str().unwrap().into();
    let (engine, now) = (&mut cluster.engine, cluster.now);
    match object["kind"].as_str().unwrap() {
        "Namespace" => {
            let labels = read(&object["metadata"]["labels"]);
            engine.set_namespace(&name, Some(convert::labels(Some(&labels))), now);
        }
        "PodDisruptionBudget" => engine.set_budget(&namespace, &name, Some(convert::budget(&read(object)).unwrap())),
        "PodGroup" => engine.set_group(&namespace, &name, Some(convert::gang(&read(object))), now),
        _ => cluster.apply(object),
    }
}

/// The nodes that fit the pod, sorted; empty when none does. What is decided must be one of them.
pub fn fitting(objects: &[Value], pod: &Value) -> String {
    let everybodys = Extender { name: "http://e".into(), nodes: true, ..Default::default() };
    let mut asked = with_options(Options { extenders: vec![everybodys], ..Default::default() }, objects);
    let mut alone = with_options(Options::default(), objects);
    for cluster in [&mut asked, &mut alone] {
        apply(cluster, pod);
    }
    let name = pod["metadata"]["name"].as_str().unwrap();
    let fitting = match crate::words(asked.engine.next(asked.now)).split_once("? ") {
        Some((_, nodes)) => nodes.to_owned(),
        None => String::new(),
    };
    let decided = alone.next();
    let agrees = match decided.strip_prefix(&format!("{name} -> ")) {
        Some(node) => fitting.split(' ').any(|one| one == node),
        None => fitting.is_empty() && decided.starts_with(&format!("{name}: ")),
    };
    assert!(agrees, "{fitting:?} fit, and it was decided: {decided}");
    fitting
}
