//! Which changes wake pods that wait for their volumes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::storage::{Cluster, bound, claim, class, csi, csi_node, local, node, on, pod, taken, user, volume, with};

/// After the objects, the pod is rejected; the change wakes it, or does not.
fn case(objects: &[Value], waiting: &Value, change: impl FnOnce(&mut Cluster), woken: bool) {
    let mut cluster = Cluster::new(objects);
    cluster.apply(waiting);
    let told = cluster.next();
    assert!(told.contains("nodes are available"), "{told}");
    // Beyond any pause, but short of the time after which pods are tried anyway.
    cluster.now += Duration::from_secs(30);
    change(&mut cluster);
    let next = cluster.next();
    assert_eq!(next != "nothing", woken, "before: {told}; after: {next}");
}

fn other(claim: Value) -> Value {
    with(claim, json!({"metadata": {"namespace": "elsewhere"}}))
}

#[test]
fn missing_claims_wake_their_pods() {
    let objects = [node("n", json!({})), class("late", "x.io/made")];
    let check = |change: Value, woken: bool| {
        case(&objects, &user("p", &["c"]), |cluster| cluster.apply(&change), woken);
    };
    check(claim("c", "late"), true);
    check(other(claim("c", "late")), false);
    check(claim("d", "late"), false);
    check(volume("v", "late"), false);
    check(node("m", json!({})), true);
}

#[test]
fn unbound_claims_wake_their_pods_when_they_are_bound() {
    let objects = [node("n", json!({})), claim("c", "now"), claim("d", "now"), volume("v", "now")];
    let check = |change: &dyn Fn(&mut Cluster), woken: bool| {
        case(&objects, &user("p", &["c"]), |cluster| change(cluster), woken);
    };
    check(&|cluster| cluster.apply(&bound(claim("c", "now"), "v")), true);
    check(&|cluster| cluster.apply(&bound(claim("d", "now"), "v")), false);
    check(&|cluster| cluster.apply(&class("now", "x.io/made")), true);
    check(&|cluster| cluster.apply(&volume("w", "now")), true);
    check(&|cluster| cluster.delete(&volume("v", "now")), false);
    // Only the resourceVersion differs.
    check(&|cluster| cluster.apply(&with(claim("c", "now"), json!({"metadata": {"resourceVersion": "7"}}))), false);
    check(&|cluster| cluster.apply(&on("n", pod("x", json!([])))), false);
}

#[test]
fn what_nodes_lack_wakes_pods_when_it_comes() {
    let objects = [
        node("n", json!({})),
        class("late", "x.io/made"),
        claim("c", "late"),
        json!({"kind": "CSIDriver", "metadata": {"name": "x.io/made"}, "spec": {"storageCapacity": true}}),
        room("1Gi"),
    ];
    let check = |change: Value, woken: bool| {
        case(&objects, &user("p", &["c"]), |cluster| cluster.apply(&change), woken);
    };
    fn room(size: &str) -> Value {
        json!({"kind": "CSIStorageCapacity", "metadata": {"name": "room"}, "storageClassName": "late",
            "capacity": size, "nodeTopology": {}})
    }
    check(room("500Mi"), false);
    check(room("2Gi"), true);
    check(with(room("1Gi"), json!({"metadata": {"name": "more"}})), true);
    check(json!({"kind": "CSIDriver", "metadata": {"name": "x.io/made"}, "spec": {"storageCapacity": false}}), true);
    check(json!({"kind": "CSIDriver", "metadata": {"name": "y.io/made"}, "spec": {"storageCapacity": false}}), false);
    let topologies = json!([{"matchLabelExpressions": [{"key": "rack", "values": ["r"]}]}]);
    check(with(class("late", "x.io/made"), json!({"allowedTopologies": topologies})), true);
    check(with(class("late", "x.io/made"), json!({"reclaimPolicy": "Retain"})), false);
    check(node("n", json!({"rack": "r"})), true);
    check(volume("v", "other"), true);
    check(csi_node("n", "x", 1), true);
}

