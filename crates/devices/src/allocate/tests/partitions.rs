//! Partitionable devices: what they take from their pool's counters.

use super::*;

/// A device that takes so much memory from the set `set`.
fn part(name: &str, memory: &str) -> Value {
    let counters = json!([{"counterSet": "set", "counters": {"memory": {"value": memory}}}]);
    json!({"name": name, "consumesCounters": counters})
}

fn counters(sets: Value) -> Value {
    with(one_of(2, slice(vec![])), json!({"sharedCounters": sets}))
}

/// A pool with so much memory in the set `set`.
fn pool(memory: &str, parts: Vec<Value>) -> Vec<Value> {
    let sets = json!([{"name": "set", "counters": {"memory": {"value": memory}, "unused": {"value": "1"}}}]);
    vec![one_of(2, slice(parts)), counters(sets)]
}

fn ask(count: usize) -> Vec<Value> {
    vec![claim(vec![request("r", json!({"count": count}))])]
}

#[test]
fn parts_take_from_what_is_there() {
    let parts = || vec![part("six", "6Gi"), part("four", "4Gi"), part("other-four", "4Gi")];
    check(world(pool("8Gi", parts()), ask(1)), "r: six on node-1");
    check(world(pool("8Gi", parts()), ask(2)), "r: four, r: other-four on node-1");
    check(world(pool("8Gi", parts()), ask(3)), "none");
    check(world(pool("5Gi", parts()), ask(1)), "r: four on node-1");
    check(world(pool("2Gi", parts()), ask(1)), "none");
    check(world(pool("8Gi", parts()), ask(1)).used(&["driver-a/pool/four"]), "r: other-four on node-1");
    check(world(pool("8Gi", parts()), ask(1)).used(&["driver-a/pool/six"]), "none");
    // More has been given out than there is, before the driver published less.
    check(world(pool("3Gi", parts()), ask(1)).used(&["driver-a/pool/six"]), "none");
    check(
        world(pool("8Gi", vec![part("six", "6Gi"), named("free")]), ask(1)).used(&["driver-a/pool/six"]),
        "r: free on node-1",
    );
    let two = vec![claim(vec![request("r", json!({}))]), claim(vec![request("r", json!({}))])];
    check(world(pool("8Gi", parts()), two), "r: four on node-1 | r: other-four on node-1");
    // Another pool's devices take from its own counters.
    let other = pool("8Gi", parts()).into_iter().map(|slice| with(slice, json!({"pool": {"name": "q"}})));
    let both = pool("8Gi", parts()).into_iter().chain(other).collect();
    check(world(both, ask(3)), "r: six, r: q/four, r: q/other-four on node-1");
}

#[test]
fn devices_on_other_nodes_take_from_the_same_counters() {
    let elsewhere = with(one_of(3, slice(vec![part("there", "6Gi")])), json!({"nodeName": "node-2"}));
    let slices = || {
        pool("8Gi", vec![part("six", "6Gi"), part("two", "2Gi")])
            .into_iter()
            .map(|slice| one_of(3, slice))
            .chain([elsewhere.clone()])
            .collect()
    };
    check(world(slices(), ask(1)), "r: six on node-1");
    check(world(slices(), ask(1)).used(&["driver-a/pool/there"]), "r: two on node-1");
}

#[test]
fn pools_whose_counters_do_not_fit_are_invalid() {
    let set = json!({"name": "set", "counters": {"memory": {"value": "8Gi"}}});
    let unknown_set = json!([{"counterSet": "none", "counters": {"memory": {"value": "1"}}}]);
    let unknown_counter = json!([{"counterSet": "set", "counters": {"none": {"value": "1"}}}]);
    let get = |sets: Value, consumed: Value| {
        let device = json!({"name": "x", "consumesCounters": consumed});
        world(vec![one_of(2, slice(vec![device])), counters(sets)], ask(1))
    };
    check(
        get(json!([set]), unknown_set),
        "error: invalid resource pools were encountered: driver-a/pool: counter set none not found",
    );
    check(get(json!([set]), unknown_counter), "error: counter none not found in counter set set");
    check(get(json!([set, set]), json!([])), "error: duplicate counter set name set");
    // Even if the device is on another node.
    let wrong = with(
        one_of(3, slice(vec![json!({"name": "x", "consumesCounters": [{"counterSet": "none", "counters": {}}]})])),
        json!({"nodeName": "node-2"}),
    );
    let slices =
        pool("8Gi", vec![part("six", "6Gi")]).into_iter().map(|slice| one_of(3, slice)).chain([wrong]).collect();
    check(world(slices, ask(1)), "error: counter set none not found");
}

#[test]
fn without_the_feature_only_whole_devices_are_there() {
    let off = |world: World| world.without(|features| features.partitionable_devices = false);
    check(off(world(pool("8Gi", vec![part("six", "6Gi")]), ask(1))), "none");
    check(off(world(pool("8Gi", vec![part("six", "6Gi"), named("whole")]), ask(1))), "r: whole on node-1");
}

#[test]
fn the_first_alternative_that_the_counters_allow() {
    let model = |name: &str, memory: &str| with(part(name, memory), json!({"capacity": {"memory": {"value": memory}}}));
    let at_least = |memory: &str| json!({"selectors": cel(&format!(r#"device.capacity["driver-a"].memory.compareTo(quantity("{memory}")) >= 0"#))});
    let choice = || first_of("r", &[("large", at_least("6Gi")), ("small", at_least("4Gi"))]);
    let parts = || vec![model("four", "4Gi"), model("six", "6Gi"), model("other-four", "4Gi")];
    check(world(pool("8Gi", parts()), vec![claim(vec![choice()])]), "r/large: six on node-1");
    check(
        world(pool("8Gi", parts()), vec![claim(vec![choice()])]).used(&["driver-a/pool/four"]),
        "r/small: other-four on node-1",
    );
}

#[test]
fn every_counter_of_every_set_must_suffice() {
    let uses = |name: &str, first: [&str; 2], second: &str| {
        let amounts = json!({"memory": {"value": first[0]}, "cores": {"value": first[1]}});
        let sets = json!([{"counterSet": "one", "counters": amounts}, {"counterSet": "two", "counters": {"memory": {"value": second}}}]);
        json!({"name": name, "consumesCounters": sets})
    };
    let slices = || {
        let one = json!({"name": "one", "counters": {"memory": {"value": "8Gi"}, "cores": {"value": "4"}}});
        let two = json!({"name": "two", "counters": {"memory": {"value": "8Gi"}}});
        let devices = vec![
            uses("cores", ["1Gi", "3"], "1Gi"),
            uses("second", ["1Gi", "1500m"], "7Gi"),
            uses("first", ["7Gi", "1"], "1Gi"),
            uses("little", ["1Gi", "500m"], "1Gi"),
        ];
        vec![one_of(2, slice(devices)), counters(json!([one, two]))]
    };
    check(world(slices(), ask(1)), "r: cores on node-1");
    check(world(slices(), ask(2)), "r: cores, r: first on node-1");
    check(world(slices(), ask(2)).used(&["driver-a/pool/cores"]), "none");
    check(world(slices(), ask(1)).used(&["driver-a/pool/second"]), "r: first on node-1");
    check(world(slices(), ask(3)), "none");
}
