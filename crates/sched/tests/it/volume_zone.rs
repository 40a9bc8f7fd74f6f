//! Volumes and nodes that say in which zone they are.

use serde_json::{Value, json};

use crate::storage::{bound, check, claim, class, node, taken, user, volume, with};

#[test]
fn a_node_must_be_where_the_volume_is() {
    let case = |labels: Value, of_node: Value, fits: bool| {
        let volume = with(taken(volume("v", ""), "c"), json!({"metadata": {"labels": labels}}));
        let objects = [node("n", of_node), volume, bound(claim("c", ""), "v")];
        let conflict = "0/1 nodes are available: 1 node(s) had no available volume zone.";
        check(&objects, &user("p", &["c"]), if fits { "-> n" } else { conflict });
    };
    let (zone, region) = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region");
    let (beta_zone, beta_region) =
        ("failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region");
    case(json!({}), json!({zone: "a"}), true);
    case(json!({zone: "a"}), json!({}), true);
    case(json!({zone: "a"}), json!({zone: "a"}), true);
    case(json!({zone: "a"}), json!({zone: "b"}), false);
    case(json!({zone: "a__b"}), json!({zone: "b"}), true);
    case(json!({zone: "a__b"}), json!({zone: "c"}), false);
    case(json!({zone: "a____b"}), json!({zone: "c"}), true);
    case(json!({zone: "a", region: "r"}), json!({zone: "a", region: "r"}), true);
    case(json!({zone: "a", region: "r"}), json!({zone: "a", region: "s"}), false);
    case(json!({region: "r"}), json!({zone: "a"}), false);
    case(json!({beta_zone: "a"}), json!({beta_zone: "a"}), true);
    case(json!({beta_zone: "a"}), json!({zone: "a"}), true);
    case(json!({beta_zone: "a", beta_region: "r"}), json!({zone: "a", region: "s"}), false);
    case(json!({zone: "a"}), json!({beta_zone: "a"}), false);
}

#[test]
fn a_claim_leads_to_a_volume_or_waits_for_one() {
    let zoned = || node("n", json!({"topology.kubernetes.io/zone": "a"}));
    let case = |objects: &[Value], expected: &str| {
        check(&[&[zoned()], objects].concat(), &user("p", &["c"]), expected);
    };
    case(&[bound(claim("c", ""), "v")], "0/1 nodes are available: persistentvolume \"v\" not found.");
    case(&[claim("c", "late"), class("late", "x.io/made")], "-> n");
    // Other plugins speak first of claims that nobody will bind.
    case(&[claim("c", "now")], "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
}
