//! From the node that a pod with claims is given to its binding, and back.

use std::time::Duration;

use sched::{
    Decision,
    framework::Gang,
    pre_bind::{Progress, Write},
};
use serde_json::{Value, json};

use crate::{
    devices::{DRIVER, Devices, allocated, claim, class, reserved, user},
    storage::{node, with},
};

fn later(devices: &mut Devices) {
    devices.cluster.now += Duration::from_secs(20);
}

#[test]
fn who_shares_a_claim_waits_until_it_is_allocated() {
    let mut devices = Devices::new(&[("a", &["gpu-0"]), ("b", &["gpu-0"])]);
    devices.put(claim("c"));
    devices.cluster.apply(&user("p", &["c"]));
    devices.cluster.apply(&user("q", &["c"]));
    let (first, _) = devices.placed();
    let told = devices.next().0;
    assert!(told.contains(": resource claim default/c is in the process of being allocated. "), "{told}");
    later(&mut devices);
    assert_eq!(devices.next().0, "nothing");
    devices.prepare(&first);
    let (second, _) = devices.placed();
    assert_eq!(second.node, first.node);
    assert!(matches!(second.pre_bind.writes.as_slice(), [Write::ReserveClaim { allocate: false, .. }]));
    devices.prepare(&second);
    let users = devices.claims["c"]["status"]["reservedFor"].as_array().unwrap().len();
    assert_eq!(users, 2);
}

#[test]
fn a_gang_shares_a_claim_before_it_is_allocated() {
    let mut devices = Devices::new(&[("a", &["gpu-0"]), ("b", &["gpu-0"])]);
    devices.put(claim("c"));
    let now = devices.cluster.now;
    devices.cluster.engine.set_group(&"default".into(), &"g".into(), Some(Some(Gang { min_count: 2 })), now);
    for name in ["p", "q"] {
        let group = json!({"spec": {"schedulingGroup": {"podGroupName": "g"}}});
        devices.cluster.apply(&with(user(name, &["c"]), group));
    }
    let ((first, one), (second, other)) = (devices.placed(), devices.placed());
    assert_eq!((&first.node, one), (&second.node, other));
    // The first of them fails: the device is still the second's.
    devices.give_up("p");
    devices.put(claim("d"));
    devices.cluster.apply(&user("r", &["d"]));
    let (third, _) = devices.placed();
    assert_ne!(third.node, second.node);
    devices.prepare(&second);
}

#[test]
fn a_failed_binding_frees_the_devices() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.put(claim("c"));
    devices.put(claim("d"));
    devices.cluster.apply(&user("p", &["c"]));
    assert_eq!(devices.next().0, "p -> a");
    devices.give_up("p");
    devices.cluster.apply(&user("q", &["d"]));
    assert_eq!(devices.next().0, "q -> a");
}

#[test]
fn what_was_written_is_built_upon() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.put(claim("c"));
    devices.cluster.apply(&user("p", &["c"]));
    let (first, _) = devices.placed();
    devices.prepare(&first);
    // The pod is taken off the claim's users, and the claim keeps its device.
    devices.give_up("p");
    assert_eq!(devices.claims["c"]["status"]["reservedFor"], json!([]));
    later(&mut devices);
    let (second, _) = devices.placed();
    assert!(matches!(second.pre_bind.writes.as_slice(), [Write::ReserveClaim { allocate: false, .. }]));
}

#[test]
fn devices_stay_taken_while_their_claim_is_written() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.put(claim("c"));
    devices.put(claim("d"));
    devices.cluster.apply(&user("p", &["c"]));
    let (first, _) = devices.placed();
    assert!(devices.cluster.engine.writing("uid-p"));
    devices.make("p", &first.pre_bind.writes[0]).unwrap();
    // The pod is gone before the answer is there.
    devices.cluster.delete(&user("p", &["c"]));
    devices.cluster.apply(&user("q", &["d"]));
    assert!(devices.next().0.contains("cannot allocate all claims"));
    devices.tell("c");
    devices.cluster.engine.written("uid-p");
    later(&mut devices);
    devices.cluster.apply(&node("a", json!({"x": "y"})));
    assert!(devices.next().0.contains("cannot allocate all claims"), "the claim has the device still");
    assert!(!devices.cluster.engine.writing("uid-p"), "it is not reserved any more");
}

