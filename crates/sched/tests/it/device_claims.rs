//! Which node a pod with claims to devices is given, and what it is told if there is none.

use sched::pre_bind::Write;
use serde_json::{Value, json};

use crate::{
    devices::{Devices, allocated, asking, claim, class, pod, reserved, slice, user},
    storage::{node, with},
};

const RESCUE: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

/// What comes of a pod beside a claim, on a node with one device.
fn check(claims: &[Value], pod: &Value, expected: &str) {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    claims.iter().for_each(|claim| devices.put(claim.clone()));
    devices.cluster.apply(pod);
    let (found, _) = devices.next();
    let expected = match expected.strip_prefix("unfit ") {
        Some(why) => format!("p: 0/1 nodes are available: {why} {RESCUE}"),
        None => expected.to_owned(),
    };
    assert_eq!(found, expected, "{claims:?} {pod}");
}

#[test]
fn claims_are_met_or_it_is_told_why_not() {
    let p = user("p", &["c"]);
    let two = json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}]);
    let none =
        json!([{"name": "r", "exactly": {"deviceClassName": "npu", "allocationMode": "ExactCount", "count": 1}}]);
    let later = json!([{"name": "r", "firstAvailable": [{"name": "s", "deviceClassName": "npu"}]}]);
    check(&[claim("c")], &p, "p -> a");
    check(&[asking("c", two)], &p, "unfit 1 cannot allocate all claims. still not schedulable,");
    check(&[asking("c", none)], &p, "unfit request r: device class npu does not exist. no new claims to deallocate,");
    check(
        &[asking("c", later)],
        &p,
        "unfit request r/s: device class npu does not exist. no new claims to deallocate,",
    );
    let unknown = "unfit resource claim default/c, request r: unknown request type. no new claims to deallocate,";
    check(&[asking("c", json!([{"name": "r"}]))], &p, unknown);
    check(&[allocated(claim("c"), "a", "gpu-0")], &p, "p -> a");
    check(&[reserved(allocated(claim("c"), "a", "gpu-0"), &["q"])], &p, "p -> a");
    let elsewhere = allocated(claim("c"), "b", "gpu-0");
    let unused = "unfit 1 resourceclaim not available on the node. deallocation of ResourceClaim completed,";
    check(std::slice::from_ref(&elsewhere), &p, unused);
    let used = "unfit 1 resourceclaim not available on the node. still not schedulable,";
    check(&[reserved(elsewhere, &["q"])], &p, used);
    let all: Vec<String> = (0..256).map(|n| format!("q{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let full = "unfit resourceclaim in use. no new claims to deallocate,";
    check(&[reserved(allocated(claim("c"), "a", "gpu-0"), &all)], &p, full);
    let taken = allocated(claim("other"), "a", "gpu-0");
    check(&[claim("c"), taken], &p, "unfit 1 cannot allocate all claims. still not schedulable,");
    // What was not needed is no claim.
    let spared = json!([{"name": "x", "resourceClaimTemplateName": "t"}]);
    let spared = with(pod("p", spared), json!({"status": {"resourceClaimStatuses": [{"name": "x"}]}}));
    check(&[], &spared, "p -> a");
    // The same claim by two names is one claim.
    let twice = json!([{"name": "x", "resourceClaimName": "c"}, {"name": "y", "resourceClaimName": "c"}]);
    check(&[claim("c")], &pod("p", twice), "p -> a");
}

#[test]
fn a_pod_is_not_looked_at_before_its_claims_are_there() {
    let made = |status: Value| {
        let pod = pod("p", json!([{"name": "x", "resourceClaimTemplateName": "t"}]));
        with(pod, json!({"status": {"resourceClaimStatuses": status}}))
    };
    let own = with(
        claim("p-x"),
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]}}),
    );
    let named = json!([{"name": "x", "resourceClaimName": "p-x"}]);
    // What is there before, what comes then, and whether that is enough.
    let check = |before: &[Value], then: &Value, opens: bool| {
        let mut devices = Devices::new(&[("a", &["gpu-0", "gpu-1"])]);
        before.iter().for_each(|object| devices.cluster.apply(object));
        assert_eq!(devices.next().0, "nothing", "{before:?}");
        assert_eq!(devices.cluster.engine.pending().gated, 1, "{before:?}");
        devices.cluster.apply(then);
        let expected = if opens { "p -> a" } else { "nothing" };
        assert_eq!(devices.next().0, expected, "{before:?}, then {then}");
    };
    check(&[user("p", &["c"])], &claim("c"), true);
    check(&[user("p", &["c"])], &claim("d"), false);
    check(&[user("p", &["c", "d"]), claim("c")], &claim("d"), true);
    let deleting = with(claim("c"), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    check(&[user("p", &["c"])], &deleting, false);
    let another = with(claim("c"), json!({"metadata": {"uid": "uid-another"}}));
    check(&[deleting, user("p", &["c"])], &another, true);
    check(&[made(json!([])), own.clone()], &made(named.clone()), true);
    check(&[made(named.clone())], &own, true);
    check(&[made(named)], &claim("p-x"), false);
    check(&[pod("p", json!([{"name": "x"}]))], &claim("x"), false);
}

