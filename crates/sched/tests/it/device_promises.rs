//! Whatever happens in whatever order: no device is allocated to two claims, and a bound pod may use all of its claims.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use sched::{Decision, Reservation, convert, pre_bind::Progress};
use serde_json::{Value, json};

use crate::{
    devices::{Devices, claim, user},
    storage::{node, on, with},
};

const MAX_PODS: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Claim(u8),
    /// A claim without devices is gone.
    ClaimGone(u8),
    /// A pod with two claims, which may be the same.
    Pod(u8, u8),
    PodGone(u8),
    /// The claims of a reserved pod are written; the engine does not hear of it yet.
    Begin(u8),
    /// It hears of it, and the pod is bound.
    Answer(u8),
    /// It hears that something went wrong.
    Lose(u8),
    /// The watch shows a claim as it is now.
    Tell(u8),
    /// The claims' controller takes pods that are gone off them, and frees what nobody uses.
    Control,
    Node(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..5).prop_map(Step::Claim),
        1 => (0u8..5).prop_map(Step::ClaimGone),
        6 => (0u8..5, 0u8..5).prop_map(|(a, b)| Step::Pod(a, b)),
        2 => any::<u8>().prop_map(Step::PodGone),
        5 => any::<u8>().prop_map(Step::Begin),
        5 => any::<u8>().prop_map(Step::Answer),
        1 => any::<u8>().prop_map(Step::Lose),
        4 => any::<u8>().prop_map(Step::Tell),
        2 => Just(Step::Control),
        1 => any::<bool>().prop_map(Step::Node),
    ]
}

/// Claims that were written for a pod, as the API has answered.
struct Written {
    reservation: Reservation,
    answers: Vec<Value>,
    ok: bool,
}

struct Run {
    devices: Devices,
    pods: BTreeMap<String, Value>,
    reserved: BTreeMap<String, Reservation>,
    written: BTreeMap<String, Written>,
    uids: u64,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn nth<V>(all: &BTreeMap<String, V>, lot: u8) -> Option<String> {
    all.keys().nth(usize::from(lot) % all.len().max(1)).cloned()
}

impl Run {
    fn new() -> Self {
        let devices = Devices::new(&[("a", &["gpu-0", "gpu-1"]), ("b", &["gpu-0"])]);
        Run { devices, pods: BTreeMap::new(), reserved: BTreeMap::new(), written: BTreeMap::new(), uids: 0 }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.devices.cluster.now += Duration::from_secs(20);
        match step {
            Step::Claim(id) if !self.devices.claims.contains_key(&format!("c{id}")) => {
                self.uids += 1;
                let uid = format!("uid-c{id}-{}", self.uids);
                self.devices.put(with(claim(&format!("c{id}")), json!({"metadata": {"uid": uid}})));
            }
            Step::Claim(_) => {}
            Step::ClaimGone(id) => {
                let name = format!("c{id}");
                let free = |claim: &&Value| claim["status"]["allocation"].is_null();
                if let Some(claim) = self.devices.claims.get(&name).filter(free).cloned() {
                    self.devices.claims.remove(&name);
                    self.devices.cluster.delete(&claim);
                }
            }
            Step::Pod(a, b) if self.pods.len() < MAX_PODS => {
                self.uids += 1;
                let name = format!("p{}", self.uids);
                let pod = user(&name, &[&format!("c{a}"), &format!("c{b}")]);
                self.devices.cluster.apply(&pod);
                self.pods.insert(name, pod);
            }
            Step::Pod(..) => {}
            Step::PodGone(lot) => {
                let Some(name) = nth(&self.pods, lot) else { return Ok(()) };
                if let Some(pod) = self.pods.remove(&name) {
                    self.reserved.remove(&name);
                    self.devices.cluster.delete(&pod);
                }
            }
            Step::Begin(lot) => self.begin(lot),
            Step::Answer(lot) => self.answer(lot),
            Step::Lose(lot) => self.lose(lot),
            Step::Tell(lot) => {
                if let Some(name) = nth(&self.devices.claims, lot) {
                    self.devices.tell(&name);
                }
            }
            Step::Control => self.control(),
            Step::Node(true) => self.devices.cluster.apply(&node("b", json!({}))),
            Step::Node(false) => self.devices.cluster.delete(&node("b", json!({}))),
        }
        self.decide();
        self.hold()
    }