#[test]
fn an_older_state_is_no_news() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    let before = with(claim("c"), json!({"metadata": {"resourceVersion": "3"}}));
    devices.cluster.apply(&before);
    devices.cluster.apply(&with(allocated(claim("c"), "a", "gpu-0"), json!({"metadata": {"resourceVersion": "10"}})));
    devices.cluster.apply(&before);
    devices.put(claim("d"));
    devices.cluster.apply(&user("p", &["d"]));
    assert!(devices.next().0.contains("cannot allocate all claims"));
    // Another claim of that name is.
    devices.cluster.apply(&with(before, json!({"metadata": {"uid": "uid-new"}})));
    later(&mut devices);
    assert_eq!(devices.next().0, "p -> a");
}

/// A cluster whose one device must get ready before a pod is bound.
fn slow() -> Devices {
    let mut devices = Devices::new(&[("a", &[])]);
    let conditions = json!({"name": "gpu-0", "bindingConditions": ["up"], "bindingFailureConditions": ["broken"]});
    let mut slice = crate::devices::slice("a", &[]);
    slice["spec"]["devices"] = json!([conditions]);
    devices.cluster.apply(&slice);
    devices.put(claim("c"));
    devices.cluster.apply(&user("p", &["c"]));
    devices
}

fn says(devices: &mut Devices, condition: &str) {
    let condition = json!({"type": condition, "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!([{"driver": DRIVER, "pool": "a", "device": "gpu-0", "conditions": [condition]}]);
    let claim = devices.claims["c"].clone();
    devices.put(with(claim, json!({"status": {"devices": status}})));
}

#[test]
fn a_pod_is_bound_when_its_devices_are_ready() {
    let mut devices = slow();
    let (found, _) = devices.placed();
    assert_eq!(found.pre_bind.wait, Some(Duration::from_secs(600)));
    devices.prepare(&found);
    let progress = |devices: &Devices| devices.cluster.engine.pre_bound("uid-p", false);
    assert_eq!(progress(&devices), Some(Progress::Waiting));
    says(&mut devices, "up");
    assert_eq!(progress(&devices), Some(Progress::Done));
    says(&mut devices, "broken");
    let why = "running PreBind plugin \"DynamicResources\": device binding failed: claim=c, reason=R, message=\"m\"";
    assert_eq!(progress(&devices), Some(Progress::Failed(why.to_owned())));
}

#[test]
fn who_waits_in_vain_for_devices_is_told() {
    let mut devices = slow();
    let (found, _) = devices.placed();
    devices.prepare(&found);
    let why = "running PreBind plugin \"DynamicResources\": device binding timeout: context deadline exceeded";
    assert_eq!(devices.cluster.engine.pre_bound("uid-p", true), Some(Progress::Failed(why.to_owned())));
}

/// A pod whose devices failed, or were not ready in time, gets others.
#[test]
fn spoilt_devices_are_given_back() {
    let failed = |devices: &mut Devices| says(devices, "broken");
    let overdue = |devices: &mut Devices| {
        let claim = devices.claims["c"].clone();
        let since = json!({"status": {"allocation": {"allocationTimestamp": "1970-01-01T00:00:01Z"}}});
        devices.put(with(claim, since));
        devices.cluster.now += Duration::from_secs(700);
    };
    let check = |spoil: &dyn Fn(&mut Devices)| {
        let mut devices = slow();
        let (found, _) = devices.placed();
        devices.prepare(&found);
        spoil(&mut devices);
        devices.give_up("p");
        later(&mut devices);
        let (told, writes) = devices.next();
        assert!(told.contains("resourceclaim not available on the node. deallocation of ResourceClaim"), "{told}");
        let claim = devices.make("p", &writes[0]).unwrap();
        devices.tell(&claim);
        later(&mut devices);
        assert_eq!(devices.next().0, "p -> a");
    };
    check(&failed);
    check(&overdue);
}

#[test]
fn a_claim_that_others_use_is_kept_though_its_devices_failed() {
    let mut devices = slow();
    let (found, _) = devices.placed();
    devices.prepare(&found);
    says(&mut devices, "broken");
    let claim = devices.claims["c"].clone();
    devices.put(reserved(claim, &["p", "q"]));
    devices.give_up("p");
    later(&mut devices);
    let (told, writes) = devices.next();
    assert!(told.contains("resourceclaim not available on the node. still not schedulable"), "{told}");
    assert_eq!(writes, []);
}

#[test]
fn pods_without_claims_are_none_of_its_business() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.cluster.apply(&class("npu"));
    let plain = |name: &str| with(user(name, &[]), json!({"spec": {"resourceClaims": Value::Null}}));
    devices.cluster.apply(&plain("p"));
    let Some(Decision::Bind(found)) = devices.cluster.engine.next(devices.cluster.now) else { panic!("no placement") };
    assert!(found.pre_bind.is_empty());
    assert_eq!(devices.cluster.engine.take_back("uid-p"), []);
}
