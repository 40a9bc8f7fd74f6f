//! Constraints: what devices must have in common, and what not.

use super::*;

fn attributed(name: &str, attribute: Value) -> Value {
    json!({"name": name, "attributes": {"x": attribute}})
}

fn three(values: [Value; 3]) -> Vec<Value> {
    let names = ["one", "two", "three"];
    vec![slice(names.into_iter().zip(values).map(|(name, value)| attributed(name, value)).collect())]
}

fn constrained(requests: Vec<Value>, constraints: Value) -> Vec<Value> {
    vec![with(claim(requests), json!({"constraints": constraints}))]
}

fn two() -> Vec<Value> {
    vec![request("r", json!({})), request("s", json!({}))]
}

#[test]
fn devices_match_in_an_attribute() {
    let matching = || json!([{"matchAttribute": "driver-a/x"}]);
    let get = |values| world(three(values), constrained(two(), matching()));
    check(get([json!({"int": 1}), json!({"int": 2}), json!({"int": 1})]), "r: one, s: three on node-1");
    check(get([json!({"int": 1}), json!({"int": 2}), json!({"int": 3})]), "none");
    check(get([json!({"string": "1"}), json!({"int": 1}), json!({"string": "1"})]), "r: one, s: three on node-1");
    check(get([json!({"bool": true}), json!({"bool": false}), json!({"bool": false})]), "r: two, s: three on node-1");
    check(
        get([json!({"version": "1.0.0"}), json!({"version": "1.0.1"}), json!({"version": "1.0.1"})]),
        "r: two, s: three on node-1",
    );
    // Of another domain, and of none at all.
    let other = |name: &str| json!({"name": name, "attributes": {"other/x": {"int": 1}}});
    let by_other = || constrained(two(), json!([{"matchAttribute": "other/x"}]));
    check(world(vec![slice(vec![other("one"), other("two")])], by_other()), "r: one, s: two on node-1");
    check(world(three([json!({"int": 1}), json!({"int": 1}), json!({"int": 1})]), by_other()), "none");
    check(world(vec![slice(devices(2))], constrained(two(), matching())), "none");
    // Only for some requests.
    let some = json!([{"matchAttribute": "driver-a/x", "requests": ["r"]}]);
    check(
        world(three([json!({"int": 1}), json!({"int": 2}), json!({"int": 2})]), constrained(two(), some.clone())),
        "r: one, s: two on node-1",
    );
    let pair = vec![request("r", json!({"count": 2})), request("s", json!({}))];
    check(
        world(three([json!({"int": 1}), json!({"int": 2}), json!({"int": 2})]), constrained(pair, some)),
        "r: two, r: three, s: one on node-1",
    );
}

#[test]
fn alternatives_are_constrained_by_either_name() {
    let values = || three([json!({"int": 1}), json!({"int": 2}), json!({"int": 2})]);
    let requests = || {
        vec![
            first_of(
                "r",
                &[
                    ("first", json!({"selectors": having("x == 1")})),
                    ("second", json!({"selectors": having("x == 2")})),
                ],
            ),
            request("s", json!({})),
        ]
    };
    let by = |name: &str| json!([{"matchAttribute": "driver-a/x", "requests": [name, "s"]}]);
    check(world(values(), constrained(requests(), by("r"))), "r/second: two, s: three on node-1");
    check(world(values(), constrained(requests(), by("r/first"))), "r/second: two, s: one on node-1");
    check(world(values(), constrained(requests(), by("r/second"))), "r/first: one, s: two on node-1");
}

#[test]
fn all_devices_must_satisfy_a_constraint() {
    let all = || request("r", json!({"allocationMode": "All"}));
    let matching = json!([{"matchAttribute": "driver-a/x"}]);
    check(
        world(
            three([json!({"int": 1}), json!({"int": 2}), json!({"int": 1})]),
            constrained(vec![all()], matching.clone()),
        ),
        "error: claim default/claim-0, request r: cannot add device driver-a/pool/two because a claim constraint would not be satisfied",
    );
    check(
        world(
            three([json!({"int": 1}), json!({"int": 1}), json!({"int": 1})]),
            constrained(vec![all()], matching.clone()),
        ),
        "r: one, r: two, r: three on node-1",
    );
    // The single device gives way to what "all" needs.
    let last = json!({"name": "three", "attributes": {"x": {"int": 2}, "last": {"bool": true}}});
    let slices = vec![slice(vec![attributed("one", json!({"int": 2})), attributed("two", json!({"int": 1})), last])];
    let rest = request("s", json!({"allocationMode": "All", "selectors": having("?last.orValue(false)")}));
    check(
        world(slices, constrained(vec![request("r", json!({})), rest], json!([{"distinctAttribute": "driver-a/x"}]))),
        "r: two, s: three on node-1",
    );
}

