//! What scheduler_perf creates, as bodies that are encoded once and get their names when they are written: its node and
//! pod templates, its namespaces, priorities and Services.
//!
//! Pods ask for no token, because scheduler_perf runs without the admission that would mount one.

use serde_json::{Value, json};

use crate::api::Target;

/// Where pods are that others must keep away from or come to; the templates name both.
pub const INIT_NAMESPACE: &str = "sched-0";
pub const MEASURED_NAMESPACE: &str = "sched-1";
/// Namespaces that a selector of the templates selects.
pub const SELECTED: (&str, &str) = ("team", "devops");
/// The priority class of scheduler_perf's pods of priority 10.
pub const HIGH: &str = "bench-high";
const HIGH_VALUE: i32 = 10;

/// The pod group of the gang.
pub const GANG: &str = "gang";

/// The label of pods that a budget is for.
pub const GUARDED: &str = "guarded";

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A body with a gap for the name. The name may stand in it more than once.
#[derive(Clone)]
pub struct Template {
    pieces: Vec<String>,
}

/// Stands for the name where a template is written.
const NAME: &str = "\u{1}";

impl Template {
    fn new(object: &Value) -> Self {
        let gap = Value::from(NAME).to_string();
        let gap = gap.trim_matches('"');
        Template { pieces: object.to_string().split(gap).map(str::to_owned).collect() }
    }

    /// Appends the body for this name.
    pub fn write(&self, name: &str, body: &mut Vec<u8>) {
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(name.as_bytes());
            }
            body.extend_from_slice(piece.as_bytes());
        }
    }

    /// Appends a whole request that creates the object.
    pub fn post(&self, target: &Target, path: &str, name: &str, request: &mut Vec<u8>) {
        let length: usize = self.pieces.iter().map(String::len).sum::<usize>() + name.len() * (self.pieces.len() - 1);
        head(target, "POST", path, Some(("application/json", length)), request);
        self.write(name, request);
    }
}

/// Appends a request's head; the body of this type and length has to follow.
pub fn head(target: &Target, method: &str, path: &str, body: Option<(&str, usize)>, request: &mut Vec<u8>) {
    let mut line = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n", target.address);
    if let Some(token) = target.token() {
        line += &format!("authorization: Bearer {token}\r\n");
    }
    if let Some((kind, length)) = body {
        line += &format!("content-type: {kind}\r\ncontent-length: {length}\r\n");
    }
    request.extend_from_slice(line.as_bytes());
    request.extend_from_slice(b"\r\n");
}

/// A node as scheduler_perf's default: 4 cores, 32 GiB, 110 pods; in a zone if one is given.
pub fn node(zone: Option<&str>) -> Template {
    let mut labels = json!({HOSTNAME: NAME});
    if let Some(zone) = zone {
        labels[ZONE] = zone.into();
    }
    let room = json!({"pods": "110", "cpu": "4", "memory": "32Gi"});
    Template::new(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": labels}, "spec": {},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}}))
}

/// A node that takes no pod, which comes and goes while others are measured.
pub fn churn_node() -> Template {
    let room = json!({"pods": "0"});
    Template::new(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "spec": {},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}}))
}

pub fn churn_service() -> Template {
    let ports = json!([{"protocol": "TCP", "port": 8080, "targetPort": 8080}]);
    Template::new(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"selector": {"app": "foo"}, "ports": ports}}))
}

pub fn namespace() -> Template {
    let (key, value) = SELECTED;
    Template::new(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": {key: value}}}))
}

/// The account that pods of a namespace have when they name none. Where it is missing, an API server refuses them.
pub fn service_account() -> Template {
    Template::new(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}))
}

/// Of scheduler_perf's pods of priority 10.
pub fn priority_class() -> Template {
    Template::new(&json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": NAME},
        "value": HIGH_VALUE}))
}

/// A budget for the pods that have the label [`GUARDED`]. Nobody counts here how many are healthy, so it allows no eviction.
pub fn budget() -> Template {
    Template::new(&json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {GUARDED: "yes"}}}}))
}

/// A group of pods that are placed when so many can be.
pub fn pod_group(min_count: usize) -> Template {
    Template::new(&json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {"name": NAME},
        "spec": {"schedulingPolicy": {"gang": {"minCount": min_count}}}}))
}

