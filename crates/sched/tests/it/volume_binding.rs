//! Claims and their volumes: what a pod waits for, which volumes it gets, and what is written before it is bound.

use std::time::Duration;

use sched::{
    Reservation,
    pre_bind::{Progress, Write},
};
use serde_json::{Value, json};

use crate::storage::{Cluster, bound, check, claim, class, local, node, on, pod, taken, user, volume, with};

const NO_MATCH: &str = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.";
const NO_SPACE: &str = "0/1 nodes are available: 1 node(s) did not have enough free storage.";
const AFFINITY: &str = "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.";
const UNBOUND: &str = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
const BY_HAND: &str = "kubernetes.io/no-provisioner";

/// What a pod with claims is told on the node `n`.
fn told(objects: &[Value], claims: &[&str], expected: &str) {
    check(&[&[node("n", json!({}))], objects].concat(), &user("p", claims), expected);
}

/// The writes in words: `volume -> claim`, or `claim at node`.
fn writes(reservation: &Reservation) -> Vec<String> {
    let word = |write: &Write| match write {
        Write::BindVolume { volume, claim, .. } => format!("{volume} -> {}", claim.1),
        Write::SelectNode { claim, node, .. } => format!("{} at {node}", claim.1),
        other => panic!("not about volumes: {other:?}"),
    };
    reservation.pre_bind.writes.iter().map(word).collect()
}

/// What is written for a pod with claims that is placed on the node `n`.
fn written(objects: &[Value], claims: &[&str], expected: &[&str]) {
    let mut cluster = Cluster::new(&[&[node("n", json!({"rack": "r"}))], objects].concat());
    cluster.apply(&user("p", claims));
    assert_eq!(writes(&cluster.placed()), expected, "{objects:?}");
}

#[test]
fn claims_must_be_there_and_usable() {
    told(&[], &["c"], "0/1 nodes are available: persistentvolumeclaim \"c\" not found.");
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let text = "0/1 nodes are available: persistentvolumeclaim \"c\" is being deleted.";
    told(&[with(claim("c", "late"), deleting)], &["c"], text);
    let lost = with(bound(claim("c", ""), "v"), json!({"status": {"phase": "Lost"}}));
    let text = "0/1 nodes are available: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\".";
    told(&[lost], &["c"], text);
    told(&[claim("c", "")], &["c"], UNBOUND);
    told(&[claim("c", "unknown")], &["c"], UNBOUND);
    let immediate = with(class("now", "x.io/made"), json!({"volumeBindingMode": "Immediate"}));
    told(&[claim("c", "now"), immediate], &["c"], UNBOUND);
    let named = with(claim("c", "late"), json!({"spec": {"volumeName": "v"}}));
    told(&[named, class("late", "x.io/made")], &["c"], UNBOUND);
    let unset = with(class("late", "x.io/made"), json!({"volumeBindingMode": null}));
    let text = "0/1 nodes are available: VolumeBindingMode not set for StorageClass \"late\".";
    told(&[claim("c", "late"), unset], &["c"], text);
}

#[test]
fn ephemeral_claims_are_the_pods_own() {
    let own = pod("p", json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]));
    let case = |objects: &[Value], expected: &str| {
        check(&[&[node("n", json!({})), class("late", "x.io/made")], objects].concat(), &own, expected);
    };
    let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"";
    case(&[], &format!("0/1 nodes are available: {waiting}."));
    let text = "0/1 nodes are available: PVC default/p-v was not created for pod default/p (pod is not owner).";
    case(&[claim("p-v", "late")], text);
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]);
    let made = with(claim("p-v", "late"), json!({"metadata": {"ownerReferences": owner}}));
    case(std::slice::from_ref(&made), "-> n");
    let gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    case(&[bound(made, "gone")], &format!("0/1 nodes are available: 1 {gone}."));
}

#[test]
fn a_pod_of_the_same_name_does_not_inherit_a_claim() {
    let mut cluster = Cluster::new(&[node("n", json!({})), class("late", "x.io/made")]);
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]);
    cluster.apply(&with(claim("p-v", "late"), json!({"metadata": {"ownerReferences": owner}})));
    let own = pod("p", json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]));
    for _ in 0..3 {
        cluster.apply(&own);
        assert_eq!(cluster.next(), "p -> n");
        cluster.delete(&own);
    }
    cluster.apply(&with(own, json!({"metadata": {"uid": "another"}})));
    assert!(cluster.next().contains("was not created for pod default/p"));
}

