//! Extended resources for which devices stand.

use std::time::Duration;

use sched::pre_bind::Write;
use serde_json::{Value, json};

use crate::{
    devices::{Devices, class, user},
    storage::{node, with},
};

const GPU: &str = "example.com/gpu";
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/gpu";

fn asking(name: &str, resource: &str, count: u64) -> Value {
    let requests = json!({"cpu": "1", resource: count.to_string()});
    let container = json!({"name": "c", "resources": {"requests": requests}});
    with(user(name, &[]), json!({"spec": {"containers": [container]}}))
}

/// The class of all devices, which stands for a resource.
fn standing() -> Value {
    with(class("gpu"), json!({"spec": {"extendedResourceName": GPU}}))
}

fn cluster() -> Devices {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    devices.cluster.apply(&standing());
    devices
}

#[test]
fn a_claim_is_made_for_what_a_node_has_none_of() {
    for resource in [GPU, IMPLICIT] {
        let mut devices = cluster();
        devices.cluster.apply(&asking("p", resource, 1));
        devices.cluster.apply(&asking("q", resource, 1));
        let (found, _) = devices.placed();
        let [Write::MakeClaim(claim)] = found.pre_bind.writes.as_slice() else { panic!("{:?}", found.pre_bind) };
        let [mapping] = claim.mappings.as_slice() else { panic!("{claim:?}") };
        // The second of the container's requests by name.
        assert_eq!(
            (&*mapping.container, &*mapping.resource, &*mapping.request),
            ("c", resource, "container-0-request-1")
        );
        let told = devices.next().0;
        assert!(told.contains("q: 0/1 nodes are available: 1 cannot allocate all claims. still not"), "{told}");
        devices.prepare(&found);
        let bound = with(asking("p", resource, 1), json!({"spec": {"nodeName": "a"}}));
        devices.cluster.apply(&bound);
        devices.cluster.now += Duration::from_secs(20);
        devices.cluster.apply(&node("a", json!({"x": "y"})));
        let told = devices.next().0;
        assert!(told.contains("cannot allocate all claims"), "{told}");
    }
}

#[test]
fn who_has_the_resource_needs_no_devices() {
    let mut devices = cluster();
    let has = with(node("a", json!({})), json!({"status": {"allocatable": {GPU: "1"}}}));
    devices.cluster.apply(&has);
    devices.cluster.apply(&asking("p", GPU, 1));
    let (found, _) = devices.placed();
    assert!(found.pre_bind.is_empty());
    devices.cluster.apply(&asking("q", GPU, 1));
    assert!(devices.next().0.contains("1 Insufficient example.com/gpu"));
}

#[test]
fn a_class_wakes_who_wants_what_it_stands_for() {
    let mut devices = Devices::new(&[("a", &["gpu-0"])]);
    // Two of a kind have a plan together, which must not outlive the change.
    for name in ["p", "q"] {
        devices.cluster.apply(&asking(name, GPU, 1));
        let told = devices.next().0;
        assert!(told.contains("1 Insufficient example.com/gpu. no new claims to deallocate"), "{told}");
    }
    devices.cluster.now += Duration::from_secs(20);
    devices.cluster.apply(&standing());
    assert_eq!(devices.next().0, "p -> a");
    assert!(devices.next().0.contains("q: 0/1 nodes are available: 1 cannot allocate all claims"));
}

#[test]
fn what_an_attempt_has_left_is_deleted() {
    let mut devices = cluster();
    devices.cluster.apply(&asking("p", GPU, 1));
    let (found, _) = devices.placed();
    devices.prepare(&found);
    devices.give_up("p");
    assert!(devices.claims.is_empty());
    devices.cluster.now += Duration::from_secs(20);
    let (found, _) = devices.placed();
    // Nobody could delete this one: it goes before the next attempt.
    devices.prepare(&found);
    devices.cluster.engine.undo("uid-p", devices.cluster.now);
    devices.cluster.now += Duration::from_secs(20);
    let (told, writes) = devices.next();
    assert!(told.contains("1 cannot schedule extended resource claim. deletion of ResourceClaim completed"), "{told}");
    devices.delete(&writes[0]);
    devices.cluster.now += Duration::from_secs(20);
    assert_eq!(devices.next().0, "p -> a");
}

#[test]
fn the_youngest_class_stands_for_a_resource() {
    let mut devices = cluster();
    let dated = |name: &str, year: u32| {
        let time = format!("{year}-01-01T00:00:00Z");
        with(class(name), json!({"metadata": {"creationTimestamp": time}, "spec": {"extendedResourceName": "x.io/y"}}))
    };
    let classes =
        |devices: &Devices| devices.cluster.engine.world().devices.class_for("x.io/y").map(ToString::to_string);
    let changes = [
        (dated("old", 2024), true, Some("old")),
        (dated("new", 2025), true, Some("new")),
        (dated("a-twin", 2025), true, Some("a-twin")),
        (dated("a-twin", 2025), false, Some("new")),
        (with(class("new"), json!({"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z"}})), true, Some("old")),
        (dated("old", 2024), false, None),
    ];
    for (class, there, expected) in changes {
        if there {
            devices.cluster.apply(&class);
        } else {
            devices.cluster.delete(&class);
        }
        assert_eq!(classes(&devices).as_deref(), expected, "{class}");
    }
}
