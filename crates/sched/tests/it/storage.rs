//! A cluster with storage: objects go in as the API writes them.

use std::{sync::Arc, time::Duration};

use sched::{Decision, Engine, Options, Reservation, convert, object::storage as object};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub struct Cluster {
    pub engine: Engine,
    pub now: Duration,
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn name(object: &Value) -> Arc<str> {
    object["metadata"]["name"].as_str().unwrap().into()
}

fn full_name(object: &Value) -> sched::storage::Name {
    (object["metadata"]["namespace"].as_str().unwrap_or("default").into(), name(object))
}

impl Cluster {
    pub fn new(objects: &[Value]) -> Self {
        let mut cluster = Cluster { engine: Engine::new(Options::default()), now: Duration::ZERO };
        objects.iter().for_each(|object| cluster.apply(object));
        cluster
    }

    /// An object has appeared or changed.
    pub fn apply(&mut self, object: &Value) {
        self.set(object, true);
    }

    pub fn delete(&mut self, object: &Value) {
        self.set(object, false);
    }

    fn set(&mut self, object: &Value, there: bool) {
        let (engine, now) = (&mut self.engine, self.now);
        match object["kind"].as_str().unwrap() {
            "Node" if there => engine.upsert_node(convert::node(&read(object)).unwrap(), now),
            "Node" => engine.remove_node(&name(object), now),
            "Pod" if there => engine.upsert_pod(convert::pod(&read(object)).unwrap(), now),
            "Pod" => engine.remove_pod(object["metadata"]["uid"].as_str().unwrap(), now),
            "PersistentVolumeClaim" => {
                let claim = there.then(|| convert::storage::claim(&read(object)).unwrap());
                engine.set_claim(&full_name(object), claim, now);
            }
            "PersistentVolume" => {
                let volume = there.then(|| convert::storage::volume(&read(object)).unwrap());
                engine.set_volume(&name(object), volume, now);
            }
            "StorageClass" => {
                let class = there.then(|| convert::storage::storage_class(&read(object)).unwrap());
                engine.set_storage_class(&name(object), class, now);
            }
            "CSINode" => {
                let csi_node = there.then(|| convert::storage::csi_node(&read::<object::CsiNode>(object)));
                engine.set_csi_node(&name(object), csi_node, now);
            }
            "CSIDriver" => {
                let driver = there.then(|| convert::storage::csi_driver(&read(object)));
                engine.set_csi_driver(&name(object), driver, now);
            }
            "CSIStorageCapacity" => {
                let capacity = there.then(|| convert::storage::storage_capacity(&read(object)).unwrap());
                engine.set_storage_capacity(&full_name(object), capacity, now);
            }
            "ResourceClaim" => {
                let claim = there.then(|| convert::device::resource_claim(read(object)).unwrap());
                engine.set_resource_claim(&full_name(object), claim, now);
            }
            "ResourceSlice" => engine.set_resource_slice(&name(object), there.then(|| read(object)), now),
            "DeviceClass" => engine.set_device_class(&name(object), there.then(|| read(object)), now),
            "VolumeAttachment" => {
                let attachment = there.then(|| convert::storage::attachment(&read(object)));
                engine.set_attachment(&name(object), attachment, now);
            }
            other => panic!("no such kind: {other}"),
        }
    }

    /// The next decision in words: `pod -> node`, or `pod: message` without what is said of its rescue, or `nothing`.
    pub fn next(&mut self) -> String {
        let words = crate::words(self.engine.next(self.now));
        words.split(" no new claims to deallocate").next().unwrap().to_owned()
    }

    /// The next decision, which must be a placement.
    pub fn placed(&mut self) -> Reservation {
        match self.engine.next(self.now) {
            Some(Decision::Bind(reservation)) => reservation,
            other => panic!("no placement: {other:?}"),
        }
    }
}

/// What comes of the last object, a pod, when all the others are there.
pub fn check(objects: &[Value], pod: &Value, expected: &str) {
    let mut cluster = Cluster::new(objects);
    cluster.apply(pod);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let found = cluster.next();
    let expected =
        if expected.starts_with("-> ") { format!("{name} {expected}") } else { format!("{name}: {expected}") };
    assert_eq!(found, expected);
}

/// Lays one object over another.
pub fn with(mut object: Value, more: Value) -> Value {
    merge(&mut object, more);
    object
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

pub fn node(name: &str, labels: Value) -> Value {
    let labels = with(json!({"kubernetes.io/hostname": name}), labels);
    json!({"kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "64", "memory": "64Gi", "pods": "100"}}})
}

/// A pod with volumes.
pub fn pod(name: &str, volumes: Value) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes}})
}

/// A pod that uses claims.
pub fn user(name: &str, claims: &[&str]) -> Value {
    let volume = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    pod(name, claims.iter().map(volume).collect())
}

/// The same on a node.
pub fn on(node: &str, pod: Value) -> Value {
    with(pod, json!({"spec": {"nodeName": node}}))
}

/// An unbound claim for 5Gi.
pub fn claim(name: &str, class: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"}})
}

/// The same when it is bound to a volume.
pub fn bound(claim: Value, volume: &str) -> Value {
    with(
        claim,
        json!({"metadata": {"resourceVersion": "9", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume}, "status": {"phase": "Bound"}}),
    )
}

/// A volume of 5Gi that is free.
pub fn volume(name: &str, class: &str) -> Value {
    json!({"kind": "PersistentVolume", "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "capacity": {"storage": "5Gi"}},
        "status": {"phase": "Available"}})
}

/// The same where only one host reaches it.
pub fn local(volume: Value, host: &str) -> Value {
    let by_host = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]);
    with(
        volume,
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": by_host}]}}}}),
    )
}

/// The same when it is bound to a claim of [`claim`].
pub fn taken(volume: Value, claim: &str) -> Value {
    let claim = json!({"namespace": "default", "name": claim, "uid": format!("uid-{claim}")});
    with(
        volume,
        json!({"metadata": {"resourceVersion": "9"}, "spec": {"claimRef": claim}, "status": {"phase": "Bound"}}),
    )
}

/// A class whose claims wait for their first user.
pub fn class(name: &str, provisioner: &str) -> Value {
    json!({"kind": "StorageClass", "metadata": {"name": name}, "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer"})
}

pub fn csi_node(name: &str, driver: &str, limit: i64) -> Value {
    json!({"kind": "CSINode", "metadata": {"name": name},
        "spec": {"drivers": [{"name": driver, "allocatable": {"count": limit}}]}})
}

/// A volume of a CSI driver that is bound to the claim of the same name.
pub fn csi(name: &str, driver: &str) -> [Value; 2] {
    let source = json!({"spec": {"csi": {"driver": driver, "volumeHandle": format!("handle-{name}")}}});
    [taken(with(volume(name, "csi"), source), name), bound(claim(name, "csi"), name)]
}
