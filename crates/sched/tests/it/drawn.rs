//! Nodes and pods that are drawn at random, small enough in their variety that pods meet, select and avoid each other.

use proptest::{collection::SizeRange, prelude::*};
use sched::convert;
use serde_json::{Value, json};

pub const APPS: [&str; 3] = ["a", "b", "c"];
pub const NAMESPACES: [&str; 2] = ["one", "two"];
pub const KEYS: [&str; 3] = ["zone", "rack", "kubernetes.io/hostname"];

#[derive(Clone, Debug)]
pub struct NodeShape {
    pub cpu: u8,
    pub zone: Option<u8>,
    pub rack: Option<u8>,
    pub taint: u8,
    pub cordoned: bool,
    pub disk: bool,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: u8,
    pub key: u8,
    pub app: u8,
    pub namespaces: u8,
    pub number: u8,
    pub policies: u8,
}

#[derive(Clone, Debug)]
pub struct PodShape {
    pub namespace: u8,
    pub app: u8,
    pub cpu: u8,
    pub rules: Vec<Rule>,
    pub disk: u8,
    pub tolerates: bool,
    pub port: bool,
}

pub fn node_shape() -> impl Strategy<Value = NodeShape> {
    let places = (prop::option::weighted(0.9, 0u8..3), prop::option::weighted(0.8, 0u8..4));
    (1u8..6, places, 0u8..8, prop::bool::weighted(0.1), any::<bool>())
        .prop_map(|(cpu, (zone, rack), taint, cordoned, disk)| NodeShape { cpu, zone, rack, taint, cordoned, disk })
}

pub fn rule() -> impl Strategy<Value = Rule> {
    (0u8..8, 0u8..3, 0u8..3, 0u8..4, 1u8..4, 0u8..4).prop_map(|(kind, key, app, namespaces, number, policies)| Rule {
        kind,
        key,
        app,
        namespaces,
        number,
        policies,
    })
}

impl PodShape {
    /// One whose scores the oracle knows: how much a domain of many weighs is estimated, but for host names.
    pub fn exact(mut self, coarse: usize) -> Self {
        if coarse < sched::world::COARSE_DOMAINS {
            self.rules.iter_mut().filter(|rule| rule.kind == 5).for_each(|rule| rule.key = 2);
        }
        self
    }
}

/// A pod with so many rules about others.
pub fn pod_shape(rules: impl Into<SizeRange>) -> impl Strategy<Value = PodShape> {
    let rules = prop::collection::vec(rule(), rules);
    (0u8..2, 0u8..3, 0u8..20, rules, 0u8..6, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(namespace, app, cpu, rules, disk, tolerates, port)| PodShape {
            namespace,
            app,
            cpu,
            rules,
            disk,
            tolerates,
            port,
        },
    )
}

pub fn node(id: u8, shape: &NodeShape) -> sched::Node {
    named_node(&format!("n{id}"), shape)
}

pub fn named_node(name: &str, shape: &NodeShape) -> sched::Node {
    let mut labels = json!({"kubernetes.io/hostname": name});
    for (key, value) in [("zone", shape.zone), ("rack", shape.rack)] {
        if let Some(value) = value {
            labels[key] = json!(format!("{key}{value}"));
        }
    }
    if shape.disk {
        labels["disk"] = json!("ssd");
    }
    let taints = match shape.taint {
        0 => json!([{"key": "t", "value": "v", "effect": "NoSchedule"}]),
        1 | 2 => json!([{"key": "t", "value": "v", "effect": "PreferNoSchedule"}]),
        _ => json!([]),
    };
    let object = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": shape.cordoned},
        "status": {"allocatable": {"cpu": shape.cpu.to_string(), "memory": "4Gi", "pods": "9"}},
    });
    convert::node(&serde_json::from_value(object).unwrap()).unwrap()
}

pub fn pod(name: &str, shape: &PodShape) -> Value {
    let mut spec =
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{}00m", shape.cpu)}}}]});
    if shape.port {
        spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    }
    if shape.tolerates {
        spec["tolerations"] = json!([{"key": "t", "operator": "Exists"}]);
    }
    let ssd = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]});
    match shape.disk {
        0 => spec["nodeSelector"] = json!({"disk": "ssd"}),
        1 => {
            spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{"weight": 7, "preference": ssd}]);
        }
        _ => {}
    }
    for rule in &shape.rules {
        add_rule(&mut spec, rule);
    }
    let labels = json!({"app": APPS[usize::from(shape.app)]});
    let namespace = NAMESPACES[usize::from(shape.namespace)];
    json!({"metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels}, "spec": spec})
}

fn add_rule(spec: &mut Value, rule: &Rule) {
    let key = KEYS[usize::from(rule.key)];
    let selector = json!({"matchLabels": {"app": APPS[usize::from(rule.app)]}});
    let mut term = json!({"topologyKey": key, "labelSelector": selector});
    match rule.namespaces {
        0 => term["namespaceSelector"] = json!({}),
        1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "x"}}),
        2 => term["namespaces"] = json!(["one"]),
        _ => {}
    }
    let weighted = json!({"weight": rule.number, "podAffinityTerm": term});
    let (required, preferred) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    let (place, value) = match rule.kind {
        0 => (&mut spec["affinity"]["podAffinity"][required], term),
        1 | 2 => (&mut spec["affinity"]["podAntiAffinity"][required], term),
        3 => (&mut spec["affinity"]["podAffinity"][preferred], weighted),
        4 => (&mut spec["affinity"]["podAntiAffinity"][preferred], weighted),
        kind => {
            let when = if kind == 5 { "ScheduleAnyway" } else { "DoNotSchedule" };
            let mut constraint = json!({"topologyKey": key, "maxSkew": rule.number, "whenUnsatisfiable": when,
                "labelSelector": selector});
            if rule.policies & 1 == 1 {
                constraint["nodeTaintsPolicy"] = json!("Honor");
            }
            if rule.policies & 2 == 2 {
                constraint["nodeAffinityPolicy"] = json!("Ignore");
                if when == "DoNotSchedule" {
                    constraint["minDomains"] = json!(3);
                }
            }
            (&mut spec["topologySpreadConstraints"], constraint)
        }
    };
    match place.as_array_mut() {
        Some(list) => list.push(value),
        None => *place = json!([value]),
    }
}
