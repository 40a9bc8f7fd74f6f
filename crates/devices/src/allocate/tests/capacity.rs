//! Devices that several allocations share, and what each takes of them.

use super::*;

/// A device with so much memory that can be shared, with a policy for requests.
fn shared(name: &str, memory: &str, policy: Value) -> Value {
    let memory =
        with(json!({"value": memory}), if policy.is_null() { json!({}) } else { json!({"requestPolicy": policy}) });
    json!({"name": name, "allowMultipleAllocations": true, "capacity": {"memory": memory}})
}

fn ask(name: &str, memory: &str) -> Value {
    request(name, json!({"capacity": {"requests": {"memory": memory}}}))
}

fn get(devices: Vec<Value>, requests: Vec<Value>) -> World {
    world(vec![slice(devices)], vec![claim(requests)])
}

#[test]
fn shares_take_what_was_asked_for() {
    let any = Value::Null;
    let one = || vec![shared("x", "10", any.clone())];
    check(get(one(), vec![ask("r", "4"), ask("s", "6")]), "r: x (share memory=4), s: x (share memory=6) on node-1");
    check(get(one(), vec![ask("r", "4"), ask("s", "7")]), "none");
    check(get(one(), vec![ask("r", "11")]), "none");
    check(get(one(), vec![request("r", json!({}))]), "r: x (share memory=10) on node-1");
    check(get(one(), vec![request("r", json!({})), ask("s", "1")]), "none");
    check(get(one(), vec![ask("r", "6")]).used(&["driver-a/pool/x memory=4"]), "r: x (share memory=6) on node-1");
    check(get(one(), vec![ask("r", "7")]).used(&["driver-a/pool/x memory=4"]), "none");
    check(get(one(), vec![ask("r", "6")]).used(&["driver-a/pool/x"]), "none");
    let two = || vec![shared("x", "10", any.clone()), shared("y", "10", any.clone())];
    check(get(two(), vec![ask("r", "7")]).used(&["driver-a/pool/x memory=4"]), "r: y (share memory=7) on node-1");
    // The first request gives way: 6 and 4 fit together, 6 and 6 do not.
    check(
        get(two(), vec![ask("r", "6"), ask("s", "6"), ask("t", "4")]),
        "r: x (share memory=6), s: y (share memory=6), t: x (share memory=4) on node-1",
    );
    // One request wants different devices.
    let pair = request("r", json!({"count": 2, "capacity": {"requests": {"memory": "1"}}}));
    check(get(one(), vec![pair.clone()]), "none");
    check(get(two(), vec![pair]), "r: x (share memory=1), r: y (share memory=1) on node-1");
    let none = json!({"name": "x", "allowMultipleAllocations": true});
    check(
        get(vec![none], vec![request("r", json!({})), request("s", json!({}))]),
        "r: x (share ), s: x (share ) on node-1",
    );
    check(get(one(), vec![request("r", json!({"capacity": {"requests": {"cores": "1"}}}))]), "none");
}

#[test]
fn policies_round_up_and_refuse() {
    let range = json!({"default": "2", "validRange": {"min": "2", "step": "2", "max": "6"}});
    let took = |policy: &Value, asked: &str, expected: &str| {
        let expected = match expected {
            "none" => expected.to_owned(),
            amount => format!("r: x (share memory={amount}) on node-1"),
        };
        check(get(vec![shared("x", "10", policy.clone())], vec![ask("r", asked)]), &expected);
    };
    took(&range, "1", "2");
    took(&range, "2", "2");
    took(&range, "3", "4");
    took(&range, "2500m", "4");
    took(&range, "6", "6");
    took(&range, "7", "none");
    let from = json!({"default": "2", "validRange": {"min": "2"}});
    took(&from, "1", "2");
    took(&from, "2500m", "2500m");
    took(&from, "11", "none");
    let values = json!({"default": "0", "validValues": ["1", "4", "8"]});
    took(&values, "1", "1");
    took(&values, "2", "4");
    took(&values, "9", "none");
    took(&json!({"default": "3"}), "5", "5");
    let without = |policy: &Value, expected: &str| {
        check(
            get(vec![shared("x", "10", policy.clone())], vec![request("r", json!({}))]),
            &format!("r: x (share memory={expected}) on node-1"),
        );
    };
    without(&range, "2");
    without(&values, "0");
    without(&json!({"default": "3"}), "3");
    let binary = json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}});
    check(get(vec![shared("x", "8Gi", binary)], vec![ask("r", "1500Mi")]), "r: x (share memory=2Gi) on node-1");
    let odd = json!({"default": "2", "validRange": {"min": "2", "step": "0"}});
    took(&odd, "3", "3");
}

