//! A cluster in which something happens step by step, and what is decided after each step, in words.

use std::{collections::BTreeSet, time::Duration};

use sched::{Decision, Options, Profile};
use serde_json::Value;

use crate::{
    made::{self, apply, with_options},
    storage::Cluster,
};

/// Longer than any pause, and short of the time after which pods are tried anyway.
const LONG: Duration = Duration::from_secs(20);

pub struct Stage {
    pub cluster: Cluster,
    /// Pods for which a node was kept, as far as was told.
    promised: BTreeSet<String>,
}

impl Stage {
    pub fn new(objects: &[Value]) -> Self {
        Stage::with(sched::plugins::default_profile("default-scheduler"), objects)
    }

    pub fn with(profile: Profile, objects: &[Value]) -> Self {
        let cluster = with_options(Options { profiles: vec![profile], ..Default::default() }, &[]);
        let mut stage = Stage { cluster, promised: BTreeSet::new() };
        objects.iter().for_each(|object| stage.apply(object));
        stage
    }

    pub fn apply(&mut self, object: &Value) {
        if object["status"]["nominatedNodeName"].is_string() {
            self.promised.insert(object["metadata"]["name"].as_str().unwrap().to_owned());
        }
        apply(&mut self.cluster, object);
    }

    pub fn delete(&mut self, pod: &str) {
        self.cluster.delete(&made::pod(pod, Value::Object(Default::default())));
    }

    pub fn remove_node(&mut self, name: &str) {
        self.cluster.engine.remove_node(name, self.cluster.now);
    }

    /// All that is decided when all pauses are over, whatever the order.
    pub fn expect(&mut self, expected: &[&str]) {
        self.cluster.now += LONG;
        let mut decided: Vec<String> = std::iter::from_fn(|| self.next()).collect();
        let mut expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        decided.sort();
        expected.sort();
        assert_eq!(decided, expected);
    }

    /// What is decided next, without a pause.
    pub fn one(&mut self, expected: &str) {
        assert_eq!(self.next().as_deref(), Some(expected));
    }

    /// What is decided next, in words.
    pub fn decided(&mut self) -> String {
        self.next().unwrap()
    }

    /// The victims of a pod, which are all on this node.
    pub fn victims(&mut self, of: &str, node: &str) -> Vec<String> {
        let decided = self.decided();
        let names =
            decided.strip_prefix(&format!("{of} evicts ")).and_then(|rest| rest.strip_suffix(&format!(" from {node}")));
        names.unwrap_or_else(|| panic!("{decided}")).split('+').map(str::to_owned).collect()
    }

    /// The node that is kept for a pod; empty if none is.
    pub fn kept_for(&self, pod: &str) -> String {
        let world = self.cluster.engine.world();
        world.nominated_node(pod).map(|node| world.info(node).node.name.to_string()).unwrap_or_default()
    }

    fn next(&mut self) -> Option<String> {
        Some(match self.cluster.engine.next(self.cluster.now)? {
            Decision::Bind(reservation) => {
                let name = reservation.pod.name.to_string();
                self.promised.remove(&name);
                format!("{name} -> {}", reservation.node)
            }
            Decision::Unschedulable { pod, victims: None, .. } => {
                let name = pod.name.to_string();
                let lost = self.kept_for(&name).is_empty() && self.promised.remove(&name);
                format!("{name} waits{}", if lost { ", and is promised nothing" } else { "" })
            }
            Decision::Unschedulable { pod, victims: Some(victims), .. } => {
                self.promised.insert(pod.name.to_string());
                let mut names: Vec<&str> = victims.pods.iter().map(|victim| &*victim.name).collect();
                names.sort_unstable();
                let displaced: Vec<&str> = victims.displaced.iter().map(|pod| &*pod.name).collect();
                let instead =
                    if displaced.is_empty() { String::new() } else { format!(", instead of {}", displaced.join("+")) };
                format!("{} evicts {} from {}{instead}", pod.name, names.join("+"), victims.node)
            }
            other => panic!("nobody has extenders: {other:?}"),
        })
    }
}