#[test]
fn devices_differ_in_an_attribute() {
    let distinct = || json!([{"distinctAttribute": "driver-a/x"}]);
    let get = |values| world(three(values), constrained(two(), distinct()));
    check(get([json!({"int": 1}), json!({"int": 1}), json!({"int": 2})]), "r: one, s: three on node-1");
    check(get([json!({"int": 1}), json!({"int": 1}), json!({"int": 1})]), "none");
    check(get([json!({"int": 1}), json!({"string": "1"}), json!({"int": 1})]), "r: one, s: two on node-1");
    check(world(vec![slice(devices(1))], constrained(vec![request("r", json!({}))], distinct())), "none");
    // All three of one request, not only neighbours.
    let many = || constrained(vec![request("r", json!({"count": 3}))], distinct());
    check(world(three([json!({"int": 1}), json!({"int": 2}), json!({"int": 1})]), many()), "none");
    check(
        world(three([json!({"int": 1}), json!({"int": 2}), json!({"int": 3})]), many()),
        "r: one, r: two, r: three on node-1",
    );
    let both = json!([{"distinctAttribute": "driver-a/x"}, {"matchAttribute": "driver-a/x"}]);
    check(world(three([json!({"int": 1}), json!({"int": 2}), json!({"int": 1})]), constrained(two(), both)), "none");
}

#[test]
fn lists_match_where_they_meet() {
    let lists = |constraint: &str, values| {
        let world = world(three(values), constrained(two(), json!([{constraint: "driver-a/x"}])));
        world.without(|features| features.list_type_attributes = true)
    };
    let strings = |values: &[&str]| json!({"strings": values});
    check(
        lists("matchAttribute", [strings(&["a"]), strings(&["b", "c"]), strings(&["c", "d"])]),
        "r: two, s: three on node-1",
    );
    check(
        lists("matchAttribute", [strings(&["a"]), json!({"string": "b"}), strings(&["c", "b"])]),
        "r: two, s: three on node-1",
    );
    check(lists("matchAttribute", [strings(&["a"]), strings(&["b"]), json!({"ints": [1]})]), "none");
    check(
        lists("matchAttribute", [json!({"ints": [1]}), json!({"ints": [2, 1]}), json!({})]),
        "r: one, s: two on node-1",
    );
    check(
        lists("distinctAttribute", [strings(&["a", "b"]), strings(&["b", "c"]), strings(&["c", "d"])]),
        "r: one, s: three on node-1",
    );
    check(
        lists("distinctAttribute", [strings(&["a", "b"]), strings(&["b"]), json!({"string": "a"})]),
        "r: two, s: three on node-1",
    );
    let versions = |values: &[&str]| json!({"versions": values});
    check(
        lists("distinctAttribute", [versions(&["1.0.0"]), json!({"version": "1.0.0"}), json!({"bools": [true]})]),
        "r: one, s: three on node-1",
    );
    // All three meet in pairs, but not in one value.
    let triple = constrained(vec![request("r", json!({"count": 3}))], json!([{"matchAttribute": "driver-a/x"}]));
    let found = world(three([strings(&["a", "b"]), strings(&["b", "c"]), strings(&["a", "c"])]), triple);
    check(found.without(|features| features.list_type_attributes = true), "none");
}

#[test]
fn a_shared_device_differs_from_others_but_not_from_itself() {
    let shared = |name: &str, x: i64| {
        let memory = json!({"memory": {"value": "10", "requestPolicy": {"default": "1"}}});
        with(attributed(name, json!({"int": x})), json!({"allowMultipleAllocations": true, "capacity": memory}))
    };
    let requests = || {
        let choice = |name| first_of(name, &[("one", json!({"selectors": having("x == 1")})), ("any", json!({}))]);
        vec![choice("r"), choice("s"), choice("t")]
    };
    let distinct = json!([{"distinctAttribute": "driver-a/x", "requests": ["r", "s"]}]);
    let slices = |devices: Vec<Value>| vec![slice(devices)];
    check(world(slices(vec![shared("one", 1)]), constrained(requests(), distinct.clone())), "none");
    // The third request is not constrained, and takes what it likes best.
    check(
        world(slices(vec![shared("one", 1), shared("two", 2)]), constrained(requests(), distinct)),
        "r/one: one (share memory=1), s/any: two (share memory=1), t/one: one (share memory=1) on node-1",
    );
}