#[test]
fn bound_volumes_must_be_reachable() {
    let case = |volume: Value, more: &[Value], expected: &str| {
        told(&[&[taken(volume, "c"), bound(claim("c", ""), "v")], more].concat(), &["c"], expected);
    };
    case(volume("v", ""), &[], "-> n");
    case(local(volume("v", ""), "n"), &[], "-> n");
    case(local(volume("v", ""), "m"), &[], AFFINITY);
    // What one claim lacks is told beside what another lacks.
    let both = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind, 1 node(s) didn't match \
                PersistentVolume's node affinity.";
    let storage = [
        taken(local(volume("v", ""), "m"), "c"),
        bound(claim("c", ""), "v"),
        class("late", BY_HAND),
        claim("d", "late"),
    ];
    told(&storage, &["c", "d"], both);
}

#[test]
fn zones_of_in_tree_volumes_are_translated_where_their_driver_has_taken_over() {
    let zone = |key: &str| json!([{"matchExpressions": [{"key": key, "operator": "In", "values": ["z"]}]}]);
    let case = |affinity: Value, of_node: Value, migrated: bool, fits: bool| {
        let affinity = json!({"spec": {"awsElasticBlockStore": {"volumeID": "vol-1"}, "nodeAffinity": affinity}});
        let volume = taken(with(volume("v", ""), affinity), "c");
        let plugins = if migrated { "kubernetes.io/aws-ebs" } else { "" };
        let csi_node = json!({"kind": "CSINode", "metadata": {"name": "n",
            "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": plugins}}});
        let objects = [node("n", of_node), csi_node, volume, bound(claim("c", ""), "v")];
        check(&objects, &user("p", &["c"]), if fits { "-> n" } else { AFFINITY });
    };
    let (plain, driver) = ("topology.kubernetes.io/zone", "topology.ebs.csi.aws.com/zone");
    let required = |key| json!({"required": {"nodeSelectorTerms": zone(key)}});
    case(required(plain), json!({plain: "z"}), false, true);
    case(required(plain), json!({driver: "z"}), false, false);
    case(required(plain), json!({driver: "z"}), true, true);
    case(required(plain), json!({plain: "z"}), true, false);
    case(required("failure-domain.beta.kubernetes.io/zone"), json!({driver: "z"}), true, true);
}

#[test]
fn waiting_claims_get_the_smallest_volume_that_suits_them() {
    let late = || vec![class("late", BY_HAND), claim("c", "late")];
    let case = |volumes: &[Value], expected: Option<&str>| {
        let objects = [&late()[..], volumes].concat();
        match expected {
            Some(volume) => written(&objects, &["c"], &[&format!("{volume} -> c")]),
            None => told(&objects, &["c"], NO_MATCH),
        }
    };
    let sized = |name: &str, size: &str| with(volume(name, "late"), json!({"spec": {"capacity": {"storage": size}}}));
    case(&[], None);
    case(&[sized("a", "20Gi"), sized("b", "10Gi"), sized("c", "4Gi")], Some("b"));
    case(&[sized("a", "5Gi"), sized("b", "5Gi")], Some("a"));
    case(&[sized("a", "4999Mi")], None);
    case(&[volume("a", "other")], None);
    case(&[with(volume("a", "late"), json!({"spec": {"accessModes": ["ReadOnlyMany"]}}))], None);
    case(&[with(volume("a", "late"), json!({"spec": {"accessModes": ["ReadOnlyMany", "ReadWriteOnce"]}}))], Some("a"));
    case(&[with(volume("a", "late"), json!({"spec": {"volumeMode": "Block"}}))], None);
    case(&[with(volume("a", "late"), json!({"spec": {"volumeAttributesClassName": "gold"}}))], None);
    case(&[with(volume("a", "late"), json!({"status": {"phase": "Released"}}))], None);
    case(&[with(volume("a", "late"), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))], None);
    case(&[taken(volume("a", "late"), "other")], None);
    case(&[local(volume("a", "late"), "n"), sized("b", "9Gi")], Some("a"));
    case(&[local(sized("a", "9Gi"), "n"), sized("b", "5Gi")], Some("b"));
    case(&[local(volume("a", "late"), "m"), local(sized("b", "9Gi"), "n")], Some("b"));
    case(&[local(volume("a", "late"), "m")], None);
    let racks = |rack: &str| {
        let by_rack = json!([{"matchExpressions": [{"key": "rack", "operator": "In", "values": [rack]}]}]);
        with(volume("a", "late"), json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": by_rack}}}}))
    };
    case(&[racks("r")], Some("a"));
    let annotated = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "late"}}});
    case(&[with(volume("a", "other"), annotated)], Some("a"));
}

