//! Which changes wake which pods: for each plugin, those of its pods that the change can help, and no others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sched::{
    Decision, Pod, Profile, World,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PreFilter},
};
use serde_json::{Value, json};

use crate::{
    made::{
        apart, apply, asking, at, cluster, labelled, marked, near, node, on_nodes, pod, profile, rule, sized, spread,
        tainted, term,
    },
    storage::{Cluster, with},
};

/// What happens to an object.
enum Change {
    /// It appears, or becomes this.
    Is(Value),
    Gone(Value),
}

use Change::{Gone, Is};

/// All of the last pods are rejected by these plugins. Then the change wakes these of them.
fn check(plugins: &[&str], objects: &[Value], waiting: &[Value], change: Change, woken: &str) {
    let mut cluster = cluster(profile(plugins), objects);
    for pod in waiting {
        apply(&mut cluster, pod);
        let told = cluster.next();
        assert!(told.contains("0/"), "it does not wait: {told}");
    }
    // Short of the time after which pods are tried anyway.
    cluster.now += Duration::from_secs(60);
    match &change {
        Is(object) => apply(&mut cluster, object),
        Gone(object) => cluster.delete(object),
    }
    assert_eq!(tried(&mut cluster), woken, "{plugins:?}");
}

/// The pods that are tried, sorted.
fn tried(cluster: &mut Cluster) -> String {
    let mut names = Vec::new();
    loop {
        let decided = cluster.next();
        match decided.split_once([' ', ':']) {
            Some((name, _)) => names.push(name.to_owned()),
            None => break,
        }
    }
    names.sort();
    names.join(" ")
}

#[test]
fn a_node_wakes_pods_that_it_has_room_for() {
    let check = |objects: &[Value], waiting: &[Value], change: Change, woken: &str| {
        check(&["NodeResourcesFit", "NodeAffinity"], objects, waiting, change, woken);
    };
    let (four, five) = (asking("four", "4", json!({})), asking("five", "5", json!({})));
    let both = [four.clone(), five];
    check(&[sized("a", "2")], &both, Is(sized("b", "4")), "four");
    check(&[sized("a", "2")], &both, Is(sized("a", "4")), "four");
    check(&[sized("a", "2")], &both, Is(sized("a", "1")), "");
    let gpu = json!([{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]);
    let gpu = [pod("gpu", json!({"spec": {"containers": gpu}}))];
    let more = |what: &str, amount: &str| node("a", json!({"status": {"allocatable": {what: amount}}}));
    check(&[node("a", json!({}))], &gpu, Is(more("memory", "16Gi")), "");
    check(&[node("a", json!({}))], &gpu, Is(more("example.com/gpu", "2")), "gpu");
    // What it does not ask for does not help, nor does more of what is enough; more places for pods do.
    let labelled = |name: &str, cpu: &str| with(sized(name, cpu), marked("group=b"));
    let choosy = [with(four, on_nodes("group=b"))];
    let nodes = [sized("a", "4"), labelled("b", "2")];
    check(&nodes, &choosy, Is(with(sized("a", "4"), json!({"status": {"allocatable": {"memory": "64Gi"}}}))), "");
    check(&nodes, &choosy, Is(sized("a", "5")), "four");
    let places = |name: &str, pods: &str| node(name, json!({"status": {"allocatable": {"pods": pods}}}));
    let crowd = [places("a", "1"), pod("there", at("a"))];
    check(&crowd, &[pod("p", json!({}))], Is(places("a", "2")), "p");
}

#[test]
fn a_pod_that_leaves_or_shrinks_wakes_those_that_lack_its_room() {
    let holder = |cpu: &str| asking("holder", cpu, at("a"));
    let bystander = || pod("bystander", at("a"));
    let objects = [sized("a", "4"), holder("2"), bystander()];
    let waiting = [asking("p", "4", json!({}))];
    let check = |change: Change, woken: &str| check(&["NodeResourcesFit"], &objects, &waiting, change, woken);
    check(Gone(holder("2")), "p");
    check(Is(holder("1")), "p");
    check(Is(holder("3")), "");
    // It has held one of the places for pods.
    check(Gone(bystander()), "p");
    check(Is(with(holder("2"), json!({"status": {"phase": "Succeeded"}}))), "p");
    // It is on its way, and holds its room until it is gone.
    check(Is(with(holder("2"), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))), "");
    check(Is(pod("new", at("a"))), "");
}

