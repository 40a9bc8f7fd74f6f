//! Cluster states by chance: some nodes, pods on them, and a pod in question. The same seed makes the same.

use serde_json::{Value, json};

use crate::devices::Devices;

/// A node and a pod that everybody sees last.
pub const PROBE: &str = "zz-probe";
/// How many priority classes there are: `p0`, `p1` and so on, worth 0, 100 and so on.
pub const PRIORITIES: i64 = 4;
/// A class whose pods preempt nobody, although they are the most important.
pub const NEVER: &str = "never";
const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const APPS: [&str; 3] = ["a", "b", "c"];

pub struct State {
    pub seed: u64,
    pub nodes: Vec<Value>,
    pub pods: Vec<Value>,
    /// PodDisruptionBudgets, at most one for each app.
    pub budgets: Vec<Value>,
    pub slices: Vec<Value>,
    /// Claims to devices, some of them allocated.
    pub claims: Vec<Value>,
    pod: Value,
}

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// In so many of a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }
}

impl State {
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(1000).wrapping_add(7));
        let count = 3 + chance.below(6);
        let mut nodes: Vec<Value> = (0..count).map(|n| node(&mut chance, &format!("s{seed}-n{n}"))).collect();
        let mut pods = Vec::new();
        for node in &nodes {
            let mut cpu = node["status"]["allocatable"]["cpu"].as_str().unwrap().parse::<u64>().unwrap() * 1000;
            for _ in 0..chance.below(4) {
                let asks = 100 * (1 + chance.below(15));
                if asks > cpu {
                    continue;
                }
                cpu -= asks;
                let name = format!("s{seed}-e{}", pods.len());
                let mut pod = existing(&mut chance, &name, asks);
                pod["spec"]["nodeName"] = node["metadata"]["name"].clone();
                pods.push(pod);
            }
        }
        let mut pod = in_question(&mut chance);
        let devices = Devices::of(&mut chance, seed, &nodes);
        if !devices.wanted.is_empty() {
            pod["spec"]["resourceClaims"] = json!(devices.wanted);
        }
        nodes.push(probe_node());
        let budgets = if chance.percent(50) { budgets(&mut chance) } else { Vec::new() };
        State { seed, nodes, pods, budgets, slices: devices.slices, claims: devices.claims, pod }
    }

    /// The pod in question, for the scheduler of this name.
    pub fn pod(&self, seed: u64, scheduler: &str) -> Value {
        let mut pod = self.pod.clone();
        pod["metadata"]["name"] = json!(format!("s{seed}-{scheduler}"));
        pod["spec"]["schedulerName"] = json!(scheduler);
        pod
    }
}

fn budgets(chance: &mut Chance) -> Vec<Value> {
    let some: Vec<&str> = APPS.into_iter().filter(|_| chance.percent(60)).collect();
    let budget = |app: &str| {
        let status = json!({"disruptionsAllowed": chance.below(3), "currentHealthy": 0, "desiredHealthy": 0,
            "expectedPods": 0});
        json!({"metadata": {"name": format!("for-{app}")}, "status": status,
            "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": app}}}})
    };
    some.into_iter().map(budget).collect()
}

/// How many of the evictions of these pods break a budget.
pub fn violations(budgets: &[Value], evicted: &[&Value]) -> i64 {
    let broken = |budget: &Value| {
        let app = &budget["spec"]["selector"]["matchLabels"]["app"];
        let count = evicted.iter().filter(|pod| pod["metadata"]["labels"]["app"] == *app).count();
        (i64::try_from(count).unwrap() - budget["status"]["disruptionsAllowed"].as_i64().unwrap()).max(0)
    };
    budgets.iter().map(broken).sum()
}

pub fn priority(pod: &Value) -> i64 {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap();
    class[1..].parse::<i64>().unwrap() * 100
}

fn node(chance: &mut Chance, name: &str) -> Value {
    let mut labels = json!({HOST: name});
    if chance.percent(85) {
        labels[ZONE] = json!(format!("z{}", chance.below(3)));
    }
    if chance.percent(60) {
        labels["disk"] = json!(chance.of(&["ssd", "hdd"]));
    }
    if chance.percent(30) {
        labels["size"] = json!(chance.below(9).to_string());
    }
    let mut taints = Vec::new();
    for (key, effect, share) in [("dedicated", "NoSchedule", 15), ("soft", "PreferNoSchedule", 30)] {
        if chance.percent(share) {
            taints.push(json!({"key": key, "value": chance.of(&["x", "y"]), "effect": effect}));
        }
    }
    let mut images = Vec::new();
    if chance.percent(50) {
        // An image has one size, wherever it is: a real one goes by that of the node that it saw first.
        images.push(json!({"names": ["registry.example/app:1"], "sizeBytes": 700_000_000}));
    }
    let allocatable = json!({"cpu": (1 + chance.below(6)).to_string(), "memory": format!("{}Gi", 2 + chance.below(14)),
        "pods": (3 + chance.below(6)).to_string()});
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": chance.percent(8)},
        "status": {"allocatable": allocatable, "capacity": allocatable, "images": images},
    })
}

fn probe_node() -> Value {
    let allocatable = json!({"cpu": "1", "memory": "1Gi", "pods": "1"});
    json!({
        "metadata": {"name": PROBE, "labels": {HOST: PROBE}},
        "spec": {"taints": [{"key": "probe", "effect": "NoSchedule"}]},
        "status": {"allocatable": allocatable, "capacity": allocatable},
    })
}

