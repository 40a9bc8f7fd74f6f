//! Nodes that are kept for pods (status.nominatedNodeName): who gets them, who leaves them alone, and when they are given back.

use serde_json::{Value, json};

use crate::{
    made::{asking, at, pod, priority, sized, tainted},
    stage::Stage,
    storage::with,
};

/// A pod of a priority that asks for CPU.
fn wants(name: &str, cpu: &str, of: i32) -> Value {
    asking(name, cpu, priority(of))
}

/// The same on a node.
fn holds(name: &str, cpu: &str, of: i32, node: &str) -> Value {
    with(wants(name, cpu, of), at(node))
}

/// The same with a node that the API says is kept for it.
fn promised(name: &str, cpu: &str, of: i32, node: &str) -> Value {
    with(wants(name, cpu, of), json!({"status": {"nominatedNodeName": node}}))
}

#[test]
fn a_node_is_kept_for_whom_it_was_freed() {
    let mut stage = Stage::new(&[sized("a", "4"), holds("victim", "4", 1, "a")]);
    stage.apply(&wants("high", "2", 100));
    stage.expect(&["high evicts victim from a"]);
    assert_eq!(stage.kept_for("high"), "a");
    // Nobody below takes it, however many come, and whoever is not less important may.
    stage.delete("victim");
    for n in 0..3 {
        stage.apply(&wants(&format!("low{n}"), "3", 1));
    }
    stage.apply(&wants("equal", "3", 100));
    stage.expect(&["high -> a", "equal waits", "low0 waits", "low1 waits", "low2 waits"]);
    assert_eq!(stage.kept_for("high"), "");
}

#[test]
fn who_is_kept_a_node_is_woken_by_what_it_lacks_there_whatever_its_like_lacks() {
    let port = json!([{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
        "resources": {"requests": {"cpu": "3"}}}]);
    let wants = |name: &str| pod(name, with(priority(100), json!({"spec": {"containers": port}})));
    let mut stage = Stage::new(&[
        sized("a", "4"),
        holds("victim", "2", 1, "a"),
        tainted("b", "k:NoSchedule"),
        holds("other", "1", 1, "b"),
    ]);
    stage.apply(&wants("first"));
    stage.expect(&["first evicts victim from a"]);
    // Of these, the port is taken by the first.
    stage.apply(&wants("second"));
    stage.expect(&["second waits"]);
    // The first lacks CPU, and is woken by this; but its victim is still there.
    stage.delete("other");
    stage.expect(&["first waits"]);
    stage.delete("victim");
    stage.expect(&["first -> a"]);
}

#[test]
fn room_beside_it_is_everybodys() {
    let mut stage = Stage::new(&[sized("a", "4"), holds("victim", "3", 1, "a")]);
    stage.apply(&wants("high", "2", 100));
    stage.expect(&["high evicts victim from a"]);
    stage.delete("victim");
    stage.apply(&wants("small", "2", 1));
    stage.apply(&wants("large", "3", 1));
    stage.expect(&["high -> a", "small -> a", "large waits"]);
}

#[test]
fn a_better_node_is_chosen_anew() {
    // On the node that it was promised, two would have to go; on the other, one is enough.
    let objects = [
        sized("a", "4"),
        sized("b", "4"),
        holds("v1", "2", 1, "a"),
        holds("v2", "2", 1, "a"),
        holds("v3", "3", 1, "b"),
    ];
    let mut stage = Stage::new(&objects);
    stage.apply(&promised("high", "4", 100, "a"));
    stage.expect(&["high evicts v3 from b"]);
    assert_eq!(stage.kept_for("high"), "b");
    stage.delete("v3");
    stage.expect(&["high -> b"]);
}

#[test]
fn a_promised_node_is_taken_if_it_fits_and_another_if_not() {
    let check = |other: &str, expected: &str| {
        let mut stage = Stage::new(&[sized("a", "4"), sized("b", "4"), holds("other", "1", 1, other)]);
        stage.apply(&promised("p", "4", 100, "a"));
        stage.expect(&[expected]);
    };
    check("b", "p -> a");
    check("a", "p -> b");
}

#[test]
fn a_promise_that_cannot_come_true_is_taken_back() {
    let mut stage = Stage::new(&[sized("a", "4")]);
    stage.apply(&promised("huge", "5", 1, "a"));
    stage.apply(&wants("p", "3", 1));
    // The one that cannot have it anyway gives it back, and the other has its turn.
    stage.expect(&["huge waits, and is promised nothing", "p -> a"]);
    assert_eq!(stage.kept_for("huge"), "");
    // Who is more important need not mind it.
    let mut stage = Stage::new(&[sized("a", "4")]);
    stage.apply(&promised("low", "4", 1, "a"));
    stage.apply(&wants("high", "4", 100));
    stage.expect(&["high -> a", "low waits, and is promised nothing"]);
}