#[test]
fn a_selector_asks_for_labels() {
    let wanted = with(claim("c", "late"), json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}}));
    let labelled = |name: &str, disk: &str| with(volume(name, "late"), json!({"metadata": {"labels": {"disk": disk}}}));
    let objects = [class("late", BY_HAND), wanted, labelled("a", "hdd"), labelled("b", "ssd")];
    written(&objects, &["c"], &["b -> c"]);
    told(&objects[..3], &["c"], NO_MATCH);
}

#[test]
fn a_volume_that_was_set_aside_is_the_only_one() {
    let aside =
        |claim: Value| with(volume("a", "late"), json!({"spec": {"claimRef": claim, "capacity": {"storage": "50Gi"}}}));
    let mine = || aside(json!({"namespace": "default", "name": "c"}));
    let late = [class("late", BY_HAND), claim("c", "late"), volume("b", "late")];
    written(&[&late[..], &[mine()]].concat(), &["c"], &["a -> c"]);
    written(&[&late[..], &[aside(json!({"namespace": "x", "name": "c"}))]].concat(), &["c"], &["b -> c"]);
    let former = aside(json!({"namespace": "default", "name": "c", "uid": "former"}));
    written(&[&late[..], &[former]].concat(), &["c"], &["b -> c"]);
    // Bound by a former attempt: there is nothing to write, only to wait for.
    written(&[&late[..], &[taken(volume("a", "late"), "c")]].concat(), &["c"], &[]);
    told(&[&late[..], &[local(mine(), "m")]].concat(), &["c"], NO_MATCH);
    // It was set aside by a user, so the controller must not take the binding back.
    let mut cluster = Cluster::new(&[&[node("n", json!({}))], &late[..], &[mine()]].concat());
    cluster.apply(&user("p", &["c"]));
    let Write::BindVolume { by_controller, .. } = cluster.placed().pre_bind.writes[0].clone() else { panic!() };
    assert!(!by_controller);
}

#[test]
fn several_claims_get_several_volumes() {
    let asking = |name: &str, size: &str| {
        with(claim(name, "late"), json!({"spec": {"resources": {"requests": {"storage": size}}}}))
    };
    let sized = |name: &str, size: &str| with(volume(name, "late"), json!({"spec": {"capacity": {"storage": size}}}));
    let claims = [asking("small", "1Gi"), asking("large", "10Gi")];
    let volumes = [sized("big", "20Gi"), sized("mid", "12Gi")];
    let by_hand = |volumes: &[Value]| [&[class("late", BY_HAND)], &claims[..], volumes].concat();
    written(&by_hand(&volumes), &["large", "small"], &["mid -> small", "big -> large"]);
    told(&by_hand(&volumes[..1]), &["large", "small"], NO_MATCH);
    let made = [&[class("late", "x.io/made")], &claims[..], &volumes[..1]].concat();
    written(&made, &["large", "small"], &["big -> small", "large at n"]);
    // The same claim twice is one claim.
    let twice = [class("late", BY_HAND), claim("c", "late"), volume("a", "late"), volume("b", "late")];
    written(&twice, &["c", "c"], &["a -> c"]);
}

