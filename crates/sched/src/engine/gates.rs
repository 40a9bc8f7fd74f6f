//! What keeps pods out of the queue: plugins, or the rest of their group that is not there yet.

use std::time::Duration;

use super::Engine;
use crate::{Pod, queue::Gate};

impl Engine {
    /// What keeps a pod out of the queue.
    pub(super) fn gate(&self, profile: usize, pod: &Pod) -> Option<Gate> {
        match self.profiles[profile].pre_enqueue(pod, &self.world) {
            Err((plugin, _)) => Some(Gate { plugins: 1 << plugin }),
            Ok(()) if !self.gangs.is_complete(pod) => Some(Gate::default()),
            Ok(()) => None,
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
        }
    }
}
