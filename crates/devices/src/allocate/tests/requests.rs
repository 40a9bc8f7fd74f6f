//! Requests: how many devices, by which selectors, in which order, and how they share.

use super::*;

fn sized(name: &str, size: &str) -> Value {
    json!({"name": name, "attributes": {"size": {"string": size}}})
}

#[test]
fn one_request_takes_the_first_device_that_fits() {
    check(world(vec![], vec![]), "");
    check(world(vec![], vec![claim(vec![request("r", json!({}))])]), "none");
    check(world(vec![slice(devices(2))], vec![claim(vec![request("r", json!({}))])]), "r: device-0 on node-1");
    check(
        world(vec![slice(devices(2))], vec![claim(vec![request("r", json!({"count": 2}))])]),
        "r: device-0, r: device-1 on node-1",
    );
    check(world(vec![slice(devices(2))], vec![claim(vec![request("r", json!({"count": 3}))])]), "none");
    check(world(vec![slice(devices(1))], vec![claim(vec![request("r", json!({"deviceClassName": "b"}))])]), "none");
    let elsewhere = with(slice(devices(1)), json!({"nodeName": "node-2"}));
    check(world(vec![elsewhere], vec![claim(vec![request("r", json!({}))])]), "none");
    let one = || vec![claim(vec![request("r", json!({}))])];
    check(world(vec![slice(devices(2))], one()).used(&["driver-a/pool/device-0"]), "r: device-1 on node-1");
    check(world(vec![slice(devices(1))], one()).used(&["driver-a/pool/device-0"]), "none");
    check(world(vec![slice(devices(1))], one()).used(&["driver-b/pool/device-0"]), "r: device-0 on node-1");
    check(
        world(
            vec![slice(devices(2))],
            vec![claim(vec![request("r", json!({}))]), claim(vec![request("r", json!({}))])],
        ),
        "r: device-0 on node-1 | r: device-1 on node-1",
    );
    check(world(vec![slice(devices(1))], vec![claim(vec![])]), " everywhere");
}