#[test]
fn users_of_disks_and_exclusive_claims_wake_others_when_they_go() {
    let disk = |name: &str| json!([{"name": "v", "gcePersistentDisk": {"pdName": name}}]);
    let objects = [
        node("n", json!({})),
        on("n", pod("holder", disk("a"))),
        on("n", pod("bystander", disk("b"))),
        on("n", other(pod("foreigner", disk("b")))),
    ];
    let check = |gone: usize, woken: bool| {
        case(&objects, &pod("p", disk("a")), |cluster| cluster.delete(&objects[gone]), woken);
    };
    check(1, true);
    check(2, false);
    let exclusive = with(claim("c", ""), json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}));
    let objects = [
        node("n", json!({})),
        taken(volume("v", ""), "c"),
        bound(exclusive, "v"),
        on("n", user("holder", &["c"])),
        on("n", with(user("namesake", &["c"]), json!({"metadata": {"namespace": "elsewhere"}}))),
    ];
    let check = |gone: usize, woken: bool| {
        case(&objects, &user("p", &["c"]), |cluster| cluster.delete(&objects[gone]), woken);
    };
    check(3, true);
    check(4, false);
}

#[test]
fn limits_wake_pods_when_they_allow_more() {
    let driver = "csi.example.com";
    let attachment = json!({"kind": "VolumeAttachment", "metadata": {"name": "x"},
        "spec": {"attacher": driver, "nodeName": "n", "source": {"persistentVolumeName": "b"}}});
    let storage = [csi("a", driver), csi("b", driver), csi("c", driver)].concat();
    let holder = on("n", user("holder", &["c"]));
    let plain = on("n", pod("plain", json!([])));
    let base = [node("n", json!({})), csi_node("n", driver, 2), attachment.clone(), holder.clone(), plain.clone()];
    let objects = [&base[..], &storage[..]].concat();
    let check = |change: &dyn Fn(&mut Cluster), woken: bool| {
        case(&objects, &user("p", &["a"]), |cluster| change(cluster), woken);
    };
    check(&|cluster| cluster.apply(&csi_node("n", driver, 3)), true);
    check(&|cluster| cluster.apply(&csi_node("n", driver, 1)), false);
    check(&|cluster| cluster.delete(&attachment), true);
    check(&|cluster| cluster.delete(&holder), true);
    check(&|cluster| cluster.delete(&plain), false);
    check(&|cluster| cluster.apply(&volume("w", "")), false);
}

#[test]
fn zones_wake_pods_when_they_change() {
    let zone = |name: &str| json!({"topology.kubernetes.io/zone": name});
    let zoned = |name: &str| with(taken(volume("v", ""), "c"), json!({"metadata": {"labels": zone(name)}}));
    let objects = [node("n", zone("a")), zoned("b"), bound(claim("c", ""), "v")];
    let check = |change: Value, woken: bool| {
        case(&objects, &user("p", &["c"]), |cluster| cluster.apply(&change), woken);
    };
    check(zoned("a"), true);
    check(with(zoned("b"), json!({"spec": {"capacity": {"storage": "7Gi"}}})), false);
    check(node("n", zone("b")), true);
    check(class("late", "x.io/made"), true);
    check(with(class("now", "x.io/made"), json!({"volumeBindingMode": "Immediate"})), false);
}

#[test]
fn an_undone_placement_gives_its_volume_back() {
    let mut cluster = Cluster::new(&[
        node("n", json!({})),
        class("late", "kubernetes.io/no-provisioner"),
        local(volume("v", "late"), "n"),
        claim("a", "late"),
        claim("b", "late"),
        user("first", &["a"]),
        user("second", &["b"]),
    ]);
    assert_eq!(cluster.next(), "first -> n");
    assert!(cluster.next().starts_with("second: 0/1 nodes are available: 1 node(s) didn't find"));
    assert_eq!(cluster.next(), "nothing");
    cluster.now += Duration::from_secs(5);
    cluster.engine.undo("uid-first", cluster.now);
    assert_eq!(cluster.next(), "second -> n");
}
