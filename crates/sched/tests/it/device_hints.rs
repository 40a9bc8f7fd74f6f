//! What wakes a pod that waits for devices.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    devices::{Devices, allocated, asking, claim, class, reserved, slice, user},
    storage::{node, with},
};

/// A pod that waits for its claim `c` beside a claim `other` that has the node's one device; whether a change wakes it.
fn check(change: impl Fn(&mut Devices), wakes: bool, what: &str) {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.put(reserved(allocated(claim("other"), "a", "gpu-0"), &["q"]));
    devices.put(claim("c"));
    devices.cluster.apply(&user("p", &["c"]));
    let (told, _) = devices.next();
    assert!(told.contains("cannot allocate all claims"), "{told}");
    devices.cluster.now += Duration::from_secs(20);
    change(&mut devices);
    assert_eq!(devices.next().0 != "nothing", wakes, "{what}");
}

#[test]
fn what_may_help_wakes() {
    let object = |object: Value| move |devices: &mut Devices| devices.cluster.apply(&object);
    let put = |claim: Value| move |devices: &mut Devices| devices.put(claim.clone());
    let other = || allocated(claim("other"), "a", "gpu-0");
    check(put(claim("other")), true, "another claim is deallocated");
    check(put(other()), false, "another claim is reserved for nobody any more");
    check(|devices| devices.cluster.delete(&other()), true, "another claim is gone");
    check(put(claim("new")), false, "another claim is there");
    check(put(allocated(claim("c"), "a", "gpu-0")), true, "its claim is allocated by somebody else");
    let labelled = with(claim("c"), json!({"metadata": {"labels": {"a": "b"}}}));
    check(put(labelled), false, "its claim has a label");
    check(object(slice("a", &["gpu-0", "gpu-1"])), true, "a slice has another device");
    check(object(slice("a", &["gpu-0"])), false, "a slice is told again");
    check(|devices| devices.cluster.delete(&slice("a", &[])), false, "a slice is gone");
    check(object(class("npu")), true, "a class is there");
    check(|devices| devices.cluster.delete(&class("gpu")), false, "a class is gone");
    check(object(node("b", json!({}))), true, "a node is there");
    check(object(node("a", json!({"x": "y"}))), true, "a node has another label");
    let tainted = with(node("a", json!({})), json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    check(object(tainted), false, "a node has a taint");
}

#[test]
fn a_missing_class_wakes_when_it_is_there() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    let request = json!({"deviceClassName": "npu", "allocationMode": "ExactCount", "count": 1});
    devices.put(asking("c", json!([{"name": "r", "exactly": request}])));
    devices.cluster.apply(&user("p", &["c"]));
    assert!(devices.next().0.contains("device class npu does not exist"));
    devices.cluster.now += Duration::from_secs(20);
    devices.cluster.apply(&class("npu"));
    assert_eq!(devices.next().0, "p -> a");
}

#[test]
fn an_undone_placement_wakes_whoever_wants_its_devices() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    for n in ["1", "2"] {
        devices.put(claim(&format!("c{n}")));
        devices.cluster.apply(&user(&format!("p{n}"), &[&format!("c{n}")]));
    }
    assert_eq!(devices.next().0, "p1 -> a");
    assert!(devices.next().0.starts_with("p2: "));
    devices.cluster.now += Duration::from_secs(20);
    devices.give_up("p1");
    assert_eq!(devices.next().0, "p2 -> a");
}