#[test]
fn dedicated_devices_have_capacity_too() {
    let whole = || vec![json!({"name": "x", "capacity": {"memory": {"value": "10"}}})];
    check(get(whole(), vec![ask("r", "4")]), "r: x on node-1");
    check(get(whole(), vec![ask("r", "4"), ask("s", "4")]), "none");
    check(get(whole(), vec![ask("r", "11")]), "none");
    check(get(vec![named("x")], vec![ask("r", "1")]), "none");
    // It could be shared once, and is still.
    check(get(whole(), vec![ask("r", "1")]).used(&["driver-a/pool/x memory=1"]), "none");
    let by_class = |class: &str| vec![request("r", json!({"deviceClassName": class}))];
    check(get(whole(), by_class("shared")), "none");
    check(get(vec![shared("x", "1", Value::Null)], by_class("shared")), "r: x (share memory=1) on node-1");
}

#[test]
fn all_devices_are_those_with_room() {
    let all =
        |memory: &str| request("r", json!({"allocationMode": "All", "capacity": {"requests": {"memory": memory}}}));
    let two = || vec![shared("x", "10", Value::Null), shared("y", "4", Value::Null)];
    check(get(two(), vec![all("4")]), "r: x (share memory=4), r: y (share memory=4) on node-1");
    check(get(two(), vec![all("5")]), "r: x (share memory=5) on node-1");
    check(get(two(), vec![all("5")]).used(&["driver-a/pool/x memory=8"]), "none");
    check(get(two(), vec![ask("first", "8"), all("4")]), "none");
    check(
        get(two(), vec![ask("first", "6"), all("4")]),
        "first: x (share memory=6), r: x (share memory=4), r: y (share memory=4) on node-1",
    );
}

#[test]
fn a_shared_part_takes_from_its_counters_once() {
    let counted = |name: &str| {
        let counters = json!([{"counterSet": "set", "counters": {"memory": {"value": "10"}}}]);
        with(shared(name, "10", Value::Null), json!({"consumesCounters": counters}))
    };
    let slices = || {
        let sets = json!([{"name": "set", "counters": {"memory": {"value": "10"}}}]);
        vec![
            one_of(2, slice(vec![counted("x"), counted("y")])),
            with(one_of(2, slice(vec![])), json!({"sharedCounters": sets})),
        ]
    };
    let claims = |requests| vec![claim(requests)];
    check(
        world(slices(), claims(vec![ask("r", "4"), ask("s", "4")])),
        "r: x (share memory=4), s: x (share memory=4) on node-1",
    );
    check(world(slices(), claims(vec![ask("r", "6"), ask("s", "6")])), "none");
    check(
        world(slices(), claims(vec![ask("r", "4")])).used(&["driver-a/pool/x memory=4"]),
        "r: x (share memory=4) on node-1",
    );
    check(world(slices(), claims(vec![ask("r", "8")])).used(&["driver-a/pool/x memory=4"]), "none");
    check(
        world(slices(), claims(vec![ask("r", "4")])).used(&["driver-a/pool/y memory=4"]),
        "r: y (share memory=4) on node-1",
    );
}

#[test]
fn without_the_feature_nothing_is_shared() {
    let off = |world: World| world.without(|features| features.consumable_capacity = false);
    let reason = "has capacity requests, but the DRAConsumableCapacity feature is disabled";
    check(
        off(get(vec![named("x")], vec![ask("r", "1")])),
        &format!("error: claim default/claim-0, request r: {reason}"),
    );
    let choice = first_of("r", &[("s", json!({"capacity": {"requests": {"memory": "1"}}}))]);
    check(off(get(vec![named("x")], vec![choice])), &format!("error: claim default/claim-0, subrequest s: {reason}"));
    let two = || vec![request("r", json!({})), request("s", json!({}))];
    check(off(get(vec![shared("x", "10", Value::Null)], two())), "none");
}

#[test]
fn shares_get_names_of_their_own() {
    let world = get(
        vec![shared("x", "10", Value::Null), named("y")],
        vec![ask("r", "1"), ask("s", "1"), request("t", json!({"selectors": cel("!device.allowMultipleAllocations")}))],
    );
    let mut found = world.allocate(&world.inventory()).unwrap().unwrap();
    let mut next = 0;
    name_shares(&mut found[0], &mut || {
        next += 1;
        format!("uid-{next}")
    });
    let results = found[0].devices.iter().flat_map(|devices| devices.results.iter().flatten());
    let shares: Vec<Option<&str>> = results.map(|result| result.share_id.as_deref()).collect();
    assert_eq!(shares, [Some("uid-1"), Some("uid-2"), None]);
}
