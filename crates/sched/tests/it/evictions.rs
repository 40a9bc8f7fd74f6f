//! Who is evicted for whom: the behaviours of kube-scheduler's preemption tests, decision by decision.

use sched::{
    NodeInfo, Pod, World,
    diagnosis::Rejection,
    framework::{Plugin, Point, PreFilter},
};
use serde_json::{Value, json};

use crate::{
    made::{
        apart, asking, at, default_and, labelled, marked, node, on_nodes, pod, priority, profile, rule, sized, spread,
        term,
    },
    stage::Stage,
    storage::{bound, claim, class, taken, user, volume, with},
};

/// A pod of a priority on a node.
fn holds(name: &str, cpu: &str, of: i32, node: &str) -> Value {
    asking(name, cpu, with(priority(of), at(node)))
}

/// What is decided for the pod that comes last.
fn check(objects: &[Value], pod: Value, expected: &str) {
    let mut stage = Stage::new(objects);
    stage.apply(&pod);
    stage.expect(&[expected]);
}

/// Takes one pod on each node; whether the others' leaving would help, it may not know.
struct One {
    unresolvable: bool,
}

impl Plugin for One {
    fn name(&self) -> &str {
        "One"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let unresolvable = self.unresolvable;
        Ok(PreFilter::by_node(move |info: &NodeInfo, _: &World| match (info.pods, unresolvable) {
            (0, _) => Ok(()),
            (_, true) => Err(Rejection::unresolvable("one is enough")),
            (_, false) => Err(Rejection::resolvable("one is enough")),
        }))
    }
}

#[test]
fn room_is_made_for_the_more_important() {
    let victim = holds("victim", "400m", 1, "a");
    check(&[sized("a", "500m"), victim.clone()], asking("p", "300m", priority(100)), "p evicts victim from a");
    check(&[sized("a", "500m"), victim.clone()], asking("p", "300m", priority(1)), "p waits");
    let polite = with(priority(100), json!({"spec": {"preemptionPolicy": "Never"}}));
    check(&[sized("a", "500m"), victim.clone()], asking("p", "300m", polite), "p waits");
    check(&[sized("a", "500m"), victim.clone()], asking("p", "600m", priority(100)), "p waits");
    // A profile without the plugin.
    let mut stage = Stage::with(profile(&["NodeResourcesFit"]), &[sized("a", "500m"), victim]);
    stage.apply(&asking("p", "300m", priority(100)));
    stage.expect(&["p waits"]);
}

#[test]
fn what_a_plugin_rejects_for_good_no_eviction_changes() {
    for (unresolvable, expected) in [(false, "p evicts victim from a"), (true, "p waits")] {
        let objects = [sized("a", "4"), holds("victim", "1", 1, "a")];
        let mut stage = Stage::with(default_and(Box::new(One { unresolvable })), &objects);
        stage.apply(&asking("p", "1", priority(100)));
        stage.expect(&[expected]);
    }
}

#[test]
fn both_sides_of_anti_affinity_are_cleared() {
    let check = |second: i32, expected: &str| {
        let shy = |who: &str| apart(json!([term("node", who)]));
        let objects = [
            labelled("a", "node=a"),
            pod("first", with(with(marked("pod=first"), priority(50)), at("a"))),
            pod("second", with(with(shy("pod=p"), priority(second)), at("a"))),
            pod("bystander", with(with(marked("pod=other"), priority(1)), at("a"))),
        ];
        check(&objects, pod("p", with(with(marked("pod=p"), shy("pod=first")), priority(100))), expected);
    };
    check(1, "p evicts first+second from a");
    check(100, "p waits");
}

