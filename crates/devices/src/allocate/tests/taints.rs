//! Taints keep devices away from those who do not tolerate them.

use super::*;

fn tainted(name: &str, taints: &[(&str, &str, &str)]) -> Value {
    let taint = |(key, value, effect): &(&str, &str, &str)| json!({"key": key, "value": value, "effect": effect});
    json!({"name": name, "taints": taints.iter().map(taint).collect::<Vec<_>>()})
}

#[test]
fn a_taint_is_tolerated_or_the_device_is_not_used() {
    let two = [("broken", "yes", "NoSchedule"), ("busy", "", "NoExecute")];
    let get = |taints: &[(&str, &str, &str)], tolerations: Value| {
        let claims = vec![claim(vec![request("r", json!({"tolerations": tolerations}))])];
        world(vec![slice(vec![tainted("x", taints)])], claims)
    };
    let broken = json!({"key": "broken", "value": "yes", "effect": "NoSchedule"});
    let busy = json!({"key": "busy", "operator": "Exists"});
    check(get(&two, json!([])), "none");
    check(get(&two, json!([broken])), "none");
    check(get(&two, json!([broken, busy])), "r: x (tolerates 2) on node-1");
    check(get(&two, json!([{"operator": "Exists"}])), "r: x (tolerates 1) on node-1");
    check(get(&two, json!([{"operator": "Exists", "effect": "NoSchedule"}])), "none");
    check(get(&two, json!([{"operator": "Like"}])), "none");
    check(get(&two[..1], json!([{"key": "broken", "operator": "Equal", "value": "no"}])), "none");
    check(get(&[("broken", "yes", "None"), ("x", "", "Future")], json!([])), "r: x on node-1");
    check(get(&two, json!([])).without(|features| features.device_taints = false), "r: x on node-1");
}

#[test]
fn taints_hold_for_every_kind_of_request() {
    let slices = || vec![slice(vec![tainted("x", &[("broken", "", "NoSchedule")]), named("y")])];
    let get = |requests| world(slices(), vec![claim(requests)]);
    check(get(vec![request("r", json!({}))]), "r: y on node-1");
    check(get(vec![request("r", json!({"allocationMode": "All"}))]), "none");
    check(get(vec![request("r", json!({"adminAccess": true}))]), "r: y (admin) on node-1");
    let exists = json!([{"operator": "Exists"}]);
    check(
        get(vec![first_of("r", &[("two", json!({"count": 2})), ("any", json!({"count": 2, "tolerations": exists}))])]),
        "r/any: x (tolerates 1), r/any: y (tolerates 1) on node-1",
    );
}
