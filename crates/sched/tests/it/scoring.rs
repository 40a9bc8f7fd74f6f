//! Which of the nodes that fit is the best: each of kube-scheduler's scores alone, so that nothing else decides.

use sched::{Options, Profile, framework::Plugin, plugins};
use serde_json::{Value, json};

use crate::{
    made::{apply, at, labelled, marked, node, pod, profile, rule, selector, spread, tainted, term, with_options},
    storage::with,
};

/// The best nodes, and no others, are taken, whichever way ties are broken.
fn check_with(profile: impl Fn() -> Profile, objects: &[Value], pod: &Value, expected: &str) {
    let mut taken = Vec::new();
    for seed in 1..=40 {
        let options = Options { profiles: vec![profile()], seed, ..Default::default() };
        let mut cluster = with_options(options, objects);
        apply(&mut cluster, pod);
        taken.push(cluster.placed().node.to_string());
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.join(" "), expected, "{pod}");
}

fn check(plugins: &[&str], objects: &[Value], pod: &Value, expected: &str) {
    check_with(|| profile(plugins), objects, pod, expected);
}

#[test]
fn preferred_labels_of_nodes_count_by_their_weight() {
    let nodes = [labelled("a", "disk=ssd"), labelled("b", "disk=hdd zone=z"), node("c", json!({}))];
    let check = |terms: &[(i32, &str)], expected: &str| {
        let terms: Vec<Value> =
            terms.iter().map(|(weight, labels)| json!({"weight": weight, "preference": selector(labels)})).collect();
        let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}});
        check(&["NodeAffinity"], &nodes, &pod("p", json!({"spec": {"affinity": affinity}})), expected);
    };
    check(&[(20, "disk=ssd")], "a");
    check(&[(20, "disk=ssd"), (30, "zone=z")], "b");
    check(&[(20, "disk")], "a b");
    check(&[(20, "missing")], "a b c");
}

/// A preference for pods nearby, or against them.
fn prefers(kind: &str, term: Value) -> Value {
    let weighted = json!([{"weight": 50, "podAffinityTerm": term}]);
    json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}}})
}

#[test]
fn pods_prefer_to_be_near_others_or_away_from_them() {
    let nodes = [labelled("a", "zone=z1"), labelled("b", "zone=z2"), labelled("c", "zone=z1"), node("d", json!({}))];
    let other = |labels: &str, more: Value| pod("other", with(with(marked(labels), at("a")), more));
    let check = |other: Value, mine: Value, expected: &str| {
        let space = |name: &str| json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"of": "us"}}});
        let objects = [&nodes[..], &[space("default"), space("far"), other]].concat();
        check(&["InterPodAffinity"], &objects, &pod("p", with(marked("app=p bar=mine"), mine)), expected);
    };
    let none = || json!({});
    check(other("app=x", none()), prefers("podAffinity", term("zone", "app=x|y")), "a c");
    check(other("app=x", none()), prefers("podAntiAffinity", term("zone", "app=x")), "b d");
    check(other("app=z", none()), prefers("podAffinity", term("zone", "app=x")), "a b c d");
    // In other namespaces, where those are selected.
    let far = || json!({"metadata": {"namespace": "far"}});
    let all = || with(term("zone", "app=x"), json!({"namespaceSelector": {}}));
    check(other("app=x", far()), prefers("podAffinity", term("zone", "app=x")), "a b c d");
    check(other("app=x", far()), prefers("podAffinity", all()), "a c");
    // What others say about it counts as well.
    check(other("app=x", prefers("podAffinity", term("zone", "app=p"))), none(), "a c");
    check(other("app=x", prefers("podAntiAffinity", term("zone", "app=p"))), none(), "b d");
    let required = json!({"spec": {"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("zone", "app=p")]}}}});
    check(other("app=x", required), none(), "a c");
    // Its own labels narrow whom it means.
    let keyed = |keys: &str| with(term("zone", "foo"), json!({keys: ["bar"]}));
    check(other("foo bar=mine", none()), prefers("podAntiAffinity", keyed("matchLabelKeys")), "b d");
    check(other("foo bar=theirs", none()), prefers("podAntiAffinity", keyed("matchLabelKeys")), "a b c d");
    check(other("foo bar=mine", none()), prefers("podAntiAffinity", keyed("mismatchLabelKeys")), "a b c d");
    check(other("foo bar=mine", none()), prefers("podAffinity", keyed("matchLabelKeys")), "a c");
    check(other("foo bar=theirs", none()), prefers("podAffinity", keyed("mismatchLabelKeys")), "a c");
}

#[test]
fn soft_taints_are_avoided_unless_they_are_tolerated() {
    let check = |nodes: &[Value], tolerations: Value, expected: &str| {
        check(&["TaintToleration"], nodes, &pod("p", json!({"spec": {"tolerations": tolerations}})), expected);
    };
    let soft = [tainted("a", "k=v:PreferNoSchedule"), node("b", json!({}))];
    let tolerates = |key: &str| json!([{"key": key, "value": "v", "effect": "PreferNoSchedule"}]);
    check(&[node("a", json!({})), node("b", json!({}))], json!([]), "a b");
    check(&soft, tolerates("k"), "a b");
    check(&soft, tolerates("other"), "b");
    check(&soft, json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]), "b");
    let numbers = [tainted("low", "n=850:PreferNoSchedule"), tainted("high", "n=950:PreferNoSchedule")];
    check(&numbers, json!([{"key": "n", "operator": "Gt", "value": "900", "effect": "PreferNoSchedule"}]), "high");
}