#[test]
fn those_that_are_spread_make_room_as_far_as_the_rule_says() {
    // One would be enough for the room; two have to go for the rule.
    let zone =
        |name: &str| with(labelled(name, &format!("zone={name}")), json!({"status": {"allocatable": {"cpu": "10"}}}));
    let of = |name: &str, cpu: &str, of: i32, node: &str| with(holds(name, cpu, of, node), marked("kind"));
    let objects = [
        zone("a"),
        zone("b"),
        of("high", "9", 100, "a"),
        of("low1", "3", 1, "b"),
        of("low2", "3", 1, "b"),
        of("low3", "3", 1, "b"),
    ];
    let mut stage = Stage::new(&objects);
    let rules = spread(json!([rule(1, "zone", "kind", json!({}))]));
    stage.apply(&asking("medium", "3", with(with(marked("kind"), priority(50)), rules)));
    assert_eq!(stage.victims("medium", "b").len(), 2);
    // Two rules, of which only the others' leaving makes one come true.
    let four = ["0 z0", "1 z0", "2 z1", "3 z1"].map(|text| {
        let (name, zone) = text.split_once(' ').unwrap();
        labelled(name, &format!("node={name} zone={zone}"))
    });
    let one = |(n, node): (usize, &str)| pod(&format!("e{n}"), with(marked("foo"), at(node)));
    let existing: Vec<Value> = ["1", "1", "2", "2", "3"].into_iter().enumerate().map(one).collect();
    let mut stage = Stage::new(&[&four[..], &existing].concat());
    let rules = spread(json!([rule(1, "zone", "foo", json!({})), rule(1, "node", "foo", json!({}))]));
    let wanted = with(with(marked("foo"), rules), with(on_nodes("node!=0"), priority(100)));
    stage.apply(&pod("p", wanted));
    let decided = stage.decided();
    assert!(decided.starts_with("p evicts "), "{decided}");
}

/// A budget for pods with a label, of which so many more may go.
fn budget(label: &str, allowed: i32) -> Value {
    json!({"kind": "PodDisruptionBudget", "metadata": {"name": label, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {label: ""}}}, "status": {"disruptionsAllowed": allowed}})
}

#[test]
fn budgets_are_kept_if_that_is_possible() {
    let of = |name: &str, of: i32, node: &str, label: &str| with(holds(name, "100m", of, node), marked(label));
    let check = |nodes: &[&str], pods: &[Value], budgets: &[Value], cpu: &str, expected: &str| {
        let nodes: Vec<Value> = nodes.iter().map(|name| sized(name, "500m")).collect();
        check(&[&nodes[..], pods, budgets].concat(), asking("p", cpu, priority(100)), expected);
    };
    // The more important one goes, because no budget speaks for it.
    let pods = [of("low1", 1, "a", "foo"), of("low2", 1, "a", "foo"), of("mid", 50, "a", "")];
    check(&["a"], &pods, &[budget("foo", 0)], "300m", "p evicts mid from a");
    // The node where no budget is broken.
    let pods = [of("low", 1, "a", "foo"), of("mid", 50, "b", "")];
    check(&["a", "b"], &pods, &[budget("foo", 0)], "500m", "p evicts mid from b");
    // The node where most may go, of those the one with the least important.
    let pods = [
        of("low1", 1, "a", "one"),
        of("mid1", 50, "a", ""),
        of("low2", 1, "b", "two"),
        of("mid2", 50, "b", "two"),
        of("low4", 1, "c", "two"),
        of("low5", 1, "c", "two"),
        of("low6", 1, "c", "two"),
    ];
    let budgets = [budget("one", 0), budget("two", 3)];
    check(&["a", "b", "c"], &pods, &budgets, "500m", "p evicts low4+low5+low6 from c");
    // Whoever is being disrupted already is not counted again.
    let mut counted = budget("foo", 0);
    counted["status"]["disruptedPods"] = json!({"low": "2026-01-01T00:00:00Z"});
    let pods = [of("low", 1, "a", "foo"), of("mid", 50, "b", "")];
    check(&["a", "b"], &pods, &[counted], "500m", "p evicts low from a");
}

/// Nodes with one pod each, of which some have one label and the others another; and pods that preempt.
fn guarded(one: usize, other: usize) -> Stage {
    let mut stage = Stage::new(&[budget("one", 0), budget("other", 9)]);
    for n in 0..one + other {
        let (name, label) = (format!("n{n}"), if n < one { "one" } else { "other" });
        stage.apply(&sized(&name, "500m"));
        stage.apply(&with(holds(&format!("{label}-{n}"), "500m", 1, &name), marked(label)));
    }
    stage
}

/// The label of whom the next pod of the same kind has evicted.
fn evicted_by(stage: &mut Stage, pod: &str) -> String {
    stage.apply(&asking(pod, "500m", priority(100)));
    let decided = stage.decided();
    let victim = decided.strip_prefix(&format!("{pod} evicts ")).unwrap_or_else(|| panic!("{decided}"));
    victim.split('-').next().unwrap().to_owned()
}