#[test]
fn volumes_are_made_where_their_class_allows() {
    let late = |more: Value| [with(class("late", "x.io/made"), more), claim("c", "late")];
    let topologies = |terms: Value| late(json!({"allowedTopologies": terms}));
    let in_racks = |values: Value| json!({"matchLabelExpressions": [{"key": "rack", "values": values}]});
    let case = |objects: &[Value], fits: bool| {
        let objects = [&[node("n", json!({"rack": "r", "zone": "z"}))], objects].concat();
        check(&objects, &user("p", &["c"]), if fits { "-> n" } else { NO_MATCH });
    };
    written(&late(json!({})), &["c"], &["c at n"]);
    case(&topologies(json!([in_racks(json!(["q", "r"]))])), true);
    case(&topologies(json!([in_racks(json!(["q"]))])), false);
    case(&topologies(json!([in_racks(json!(["q"])), in_racks(json!(["r"]))])), true);
    case(&topologies(json!([{}])), false);
    let both = json!([{"matchLabelExpressions": [{"key": "rack", "values": ["r"]}, {"key": "zone", "values": ["y"]}]}]);
    case(&topologies(both), false);
    case(&late(json!({"provisioner": BY_HAND})), false);
    let selected = |node: &str| {
        let annotations = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
        [class("late", "x.io/made"), with(claim("c", "late"), annotations), volume("v", "late")]
    };
    // It was decided before, so that a volume which is there by now is too late.
    written(&selected("n"), &["c"], &[]);
    case(&selected("m"), false);
}

#[test]
fn drivers_that_tell_their_room_are_believed() {
    let driver = |tells: bool| json!({"kind": "CSIDriver", "metadata": {"name": "x.io/made"}, "spec": {"storageCapacity": tells}});
    let room = |class: &str, size: &str, labels: Value| {
        json!({"kind": "CSIStorageCapacity", "metadata": {"name": format!("{class}-{size}")},
            "storageClassName": class, "capacity": size, "nodeTopology": {"matchLabels": labels}})
    };
    let case = |objects: &[Value], expected: &str| {
        let late = [class("late", "x.io/made"), claim("c", "late")];
        told(&[&late[..], objects].concat(), &["c"], expected);
    };
    let own = || json!({"kubernetes.io/hostname": "n"});
    case(&[], "-> n");
    case(&[driver(false)], "-> n");
    case(&[driver(true)], NO_SPACE);
    case(&[driver(true), room("late", "5Gi", own())], "-> n");
    case(&[driver(true), room("late", "5Gi", json!({}))], "-> n");
    case(&[driver(true), room("late", "4Gi", own())], NO_SPACE);
    case(&[driver(true), room("other", "5Gi", own())], NO_SPACE);
    case(&[driver(true), room("late", "5Gi", json!({"rack": "q"}))], NO_SPACE);
    let largest = with(room("late", "50Gi", own()), json!({"maximumVolumeSize": "4Gi"}));
    case(&[driver(true), largest], NO_SPACE);
    let nowhere = with(room("late", "50Gi", own()), json!({"nodeTopology": null}));
    case(&[driver(true), nowhere], NO_SPACE);
    // A volume that is there needs no room.
    case(&[driver(true), volume("v", "late")], "-> n");
}

#[test]
fn nothing_is_written_for_pods_whose_claims_are_bound() {
    let mut cluster = Cluster::new(&[node("n", json!({})), taken(volume("v", ""), "c"), bound(claim("c", ""), "v")]);
    for pod in [user("bound", &["c"]), pod("none", json!([]))] {
        cluster.apply(&pod);
        assert!(cluster.placed().pre_bind.is_empty());
    }
    assert_eq!(cluster.engine.pre_bound("uid-bound", false), Some(Progress::Done));
    assert_eq!(cluster.engine.pre_bound("uid-unknown", false), None);
}

fn waiting() -> Option<Progress> {
    Some(Progress::Waiting)
}

fn failed(text: &str) -> Option<Progress> {
    Some(Progress::Failed(format!("running PreBind plugin \"VolumeBinding\": binding volumes: {text}")))
}

#[test]
fn a_pod_is_bound_when_its_volumes_are() {
    let (free, open) = (local(volume("v", "late"), "n"), claim("c", "late"));
    let mut cluster = Cluster::new(&[node("n", json!({})), class("late", BY_HAND), free.clone(), open.clone()]);
    cluster.apply(&user("p", &["c"]));
    let reservation = cluster.placed();
    let write = Write::BindVolume {
        volume: "v".into(),
        uid: "uid-v".into(),
        version: sched::storage::Version("1".into()),
        claim: ("default".into(), "c".into()),
        claim_uid: "uid-c".into(),
        by_controller: true,
    };
    assert_eq!(reservation.pre_bind.writes, [write]);
    assert_eq!(reservation.pre_bind.wait, Some(Duration::from_secs(600)));
    let progress = |cluster: &Cluster| cluster.engine.pre_bound("uid-p", false);
    assert_eq!(progress(&cluster), waiting());
    cluster.apply(&taken(free.clone(), "c"));
    assert_eq!(progress(&cluster), waiting());
    // The controller's half comes in two steps, too.
    cluster.apply(&with(open.clone(), json!({"spec": {"volumeName": "v"}})));
    assert_eq!(progress(&cluster), waiting());
    cluster.apply(&bound(open.clone(), "v"));
    assert_eq!(progress(&cluster), Some(Progress::Done));
    cluster.apply(&on("n", user("p", &["c"])));
    assert_eq!(progress(&cluster), None);
    assert!(cluster.engine.world().volumes.held("uid-p").is_none());
}