#[test]
fn a_nodes_labels_wake_pods_that_now_match() {
    let check = |objects: &[Value], waiting: &[Value], change: Change, woken: &str| {
        check(&["NodeAffinity", "NodeResourcesFit"], objects, waiting, change, woken);
    };
    let waiting = [pod("b", on_nodes("group=b")), pod("c", on_nodes("group=c"))];
    check(&[labelled("n", "group=a")], &waiting, Is(labelled("n", "group=b")), "b");
    check(&[labelled("n", "group=a")], &waiting, Is(labelled("m", "group=b")), "b");
    // It has matched before, and was not what stood in the way.
    let nodes = [with(labelled("n", "group=a"), sized("n", "2")), labelled("m", "group=b")];
    let large = [asking("p", "4", on_nodes("group=a"))];
    check(&nodes, &large, Is(with(nodes[0].clone(), marked("other"))), "");
}

#[test]
fn both_that_reject_a_pod_are_asked() {
    let named = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [named]}}});
    let pod = asking("p", "4", json!({"spec": {"affinity": affinity}}));
    let objects = [sized("n", "2"), sized("m", "2")];
    let mut cluster = cluster(profile(&["NodeAffinity", "NodeResourcesFit"]), &objects);
    apply(&mut cluster, &pod);
    assert!(cluster.next().starts_with("p: 0/2"));
    let by: Vec<_> = cluster.engine.unschedulable_by().into_keys().map(|(_, plugin)| plugin.to_owned()).collect();
    assert_eq!(by, ["NodeAffinity", "NodeResourcesFit"]);
}

#[test]
fn a_nodes_taints_wake_pods_that_tolerate_what_is_left() {
    let check = |waiting: &[Value], change: Change, woken: &str| {
        check(&["TaintToleration", "NodeResourcesFit"], &[tainted("a", "hot:NoSchedule")], waiting, change, woken);
    };
    let tolerant =
        |name: &str, key: &str| pod(name, json!({"spec": {"tolerations": [{"key": key, "operator": "Exists"}]}}));
    let waiting = [tolerant("one", "k1"), tolerant("two", "k2"), pod("none", json!({}))];
    check(&waiting, Is(tainted("a", "k1:NoSchedule")), "one");
    check(&waiting, Is(tainted("b", "k1:NoSchedule")), "one");
    check(&waiting, Is(tainted("b", "hot:NoSchedule")), "");
    check(&waiting, Is(node("a", json!({"spec": {"taints": []}}))), "none one two");
    // Whoever tolerates it lacks room, and whoever lacks the toleration is not helped by room.
    let large = |name: &str, more: Value| asking(name, "8", more);
    let waiting = [large("intolerant", json!({})), with(tolerant("large", "hot"), large("large", json!({})))];
    check(&waiting, Is(with(tainted("a", "hot:NoSchedule"), sized("a", "8"))), "large");
    // By its value as a number.
    let above = json!({"spec": {"tolerations": [{"key": "n", "operator": "Gt", "value": "900"}]}});
    let waiting = [pod("above", above)];
    check(&waiting, Is(tainted("b", "n=850:NoSchedule")), "");
    check(&waiting, Is(tainted("b", "n=950:NoSchedule")), "above");
}

#[test]
fn a_node_that_is_cordoned_no_more_wakes_pods() {
    let cordoned = |name: &str| node(name, json!({"spec": {"unschedulable": true}}));
    let check = |change: Change, woken: &str| {
        check(&["NodeUnschedulable"], &[cordoned("a")], &[pod("p", json!({}))], change, woken);
    };
    check(Is(node("a", json!({}))), "p");
    check(Is(node("b", json!({}))), "p");
    check(Is(cordoned("b")), "");
}

#[test]
fn a_port_that_is_free_wakes_who_wants_it() {
    let ports = |port: i32| json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": port}]}]}});
    let holder = |name: &str, port: i32| pod(name, with(ports(port), at("a")));
    let objects = [node("a", json!({})), holder("h1", 81), holder("h2", 82), pod("other", at("a"))];
    let waiting = [pod("p1", ports(81)), pod("p2", ports(82))];
    let check = |change: Change, woken: &str| check(&["NodePorts"], &objects, &waiting, change, woken);
    check(Gone(holder("h1", 81)), "p1");
    check(Gone(pod("other", at("a"))), "");
    check(Is(node("b", json!({}))), "p1 p2");
}

