//! Which nodes take a pod: the behaviours of kube-scheduler's filters, each as the nodes that fit.

use serde_json::{Value, json};

use crate::{
    made::{
        apart, asking, at, fitting, labelled, marked, near, node, on_nodes, pod, priority, rule, sized, spread, taint,
        term,
    },
    stage::Stage,
    storage::with,
};

fn check(objects: &[Value], pod: Value, expected: &str) {
    assert_eq!(fitting(objects, &pod), expected, "{pod}");
}

/// Two nodes in one zone, and a third in another.
fn three() -> [Value; 3] {
    let labels = [("a", "zone=z1 node=a"), ("b", "zone=z1 node=b"), ("c", "zone=z2 node=c")];
    labels.map(|(name, labels)| labelled(name, labels))
}

#[test]
fn pods_are_near_others_and_away_from_them() {
    let check = |existing: &[Value], pod: Value, expected: &str| {
        check(&[&three()[..], existing].concat(), pod, expected);
    };
    let scan = [pod("scan", with(marked("app=scan"), at("a")))];
    let wants = |terms: Value| pod("p", with(marked("tier=one"), near(terms)));
    // Nobody is there, somebody is, and somebody is whom another operator means.
    check(&[], wants(json!([term("zone", "app=scan")])), "");
    check(&scan, wants(json!([term("zone", "app=scan|other")])), "a b");
    check(&scan, wants(json!([term("node", "app=scan")])), "a");
    check(&scan, wants(json!([term("zone", "app!=x|y")])), "a b");
    check(&scan, wants(json!([term("zone", "app=other")])), "");
    check(&scan, wants(json!([term("zone", "app=scan, app")])), "a b");
    check(&scan, wants(json!([term("zone", "app=scan, missing")])), "");
    // One pod must be what all terms want; each term looks at its own topology.
    check(&scan, wants(json!([term("zone", "app, !other"), term("node", "app=scan, app!=x")])), "a");
    check(&scan, wants(json!([term("zone", "app, !other"), term("zone", "app=x")])), "");
    // A pod that its own term wants may be the first of its kind, anywhere with the label; others may not.
    let first = |labels: &str| pod("p", with(marked(labels), near(json!([term("zone", "app=new")]))));
    check(&[], first("app=new"), "a b c");
    check(&[], first("app=old"), "");
    check(&[node("d", json!({}))], first("app=new"), "a b c");
    check(&[pod("other", with(marked("app=new"), at("c")))], first("app=new"), "c");
    // Away, by its own wish and by that of another, and whom neither means.
    let shy = |who: &str, topology: &str| pod("p", with(marked("tier=one"), apart(json!([term(topology, who)]))));
    check(&scan, shy("app=scan", "node"), "b c");
    check(&scan, shy("app=scan", "zone"), "c");
    check(&scan, shy("app=other", "zone"), "a b c");
    let hermit = |who: &str| [with(scan[0].clone(), apart(json!([term("zone", who)])))];
    check(&hermit("tier=one"), pod("p", marked("tier=one")), "c");
    check(&hermit("tier!=one"), pod("p", marked("tier=one")), "a b c");
    // Both at once, and with the wish of the other.
    let both = |who: &str, topology: &str| with(shy(who, topology), near(json!([term("zone", "app=scan")])));
    check(&scan, both("app=other", "node"), "a b");
    check(&scan, both("app=scan", "node"), "b");
    check(&scan, both("app=scan", "zone"), "");
    check(&hermit("app=other"), both("app=scan", "node"), "b");
    check(&hermit("tier=one"), both("app=scan", "node"), "");
}

#[test]
fn other_namespaces_count_where_they_are_named_or_selected() {
    let namespace =
        |name: &str, team: &str| json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}});
    let elsewhere =
        |namespace: &str| with(pod("scan", marked("app=scan")), json!({"metadata": {"namespace": namespace}}));
    let check = |of: &str, whose: Value, expected: &str| {
        let spaces = [namespace("default", "one"), namespace("near", "one"), namespace("far", "two")];
        let objects = [&three()[..], &spaces, &[with(elsewhere(of), at("a"))]].concat();
        check(&objects, pod("p", near(json!([with(term("node", "app=scan"), whose)]))), expected);
    };
    check("near", json!({}), "");
    check("near", json!({"namespaces": ["near"]}), "a");
    check("far", json!({"namespaces": ["near"]}), "");
    check("near", json!({"namespaceSelector": {"matchLabels": {"team": "one"}}}), "a");
    check("far", json!({"namespaceSelector": {"matchLabels": {"team": "one"}}}), "");
    check("far", json!({"namespaceSelector": {"matchLabels": {"team": "one"}}, "namespaces": ["far"]}), "a");
    check("far", json!({"namespaceSelector": {}}), "a");
}