#[test]
fn what_is_given_back_wakes_those_that_left_it_alone() {
    // The most important fits beside the least important, and the one between beside neither.
    let start = || {
        let mut stage = Stage::new(&[sized("a", "32"), holds("victim", "20", 1, "a")]);
        stage.apply(&wants("mid", "25", 50));
        stage.one("mid evicts victim from a");
        // While it has its pause, others are tried.
        stage.delete("victim");
        stage.apply(&wants("low", "20", 1));
        stage.one("low waits");
        stage
    };
    let mut stage = start();
    stage.delete("mid");
    stage.expect(&["low -> a"]);
    let mut stage = start();
    stage.apply(&wants("high", "10", 100));
    stage.one("high -> a");
    stage.expect(&["mid waits, and is promised nothing", "low -> a"]);
    // The API takes the promise back, or moves it to another node.
    let gated = |more: Value| {
        let gates = json!({"spec": {"schedulingGates": [{"name": "g"}]}});
        with(with(wants("mid", "4", 50), gates), more)
    };
    let on = |node: &str| gated(json!({"status": {"nominatedNodeName": node}}));
    for changed in [gated(json!({})), on("b")] {
        let mut stage = Stage::new(&[sized("a", "4"), sized("b", "4"), holds("other", "4", 100, "b"), on("a")]);
        stage.apply(&wants("low", "4", 1));
        stage.one("low waits");
        stage.apply(&changed);
        stage.expect(&["low -> a"]);
    }
    // What is kept for the less important stands in nobody's way.
    let mut stage = Stage::new(&[sized("a", "4"), on("a"), wants("high", "4", 100)]);
    stage.one("high -> a");
}

#[test]
fn a_node_that_is_gone_is_promised_to_nobody() {
    let start = |more: &[Value]| {
        let mut stage = Stage::new(&[&[sized("a", "1"), holds("low", "1", 1, "a")], more].concat());
        stage.apply(&wants("mid", "1", 50));
        stage.expect(&["mid evicts low from a"]);
        stage.remove_node("a");
        stage.delete("low");
        stage
    };
    let mut stage = start(&[]);
    stage.expect(&["mid waits, and is promised nothing"]);
    let mut stage = start(&[tainted("t", "hot:NoSchedule")]);
    stage.expect(&["mid waits, and is promised nothing"]);
}

#[test]
fn one_does_not_wait_for_victims_where_one_cannot_go() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let objects = [sized("a", "4"), sized("b", "4"), holds("v1", "4", 1, "a"), holds("v2", "4", 2, "b")];
    let mut stage = Stage::new(&objects);
    stage.apply(&wants("high", "4", 100));
    stage.expect(&["high evicts v1 from a"]);
    stage.apply(&with(holds("v1", "4", 1, "a"), leaving));
    // Something wakes it: it waits for the one that is leaving.
    stage.apply(&sized("c", "4"));
    stage.remove_node("c");
    stage.expect(&["high waits"]);
    assert_eq!(stage.kept_for("high"), "a");
    // Its node is cordoned: others are evicted elsewhere.
    stage.apply(&with(sized("a", "4"), json!({"spec": {"unschedulable": true}})));
    stage.apply(&sized("c", "4"));
    stage.remove_node("c");
    stage.expect(&["high evicts v2 from b"]);
}

#[test]
fn a_more_important_one_takes_over_and_the_other_looks_elsewhere() {
    let four = |node: &str| (0..4).map(|n| holds(&format!("{node}{n}"), "1", 1, node)).collect::<Vec<_>>();
    let mut stage = Stage::new(&[vec![sized("a", "4")], four("a")].concat());
    stage.apply(&wants("high", "4", 100));
    stage.expect(&["high evicts a0+a1+a2+a3 from a"]);
    stage.apply(&wants("highest", "4", 200));
    stage.expect(&["highest evicts a0+a1+a2+a3 from a, instead of high", "high waits, and is promised nothing"]);
    for n in 0..4 {
        stage.delete(&format!("a{n}"));
    }
    stage.expect(&["highest -> a", "high waits"]);
    // One that fits as it is: the one that waits for its last victim finds the node taken, and frees another.
    let mut stage = Stage::new(&[vec![sized("a", "4")], four("a")].concat());
    stage.apply(&wants("mid", "4", 50));
    stage.expect(&["mid evicts a0+a1+a2+a3 from a"]);
    for n in 0..3 {
        stage.delete(&format!("a{n}"));
    }
    stage.expect(&["mid waits"]);
    stage.apply(&sized("b", "4"));
    four("b").iter().for_each(|pod| stage.apply(pod));
    stage.apply(&wants("high", "2", 100));
    stage.one("high -> a");
    stage.delete("a3");
    stage.expect(&["mid evicts b0+b1+b2+b3 from b"]);
}

#[test]
fn two_may_free_the_same_node_if_it_is_large_enough() {
    let four: Vec<Value> = (0..4).map(|n| holds(&format!("v{n}"), "1", 1, "a")).collect();
    let mut stage = Stage::new(&[vec![sized("a", "4")], four].concat());
    stage.apply(&wants("high", "2", 100));
    let first = stage.victims("high", "a");
    stage.apply(&wants("mid", "2", 50));
    let second = stage.victims("mid", "a");
    assert_eq!(first.len(), 2);
    let both: std::collections::BTreeSet<String> = first.into_iter().chain(second).collect();
    assert_eq!(both.len(), 4);
    for n in 0..4 {
        stage.delete(&format!("v{n}"));
    }
    stage.expect(&["high -> a", "mid -> a"]);
}