#[test]
fn a_binding_that_cannot_come_true_fails() {
    let case = |change: &dyn Fn(&mut Cluster), expected: &str| {
        let objects = [node("n", json!({})), class("late", BY_HAND), volume("v", "late"), claim("c", "late")];
        let mut cluster = Cluster::new(&objects);
        cluster.apply(&user("p", &["c"]));
        cluster.placed();
        change(&mut cluster);
        assert_eq!(cluster.engine.pre_bound("uid-p", false), failed(expected));
    };
    let free = || volume("v", "late");
    case(&|cluster| cluster.apply(&taken(free(), "other")), "pv \"v\" went to claim \"default/other\"");
    let reset = |cluster: &mut Cluster| {
        cluster.apply(&taken(free(), "c"));
        cluster.apply(&free());
    };
    case(&reset, "ClaimRef got reset for pv \"v\"");
    case(&|cluster| cluster.delete(&free()), "failed to check binding: persistentvolume \"v\" not found");
    let gone = "failed to check binding: persistentvolumeclaim \"default/c\" not found";
    case(&|cluster| cluster.delete(&claim("c", "late")), gone);
    case(&|cluster| cluster.apply(&with(claim("c", "late"), json!({"metadata": {"uid": "next"}}))), gone);
    let elsewhere = |cluster: &mut Cluster| {
        cluster.apply(&local(taken(free(), "c"), "m"));
        cluster.apply(&bound(claim("c", "late"), "v"));
    };
    case(&elsewhere, "pv \"v\" node affinity doesn't match node \"n\"");
    let other = |cluster: &mut Cluster| {
        cluster.apply(&taken(free(), "c"));
        cluster.apply(&bound(claim("c", "late"), "w"));
    };
    case(&other, "PVC \"c\" was bound to pv \"w\"");
    case(&|cluster| cluster.delete(&node("n", json!({}))), "failed to get node \"n\": node \"n\" not found");
}

#[test]
fn a_volume_is_made_before_the_pod_is_bound() {
    let open = claim("c", "late");
    let selected = |node: &str| {
        let annotations = json!({"volume.kubernetes.io/selected-node": node});
        with(open.clone(), json!({"metadata": {"annotations": annotations}}))
    };
    let mut cluster = Cluster::new(&[node("n", json!({})), class("late", "x.io/made"), open.clone()]);
    cluster.apply(&user("p", &["c"]));
    assert_eq!(writes(&cluster.placed()), ["c at n"]);
    let progress = |cluster: &Cluster| cluster.engine.pre_bound("uid-p", false);
    assert_eq!(progress(&cluster), waiting());
    cluster.apply(&selected("n"));
    assert_eq!(progress(&cluster), waiting());
    cluster.apply(&bound(selected("n"), "made"));
    assert_eq!(progress(&cluster), waiting(), "the volume itself is not told yet");
    cluster.apply(&taken(local(volume("made", "late"), "n"), "c"));
    assert_eq!(progress(&cluster), Some(Progress::Done));
}

#[test]
fn a_provisioner_that_gives_up_lets_the_pod_go_elsewhere() {
    let open = claim("c", "late");
    let mut cluster = Cluster::new(&[node("n", json!({})), class("late", "x.io/made"), open.clone()]);
    cluster.apply(&user("p", &["c"]));
    cluster.placed();
    let annotations = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}});
    cluster.apply(&with(open.clone(), annotations));
    cluster.apply(&open);
    assert_eq!(cluster.engine.pre_bound("uid-p", false), failed("provisioning failed for PVC \"c\""));
    cluster.engine.undo("uid-p", cluster.now);
    cluster.apply(&node("m", json!({})));
    cluster.delete(&node("n", json!({})));
    cluster.now += Duration::from_secs(20);
    assert_eq!(cluster.next(), "p -> m");
}