#[test]
fn no_device_is_given_twice() {
    let mut devices = Devices::new(&[("a", &["gpu-0", "gpu-1"]), ("b", &["gpu-0"])]);
    for n in 0..4 {
        devices.put(claim(&format!("c{n}")));
        devices.cluster.apply(&user(&format!("p{n}"), &[&format!("c{n}")]));
    }
    let mut all: Vec<String> = (0..3).flat_map(|_| devices.placed().1).collect();
    all.sort();
    assert_eq!(all, ["a/gpu-0", "a/gpu-1", "b/gpu-0"]);
    let (told, _) = devices.next();
    assert!(told.starts_with("p3: 0/2 nodes are available: 2 cannot allocate all claims. still not"), "{told}");
}

#[test]
fn a_pod_gets_all_its_claims_on_one_node() {
    let mut devices = Devices::new(&[("a", &["gpu-0"]), ("b", &["gpu-0", "gpu-1"])]);
    devices.put(claim("c"));
    devices.put(claim("d"));
    devices.cluster.apply(&user("p", &["c", "d"]));
    let (found, all) = devices.placed();
    assert_eq!((&*found.node, all.into_iter().collect::<Vec<_>>()), ("b", vec!["b/gpu-0".into(), "b/gpu-1".into()]));
}

#[test]
fn an_allocated_claim_binds_to_its_node() {
    let mut devices = Devices::new(&[("a", &["gpu-0"]), ("b", &["gpu-0"]), ("c", &["gpu-0"])]);
    devices.put(allocated(claim("mine"), "b", "gpu-0"));
    devices.cluster.apply(&user("p", &["mine"]));
    let (found, _) = devices.placed();
    assert_eq!(&*found.node, "b");
    let [Write::ReserveClaim { claim, allocate: false, .. }] = found.pre_bind.writes.as_slice() else {
        panic!("{:?}", found.pre_bind);
    };
    assert_eq!(&*claim.1, "mine");
    // Whoever is entered already needs no write.
    devices.put(reserved(allocated(crate::devices::claim("own"), "c", "gpu-0"), &["q"]));
    devices.cluster.apply(&user("q", &["own"]));
    let (found, _) = devices.placed();
    assert_eq!((&*found.node, found.pre_bind.is_empty()), ("c", true));
}

#[test]
fn an_unused_claim_in_the_way_is_deallocated() {
    let mut devices = Devices::new(&[("b", &["gpu-0"])]);
    devices.put(allocated(claim("c"), "a", "gpu-0"));
    devices.cluster.apply(&user("p", &["c"]));
    let (told, writes) = devices.next();
    assert!(
        told.contains("1 resourceclaim not available on the node. deallocation of ResourceClaim completed"),
        "{told}"
    );
    let claim = devices.make("p", &writes[0]).unwrap();
    assert_eq!(devices.next().0, "nothing");
    devices.tell(&claim);
    devices.cluster.now += std::time::Duration::from_secs(20);
    assert_eq!(devices.next().0, "p -> b");
}

#[test]
fn the_first_alternative_is_the_best() {
    let either = json!([{"name": "r", "firstAvailable": [
        {"name": "new", "deviceClassName": "npu", "allocationMode": "ExactCount", "count": 1},
        {"name": "old", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}]}]);
    for (with_npu, expected) in [("a", "a"), ("b", "b")] {
        let mut devices = Devices::new(&[("a", &["gpu-0"]), ("b", &["gpu-0"])]);
        let mut npu = class("npu");
        npu["spec"]["selectors"][0]["cel"]["expression"] = json!("device.driver == \"npu.example.com\"");
        devices.cluster.apply(&npu);
        let mut npus = slice(with_npu, &["npu-0"]);
        npus["metadata"]["name"] = json!("npus");
        npus["spec"]["driver"] = json!("npu.example.com");
        devices.cluster.apply(&npus);
        devices.put(asking("c", either.clone()));
        devices.cluster.apply(&user("p", &["c"]));
        assert_eq!(devices.next().0, format!("p -> {expected}"));
    }
}

#[test]
fn other_filters_still_count() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.cluster.apply(&with(node("a", json!({})), json!({"spec": {"unschedulable": true}})));
    devices.put(claim("c"));
    devices.cluster.apply(&user("p", &["c"]));
    let told = devices.next().0;
    assert!(told.contains("1 node(s) were unschedulable. still not schedulable"), "{told}");
}