#[test]
fn pods_wake_those_that_want_them_near() {
    let other = |labels: &str| pod("other", with(marked(labels), at("a")));
    let wants = |name: &str, who: &str, topology: &str| pod(name, near(json!([term(topology, who)])));
    let check = |objects: &[Value], waiting: &[Value], change: Change, woken: &str| {
        check(&["InterPodAffinity", "NodeAffinity"], objects, waiting, change, woken);
    };
    let nodes = [labelled("a", "node=a")];
    let waiting = [wants("x", "app=x", "node"), wants("y", "app=y", "node")];
    check(&nodes, &waiting, Is(other("app=x")), "x");
    check(&[&nodes[..], &[other("app=z")]].concat(), &waiting, Is(other("app=x")), "x");
    check(&[&nodes[..], &[other("app=z")]].concat(), &waiting, Is(other("app=z tier=t")), "");
    // A node with the label that their terms go by.
    let own = |name: &str, topology: &str| {
        let term = term(topology, &format!("app={name}"));
        pod(name, with(marked(&format!("app={name}")), near(json!([term]))))
    };
    let waiting = [own("z", "zone"), own("r", "region")];
    check(&nodes, &waiting, Is(labelled("b", "zone=z1")), "z");
    check(&nodes, &waiting, Is(labelled("a", "node=a zone=z1")), "z");
    check(&nodes, &waiting, Is(labelled("a", "node=b")), "");
    // A node that moves into another domain.
    let objects = [labelled("a", "region=r1"), labelled("b", "region=r2 group=b"), other("app=x")];
    let waiting = [with(wants("p", "app=x", "region"), on_nodes("group=b"))];
    check(&objects, &waiting, Is(labelled("a", "region=r2")), "p");
}

#[test]
fn pods_that_go_wake_those_that_want_to_be_away_from_them() {
    let on_a = |name: &str, more: Value| pod(name, with(more, at("a")));
    let shy = |name: &str, who: &str, topology: &str| pod(name, with(marked(who), apart(json!([term(topology, who)]))));
    let check = |objects: &[Value], waiting: &[Value], change: Change, woken: &str| {
        check(&["InterPodAffinity"], objects, waiting, change, woken);
    };
    let nodes = || vec![labelled("a", "node=a zone=z other=o")];
    let others = [on_a("x", marked("app=x")), on_a("y", marked("app=y"))];
    let objects = [nodes(), others.to_vec()].concat();
    let waiting = [shy("px", "app=x", "node"), shy("py", "app=y", "node")];
    check(&objects, &waiting, Gone(others[0].clone()), "px");
    check(&objects, &waiting, Is(on_a("x", marked("app=z"))), "px");
    // Those whose own wish it was.
    let hermits = [on_a("x", apart(json!([term("node", "app=x")]))), on_a("y", apart(json!([term("node", "app=y")])))];
    let waiting_plain = [pod("px", marked("app=x")), pod("py", marked("app=y"))];
    check(&[nodes(), hermits.to_vec()].concat(), &waiting_plain, Gone(hermits[0].clone()), "px");
    // A node: another one, and one whose labels are not what they were.
    check(&objects, &waiting, Is(labelled("b", "node=b")), "px py");
    let waiting = ["node", "zone", "other"].map(|topology| shy(topology, "app=x", topology));
    check(&objects, &waiting, Is(labelled("a", "zone=new other=o")), "node zone");
}

