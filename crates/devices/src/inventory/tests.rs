//! What changes count, and what a node is shown.

use serde_json::{Value, json};

use super::*;

fn slice(spec: Value) -> Option<ResourceSlice> {
    let pool = json!({"name": "pool", "generation": 1, "resourceSliceCount": 1});
    let mut all = json!({"driver": "d", "pool": pool, "devices": [{"name": "x"}]});
    for (field, value) in spec.as_object().expect("a spec is an object") {
        all[field] = value.clone();
    }
    Some(serde_json::from_value(json!({"spec": all})).unwrap())
}

/// The devices that a node sees, as `pool/device`.
fn seen(inventory: &Inventory, node: &str) -> Vec<String> {
    let labels = |_: &str| None;
    let views = inventory.views(&NodeFacts { name: node, labels: &labels }).unwrap();
    let named = |view: &View<'_>| {
        let pool = view.pool.id.pool.clone();
        view.offers.iter().map(|offer| format!("{pool}/{}", offer.raw().name)).collect::<Vec<_>>()
    };
    views.iter().flat_map(named).collect()
}

#[test]
fn slices_come_change_and_go() {
    let mut inventory = Inventory::new(Features::default());
    let mut check = |name: &str, slice: Option<ResourceSlice>, changed: bool, on_a: &[&str], on_b: &[&str]| {
        assert_eq!(inventory.set_slice(name, slice), changed, "{name}");
        assert_eq!(
            (seen(&inventory, "a"), seen(&inventory, "b")),
            (
                on_a.iter().map(|text| (*text).to_owned()).collect(),
                on_b.iter().map(|text| (*text).to_owned()).collect()
            )
        );
    };
    let pool = |name: &str| json!({"name": name, "generation": 1, "resourceSliceCount": 1});
    check("one", None, false, &[], &[]);
    check("one", slice(json!({"nodeName": "a"})), true, &["pool/x"], &[]);
    check("one", slice(json!({"nodeName": "a"})), false, &["pool/x"], &[]);
    check("one", slice(json!({"nodeName": "b"})), true, &[], &["pool/x"]);
    check("two", slice(json!({"allNodes": true, "pool": pool("q")})), true, &["q/x"], &["pool/x", "q/x"]);
    // A second slice of the pool, which the first does not know of.
    check("three", slice(json!({"nodeName": "b"})), true, &["q/x"], &["q/x"]);
    check("three", None, true, &["q/x"], &["pool/x", "q/x"]);
    check("one", slice(json!({"nodeName": "b", "pool": pool("r")})), true, &["q/x"], &["q/x", "r/x"]);
    check("two", None, true, &[], &["r/x"]);
    check("one", None, true, &[], &[]);
    assert!(inventory.local.is_empty() && inventory.shared.is_empty() && inventory.pools.is_empty(), "{inventory:?}");
}

#[test]
fn classes_come_change_and_go() {
    let mut inventory = Inventory::new(Features::default());
    let class = |expression: &str| {
        Some(serde_json::from_value(json!({"spec": {"selectors": [{"cel": {"expression": expression}}]}})).unwrap())
    };
    let mut check = |class: Option<DeviceClass>, changed: bool| assert_eq!(inventory.set_class("c", class), changed);
    check(None, false);
    check(class("true"), true);
    check(class("true"), false);
    check(class("false"), true);
    check(None, true);
}

#[test]
fn a_device_that_changes_is_another_one() {
    let mut inventory = Inventory::new(Features::default());
    let serials = |inventory: &Inventory| {
        let labels = |_: &str| None;
        let views = inventory.views(&NodeFacts { name: "a", labels: &labels }).unwrap();
        views
            .iter()
            .flat_map(|view| view.offers.iter().map(|offer| offer.device().serial).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    inventory.set_slice("one", slice(json!({"nodeName": "a"})));
    let before = serials(&inventory);
    inventory
        .set_slice("one", slice(json!({"nodeName": "a", "devices": [{"name": "x", "attributes": {"n": {"int": 1}}}]})));
    assert_ne!(before, serials(&inventory), "what was remembered of the device no longer holds");
}

#[test]
fn nodes_can_be_looked_at_by_several_threads() {
    fn check<T: Send + Sync>() {}
    check::<Inventory>();
    check::<crate::Wanted>();
    check::<crate::Used>();
}