/// The pods of scheduler_perf's templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 100m of a core and 500 MiB, as all that say nothing else.
    Default,
    /// The same with its name as a label.
    Distinct,
    /// At most five more in one zone than in another.
    Spreading,
    /// None beside another of its kind on a node.
    AntiAffinity,
    /// In the zone of those of its kind.
    Affinity,
    /// As [`Shape::AntiAffinity`], in all namespaces that a selector selects.
    AntiAffinityBySelector,
    /// Four of them fill a node.
    LowPriority,
    /// As [`Shape::LowPriority`], with the label of which a [`budget`] speaks.
    Guarded,
    /// Three of the former have to go for it.
    HighPriority,
    /// Fits nowhere.
    Large,
    /// Of the pod group [`GANG`], all of which are placed or none.
    Gang,
}

impl Shape {
    /// The pod; with a node, it has its place already.
    pub fn template(self, node: bool) -> Template {
        let mut spec = json!({"automountServiceAccountToken": false, "containers": [{
            "name": "pause", "image": "registry.k8s.io/pause:3.10.1",
            "ports": [{"containerPort": 80}], "resources": self.resources()}]});
        let mut labels = json!({});
        let near = |color: &str, key: &str, which: Value| {
            let mut term = json!({"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key});
            term.as_object_mut().expect("it is one").extend(which.as_object().expect("it is one").clone());
            json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
        };
        let named = json!({"namespaces": [MEASURED_NAMESPACE, INIT_NAMESPACE]});
        let selected = json!({"namespaceSelector": {"matchLabels": {SELECTED.0: SELECTED.1}}});
        match self {
            Shape::Default | Shape::Large => {}
            Shape::Distinct => labels["statefulset.kubernetes.io/pod-name"] = NAME.into(),
            Shape::Spreading => {
                labels["color"] = "blue".into();
                spec["topologySpreadConstraints"] = json!([{"maxSkew": 5, "topologyKey": ZONE,
                    "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"color": "blue"}}}]);
            }
            Shape::AntiAffinity => {
                labels["color"] = "green".into();
                spec["affinity"] = json!({"podAntiAffinity": near("green", HOSTNAME, named)});
            }
            Shape::AntiAffinityBySelector => {
                labels["color"] = "green".into();
                spec["affinity"] = json!({"podAntiAffinity": near("green", HOSTNAME, selected)});
            }
            Shape::Affinity => {
                labels["color"] = "blue".into();
                spec["affinity"] = json!({"podAffinity": near("blue", ZONE, named)});
            }
            Shape::LowPriority => spec["terminationGracePeriodSeconds"] = 0.into(),
            Shape::Guarded => {
                spec["terminationGracePeriodSeconds"] = 0.into();
                labels[GUARDED] = "yes".into();
            }
            Shape::HighPriority => {}
            Shape::Gang => spec["schedulingGroup"] = json!({"podGroupName": GANG}),
        }
        if self.priority() == HIGH_VALUE {
            spec["priorityClassName"] = HIGH.into();
        }
        if node {
            // Its number is the pod's own.
            spec["nodeName"] = NAME.into();
        }
        Template::new(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": labels},
            "spec": spec}))
    }

    /// What its priority class comes to.
    pub fn priority(self) -> i32 {
        if matches!(self, Shape::HighPriority | Shape::Large) { HIGH_VALUE } else { 0 }
    }

    fn resources(self) -> Value {
        let both = |room: Value| json!({"limits": room, "requests": room});
        match self {
            Shape::LowPriority | Shape::Guarded => both(json!({"cpu": "900m", "memory": "500Mi"})),
            Shape::HighPriority => both(json!({"cpu": "3000m", "memory": "500Mi"})),
            Shape::Large => json!({"requests": {"cpu": "9", "memory": "500Mi"}}),
            _ => both(json!({"cpu": "100m", "memory": "500Mi"})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_its_name_everywhere() {
        let check = |template: Template, pointer: &str| {
            let mut body = Vec::new();
            template.write("x-1", &mut body);
            let object: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(object.pointer(pointer).unwrap(), "x-1", "{object}");
        };
        check(node(Some("zone1")), "/metadata/name");
        check(node(None), "/metadata/labels/kubernetes.io~1hostname");
        check(Shape::Affinity.template(false), "/metadata/name");
        check(Shape::Default.template(true), "/spec/nodeName");
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let mut request = Vec::new();
        node(None).post(&Target::with_token("localhost:1", "t"), "/api/v1/nodes", "node-17", &mut request);
        let text = String::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.contains("authorization: Bearer t"), "{head}");
    }
}