#[test]
fn what_is_remembered_of_evictions_follows_the_budgets() {
    let mut stage = guarded(5, 5);
    for pod in ["p1", "p2"] {
        assert_eq!(evicted_by(&mut stage, pod), "other");
    }
    // The numbers change.
    stage.apply(&budget("one", 9));
    stage.apply(&budget("other", 0));
    assert_eq!(evicted_by(&mut stage, "p3"), "one");
    // Whom they are about changes, and then there is one more.
    let mut about_the_other = budget("one", 0);
    about_the_other["spec"]["selector"]["matchLabels"] = json!({"other": ""});
    stage.apply(&about_the_other);
    stage.apply(&budget("other", 9));
    assert_eq!(evicted_by(&mut stage, "p4"), "one");
    let mut new = budget("new", 0);
    new["spec"]["selector"]["matchLabels"] = json!({"one": ""});
    stage.apply(&new);
    stage.apply(&budget("one", 9));
    assert_eq!(evicted_by(&mut stage, "p5"), "other");
    // It is gone.
    let (namespace, name) = ("default".into(), "new".into());
    stage.cluster.engine.set_budget(&namespace, &name, None);
    stage.apply(&budget("other", 0));
    assert_eq!(evicted_by(&mut stage, "p6"), "one");
}

#[test]
fn budgets_of_many_nodes_are_caught_up_with_when_they_keep_still() {
    // More than are looked at for one pod.
    let mut stage = guarded(150, 3);
    // Some node, and the best for the second of its kind, for which all are looked at.
    evicted_by(&mut stage, "p1");
    assert_eq!(evicted_by(&mut stage, "p2"), "other");
    stage.apply(&budget("one", 1));
    stage.apply(&budget("one", 0));
    evicted_by(&mut stage, "p3");
    assert_eq!(evicted_by(&mut stage, "p4"), "other");
}

#[test]
fn users_of_exclusive_claims_go_for_the_more_important() {
    let exclusive = |name: &str| {
        [
            taken(volume(name, ""), name),
            bound(with(claim(name, ""), json!({"spec": {"accessModes": ["ReadWriteOncePod"]}})), name),
        ]
    };
    let of = |name: &str, claims: &[&str], of: i32| {
        with(user(name, claims), with(json!({"metadata": {"uid": name}}), priority(of)))
    };
    let check = |users: &[(&str, &[&str])], own: &[&str], expected: &str| {
        let users = users.iter().map(|(name, claims)| with(of(name, claims, 1), at("a")));
        let objects: Vec<Value> =
            [node("a", json!({}))].into_iter().chain(exclusive("c1")).chain(exclusive("c2")).chain(users).collect();
        check(&objects, of("p", own, 100), expected);
    };
    check(&[("v1", &["c1"])], &["c1"], "p evicts v1 from a");
    check(&[("v1", &["c1"]), ("v2", &["c2"])], &["c1", "c2"], "p evicts v1+v2 from a");
    check(&[("v1", &["c1", "c2"])], &["c1", "c2"], "p evicts v1 from a");
    check(&[("v1", &["c1"]), ("v2", &["c2"])], &["c2"], "p evicts v2 from a");
}

#[test]
fn what_stands_in_the_way_of_evictions_wakes_who_would_have_others_evicted() {
    let check = |more: &[Value], pod: Value, change: Value| {
        let mut stage = Stage::new(&[sized("a", "500m"), holds("victim", "400m", 1, "a")]);
        more.iter().for_each(|object| stage.apply(object));
        // The first is decided by itself, the others by what is known of their kind.
        for name in ["p", "q", "r"] {
            stage.apply(&asking(name, "300m", with(priority(100), pod.clone())));
            stage.expect(&[&format!("{name} waits")]);
        }
        stage.delete("p");
        stage.expect(&[]);
        stage.apply(&change);
        stage.expect(&["q evicts victim from a", "r waits"]);
    };
    // Before there is room for the pod, nobody asks for its volume, or whether it can be beside the others.
    let volumes = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
    let waits = [class("late", "kubernetes.io/no-provisioner"), claim("c", "late")];
    check(&waits, volumes, volume("v", "late"));
    let important = |labels: &str| with(holds("important", "0", 200, "a"), marked(labels));
    check(&[important("app=x")], apart(json!([term("kubernetes.io/hostname", "app=x")])), important("app=y"));
}

#[test]
fn only_as_many_go_as_it_takes_along_the_ladder_of_priorities() {
    let fake = |amount: &str, more: Value| {
        let containers = json!([{"name": "c", "resources": {"requests": {"example.com/fakecpu": amount}}}]);
        with(json!({"spec": {"containers": containers}}), more)
    };
    let objects = [
        node("a", json!({"status": {"allocatable": {"example.com/fakecpu": "1000"}}})),
        pod("one", fake("200", with(priority(1), at("a")))),
        pod("two", fake("300", with(priority(2), at("a")))),
        pod("three", fake("450", with(priority(3), at("a")))),
    ];
    let mut stage = Stage::new(&objects);
    stage.apply(&pod("four", fake("500", priority(4))));
    stage.expect(&["four evicts one+two from a"]);
    // Their successors come at once, and find no room, but evict nobody who was spared.
    for (name, gone, amount, of) in [("one-again", "one", "200", 1), ("two-again", "two", "300", 2)] {
        stage.delete(gone);
        stage.apply(&pod(name, fake(amount, priority(of))));
    }
    stage.expect(&["four -> a", "one-again waits", "two-again waits"]);
}

