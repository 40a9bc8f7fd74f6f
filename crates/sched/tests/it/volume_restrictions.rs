//! Disks that are on a node once, and claims that have one user.

use serde_json::{Value, json};

use crate::storage::{Cluster, bound, check, claim, node, on, pod, taken, user, volume, with};
use sched::Decision;

#[test]
fn disks_conflict_unless_all_only_read() {
    let case = |own: Value, other: Value, conflict: bool| {
        let objects = [node("n", json!({})), on("n", pod("other", json!([other])))];
        let expected = if conflict { "0/1 nodes are available: 1 node(s) had no available disk." } else { "-> n" };
        check(&objects, &pod("p", json!([own])), expected);
    };
    let gce = |name: &str, ro: bool| json!({"name": "v", "gcePersistentDisk": {"pdName": name, "readOnly": ro}});
    case(gce("a", false), gce("a", false), true);
    case(gce("a", true), gce("a", false), true);
    case(gce("a", true), gce("a", true), false);
    case(gce("a", false), gce("b", false), false);
    let aws = |id: &str, ro: bool| json!({"name": "v", "awsElasticBlockStore": {"volumeID": id, "readOnly": ro}});
    case(aws("a", false), aws("a", false), true);
    case(aws("a", true), aws("a", true), true);
    case(aws("a", false), aws("b", false), false);
    let iscsi = |iqn: &str, ro: bool| json!({"name": "v", "iscsi": {"iqn": iqn, "lun": 0, "readOnly": ro}});
    case(iscsi("a", false), iscsi("a", true), true);
    case(iscsi("a", true), iscsi("a", true), false);
    case(iscsi("a", false), iscsi("b", false), false);
    let rbd = |monitors: Value, pool: &str, image: &str, ro: bool| json!({"name": "v", "rbd": {"monitors": monitors, "pool": pool, "image": image, "readOnly": ro}});
    case(rbd(json!(["a", "b"]), "p", "i", false), rbd(json!(["b", "c"]), "p", "i", false), true);
    case(rbd(json!(["a", "b"]), "p", "i", true), rbd(json!(["b", "c"]), "p", "i", true), false);
    case(rbd(json!(["a", "b"]), "p", "i", false), rbd(json!(["c", "d"]), "p", "i", false), false);
    case(rbd(json!(["a"]), "p", "i", false), rbd(json!(["a"]), "q", "i", false), false);
    case(rbd(json!(["a"]), "p", "i", false), rbd(json!(["a"]), "p", "j", false), false);
    case(gce("a", false), aws("a", false), false);
    let azure = json!({"name": "v", "azureDisk": {"diskName": "a", "diskURI": "/a"}});
    case(azure.clone(), azure, false);
}

fn exclusive(name: &str) -> Value {
    bound(with(claim(name, ""), json!({"spec": {"accessModes": ["ReadWriteOncePod"]}})), name)
}

const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by \
                      another pod";

#[test]
fn an_exclusive_claim_has_one_user_in_the_whole_cluster() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let storage =
        [exclusive("own"), exclusive("other"), taken(volume("own", ""), "own"), taken(volume("other", ""), "other")];
    let case = |more: &[Value], own: &[&str], expected: &str| {
        let objects = [&nodes[..], &storage[..], more].concat();
        check(&objects, &user("p", own), expected);
    };
    let placed = |claim| on("a", user("other", &[claim]));
    let message = format!("0/2 nodes are available: 2 {IN_USE}.");
    case(&[placed("own")], &["own"], &message);
    case(&[placed("own")], &["other", "own"], &message);
    case(
        &[placed("other"), node("b", json!({"gone": "no"}))],
        &["missing"],
        "0/2 nodes are available: persistentvolumeclaim \"missing\" not found.",
    );
    // Another namespace has claims of its own.
    let foreign = with(placed("own"), json!({"metadata": {"namespace": "elsewhere"}, "spec": {"nodeName": "b"}}));
    let objects = [&nodes[..1], &storage[..], &[foreign]].concat();
    check(&objects, &user("p", &["own"]), "-> a");
}

#[test]
fn the_user_of_an_exclusive_claim_can_be_preempted() {
    let mut cluster =
        Cluster::new(&[node("a", json!({})), node("b", json!({})), exclusive("own"), taken(volume("own", ""), "own")]);
    let low = with(user("low", &["own"]), json!({"spec": {"priority": 1}}));
    cluster.apply(&low);
    let taken_node = cluster.placed().node;
    // Pods of low priority elsewhere do not help.
    let other = if &*taken_node == "a" { "b" } else { "a" };
    cluster.apply(&on(other, with(pod("idle", json!([])), json!({"spec": {"priority": 1}}))));
    cluster.apply(&on(&taken_node, low.clone()));
    let high = with(user("high", &["own"]), json!({"spec": {"priority": 9}}));
    cluster.apply(&high);
    let Some(Decision::Unschedulable { victims: Some(victims), .. }) = cluster.engine.next(cluster.now) else {
        panic!("nobody is evicted")
    };
    let names: Vec<&str> = victims.pods.iter().map(|victim| &*victim.name).collect();
    assert_eq!((&*victims.node, names), (&*taken_node, vec!["low"]));
    assert_eq!(cluster.next(), "nothing");
    cluster.delete(&low);
    assert_eq!(cluster.next(), format!("high -> {taken_node}"));
}

#[test]
fn an_exclusive_claim_is_used_at_once_by_a_reserved_pod() {
    let mut cluster = Cluster::new(&[node("a", json!({})), exclusive("own"), taken(volume("own", ""), "own")]);
    // Pods of one kind, so that their plan is kept.
    for name in ["p1", "p2", "p3"] {
        cluster.apply(&user(name, &["own"]));
    }
    let message = format!("0/1 nodes are available: 1 {IN_USE}.");
    assert_eq!(cluster.next(), "p1 -> a");
    assert_eq!(cluster.next(), format!("p2: {message}"));
    assert_eq!(cluster.next(), format!("p3: {message}"));
    cluster.engine.undo("uid-p1", cluster.now);
    assert_eq!(cluster.next(), "p2 -> a");
    assert_eq!(cluster.next(), format!("p3: {message}"));
}

#[test]
fn what_was_found_while_nobody_used_a_claim_does_not_outlive_that() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let mut cluster = Cluster::new(&[&nodes[..], &[exclusive("own"), taken(volume("own", ""), "own")]].concat());
    let message = format!("0/2 nodes are available: 2 {IN_USE}.");
    // The second of a kind makes a plan that is kept.
    for name in ["p1", "p2"] {
        cluster.apply(&user(name, &["own"]));
        assert_eq!(cluster.placed().why.feasible, 2);
        cluster.delete(&user(name, &["own"]));
    }
    for name in ["p3", "p4"] {
        cluster.apply(&user(name, &["own"]));
    }
    assert_eq!(cluster.placed().why.feasible, 2);
    assert_eq!(cluster.next(), format!("p4: {message}"));
    cluster.delete(&user("p3", &["own"]));
    assert_eq!(cluster.placed().why.feasible, 2);
}
