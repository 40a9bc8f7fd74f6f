//! How many volumes of a CSI driver a node takes.

use serde_json::{Value, json};

use crate::storage::{bound, check, claim, class, csi, csi_node, node, on, pod, taken, user, volume, with};

const DRIVER: &str = "csi.example.com";
const EXCEEDED: &str = "0/1 nodes are available: 1 node(s) exceed max volume count.";

fn case(objects: &[Value], pod: &Value, fits: bool) {
    check(&[&[node("n", json!({}))], objects].concat(), pod, if fits { "-> n" } else { EXCEEDED });
}

#[test]
fn volumes_count_once_each() {
    let storage = [csi("a", DRIVER), csi("b", DRIVER), csi("c", DRIVER), csi("x", "other.example.com")].concat();
    let with_limit = |limit: i64, others: &[&[&str]]| {
        let pods = others.iter().enumerate().map(|(at, claims)| on("n", user(&format!("other{at}"), claims)));
        let objects = [csi_node("n", DRIVER, limit)].into_iter().chain(storage.clone()).chain(pods);
        objects.collect::<Vec<_>>()
    };
    case(&with_limit(2, &[&["a"]]), &user("p", &["b"]), true);
    case(&with_limit(1, &[&["a"]]), &user("p", &["b"]), false);
    case(&with_limit(1, &[&["a"]]), &user("p", &["a"]), true);
    case(&with_limit(2, &[&["a"], &["a"]]), &user("p", &["b"]), true);
    case(&with_limit(2, &[&["a", "b"]]), &user("p", &["b", "c"]), false);
    case(&with_limit(2, &[&["a"], &["b"]]), &user("p", &["x"]), true);
    case(&with_limit(0, &[]), &user("p", &["a"]), false);
    case(&with_limit(1, &[]), &user("p", &["a", "b"]), false);
    // A pod that brings nothing new is welcome also above the limit.
    case(&with_limit(1, &[&["a"], &["b"]]), &user("p", &["a"]), true);
    // No CSINode, no limit.
    case(&storage, &user("p", &["a", "b"]), true);
    let no_limit = json!({"kind": "CSINode", "metadata": {"name": "n"}, "spec": {"drivers": [{"name": DRIVER}]}});
    case(&[&[no_limit], &storage[..]].concat(), &user("p", &["a", "b"]), true);
    // Inline CSI volumes are not attached.
    let inline = pod("p", json!([{"name": "v", "csi": {"driver": DRIVER}}]));
    case(&with_limit(1, &[&["a"]]), &inline, true);
}

#[test]
fn volumes_that_are_still_to_be_made_count_by_their_claims() {
    let storage =
        |limit| vec![csi_node("n", DRIVER, limit), class("late", DRIVER), claim("a", "late"), claim("b", "late")];
    case(&storage(1), &user("p", &["a"]), true);
    case(&storage(1), &user("p", &["a", "b"]), false);
    let user_of_b = on("n", user("other", &["b"]));
    case(&[&storage(1)[..], std::slice::from_ref(&user_of_b)].concat(), &user("p", &["a"]), false);
    case(&[&storage(2)[..], &[user_of_b]].concat(), &user("p", &["a"]), true);
    // So do those of generic ephemeral volumes.
    let own = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]);
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true}]);
    let made = with(claim("p-v", "late"), json!({"metadata": {"ownerReferences": owner}}));
    case(&[&storage(1)[..], std::slice::from_ref(&made)].concat(), &pod("p", own.clone()), true);
    case(&[&storage(0)[..], &[made]].concat(), &pod("p", own), false);
}

#[test]
fn attached_volumes_count_while_nobody_uses_them() {
    let attachment = |name: &str, volume: &str, node: &str| {
        json!({"kind": "VolumeAttachment", "metadata": {"name": name},
            "spec": {"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": volume}}})
    };
    let objects = |limit: i64, more: &[Value]| {
        let storage = [csi("a", DRIVER), csi("b", DRIVER)].concat();
        [&[csi_node("n", DRIVER, limit)], &storage[..], more].concat()
    };
    case(&objects(1, &[attachment("x", "b", "n")]), &user("p", &["a"]), false);
    case(&objects(1, &[attachment("x", "b", "elsewhere")]), &user("p", &["a"]), true);
    case(&objects(1, &[attachment("x", "unknown", "n")]), &user("p", &["a"]), true);
    let used = on("n", user("other", &["b"]));
    case(&objects(2, &[attachment("x", "b", "n"), used]), &user("p", &["a"]), true);
}

#[test]
fn disks_of_in_tree_plugins_are_their_csi_drivers() {
    let ebs = "ebs.csi.aws.com";
    let inline = |id: &str| json!({"name": id, "awsElasticBlockStore": {"volumeID": id}});
    let disk = |name: &str, id: &str| {
        let source = json!({"spec": {"awsElasticBlockStore": {"volumeID": id}}});
        [taken(with(volume(name, ""), source), name), bound(claim(name, ""), name)]
    };
    let objects = |limit, more: &[Value]| [&[csi_node("n", ebs, limit)], more].concat();
    case(&objects(0, &[]), &pod("p", json!([inline("vol-1")])), false);
    case(&objects(1, &[]), &pod("p", json!([inline("vol-1")])), true);
    case(&objects(1, &disk("a", "aws://zone/vol-1")), &user("p", &["a"]), true);
    case(&objects(0, &disk("a", "aws://zone/vol-1")), &user("p", &["a"]), false);
    let other = on("n", user("other", &["a"]));
    // The same disk by another name.
    let both = [&disk("a", "aws://zone/vol-1")[..], &disk("b", "vol-1"), &[other]].concat();
    case(&objects(1, &both), &user("p", &["b"]), true);
    // A claim whose class still has the in-tree plugin's name.
    let late = [class("late", "kubernetes.io/aws-ebs"), claim("a", "late")];
    case(&objects(0, &late), &user("p", &["a"]), false);
    case(&objects(1, &late), &user("p", &["a"]), true);
    let more = |driver: &str, volume: Value| {
        case(&[csi_node("n", driver, 0)], &pod("p", json!([volume])), false);
    };
    more("pd.csi.storage.gke.io", json!({"name": "v", "gcePersistentDisk": {"pdName": "a"}}));
    more("disk.csi.azure.com", json!({"name": "v", "azureDisk": {"diskName": "a", "diskURI": "/a"}}));
    more("cinder.csi.openstack.org", json!({"name": "v", "cinder": {"volumeID": "a"}}));
    more("pxd.portworx.com", json!({"name": "v", "portworxVolume": {"volumeID": "a"}}));
}