#[test]
fn selectors_choose_and_the_search_goes_back() {
    let two = || vec![slice(vec![sized("large", "large"), sized("small", "small")])];
    let any = |name| request(name, json!({"selectors": having(r#"size != """#)}));
    let large = |name| request(name, json!({"selectors": having(r#"size == "large""#)}));
    check(world(two(), vec![claim(vec![large("l")])]), "l: large on node-1");
    // The first request would like the large one, the second needs it.
    check(world(two(), vec![claim(vec![any("x"), large("l")])]), "x: small, l: large on node-1");
    check(
        world(two(), vec![claim(vec![any("x")]), claim(vec![large("l")])]),
        "x: small on node-1 | l: large on node-1",
    );
    check(world(two(), vec![claim(vec![large("l"), large("m")])]), "none");
    check(world(two(), vec![claim(vec![any("x"), any("y"), any("z")])]), "none");
}

#[test]
fn all_devices_are_all_or_none() {
    let all = |name, changes| request(name, with(json!({"allocationMode": "All", "count": null}), changes));
    let two = || vec![slice(devices(2))];
    check(world(two(), vec![claim(vec![all("r", json!({}))])]), "r: device-0, r: device-1 on node-1");
    check(world(two(), vec![claim(vec![all("r", json!({}))])]).used(&["driver-a/pool/device-1"]), "none");
    check(world(two(), vec![claim(vec![all("r", json!({"deviceClassName": "b"}))])]), "none");
    check(world(vec![slice(vec![])], vec![claim(vec![all("r", json!({}))])]), "none");
    check(world(vec![], vec![claim(vec![all("r", json!({}))])]), "none");
    check(world(two(), vec![claim(vec![all("r", json!({})), request("s", json!({}))])]), "none");
    check(world(two(), vec![claim(vec![request("s", json!({})), all("r", json!({}))])]), "none");
    let elsewhere = with(slice(vec![named("other")]), json!({"driver": "driver-b"}));
    check(
        world(
            vec![slice(devices(2)), elsewhere],
            vec![claim(vec![all("r", json!({})), request("s", json!({"deviceClassName": "b"}))])],
        ),
        "r: device-0, r: device-1, s: other on node-1",
    );
    check(
        world(vec![one_of(2, slice(devices(1)))], vec![claim(vec![all("r", json!({}))])]),
        "error: claim default/claim-0, request r: asks for all devices, but resource pool driver-a/pool is currently being updated",
    );
    let double = slice(vec![named("x"), named("x")]);
    check(
        world(vec![double], vec![claim(vec![all("r", json!({}))])]),
        "error: claim default/claim-0, request r: asks for all devices, but resource pool driver-a/pool is currently invalid",
    );
}

#[test]
fn admin_access_takes_a_device_from_nobody() {
    let admin = |name, changes| request(name, with(json!({"adminAccess": true}), changes));
    let all = json!({"allocationMode": "All", "count": null});
    let two = || vec![slice(devices(2))];
    let taken = &["driver-a/pool/device-0"];
    check(world(two(), vec![claim(vec![admin("r", json!({}))])]).used(taken), "r: device-0 (admin) on node-1");
    check(
        world(two(), vec![claim(vec![admin("r", json!({"count": 2}))])]).used(taken),
        "r: device-0 (admin), r: device-1 (admin) on node-1",
    );
    check(
        world(two(), vec![claim(vec![admin("r", all.clone())])]).used(taken),
        "r: device-0 (admin), r: device-1 (admin) on node-1",
    );
    // Not twice in one claim, but in two.
    check(world(two(), vec![claim(vec![admin("r", json!({})), admin("s", all)])]), "none");
    check(
        world(two(), vec![claim(vec![admin("r", json!({}))]), claim(vec![admin("r", json!({}))])]),
        "r: device-0 (admin) on node-1 | r: device-0 (admin) on node-1",
    );
    check(
        world(two(), vec![claim(vec![request("r", json!({}))]), claim(vec![admin("r", json!({}))])]),
        "r: device-0 on node-1 | r: device-0 (admin) on node-1",
    );
    check(
        world(two(), vec![claim(vec![request("r", json!({"adminAccess": false}))])])
            .without(|features| features.admin_access = false),
        "error: claim default/claim-0, request r: admin access is requested, but the feature is disabled",
    );
}

#[test]
fn the_first_available_alternative_is_taken() {
    let two = || vec![slice(vec![sized("large", "large"), sized("small", "small")])];
    let size = |size: &str| json!({"selectors": having(&format!(r#"size == "{size}""#))});
    let claim_of = |choices: &[(&str, Value)]| vec![claim(vec![first_of("r", choices)])];
    check(world(two(), claim_of(&[("l", size("large")), ("s", size("small"))])), "r/l: large on node-1");
    check(world(two(), claim_of(&[("l", size("huge")), ("s", size("small"))])), "r/s: small on node-1");
    check(world(two(), claim_of(&[("l", size("huge")), ("s", json!({"count": 3}))])), "none");
    check(
        world(two(), claim_of(&[("b", json!({"deviceClassName": "b"})), ("two", json!({"count": 2}))])),
        "r/two: large, r/two: small on node-1",
    );
    check(
        world(
            two(),
            claim_of(&[
                ("b", json!({"deviceClassName": "b", "allocationMode": "All"})),
                ("all", json!({"allocationMode": "All"})),
            ]),
        ),
        "r/all: large, r/all: small on node-1",
    );
    // Both like the large one best; a later one that needs it makes the first take the small one.
    let late = request("late", size("large"));
    check(
        world(two(), vec![claim(vec![first_of("r", &[("l", size("large")), ("s", size("small"))]), late])]),
        "r/s: small, late: large on node-1",
    );
    check(
        world(two(), claim_of(&[("l", size("large"))])).without(|features| features.prioritized_list = false),
        "error: claim default/claim-0, request r: has subrequests, but the DRAPrioritizedList feature is disabled",
    );
}

#[test]
fn a_claim_has_32_devices_at_most() {
    let count = |name, count| request(name, json!({"count": count}));
    let limit = "exceeds the claim limit of 32";
    check(
        world(vec![slice(devices(40))], vec![claim(vec![count("r", 33)])]),
        &format!("error: claim default/claim-0: number of requested devices 33 {limit}"),
    );
    check(world(vec![], vec![claim(vec![count("r", 32), count("s", 1)])]), &format!("error: {limit}"));
    let all = request("r", json!({"allocationMode": "All"}));
    check(world(vec![slice(devices(33))], vec![claim(vec![all])]), &format!("error: {limit}"));
    // Two alternatives for each of two requests: only the smaller ones fit together.
    let choice = |name| first_of(name, &[("many", json!({"count": 32})), ("few", json!({"count": 1}))]);
    check(
        world(vec![slice(devices(64))], vec![claim(vec![choice("r"), choice("s")])]),
        "r/few: device-0, s/few: device-1 on node-1",
    );
    let all_first = first_of("r", &[("all", json!({"allocationMode": "All"})), ("one", json!({}))]);
    let others = with(slice(devices(2)), json!({"driver": "driver-b"}));
    check(
        world(
            vec![slice(devices(31)), others],
            vec![claim(vec![all_first, request("s", json!({"deviceClassName": "b", "count": 2}))])],
        ),
        "r/one: device-0, s: device-0, s: device-1 on node-1",
    );
    // The limit is each claim's own, and the search goes as deep as there are devices.
    let claims: Vec<Value> = (0..32).map(|_| claim(vec![count("r", 32)])).collect();
    let many = world(vec![slice(devices(1024))], claims);
    let found = many.allocate(&many.inventory()).unwrap();
    assert_eq!(found.map(|found| found.len()), Some(32));
}

#[test]
fn what_is_not_understood_is_an_error() {
    let one = |changes| vec![claim(vec![request("r", changes)])];
    let slices = || vec![slice(devices(1))];
    check(
        world(slices(), one(json!({"deviceClassName": "none"}))),
        "error: claim default/claim-0, request r: could not retrieve device class none",
    );
    check(
        world(slices(), one(json!({"deviceClassName": ""}))),
        "error: claim default/claim-0, request r: missing device class name (unsupported request type?)",
    );
    check(
        world(slices(), vec![claim(vec![json!({"name": "r"})])]),
        "error: missing device class name (unsupported request type?)",
    );
    check(
        world(slices(), one(json!({"allocationMode": "Future"}))),
        "error: claim default/claim-0, request r: unsupported count mode Future",
    );
    check(
        world(slices(), one(json!({"selectors": [{}]}))),
        "error: claim default/claim-0, request r, selector #0: CEL expression empty (unsupported selector type?)",
    );
    check(
        world(slices(), one(json!({"selectors": cel("noSuchVar")}))),
        "error: claim default/claim-0: selector #0: CEL compile error: compilation failed: ERROR: <input>:1:1: undeclared reference to 'noSuchVar'",
    );
    check(
        world(slices(), one(json!({"deviceClassName": "broken"}))),
        "error: class broken: selector #0: CEL compile error: ",
    );
    check(
        world(slices(), one(json!({"selectors": having("none")}))),
        "error: claim default/claim-0: selector #0: CEL runtime error: no such key: none",
    );
    // Nobody has looked at a device.
    check(world(vec![], one(json!({"deviceClassName": "broken"}))), "none");
    check(
        world(slices(), vec![with(claim(vec![request("r", json!({}))]), json!({"constraints": [{}]}))]),
        "error: claim default/claim-0, constraint #0: empty constraint (unsupported constraint type?)",
    );
    let odd = slice(vec![json!({"name": "odd", "attributes": {"x": {}}})]);
    check(world(vec![odd], one(json!({}))), "error: attribute x: unsupported attribute value");
    let lists = slice(vec![json!({"name": "odd", "attributes": {"x": {"strings": ["a"]}}})]);
    check(world(vec![lists.clone()], one(json!({}))), "error: unsupported attribute value");
    check(
        world(vec![lists], one(json!({"selectors": having("x.includes('a')")})))
            .without(|features| features.list_type_attributes = true),
        "r: odd on node-1",
    );
}

#[test]
fn configuration_follows_what_was_chosen() {
    let opaque = json!({"driver": "driver-a", "parameters": {"of": "claim"}});
    let config = |requests: &[&str]| json!({"requests": requests, "opaque": opaque});
    let configured = |name| request(name, json!({"deviceClassName": "configured"}));
    check(
        world(vec![slice(devices(3))], vec![claim(vec![configured("r"), configured("s"), request("t", json!({}))])]),
        "r: device-0, s: device-1, t: device-2 FromClass(r,s) on node-1",
    );
    let requests = claim(vec![
        first_of("r", &[("b", json!({"deviceClassName": "b"})), ("a", json!({}))]),
        request("s", json!({})),
    ]);
    let configs =
        [config(&[]), config(&["r"]), config(&["r/a"]), config(&["r/b"]), config(&["s", "r"]), config(&["t"])];
    check(
        world(vec![slice(devices(2))], vec![with(requests, json!({"config": configs}))]),
        "r/a: device-0, s: device-1 FromClaim() FromClaim(r) FromClaim(r/a) FromClaim(s,r) on node-1",
    );
}

/// Sixteen devices, then one more that matches them, then one that matches the second but not the first; with 64
/// devices that all could be any of them. `memory` is each device's.
fn stuck(memory: impl Fn(usize) -> String) -> World {
    let device = |at: usize| {
        let facts = json!({"attributes": {"half": {"int": at / 32}, "id": {"int": at}}, "capacity": {"memory": {"value": memory(at)}}});
        with(named(&format!("device-{at}")), facts)
    };
    let constraints = json!([
        {"matchAttribute": "driver-a/half", "requests": ["r", "s"]},
        {"distinctAttribute": "driver-a/half", "requests": ["s", "t"]},
        {"matchAttribute": "driver-a/half", "requests": ["r", "t"]},
    ]);
    let requests = vec![request("r", json!({"count": 16})), request("s", json!({})), request("t", json!({}))];
    world(vec![slice((0..64).map(device).collect())], vec![with(claim(requests), json!({"constraints": constraints}))])
}

#[test]
fn a_search_ends() {
    // Nobody asks for what differs, so one of each half stands for all.
    check(stuck(|_| "1".to_owned()), "none");
    // No two are the same, and nobody can tell that it is hopeless before all have been tried.
    let different = stuck(|at| at.to_string());
    let found = different.allocate(&different.inventory()).unwrap_err();
    assert!(found.only_here(), "another node may have fewer devices");
    let text = found.to_string();
    assert!(text.contains("gave up after 1000000 steps of looking for devices for default/claim-0"), "{text}");
}

#[test]
fn combinations_within_a_request_are_tried_across_slices_and_pools() {
    // Of three devices only the last two match each other, wherever they are.
    let numbered = |name: &str, x: i64| json!({"name": name, "attributes": {"x": {"int": x}}});
    let (first, second, third) = (numbered("first", 1), numbered("second", 2), numbered("third", 2));
    let pair = || {
        let constraints = json!([{"matchAttribute": "driver-a/x"}]);
        vec![with(claim(vec![request("r", json!({"count": 2}))]), json!({"constraints": constraints}))]
    };
    check(
        world(vec![slice(vec![first.clone(), second.clone(), third.clone()])], pair()),
        "r: second, r: third on node-1",
    );
    let apart = |devices: [&Value; 3]| devices.map(|device| one_of(3, slice(vec![device.clone()]))).to_vec();
    check(world(apart([&first, &second, &third]), pair()), "r: second, r: third on node-1");
    check(world(apart([&second, &first, &third]), pair()), "r: second, r: third on node-1");
    let pools = |devices: [&Value; 3]| {
        let pool = |(name, device): (&str, &Value)| with(slice(vec![device.clone()]), json!({"pool": {"name": name}}));
        ["o", "p", "q"].into_iter().zip(devices).map(pool).collect()
    };
    check(world(pools([&first, &second, &third]), pair()), "r: p/second, r: q/third on node-1");
    check(world(pools([&third, &first, &second]), pair()), "r: o/third, r: q/second on node-1");
}
