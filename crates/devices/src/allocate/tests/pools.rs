//! Pools: generations, completeness, contradictions, and where devices are.

use super::*;

fn one() -> Vec<Value> {
    vec![claim(vec![request("r", json!({}))])]
}

fn generation(generation: i64, slice: Value) -> Value {
    with(slice, json!({"pool": {"generation": generation}}))
}

fn of_pool(name: &str, slice: Value) -> Value {
    with(slice, json!({"pool": {"name": name}}))
}

#[test]
fn only_the_newest_generation_counts_and_all_of_it() {
    let old = || generation(1, slice(vec![named("old")]));
    let new = || generation(2, slice(vec![named("new")]));
    check(world(vec![old(), new()], one()), "r: new on node-1");
    check(world(vec![new(), old()], one()), "r: new on node-1");
    check(world(vec![one_of(2, slice(devices(1)))], one()), "none");
    check(
        world(vec![one_of(2, slice(devices(1))), one_of(2, slice(vec![named("second")]))], one()),
        "r: device-0 on node-1",
    );
    check(world(vec![old(), one_of(2, new())], one()), "none");
    // The newer generation has moved to another node: what is here is out of date.
    let moved = with(new(), json!({"nodeName": "node-2"}));
    check(world(vec![old(), moved], one()), "none");
    // An incomplete pool does not keep others from being used.
    check(world(vec![one_of(2, slice(devices(1))), of_pool("q", slice(devices(1)))], one()), "r: q/device-0 on node-1");
}

#[test]
fn a_pool_that_contradicts_itself_is_not_used() {
    let double = || vec![one_of(2, slice(vec![named("x")])), one_of(2, slice(vec![named("x")]))];
    check(
        world(double(), one()),
        "error: invalid resource pools were encountered: driver-a/pool: duplicate device name x",
    );
    let other = of_pool("q", slice(devices(1)));
    let both = || double().into_iter().chain([other.clone()]).collect::<Vec<_>>();
    check(world(both(), one()), "r: q/device-0 on node-1");
    check(world(both(), one()).used(&["driver-a/q/device-0"]), "error: invalid resource pools were encountered");
    let found = world(double(), one());
    assert!(found.allocate(&found.inventory()).unwrap_err().only_here());
    // Of one name on two nodes, each node sees one.
    let elsewhere = with(one_of(2, slice(vec![named("x")])), json!({"nodeName": "node-2"}));
    check(world(vec![one_of(2, slice(vec![named("x")])), elsewhere], one()), "r: x on node-1");
    let unreadable = slice(vec![json!({"name": "x", "capacity": {"memory": {"value": "much"}}})]);
    check(world(vec![unreadable], one()), "error: driver-a/pool: device x: capacity memory: quantities must match");
}

#[test]
fn pools_of_many_nodes_offer_each_node_its_own() {
    let here = || one_of(2, slice(vec![named("here")]));
    let there = || with(one_of(2, slice(vec![named("there")])), json!({"nodeName": "node-2"}));
    let all = || vec![claim(vec![request("r", json!({"allocationMode": "All"}))])];
    check(world(vec![there(), here()], one()), "r: here on node-1");
    check(world(vec![there(), here()], all()), "r: here on node-1");
    check(world(vec![here()], one()), "none");
    check(world(vec![there()], one()), "none");
}

#[test]
fn devices_are_where_their_slice_says() {
    let selector = |label: &str, value: &str| {
        let requirement = json!({"key": label, "operator": "In", "values": [value]});
        json!({"nodeSelectorTerms": [{"matchExpressions": [requirement]}]})
    };
    let placed = |change: Value| with(with(slice(devices(1)), json!({"nodeName": null})), change);
    check(world(vec![placed(json!({"allNodes": true}))], one()), "r: device-0 everywhere");
    check(world(vec![placed(json!({"nodeSelector": selector("region", "west")}))], one()), "r: device-0 on west");
    check(world(vec![placed(json!({"nodeSelector": selector("region", "east")}))], one()), "none");
    check(world(vec![placed(json!({}))], one()), "none");
    let bound = with(
        placed(json!({"nodeSelector": selector("region", "west")})),
        json!({"devices": [{"name": "x", "bindsToNode": true}]}),
    );
    check(world(vec![bound], one()), "r: x on node-1");
    let odd = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "region", "operator": "Near", "values": ["west"]}]}]});
    check(
        world(vec![placed(json!({"nodeSelector": odd}))], one()),
        "error: failed to perform node selection for slice slice-00: \"Near\"",
    );
    // Two devices: where both are.
    let two = |first: Value, second: Value| {
        let second = with(of_pool("q", placed(second)), json!({"devices": [{"name": "device-1"}]}));
        (vec![placed(first), second], vec![claim(vec![request("r", json!({"count": 2}))])])
    };
    let (slices, claims) =
        two(json!({"nodeSelector": selector("region", "west")}), json!({"nodeSelector": selector("region", "west")}));
    check(world(slices, claims), "r: device-0, r: q/device-1 on west");
    let (slices, claims) = two(json!({"nodeSelector": selector("region", "west")}), json!({"nodeName": "node-1"}));
    check(world(slices, claims), "r: device-0, r: q/device-1 on node-1");
    let per_device = placed(json!({"perDeviceNodeSelection": true, "devices": [
        {"name": "there", "nodeName": "node-2"},
        {"name": "east", "nodeSelector": selector("region", "east")},
        {"name": "here", "nodeName": "node-1"},
        {"name": "west", "nodeSelector": selector("region", "west")},
        {"name": "anywhere", "allNodes": true},
    ]}));
    let first = |count: usize| vec![claim(vec![request("r", json!({"count": count}))])];
    check(world(vec![per_device.clone()], first(3)), "r: here, r: west, r: anywhere on node-1");
    check(world(vec![per_device.clone()], first(2)).used(&["driver-a/pool/here"]), "r: west, r: anywhere on west");
    check(world(vec![per_device.clone()], first(4)), "none");
    check(world(vec![per_device], first(1)).without(|features| features.partitionable_devices = false), "none");
}

#[test]
fn pools_and_slices_are_tried_in_the_order_of_their_names() {
    let slices = vec![of_pool("q", slice(vec![named("q")])), of_pool("p", slice(vec![named("p")]))];
    check(world(slices, one()), "r: p/p on node-1");
    let conditional = json!([{"name": "first", "bindingConditions": ["Ready"], "bindingFailureConditions": ["Broken"]}, {"name": "next"}]);
    let slices = || {
        vec![of_pool("p", slice(conditional.as_array().unwrap().clone())), of_pool("q", slice(vec![named("plain")]))]
    };
    check(world(slices(), one()), "r: q/plain on node-1");
    check(world(slices(), one()).used(&["driver-a/q/plain"]), "r: p/first (when Ready unless Broken) on node-1");
    check(
        world(slices(), one())
            .used(&["driver-a/q/plain"])
            .without(|features| features.device_binding_conditions = false),
        "r: p/next on node-1",
    );
}