#[test]
fn the_critical_pod_finds_room_on_any_node() {
    let node = |name: &str| node(name, json!({"status": {"allocatable": {"example.com/scarce": "5"}}}));
    let takes = |name: &str, more: Value| {
        let containers = json!([{"name": "c", "resources": {"requests": {"example.com/scarce": "2"}}}]);
        with(pod(name, json!({"spec": {"containers": containers}})), more)
    };
    let holds = |name: &str, of: i32, node: &str| takes(name, with(priority(of), at(node)));
    for of in [1000, 2_000_000_000] {
        let objects = [
            node("a"),
            node("b"),
            holds("low", 1, "a"),
            holds("m1", 100, "a"),
            holds("m2", 100, "b"),
            holds("m3", 100, "b"),
        ];
        check(&objects, takes("p", priority(of)), "p evicts low from a");
    }
}

#[test]
fn victims_leave_in_their_time_and_nobody_else_is_evicted_meanwhile() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let mut stage = Stage::new(&[sized("a", "4"), holds("v1", "4", 1, "a")]);
    stage.apply(&asking("p", "4", priority(100)));
    stage.expect(&["p evicts v1 from a"]);
    stage.apply(&with(holds("v1", "4", 1, "a"), leaving.clone()));
    stage.apply(&sized("b", "4"));
    stage.apply(&holds("v2", "4", 1, "b"));
    stage.expect(&["p waits"]);
    stage.delete("v1");
    stage.expect(&["p -> a"]);
    // The same after a restart, when only the API remembers.
    let promised = asking("p", "4", with(priority(100), json!({"status": {"nominatedNodeName": "a"}})));
    let v1 = with(holds("v1", "4", 1, "a"), leaving);
    let mut stage = Stage::new(&[sized("a", "4"), v1, sized("b", "4"), holds("v2", "4", 1, "b")]);
    stage.apply(&promised);
    stage.expect(&["p waits"]);
    assert_eq!(stage.kept_for("p"), "a");
}

#[test]
fn a_pod_that_is_being_bound_can_be_a_victim() {
    let mut stage = Stage::new(&[sized("a", "4"), asking("low", "2", priority(1))]);
    stage.one("low -> a");
    stage.apply(&asking("high", "4", priority(100)));
    stage.one("high evicts low from a");
    // It is gone before it was bound.
    stage.delete("low");
    stage.one("high -> a");
    // It is on its way, but may have been bound: its room is not given away before that is known.
    let mut stage = Stage::new(&[sized("a", "4"), asking("low", "2", priority(1))]);
    stage.one("low -> a");
    stage.apply(&asking("high", "4", priority(100)));
    stage.one("high evicts low from a");
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    stage.apply(&with(asking("low", "2", priority(1)), leaving));
    stage.expect(&[]);
    stage.cluster.engine.undo("low", stage.cluster.now);
    stage.expect(&["high -> a"]);
    // It is sent back, and finds another node.
    let mut stage = Stage::new(&[sized("a", "4"), asking("low", "2", priority(1))]);
    stage.one("low -> a");
    stage.apply(&sized("small", "2"));
    stage.apply(&asking("high", "3", priority(100)));
    stage.one("high evicts low from a");
    stage.cluster.engine.undo("low", stage.cluster.now);
    stage.expect(&["high -> a", "low -> small"]);
}

#[test]
fn a_basic_group_preempts_pod_by_pod() {
    let group = json!({"kind": "PodGroup", "metadata": {"name": "g", "namespace": "default"},
        "spec": {"schedulingPolicy": {"basic": {}}}});
    let member = |name: &str| {
        asking(name, "1", with(priority(100), json!({"spec": {"schedulingGroup": {"podGroupName": "g"}}})))
    };
    let mut stage = Stage::new(&[sized("a", "2"), holds("low", "2", 1, "a"), group]);
    stage.apply(&member("m1"));
    stage.apply(&member("m2"));
    stage.one("m1 evicts low from a");
    stage.delete("low");
    stage.expect(&["m1 -> a", "m2 -> a"]);
}
