//! What keeps pods out of the queue: plugins, or the rest of their group that is not there yet.

use std::time::Duration;

use super::{Decision, Engine};
use crate::{Pod, queue::Gate};

/// What kube-scheduler calls the plugin that keeps a pod out until its gang is there.
const GANGS: &str = "GangScheduling";

impl Engine {
    /// What keeps a pod out of the queue.
    pub(super) fn gate(&self, profile: usize, pod: &Pod) -> Option<Gate> {
        match self.profiles[profile].pre_enqueue(pod, &self.world) {
            Err((plugin, _)) => Some(Gate { plugins: 1 << plugin }),
            Ok(()) => self.gangs.lacks(pod).map(|_| Gate::default()),
        }
    }

    /// A pod that has been kept out of the queue for a while, and why.
    pub(super) fn kept_out(&mut self, now: Duration) -> Option<Decision> {
        loop {
            let pod = self.queue.pop_untold(now)?;
            // What its own gates are, the API server has told.
            let Some(profile) = self.profile(&pod).filter(|_| pod.spec.scheduling_gates.is_empty()) else { continue };
            let rejected = self.profiles[profile].pre_enqueue(&pod, &self.world).err();
            let rejected = rejected.map(|(plugin, why)| (self.profiles[profile].plugin(plugin).name(), why.text()));
            let Some((plugin, reason)) = rejected.or_else(|| Some((GANGS, self.gangs.lacks(&pod)?))) else { continue };
            let plugin = plugin.to_owned();
            return Some(Decision::KeptOut { pod, plugin, reason });
        }
    }

    /// What keeps a pod out of the queue may have changed.
    pub(super) fn regate(&mut self, uid: &str, now: Duration) {
        let Some(pod) = self.queue.pod(uid).cloned() else { return };
        let Some(profile) = self.profile(&pod) else { return };
        let gate = self.gate(profile, &pod);
        if gate != self.queue.gate(uid) {
            let turn = self.turn(profile, &pod);
            self.queue.add(pod, turn, gate, now);
        } else if gate.is_some_and(|gate| gate.plugins != 0) {
            self.queue.tell_again(&pod.uid);
        }
    }
}