#[test]
fn a_node_that_has_the_image_is_better() {
    let image = json!({"status": {"images": [{"names": ["large:v1"], "sizeBytes": 3_000_000_000u64}]}});
    let mut nodes: Vec<Value> = (0..10).map(|n| node(&format!("n{n}"), json!({}))).collect();
    nodes.push(node("has-it", image));
    let uses = |image: &str| pod("p", json!({"spec": {"containers": [{"name": "c", "image": image}]}}));
    check(&["ImageLocality"], &nodes, &uses("large:v1"), "has-it");
}

/// A profile with one plugin, made with arguments.
fn only(plugin: impl Plugin + 'static) -> Profile {
    profile(&[]).with(Box::new(plugin), 1)
}

#[test]
fn sidecars_count_in_what_a_node_has_left() {
    use plugins::node_resources_fit::{Args, NodeResourcesFit, Strategy};
    let room = json!({"status": {"allocatable": {"cpu": "8", "memory": "16G", "example.com/gpu": "4"}}});
    let requests = json!({"cpu": "2", "memory": "4G", "example.com/gpu": "1"});
    let plain =
        |name: &str| pod(name, json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}));
    let sidecar = json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "2", "memory": "2G"}}}]}});
    let objects = [
        node("a", room.clone()),
        node("b", room),
        with(with(plain("first"), sidecar), at("a")),
        with(plain("second"), at("b")),
    ];
    for (strategy, expected) in [(Strategy::LeastAllocated, "b"), (Strategy::MostAllocated, "a")] {
        let resources = ["cpu", "memory", "example.com/gpu"].map(|name| (name.to_owned(), 1)).to_vec();
        let args = Args { strategy, resources, ..Default::default() };
        check_with(|| only(NodeResourcesFit::new(&args)), &objects, &plain("p"), expected);
    }
}

#[test]
fn pods_are_spread_as_far_as_it_goes() {
    let four = || {
        let node = |name: &str, zone: &str| labelled(name, &format!("node={name} zone={zone}"));
        let first = with(tainted("0", "k:NoSchedule"), marked("node=0 zone=z0"));
        vec![first, node("1", "z0"), node("2", "z1"), node("3", "z1")]
    };
    let of = |existing: &str| -> Vec<Value> {
        let one = |(n, text): (usize, &str)| {
            let (node, bar) = text.split_once('+').unwrap_or((text, ""));
            pod(&format!("e{n}"), with(marked(&format!("foo {bar}")), at(node)))
        };
        existing.split_whitespace().enumerate().map(one).collect()
    };
    let check = |nodes: Vec<Value>, existing: &str, rules: Value, more: Value, expected: &str| {
        let plugins = ["PodTopologySpread", "TaintToleration", "NodeAffinity"];
        let pod = pod("p", with(with(marked("foo bar"), spread(rules)), more));
        check(&plugins, &[nodes, of(existing)].concat(), &pod, expected);
    };
    let soft = |key: &str, who: &str, more: Value| {
        rule(1, key, who, with(json!({"whenUnsatisfiable": "ScheduleAnyway"}), more))
    };
    let none = || json!({});
    check(four(), "1 2 2 3 3 3", json!([soft("node", "foo", none())]), none(), "1");
    let hard = rule(1, "zone", "foo", none());
    check(four(), "0 0 0 0 2 3 3", json!([soft("node", "foo", none()), hard]), none(), "2");
    // Only pods with the same values of some labels.
    let keyed = |who: &str, key: &str| soft("node", who, json!({"matchLabelKeys": [key]}));
    check(four(), "1+bar 2 2 3+bar 3+bar 3", json!([keyed("foo", "bar")]), none(), "2");
    check(four(), "1 2 2 3 3 3", json!([keyed("", "foo")]), none(), "1");
    // Nodes that the pod does not select, and tainted ones, count as the policies say.
    let chosen = || json!({"spec": {"nodeSelector": {"foo": ""}}});
    let mixed = || {
        let node = |name: &str, zone: &str, foo: &str| labelled(name, &format!("node={name} zone={zone} {foo}"));
        let second = with(tainted("2", "k:NoSchedule"), marked("node=2 zone=z1 foo"));
        vec![node("1", "z1", "foo"), second, node("3", "z2", "foo"), node("4", "z2", "")]
    };
    check(mixed(), "1 2 2 4", json!([soft("zone", "foo", none()), soft("node", "foo", none())]), chosen(), "3");
    let ignored = soft("zone", "foo", json!({"nodeAffinityPolicy": "Ignore"}));
    let honored = soft("node", "foo", json!({"nodeTaintsPolicy": "Honor"}));
    check(mixed(), "1 2 2 4", json!([ignored, honored]), chosen(), "3");
}

#[test]
fn pods_of_a_service_are_spread_over_zones_without_saying_so() {
    let zone = |n: usize| format!("topology.kubernetes.io/zone=z{}", n % 3);
    let nodes: Vec<Value> = (0..300).map(|n| labelled(&format!("n{n}"), &zone(n))).collect();
    let mut cluster =
        with_options(Options { profiles: vec![profile(&["PodTopologySpread"])], ..Default::default() }, &nodes);
    let of_it = sched::labels::Selector::of([("service".into(), "s".into())]);
    cluster.engine.set_service(&"default".into(), &"s".into(), Some(of_it), cluster.now);
    let mut counts = [0usize; 3];
    for n in 0..27 {
        apply(&mut cluster, &pod(&format!("p{n}"), marked("service=s")));
        let node: usize = cluster.placed().node[1..].parse().unwrap();
        counts[node % 3] += 1;
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}