#[test]
fn a_pods_own_labels_narrow_whom_its_terms_mean() {
    let peer = |name: &str, bar: &str, node: &str| pod(name, with(marked(&format!("foo bar={bar}")), at(node)));
    let check = |terms: fn(Value) -> Value, keys: &str, peers: &[(&str, &str)], expected: &str| {
        let peers = peers.iter().enumerate().map(|(n, (bar, node))| peer(&format!("peer{n}"), bar, node));
        let objects: Vec<Value> = three().into_iter().chain(peers).collect();
        let mut term = term("zone", "foo");
        if !keys.is_empty() {
            term[keys] = json!(["bar"]);
        }
        check(&objects, pod("p", with(marked("foo bar=mine"), terms(json!([term])))), expected);
    };
    check(apart, "", &[("theirs", "a")], "c");
    check(apart, "matchLabelKeys", &[("theirs", "a")], "a b c");
    check(apart, "matchLabelKeys", &[("mine", "a")], "c");
    check(apart, "mismatchLabelKeys", &[("mine", "a")], "a b c");
    check(apart, "mismatchLabelKeys", &[("theirs", "a")], "c");
    check(near, "matchLabelKeys", &[("mine", "c"), ("theirs", "a")], "c");
    check(near, "mismatchLabelKeys", &[("mine", "c"), ("theirs", "a")], "a b");
}

#[test]
fn taints_keep_pods_away_that_do_not_tolerate_all_of_them() {
    let check = |taints: &[&str], tolerations: Value, fits: bool| {
        let taints: Vec<Value> = taints.iter().map(|text| taint(text)).collect();
        let nodes = [node("a", json!({"spec": {"taints": taints}}))];
        check(&nodes, pod("p", json!({"spec": {"tolerations": tolerations}})), if fits { "a" } else { "" });
    };
    let equal = |key: &str, value: &str| json!({"key": key, "value": value, "effect": "NoSchedule"});
    check(&["k=v:NoSchedule"], json!([equal("k", "v")]), true);
    check(&["k=v:NoSchedule"], json!([]), false);
    check(&["k=v:NoSchedule"], json!([equal("k", "w")]), false);
    check(&["k=v:NoSchedule", "l=w:NoSchedule"], json!([equal("k", "v")]), false);
    check(&["k=v:NoSchedule", "l=w:NoSchedule"], json!([equal("k", "v"), equal("l", "w")]), true);
    check(&["k=v:NoSchedule"], json!([equal("k", "v"), equal("l", "w")]), true);
    check(&[], json!([equal("k", "v")]), true);
    check(&["k=v:PreferNoSchedule"], json!([]), true);
    // Values as numbers.
    let number = |operator: &str, value: &str| json!([{"key": "n", "operator": operator, "value": value}]);
    for (taint, operator, value, fits) in [
        ("n=999:NoSchedule", "Gt", "900", true),
        ("n=850:NoSchedule", "Gt", "900", false),
        ("n=900:NoSchedule", "Gt", "900", false),
        ("n=5:NoSchedule", "Lt", "10", true),
        ("n=15:NoSchedule", "Lt", "10", false),
        ("n=10:NoSchedule", "Gt", "-20", true),
        ("n=0:NoSchedule", "Lt", "5", true),
        ("n=999999999:NoSchedule", "Lt", "1000000000", true),
        ("n=75:NoExecute", "Gt", "50", true),
        ("n=many:NoSchedule", "Gt", "1", false),
    ] {
        check(&[taint], number(operator, value), fits);
    }
    let mixed = json!([{"key": "n", "operator": "Gt", "value": "900"}, equal("zone", "west")]);
    check(&["n=950:NoSchedule", "zone=west:NoSchedule"], mixed, true);
}

/// A pod of the kind that is spread, on a node.
fn one_of(name: &str, labels: &str, node: &str) -> Value {
    pod(name, with(marked(labels), at(node)))
}

/// Pods of the kind, one on each of these nodes.
fn on(nodes: &str) -> Vec<Value> {
    nodes.split_whitespace().enumerate().map(|(n, node)| one_of(&format!("e{n}"), "foo", node)).collect()
}

