//! Whatever happens in whatever order: no volume is promised to two claims, and no exclusive claim has two users.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use sched::{
    Decision,
    pre_bind::{Progress, Write},
};
use serde_json::{Value, json};

use crate::storage::{Cluster, bound, claim, class, local, node, on, taken, user, volume, with};

const HOSTS: [&str; 3] = ["n0", "n1", "n2"];
/// Claims that one pod at a time may use, however often they are made anew.
const EXCLUSIVE: [&str; 2] = ["c0", "c1"];

#[derive(Clone, Debug)]
enum Step {
    Node(u8, bool),
    /// A claim is there; its volume is made, or is one that is there.
    Claim(u8, bool),
    ClaimGone(u8),
    /// A free volume, of one host or of all.
    Volume(u8, u8),
    VolumeGone(u8),
    /// A pod with two claims, which may be the same.
    Pod(u8, u8, u8),
    PodGone(u8),
    /// The writes of a reserved pod are made, as far as the API takes them; or fail.
    Write(u8),
    /// The controller and provisioner do their half for everything.
    Control,
    /// Reserved pods are bound if they may be.
    Bind,
    Undo(u8),
    /// An object changes in what does not matter.
    Touch(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u8..3, prop::bool::weighted(0.8)).prop_map(|(id, there)| Step::Node(id, there)),
        2 => (0u8..5, any::<bool>()).prop_map(|(id, made)| Step::Claim(id, made)),
        1 => (0u8..5).prop_map(Step::ClaimGone),
        3 => (0u8..4, 0u8..4).prop_map(|(id, host)| Step::Volume(id, host)),
        1 => (0u8..4).prop_map(Step::VolumeGone),
        6 => (0u8..8, 0u8..5, 0u8..5).prop_map(|(id, a, b)| Step::Pod(id, a, b)),
        2 => (0u8..8).prop_map(Step::PodGone),
        4 => any::<u8>().prop_map(Step::Write),
        2 => Just(Step::Control),
        2 => Just(Step::Bind),
        2 => any::<u8>().prop_map(Step::Undo),
        1 => any::<u8>().prop_map(Step::Touch),
    ]
}

/// What the API has, and what was decided.
struct Run {
    cluster: Cluster,
    claims: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    /// Reserved pods with their nodes and what is still to be written.
    reserved: BTreeMap<String, (String, Vec<Write>)>,
    versions: u64,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

impl Run {
    fn new() -> Self {
        let classes = [class("hand", "kubernetes.io/no-provisioner"), class("made", "x.io/made")];
        let cluster = Cluster::new(&classes);
        let (claims, volumes, pods) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Run { cluster, claims, volumes, pods, reserved: BTreeMap::new(), versions: 0 }
    }

    fn version(&mut self) -> Value {
        self.versions += 1;
        json!({"metadata": {"resourceVersion": self.versions.to_string()}})
    }

    fn put(&mut self, object: Value) {
        let version = self.version();
        let object = with(object, version);
        self.cluster.apply(&object);
        let name = text(&object, "/metadata/name").to_owned();
        let kind = if text(&object, "/kind") == "PersistentVolume" { &mut self.volumes } else { &mut self.claims };
        kind.insert(name, object);
    }

