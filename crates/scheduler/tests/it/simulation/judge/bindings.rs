//! No double binding, and no over-commit.

use std::time::Duration;

use serde_json::Value;

use super::{Arrived, Judge, facts, past::Past};
use crate::simulation::{
    model::{Demand, Machine},
    store::{Store, has_ended, node_of, uid},
};

/// How long what was told may need until nothing is written any more that contradicts it.
const TAKEN_IN: Duration = Duration::from_secs(3);

impl Judge {
    /// No double binding: nobody binds a pod that it knows to be bound, or a second time elsewhere, so that the API would
    /// have to refuse it. What another scheduler does at the same time is no reason not to bind.
    pub fn binding_arrives(&mut self, scheduler: u32, pod: &str, node: &str, store: &Store, now: Duration) {
        let mut found = Vec::new();
        let bound = store.all("pods").find(|object| uid(object) == pod && node_of(object).is_some());
        // What another has done beside it, it need not know.
        let bound = bound.filter(|bound| !self.may_not_know_node(scheduler, bound, now));
        if bound.is_some_and(|bound| self.was_told(scheduler, bound, now)) {
            found.push(format!("no double binding: {pod} is bound though the scheduler knows that it has a node"));
        }
        let under_way =
            self.arrived.iter().filter(|other| other.pod == pod && !self.are_rivals(scheduler, other.scheduler));
        let under_way = under_way.map(|other| other.node.as_str());
        if let Some(other) = bound.and_then(node_of).into_iter().chain(under_way).find(|other| *other != node) {
            found.push(format!("no double binding: {pod} is bound to {node}, and to {other} before"));
        }
        found.into_iter().for_each(|what| self.blame(what));
        self.arrived.push(Arrived { scheduler, pod: pod.to_owned(), node: node.to_owned() });
    }

    /// Whether it was told that the pod is where it is, and had time to take that in.
    fn was_told(&self, scheduler: u32, pod: &Value, now: Duration) -> bool {
        let told = facts("pods", pod).and_then(|facts| self.told.get(&(scheduler, facts)));
        told.is_some_and(|at| *at + TAKEN_IN < now)
    }

    pub fn binding_is_over(&mut self, scheduler: u32, pod: &str, node: &str) {
        let is = |arrived: &Arrived| arrived.scheduler == scheduler && arrived.pod == pod && arrived.node == node;
        if let Some(at) = self.arrived.iter().position(is) {
            self.arrived.swap_remove(at);
        }
    }

    /// No over-commit, and no pod where it must not be: by the API's own state, and the nodes as the scheduler may have
    /// known them. Pods that others have brought there at the same time count once they must be known.
    pub fn binding_is_carried_out(&mut self, scheduler: u32, pod: &Value, node: &str, store: &Store, now: Duration) {
        self.bound_by.insert(uid(pod).to_owned(), scheduler);
        let before = self.devices_at_binding(scheduler, pod, node, store, now);
        let before = before.into_iter().chain(self.volumes_at_binding(scheduler, pod, node, store, now));
        self.violations.extend(before.collect::<Vec<_>>());
        let Some(demand) = self.demands.get(uid(pod)) else { return };
        if self.machine(node).is_none() {
            return;
        }
        let there = store.all("pods").filter(|pod| node_of(pod) == Some(node) && !has_ended(pod));
        let known = there.filter(|pod| !self.may_not_know_node(scheduler, pod, now));
        let residents: Vec<&Demand> = known.filter_map(|pod| self.demands.get(uid(pod))).collect();
        // Whoever waited for volumes was given the node long ago.
        let waited = !demand.volumes.is_empty();
        let decided_on = |past: &&Past<Machine>| past.what.name == node && (waited || past.is_believed(scheduler, now));
        if !self.nodes.iter().filter(decided_on).any(|past| past.what.takes(demand, &residents)) {
            let crowd: Vec<_> = residents.iter().map(|pod| (&pod.name, pod.milli_cpu, pod.mebibytes)).collect();
            let machine = self.machine(node);
            let what = format!("no over-commit: {demand:?} is bound to {machine:?} beside {crowd:?}");
            self.blame(what);
        }
    }
}