#[test]
fn pods_are_spread_within_their_skew() {
    let four: Vec<Value> = ["0 z0", "1 z0", "2 z1", "3 z1"]
        .iter()
        .filter_map(|text| text.split_once(' '))
        .map(|(name, zone)| labelled(name, &format!("node={name} zone={zone}")))
        .collect();
    let check = |existing: &str, rules: Value, more: Value, expected: &str| {
        let pod = pod("p", with(with(marked("foo"), spread(rules)), more));
        check(&[four.clone(), on(existing)].concat(), pod, expected);
    };
    let by = |skew: i32, key: &str| rule(skew, key, "foo", json!({}));
    let domains = |skew: i32, key: &str, least: i32| rule(skew, key, "foo", json!({"minDomains": least}));
    let none = json!({});
    let three = || on_nodes("node!=0");
    check("0 1 3", json!([by(1, "node")]), none.clone(), "2");
    check("0 0 3", json!([by(2, "node")]), none.clone(), "1 2 3");
    check("0 3", json!([by(1, "node")]), on_nodes("zone=z0"), "1");
    check("0 1 3 3", json!([by(1, "zone"), by(1, "node")]), none.clone(), "2");
    check("1 1 2 2 3", json!([by(1, "zone"), by(1, "node")]), three(), "");
    // Domains that are not there yet have no pods.
    check("1 1 2 2 3", json!([domains(2, "node", 4)]), three(), "3");
    check("1 1 2 2 3", json!([domains(2, "node", 2)]), three(), "1 2 3");
    check("0 1 2", json!([domains(2, "zone", 3)]), none.clone(), "2 3");
    check("1 2 3", json!([domains(2, "zone", 1)]), none.clone(), "0 1 2 3");
    // A node without the label of a rule is none of its domains.
    check("0 1 2 3", json!([by(1, "rack")]), none.clone(), "");
    // A pod that is not of the kind is not counted, and neither is one that ends.
    let mut objects = [four.clone(), on("0 0 1 1")].concat();
    objects.extend([
        one_of("stranger", "bar", "2"),
        with(
            one_of("gone", "foo", "2"),
            json!({"metadata":
        {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ),
    ]);
    let pod = pod("p", with(marked("foo"), spread(json!([by(1, "node")]))));
    assert_eq!(fitting(&objects, &pod), "2 3");
}

#[test]
fn spreading_counts_the_nodes_that_its_policies_say() {
    let keys = |name: &str, zone: &str| format!("node={name} zone={zone}");
    let nodes = |third: Value| {
        let node = |name: &str, zone: &str| labelled(name, &format!("{} foo", keys(name, zone)));
        [node("1", "z1"), node("2", "z1"), with(labelled("3", &keys("3", "z2")), third), node("4", "z2")]
    };
    let dirty = || json!({"spec": {"taints": [taint("dirty:NoSchedule")]}});
    let check = |nodes: [Value; 4], existing: &str, rules: Value, more: Value, expected: &str| {
        let pod = pod("p", with(with(marked("foo"), spread(rules)), more));
        check(&[nodes.to_vec(), on(existing)].concat(), pod, expected);
    };
    let chosen = || json!({"spec": {"nodeSelector": {"foo": ""}}});
    let ignored = || json!({"nodeAffinityPolicy": "Ignore"});
    let honored = || json!({"nodeTaintsPolicy": "Honor"});
    let by = |key: &str, more: Value| rule(1, key, "foo", more);
    // Pods on nodes that the pod does not select count only where that is ignored.
    check(nodes(json!({})), "1 2 3 4", json!([by("zone", json!({}))]), chosen(), "4");
    check(nodes(json!({})), "1 3 4", json!([by("zone", ignored())]), chosen(), "1 2");
    // Likewise for tainted nodes, the other way round.
    let clean = |third: Value| with(marked("foo"), third);
    check(nodes(clean(dirty())), "1 2 3 4", json!([by("zone", honored())]), json!({}), "4");
    check(nodes(clean(dirty())), "1 2 3 4", json!([by("zone", json!({}))]), json!({}), "1 2 4");
    // Each rule has its own.
    let two = || {
        let mut nodes = nodes(json!({}));
        nodes[1] = with(nodes[1].clone(), dirty());
        nodes
    };
    check(two(), "1 2 3 4", json!([by("zone", json!({})), by("node", json!({}))]), chosen(), "4");
    check(two(), "1 2 3 4", json!([by("zone", ignored()), by("node", honored())]), chosen(), "1 4");
}

#[test]
fn spreading_counts_pods_with_the_same_values_of_some_labels() {
    let four = ["0", "1", "2", "3"]
        .map(|name| labelled(name, &format!("node={name} zone={}", if name < "2" { "z0" } else { "z1" })));
    let check = |labels: &str, who: &str, keys: Value, expected: &str| {
        let existing = [("0", "foo"), ("1", "foo"), ("2", "foo bar")];
        let existing = existing.map(|(node, labels)| one_of(&format!("on-{node}"), labels, node));
        let rule = rule(1, "zone", who, json!({"matchLabelKeys": keys}));
        let pod = pod("p", with(marked(labels), spread(json!([rule]))));
        check(&[&four[..], &existing[..]].concat(), pod, expected);
    };
    check("foo bar", "foo", json!([]), "2 3");
    check("foo bar", "foo", json!(["bar"]), "0 1");
    check("foo", "", json!(["foo"]), "2 3");
    check("foo", "foo", json!(["missing"]), "2 3");
}

#[test]
fn a_port_of_a_node_belongs_to_one_pod() {
    let ports = |list: &[(&str, i32, &str)]| -> Value {
        let port = |(ip, port, protocol): &(&str, i32, &str)| json!({"containerPort": 8000, "hostPort": port, "hostIP": ip, "protocol": protocol});
        list.iter().map(port).collect()
    };
    let check = |first: Value, second: Value, fits: bool| {
        let existing = pod("first", with(first, at("a")));
        check(&[node("a", json!({})), existing], pod("p", second), if fits { "a" } else { "" });
    };
    let main = |ports: Value| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
    for (first, second, fits) in [
        (("", 0, "TCP"), ("", 0, "TCP"), true),
        (("", 81, "TCP"), ("", 81, "TCP"), false),
        (("", 81, "TCP"), ("", 82, "TCP"), true),
        (("", 81, "TCP"), ("", 81, "UDP"), true),
        (("127.0.0.1", 81, "TCP"), ("127.0.0.1", 81, "TCP"), false),
        (("127.0.0.1", 81, "TCP"), ("127.0.0.2", 81, "TCP"), true),
        (("127.0.0.1", 81, "TCP"), ("127.0.0.2", 81, "UDP"), true),
        (("0.0.0.0", 81, "TCP"), ("127.0.0.1", 81, "TCP"), false),
        (("127.0.0.1", 81, "TCP"), ("0.0.0.0", 81, "TCP"), false),
        (("127.0.0.1", 81, "TCP"), ("", 81, "TCP"), false),
    ] {
        check(main(ports(&[first])), main(ports(&[second])), fits);
    }
    let several = main(ports(&[("127.0.0.1", 81, "TCP"), ("127.0.0.1", 82, "TCP")]));
    check(several.clone(), main(ports(&[("127.0.0.1", 82, "TCP")])), false);
    check(several, main(ports(&[("127.0.0.1", 80, "TCP")])), true);
    // Of init containers, only those hold a port that go on beside the others.
    let init = |policy: &str, port: i32| {
        let mut container = json!({"name": "i", "ports": ports(&[("", port, "TCP")])});
        if !policy.is_empty() {
            container["restartPolicy"] = json!(policy);
        }
        json!({"spec": {"initContainers": [container]}})
    };
    let plain = |port: i32| main(ports(&[("", port, "TCP")]));
    for (policy, port, fits) in [("", 81, true), ("Always", 81, false), ("Always", 82, true), ("", 82, true)] {
        check(init(policy, 81), plain(port), fits);
        check(plain(port), init(policy, 81), fits);
    }
}

#[test]
fn what_is_left_must_cover_what_is_asked() {
    let nodes = [node(
        "a",
        json!({"status": {"allocatable": {"cpu": "3", "memory": "3G", "ephemeral-storage": "3G",
        "example.com/it": "3"}}}),
    )];
    let takes = |name: &str, what: &str, amount: &str| {
        let containers = json!([{"name": "c", "resources": {"requests": {what: amount}}}]);
        pod(name, json!({"spec": {"containers": containers}}))
    };
    for what in ["cpu", "memory", "ephemeral-storage", "example.com/it"] {
        let amounts = if what.contains("com") || what == "cpu" { ["1", "2", "3"] } else { ["1G", "2G", "3G"] };
        let first = with(takes("first", what, amounts[0]), at("a"));
        let objects = [&nodes[..], &[first]].concat();
        check(&objects, takes("p", what, amounts[1]), "a");
        check(&objects, takes("p", what, amounts[2]), "");
    }
    // The overhead of its runtime is the pod's, too; and whoever has ended uses nothing.
    let overhead = json!({"spec": {"overhead": {"cpu": "1500m"}}});
    check(&nodes, asking("p", "1500m", overhead.clone()), "a");
    check(&nodes, asking("p", "1600m", overhead), "");
    let ended = asking("ended", "3", with(at("a"), json!({"status": {"phase": "Succeeded"}})));
    check(&[&nodes[..], &[ended]].concat(), asking("p", "3", json!({})), "a");
    // Pods of other schedulers use nodes as well.
    let foreign = asking("foreign", "3", with(at("a"), json!({"spec": {"schedulerName": "other"}})));
    check(&[&nodes[..], &[foreign]].concat(), asking("p", "1", json!({})), "");
}

#[test]
fn labels_and_names_of_nodes_are_respected() {
    let nodes = [labelled("fast", "disk=ssd size=10"), labelled("slow", "disk=hdd size=2"), node("none", json!({}))];
    let check = |more: Value, expected: &str| check(&nodes, pod("p", more), expected);
    for (labels, expected) in [
        ("disk=ssd", "fast"),
        ("disk=tape", ""),
        ("disk=ssd|hdd", "fast slow"),
        ("disk!=hdd", "fast none"),
        ("disk!=hdd, disk", "fast"),
        ("disk", "fast slow"),
        ("!disk", "none"),
        ("size>5", "fast"),
        ("size<5", "slow"),
        ("size>1, size<11", "fast slow"),
    ] {
        check(on_nodes(labels), expected);
    }
    check(json!({"spec": {"nodeSelector": {"disk": "hdd"}}}), "slow");
    check(json!({"spec": {"nodeSelector": {"disk": "tape"}}}), "");
    check(with(on_nodes("size"), json!({"spec": {"nodeSelector": {"disk": "hdd"}}})), "slow");
    // Terms are alternatives; what stands within one must hold together.
    let terms = |terms: Value| {
        json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
    };
    let ssd = || json!({"key": "disk", "operator": "In", "values": ["ssd"]});
    let named = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
    check(terms(json!([{"matchExpressions": [ssd()]}, {"matchFields": [named("none")]}])), "fast none");
    check(terms(json!([{"matchExpressions": [ssd()], "matchFields": [named("fast")]}])), "fast");
    check(terms(json!([{"matchExpressions": [ssd()], "matchFields": [named("slow")]}])), "");
    check(terms(json!([{"matchFields": [named("nowhere")]}])), "");
    check(terms(json!([{"matchFields": [named("nowhere")]}, {"matchFields": [named("slow")]}])), "slow");
    check(terms(json!([{}])), "");
}

#[test]
fn nobody_is_evicted_where_there_is_room() {
    let objects = [labelled("a", "node=a"), labelled("b", "node=b"), asking("low", "4", with(at("a"), priority(0)))];
    check(&objects, asking("p", "2", priority(100)), "b");
}

#[test]
fn among_many_nodes_the_one_is_found_that_is_near_or_not_too_full() {
    // More than are looked at if they fit.
    let host = |n: usize| labelled(&format!("n{n}"), &format!("kubernetes.io/hostname=n{n} zone={}", n / 999));
    let nodes: Vec<Value> = (0..1000).map(host).collect();
    let check = |there: Value, waiting: Value| {
        let mut stage = Stage::new(&nodes);
        stage.apply(&there);
        // Others that are less important need not go.
        stage.apply(&pod("bystander", with(priority(-1), at("n5"))));
        stage.apply(&with(waiting, priority(100)));
        stage.expect(&["p -> n999"]);
    };
    let friend = pod("friend", with(marked("app=x"), at("n999")));
    check(friend, pod("p", near(json!([term("kubernetes.io/hostname", "app=x")]))));
    let other = pod("other", with(marked("app=x"), at("n3")));
    let even = with(marked("app=x"), spread(json!([rule(1, "zone", "app=x", json!({}))])));
    check(other.clone(), pod("p", even));
    check(other, pod("p", apart(json!([term("zone", "app=x")]))));
}

#[test]
fn a_pod_that_is_resized_counts_with_the_most_of_what_it_has_and_shall_have() {
    let check = |wanted: &str, has: &str, given: &str, pending: &str, expected: &str| {
        let shown = json!({"name": "c", "resources": {"requests": {"cpu": has}}, "allocatedResources": {"cpu": given}});
        let conditions = json!([{"type": "PodResizePending", "status": "True", "reason": pending}]);
        let status = json!({"status": {"containerStatuses": [shown], "conditions": conditions}});
        let there = with(asking("there", wanted, at("a")), status);
        check(&[sized("a", "4"), there], asking("p", "2", json!({})), expected);
    };
    check("1", "1", "1", "", "a");
    // It shrinks, and the node has not done so yet; or it grows.
    check("1", "3", "1", "", "");
    check("1", "1", "3", "", "");
    check("3", "1", "1", "Deferred", "");
    // It will never grow.
    check("3", "1", "1", "Infeasible", "a");
}