#[test]
fn what_changes_the_counts_wakes_pods_that_are_spread() {
    let of = |key: &str, node: &str| pod(&format!("on-{node}-{key}"), with(marked(&format!("{key}=v")), at(node)));
    let waits = |name: &str, key: &str, topology: &str| {
        let rules = json!([rule(1, topology, key, json!({"minDomains": 3}))]);
        pod(name, with(marked(&format!("{key}=v")), spread(rules)))
    };
    let check = |objects: &[Value], waiting: &[Value], change: Change, woken: &str| {
        check(&["PodTopologySpread"], objects, waiting, change, woken);
    };
    let objects = [labelled("a", "node=a"), of("k1", "a"), of("k2", "a")];
    let waiting = [waits("one", "k1", "node"), waits("two", "k2", "node")];
    check(&objects, &waiting, Is(pod("new", with(marked("k1=v"), at("a")))), "one");
    check(&objects, &waiting, Is(pod("new", with(marked("k3=v"), at("a")))), "");
    check(&objects, &waiting, Is(pod("on-a-k1", with(marked("k3=v"), at("a")))), "one");
    check(&objects, &waiting, Gone(of("k1", "a")), "one");
    // Nodes with and without the label that it goes by.
    let objects = [labelled("a", "node=x"), labelled("b", "zone=x"), of("k1", "a"), of("k1", "b")];
    let waiting = [waits("n", "k1", "node"), waits("z", "k1", "zone")];
    check(&objects, &waiting, Is(labelled("c", "node=x")), "n");
    check(&objects, &waiting, Gone(labelled("b", "")), "z");
    let tainted = |key: &str| with(tainted("c", &format!("{key}:NoSchedule")), marked("zone=x"));
    check(&[&objects[..], &[tainted("hot")]].concat(), &waiting, Is(tainted("cold")), "z");
    // Labels that come, go or change, and labels that stay.
    let labels = |labels: &str| labelled("b", labels);
    let objects =
        [labelled("a", "node=x region=x service=s"), labels("node=x region=x service=s"), of("k1", "a"), of("k1", "b")];
    let waiting = ["node", "zone", "region", "rack", "service"].map(|topology| waits(topology, "k1", topology));
    check(&objects, &waiting, Is(labels("zone=x region=x service=t")), "node service zone");
}

#[test]
fn a_node_with_more_features_wakes_pods_that_need_them() {
    let with_features = |features: Value| node("a", json!({"status": {"declaredFeatures": features}}));
    let needs = pod("p", json!({"spec": {"hostNetwork": true, "hostUsers": false}}));
    let check = |change: Value, woken: &str| {
        check(&["NodeDeclaredFeatures"], &[node("a", json!({}))], std::slice::from_ref(&needs), Is(change), woken);
    };
    check(with_features(json!(["UserNamespacesHostNetworkSupport"])), "p");
    check(with_features(json!(["Other"])), "");
    check(labelled("a", "foo=bar"), "");
}

#[test]
fn a_pod_that_changes_is_tried_when_that_can_help_it() {
    let tolerating = |key: &str| json!({"spec": {"tolerations": [{"key": key, "operator": "Exists"}]}});
    let check = |plugins: &[&str], objects: &[Value], before: Value, after: Value, woken: bool| {
        let other = with(before.clone(), json!({"metadata": {"name": "other", "uid": "other"}}));
        check(plugins, objects, &[before, other], Is(after), if woken { "p" } else { "" });
    };
    let hot = [tainted("a", "hot:NoSchedule")];
    let p = |more: Value| pod("p", more);
    check(&["TaintToleration"], &hot, p(json!({})), p(tolerating("hot")), true);
    check(&["TaintToleration"], &hot, p(json!({})), p(marked("app=x")), false);
    check(&["TaintToleration"], &hot, p(json!({})), p(json!({"metadata": {"annotations": {"a": "b"}}})), false);
    let small = [sized("a", "2")];
    check(&["NodeResourcesFit"], &small, asking("p", "4", json!({})), asking("p", "1", json!({})), true);
    check(&["NodeResourcesFit"], &small, asking("p", "4", json!({})), asking("p", "5", json!({})), false);
    check(&["NodeResourcesFit"], &small, asking("p", "4", json!({})), asking("p", "4", marked("app=x")), false);
    let hermit = [labelled("a", "node=a"), pod("hermit", with(at("a"), apart(json!([term("node", "app=x")]))))];
    check(&["InterPodAffinity"], &hermit, p(marked("app=x")), p(marked("app=y")), true);
    let crowd = [labelled("a", "node=a"), pod("there", with(at("a"), marked("app=x")))];
    let rules = || spread(json!([rule(1, "node", "app=x", json!({"minDomains": 2}))]));
    check(&["PodTopologySpread"], &crowd, p(with(marked("app=x"), rules())), p(with(marked("app=y"), rules())), true);
    let honoring =
        |policy: &str| spread(json!([rule(1, "node", "app=x", json!({"minDomains": 2, "nodeTaintsPolicy": policy}))]));
    let spreading = |policy: &str| with(marked("app=x"), honoring(policy));
    for (policy, woken) in [("Honor", true), ("Ignore", false)] {
        let after = p(with(spreading(policy), tolerating("hot")));
        check(&["PodTopologySpread"], &crowd, p(spreading(policy)), after, woken);
    }
    let needs = |more: Value| p(with(json!({"spec": {"hostNetwork": true, "hostUsers": false}}), more));
    check(&["NodeDeclaredFeatures"], &[node("a", json!({}))], needs(json!({})), needs(marked("app=x")), false);
    let without = needs(json!({"spec": {"hostUsers": true}}));
    check(&["NodeDeclaredFeatures"], &[node("a", json!({}))], needs(json!({})), without, true);
}