    fn pick(&self, lot: u8) -> Option<String> {
        self.reserved.keys().nth(usize::from(lot) % self.reserved.len().max(1)).cloned()
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.cluster.now += Duration::from_secs(20);
        let host = |id: u8| HOSTS[usize::from(id)];
        match step {
            Step::Node(id, true) => self.cluster.apply(&node(host(id), json!({}))),
            Step::Node(id, false) => self.cluster.delete(&node(host(id), json!({}))),
            Step::Claim(id, made) => {
                let name = format!("c{id}");
                if !self.claims.contains_key(&name) {
                    let mode = if EXCLUSIVE.contains(&name.as_str()) { "ReadWriteOncePod" } else { "ReadWriteOnce" };
                    self.versions += 1;
                    let uid = format!("uid-{name}-{}", self.versions);
                    let more = json!({"metadata": {"uid": uid}, "spec": {"accessModes": [mode]}});
                    self.put(with(claim(&name, if made { "made" } else { "hand" }), more));
                }
            }
            Step::ClaimGone(id) => {
                if let Some(claim) = self.claims.remove(&format!("c{id}")) {
                    self.cluster.delete(&claim);
                }
            }
            Step::Volume(id, at) => {
                let modes = json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]}});
                let volume = with(volume(&format!("v{id}"), if at == 0 { "made" } else { "hand" }), modes);
                self.put(if at == 3 { volume } else { local(volume, host(at)) });
            }
            Step::VolumeGone(id) => {
                if let Some(volume) = self.volumes.remove(&format!("v{id}")) {
                    self.cluster.delete(&volume);
                }
            }
            Step::Pod(id, a, b) => {
                let name = format!("p{id}");
                if !self.pods.contains_key(&name) {
                    let pod = user(&name, &[&format!("c{a}"), &format!("c{b}")]);
                    self.cluster.apply(&pod);
                    self.pods.insert(name, pod);
                }
            }
            Step::PodGone(id) => {
                let name = format!("p{id}");
                if let Some(pod) = self.pods.remove(&name) {
                    self.reserved.remove(&name);
                    self.cluster.delete(&pod);
                }
            }
            Step::Write(lot) => self.write(lot),
            Step::Control => self.control(),
            Step::Bind => self.bind(),
            Step::Undo(lot) => {
                if let Some(name) = self.pick(lot) {
                    self.undo(&name);
                }
            }
            Step::Touch(lot) => {
                let all: Vec<Value> = self.volumes.values().chain(self.claims.values()).cloned().collect();
                if let Some(object) = all.get(usize::from(lot) % all.len().max(1)) {
                    self.put(object.clone());
                }
            }
        }
        self.decide()?;
        self.hold()
    }

    fn undo(&mut self, pod: &str) {
        self.reserved.remove(pod);
        self.cluster.engine.undo(&format!("uid-{pod}"), self.cluster.now);
    }

    fn write(&mut self, lot: u8) {
        let Some(name) = self.pick(lot) else { return };
        let writes = std::mem::take(&mut self.reserved.get_mut(&name).unwrap().1);
        for write in writes {
            if !self.write_one(write) {
                return self.undo(&name);
            }
        }
    }

    /// As an API server does it: only on the version that was decided on, unless it is done already.
    fn write_one(&mut self, write: Write) -> bool {
        match write {
            Write::BindVolume { volume, version, claim, claim_uid, .. } => {
                let Some(found) = self.volumes.get(&*volume).cloned() else { return false };
                let done = text(&found, "/spec/claimRef/uid") == &*claim_uid;
                if !done && text(&found, "/metadata/resourceVersion") != &*version.0 {
                    return false;
                }
                let reference = json!({"namespace": &*claim.0, "name": &*claim.1, "uid": &*claim_uid});
                self.put(with(found, json!({"spec": {"claimRef": reference}, "status": {"phase": "Bound"}})));
            }
            Write::SelectNode { claim, uid, version, node } => {
                let Some(found) = self.claims.get(&*claim.1).cloned() else { return false };
                let key = "/metadata/annotations/volume.kubernetes.io~1selected-node";
                let done = text(&found, key) == &*node;
                let is_current = text(&found, "/metadata/resourceVersion") == &*version.0;
                if text(&found, "/metadata/uid") != &*uid || !(done || is_current) {
                    return false;
                }
                let annotations = json!({"volume.kubernetes.io/selected-node": &*node});
                self.put(with(found, json!({"metadata": {"annotations": annotations}})));
            }
            other => panic!("not about volumes: {other:?}"),
        }
        true
    }

    /// Claims are bound to the volumes that are bound to them, and volumes are made where a node is selected.
    fn control(&mut self) {
        for claim in self.claims.values().cloned().collect::<Vec<_>>() {
            let (name, uid) = (text(&claim, "/metadata/name"), text(&claim, "/metadata/uid"));
            if !text(&claim, "/spec/volumeName").is_empty() {
                continue;
            }
            let own = self.volumes.values().find(|volume| text(volume, "/spec/claimRef/uid") == uid);
            let host = text(&claim, "/metadata/annotations/volume.kubernetes.io~1selected-node");
            if let Some(own) = own {
                let volume = text(own, "/metadata/name").to_owned();
                self.put(bound(claim, &volume));
            } else if !host.is_empty() {
                let made = format!("made-for-{uid}");
                let reference = json!({"spec": {"claimRef": {"uid": uid}}});
                let volume = with(taken(local(volume(&made, "made"), host), name), reference);
                self.put(volume);
                self.put(bound(claim, &made));
            }
        }
    }

    fn bind(&mut self) {
        for (name, (host, writes)) in self.reserved.clone() {
            match self.cluster.engine.pre_bound(&format!("uid-{name}"), false) {
                Some(Progress::Done) if writes.is_empty() => {
                    let pod = on(&host, self.pods[&name].clone());
                    self.cluster.apply(&pod);
                    self.pods.insert(name.clone(), pod);
                    self.reserved.remove(&name);
                }
                Some(Progress::Failed(_)) => self.undo(&name),
                Some(_) => {}
                None => panic!("{name} is reserved"),
            }
        }
    }

    /// Volumes that reserved pods count on, with the uids of their claims. Whoever has lost what was promised counts on nothing.
    fn promised(&self) -> Vec<(String, String)> {
        let engine = &self.cluster.engine;
        let counts =
            |pod: &&String| !matches!(engine.pre_bound(&format!("uid-{pod}"), false), Some(Progress::Failed(_)));
        let held =
            self.reserved.keys().filter(counts).filter_map(|pod| engine.world().volumes.held(&format!("uid-{pod}")));
        let uid = |uid: &Option<std::sync::Arc<str>>| uid.as_deref().unwrap_or_default().to_owned();
        held.flat_map(|held| &held.volumes).map(|held| (held.volume.to_string(), uid(&held.claim.uid))).collect()
    }

    fn decide(&mut self) -> Result<(), TestCaseError> {
        loop {
            let before = self.promised();
            let Some(decision) = self.cluster.engine.next(self.cluster.now) else { return Ok(()) };
            let Decision::Bind(reservation) = decision else { continue };
            for write in &reservation.pre_bind.writes {
                let Write::BindVolume { volume, claim_uid, .. } = write else { continue };
                let shown = text(&self.volumes[&**volume], "/spec/claimRef/uid");
                prop_assert!(shown.is_empty(), "{volume} is bound already");
                let mut others = before.iter().filter(|(promised, _)| **promised == **volume);
                prop_assert!(others.all(|(_, claim)| **claim == **claim_uid), "{volume} is promised already");
            }
            let name = reservation.pod.name.to_string();
            self.reserved.insert(name, (reservation.node.to_string(), reservation.pre_bind.writes));
        }
    }

    /// The invariants.
    fn hold(&self) -> Result<(), TestCaseError> {
        let volumes = &self.cluster.engine.world().volumes;
        let mut promised: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (volume, claim) in self.promised() {
            promised.entry(volume).or_default().insert(claim);
        }
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, pod) in &self.pods {
            let reserved = self.reserved.contains_key(name);
            let uid = format!("uid-{name}");
            if !reserved {
                prop_assert!(volumes.held(&uid).is_none(), "{name} is not reserved, but holds something");
            }
            if reserved || !text(pod, "/spec/nodeName").is_empty() {
                for volume in pod["spec"]["volumes"].as_array().unwrap() {
                    let claim = text(volume, "/persistentVolumeClaim/claimName").to_owned();
                    users.entry(claim).or_default().insert(name.clone());
                }
            }
        }
        for (name, volume) in &self.volumes {
            let shown = text(volume, "/spec/claimRef/uid");
            if let Some(claims) = promised.get_mut(name).filter(|_| !shown.is_empty()) {
                claims.insert(shown.to_owned());
            }
        }
        for (volume, claims) in promised {
            prop_assert!(claims.len() == 1, "{volume} is promised to {claims:?}");
        }
        for (claim, pods) in users {
            prop_assert!(!EXCLUSIVE.contains(&claim.as_str()) || pods.len() == 1, "{claim}: {pods:?}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    #[test]
    fn nothing_is_promised_twice(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
    }
}