/// A pod that only its own node takes.
pub fn probe(scheduler: &str) -> Value {
    json!({
        "metadata": {"name": PROBE},
        "spec": {"schedulerName": scheduler, "priorityClassName": "p0", "nodeSelector": {HOST: PROBE},
            "tolerations": [{"key": "probe", "operator": "Exists"}], "containers": [{"name": "c", "image": "i"}],
            "resourceClaims": [{"name": "probe", "resourceClaimName": PROBE}]},
    })
}

fn existing(chance: &mut Chance, name: &str, cpu: u64) -> Value {
    let app = chance.of(&APPS);
    let requests = json!({"cpu": format!("{cpu}m"), "memory": format!("{}Mi", 64 * (1 + chance.below(8)))});
    let mut affinity = json!({});
    if chance.percent(15) {
        affinity["podAntiAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term(chance)]});
    }
    if chance.percent(20) {
        affinity["podAffinity"] = json!({"preferredDuringSchedulingIgnoredDuringExecution": [weighted(chance)]});
    }
    json!({
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"priorityClassName": format!("p{}", chance.below(3)), "terminationGracePeriodSeconds": 0,
            "affinity": affinity,
            "containers": [{"name": "c", "image": "registry.example/app:1", "resources": {"requests": requests}}]},
    })
}

fn term(chance: &mut Chance) -> Value {
    json!({"topologyKey": chance.of(&[ZONE, HOST]), "labelSelector": {"matchLabels": {"app": chance.of(&APPS)}}})
}

fn weighted(chance: &mut Chance) -> Value {
    json!({"weight": 1 + chance.below(100), "podAffinityTerm": term(chance)})
}

fn requirement(chance: &mut Chance) -> Value {
    match chance.below(5) {
        0 => json!({"key": "disk", "operator": "In", "values": [chance.of(&["ssd", "hdd"])]}),
        1 => json!({"key": "disk", "operator": "NotIn", "values": [chance.of(&["ssd", "hdd"])]}),
        2 => json!({"key": "disk", "operator": "Exists"}),
        3 => json!({"key": ZONE, "operator": "In", "values": ["z0", chance.of(&["z1", "z2"])]}),
        _ => json!({"key": "size", "operator": chance.of(&["Gt", "Lt"]), "values": [chance.below(9).to_string()]}),
    }
}

fn in_question(chance: &mut Chance) -> Value {
    let requests = json!({"cpu": format!("{}m", 100 * (1 + chance.below(25))),
        "memory": format!("{}Mi", 128 * (1 + chance.below(16)))});
    let mut container = json!({"name": "c", "image": chance.of(&["registry.example/app:1", "other"]),
        "resources": {"requests": requests}});
    if chance.percent(10) {
        container["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    }
    let mut spec =
        json!({"priorityClassName": format!("p{}", chance.below(PRIORITIES as u64)), "containers": [container]});
    if chance.percent(15) {
        spec["nodeSelector"] = json!({"disk": "ssd"});
    }
    if chance.percent(15) {
        spec["priorityClassName"] = json!(NEVER);
    }
    let mut tolerations = Vec::new();
    for key in ["dedicated", "soft"] {
        if chance.percent(30) {
            tolerations.push(json!({"key": key, "operator": "Exists"}));
        }
    }
    spec["tolerations"] = json!(tolerations);
    spec["affinity"] = affinity(chance);
    if chance.percent(40) {
        let constraints: Vec<Value> = (0..=chance.below(2)).map(|at| constraint(chance, at)).collect();
        spec["topologySpreadConstraints"] = json!(constraints);
    }
    json!({"metadata": {"name": "", "labels": {"app": chance.of(&APPS)}}, "spec": spec})
}

fn affinity(chance: &mut Chance) -> Value {
    let mut affinity = json!({});
    if chance.percent(20) {
        let terms: Vec<Value> =
            (0..=chance.below(2)).map(|_| json!({"matchExpressions": [requirement(chance)]})).collect();
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": terms});
    }
    if chance.percent(30) {
        let preferred =
            json!([{"weight": 1 + chance.below(100), "preference": {"matchExpressions": [requirement(chance)]}}]);
        affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = preferred;
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if chance.percent(15) {
            affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term(chance)]);
        }
        if chance.percent(30) {
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([weighted(chance), weighted(chance)]);
        }
    }
    affinity
}

fn constraint(chance: &mut Chance, at: u64) -> Value {
    // No two may be about the same topology in the same way.
    let (topology_key, unsatisfiable) = match at {
        0 => (ZONE, chance.of(&["DoNotSchedule", "ScheduleAnyway"])),
        _ => (HOST, chance.of(&["DoNotSchedule", "ScheduleAnyway"])),
    };
    let mut constraint = json!({"maxSkew": 1 + chance.below(3), "topologyKey": topology_key,
        "whenUnsatisfiable": unsatisfiable, "labelSelector": {"matchLabels": {"app": chance.of(&APPS)}}});
    if unsatisfiable == "DoNotSchedule" && chance.percent(30) {
        constraint["minDomains"] = json!(1 + chance.below(4));
    }
    if chance.percent(30) {
        constraint["nodeTaintsPolicy"] = json!("Honor");
    }
    if chance.percent(30) {
        constraint["nodeAffinityPolicy"] = json!("Ignore");
    }
    constraint
}