    fn begin(&mut self, lot: u8) {
        let Some(name) = nth(&self.reserved, lot) else { return };
        let reservation = self.reserved[&name].clone();
        if self.written.contains_key(&name) {
            return;
        }
        assert!(self.devices.cluster.engine.writing(&reservation.pod.uid));
        let (mut answers, mut ok) = (Vec::new(), true);
        for write in &reservation.pre_bind.writes {
            match self.devices.make(&name, write) {
                Ok(claim) => answers.push(self.devices.claims[&claim].clone()),
                Err(_) => {
                    ok = false;
                    break;
                }
            }
        }
        self.written.insert(name, Written { reservation, answers, ok });
    }

    fn answer(&mut self, lot: u8) {
        let Some(name) = nth(&self.written, lot) else { return };
        let Some(Written { reservation, answers, ok }) = self.written.remove(&name) else { return };
        for claim in answers {
            let claim = convert::device::resource_claim(serde_json::from_value(claim).unwrap()).unwrap();
            self.devices.cluster.engine.claim_answered(claim, self.devices.cluster.now);
        }
        let (uid, node) = (&*reservation.pod.uid, &*reservation.node);
        self.devices.cluster.engine.written(uid);
        if self.reserved.remove(&name).is_none() {
            // The pod is gone.
            return;
        }
        if !ok {
            return self.devices.give_up(&name);
        }
        assert_eq!(self.devices.cluster.engine.pre_bound(uid, true), Some(Progress::Done));
        let pod = on(node, self.pods[&name].clone());
        self.devices.cluster.apply(&pod);
        self.pods.insert(name, pod);
    }

    /// The answers are lost; whoever is still there is taken off the claims, which shows what they are.
    fn lose(&mut self, lot: u8) {
        let lost: BTreeMap<String, ()> = self
            .written
            .keys()
            .filter(|name| self.reserved.contains_key(*name))
            .map(|name| (name.clone(), ()))
            .collect();
        let Some(name) = nth(&lost, lot) else { return };
        self.written.remove(&name);
        self.reserved.remove(&name);
        self.devices.cluster.engine.written(&format!("uid-{name}"));
        self.devices.give_up(&name);
    }

    fn control(&mut self) {
        for mut claim in self.devices.claims.values().cloned().collect::<Vec<_>>() {
            let Some(users) = claim["status"]["reservedFor"].as_array_mut() else { continue };
            // A pod that is being written for may be gone for all but the API.
            users.retain(|user| self.pods.contains_key(user["name"].as_str().unwrap()));
            if users.is_empty() {
                claim["status"] = json!({});
            }
            if self.devices.claims[text(&claim, "/metadata/name")] != claim {
                self.devices.store(claim);
            }
        }
    }

    fn decide(&mut self) {
        while let Some(decision) = self.devices.cluster.engine.next(self.devices.cluster.now) {
            match decision {
                Decision::Bind(reservation) => {
                    self.reserved.insert(reservation.pod.name.to_string(), reservation);
                }
                Decision::Unschedulable { pod, writes, .. } => {
                    // Somebody may have been faster.
                    writes.iter().for_each(|write| drop(self.devices.make(&pod.name, write)));
                }
                Decision::KeptOut { .. } => {}
                other => panic!("nobody has extenders: {other:?}"),
            }
        }
    }

    /// The invariants, of what the API has.
    fn hold(&self) -> Result<(), TestCaseError> {
        let mut given: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (name, claim) in &self.devices.claims {
            for result in
                claim.pointer("/status/allocation/devices/results").and_then(Value::as_array).into_iter().flatten()
            {
                let device = format!("{}/{}", text(result, "/pool"), text(result, "/device"));
                given.entry(device).or_default().insert(name);
            }
        }
        for (device, claims) in given {
            prop_assert!(claims.len() == 1, "{device} is given to {claims:?}");
        }
        for (name, pod) in self.pods.iter().filter(|(_, pod)| !text(pod, "/spec/nodeName").is_empty()) {
            for wanted in pod["spec"]["resourceClaims"].as_array().unwrap() {
                let claim = &self.devices.claims[text(wanted, "/resourceClaimName")];
                let node = text(claim, "/status/allocation/devices/results/0/pool");
                prop_assert_eq!(node, text(pod, "/spec/nodeName"), "{} has its devices elsewhere", name);
                let users = claim["status"]["reservedFor"].as_array().unwrap();
                prop_assert!(users.iter().any(|user| user["name"] == **name), "{name} may not use {claim}");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    #[test]
    fn no_device_has_two_claims(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
    }
}