#[test]
fn members_wake_when_their_group_is_there_and_complete() {
    let member = |name: &str, group: &str| pod(name, json!({"spec": {"schedulingGroup": {"podGroupName": group}}}));
    let group = |name: &str, min: i32| {
        json!({"kind": "PodGroup", "metadata": {"name": name, "namespace": "default"},
            "spec": {"schedulingPolicy": {"gang": {"minCount": min}}}})
    };
    let check = |objects: &[Value], change: Value, woken: &str| {
        let objects = [&[node("a", json!({}))], objects].concat();
        let mut cluster = cluster(profile(&["NodeResourcesFit"]), &objects);
        assert_eq!(cluster.next(), "nothing");
        apply(&mut cluster, &change);
        assert_eq!(tried(&mut cluster), woken);
    };
    check(&[group("g", 2), member("one", "g"), member("other", "h")], member("two", "g"), "one two");
    check(&[group("g", 2), member("one", "g"), member("other", "h")], member("two", "h"), "");
    check(&[member("one", "g"), member("other", "h")], group("g", 1), "one");
}

#[test]
fn a_queue_without_others_does_not_sit_out_a_pause() {
    let mut cluster = crate::made::with_options(sched::Options::default(), &[node("a", json!({}))]);
    apply(&mut cluster, &pod("p", on_nodes("disk=ssd")));
    assert!(cluster.next().starts_with("p: 0/1"));
    apply(&mut cluster, &labelled("b", "disk=ssd"));
    assert_eq!(cluster.next(), "p -> b");
}

#[test]
fn gates_hold_back_until_all_are_gone() {
    let gated = |name: &str, gates: &[&str]| {
        let gates: Vec<Value> = gates.iter().map(|gate| json!({"name": gate})).collect();
        pod(name, json!({"spec": {"schedulingGates": gates}}))
    };
    let places = node("a", json!({"status": {"allocatable": {"pods": "1"}}}));
    let mut cluster = cluster(profile(&["NodeResourcesFit"]), &[places, gated("g", &["x", "y"]), pod("p", json!({}))]);
    assert_eq!((cluster.next(), cluster.next()), ("p -> a".into(), "nothing".into()));
    apply(&mut cluster, &gated("g", &["y"]));
    cluster.delete(&pod("p", json!({})));
    assert_eq!(cluster.next(), "nothing");
    cluster.now += Duration::from_secs(60);
    apply(&mut cluster, &gated("g", &[]));
    let reservation = cluster.placed();
    assert_eq!((&*reservation.pod.name, &*reservation.node), ("g", "a"));
    assert_eq!(reservation.history.first_seen, cluster.now, "before that nobody could have placed it");
}

/// Rejects pods until it is opened, and says that no event changes that.
struct Door(Arc<AtomicBool>);

impl Plugin for Door {
    fn name(&self) -> &'static str {
        "Door"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter]
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        if self.0.load(Relaxed) { Ok(PreFilter::default()) } else { Err(Rejection::unresolvable("shut")) }
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        false
    }
}

#[test]
fn a_pod_that_only_the_time_has_brought_back_remembers_it_for_one_attempt() {
    let open = Arc::new(AtomicBool::new(false));
    let profile = Profile::new("default-scheduler").with(Box::new(Door(open.clone())), 0);
    let mut cluster = cluster(profile, &[node("a", json!({})), pod("p", json!({}))]);
    let rejected = |cluster: &mut Cluster| match cluster.engine.next(cluster.now) {
        Some(Decision::Unschedulable { history, .. }) => history.timed_out,
        other => panic!("{other:?}"),
    };
    assert!(!rejected(&mut cluster));
    cluster.now += Duration::from_secs(300);
    assert!(rejected(&mut cluster));
    open.store(true, Relaxed);
    cluster.now += Duration::from_secs(300);
    assert!(cluster.placed().history.timed_out);
    // A binding that fails brings it back, too, and that is no event which somebody has missed.
    cluster.engine.undo("p", cluster.now);
    cluster.now += Duration::from_secs(60);
    assert!(!cluster.placed().history.timed_out);
}
