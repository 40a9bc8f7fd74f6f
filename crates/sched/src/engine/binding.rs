//! From the reservation to the binding: what plugins have to say of a pod that has a node.

use std::time::Duration;

use super::{Decision, Engine, Reservation};
use crate::{framework::Event, pre_bind::Progress};

impl Engine {
    /// Whether a reserved pod needs to wait no more. `None`: it is not reserved any more.
    pub fn permitted(&self, uid: &str) -> Option<Progress> {
        let reserved = self.reserved.get(uid)?;
        let profile = self.profile(&reserved.latest)?;
        Some(self.profiles[profile].permitted(&reserved.latest, &reserved.node, &self.world))
    }

    /// Whether a reserved pod may be bound, now that all which goes before has come true; to be asked once, right before the
    /// binding. If not, it has given its node back, and why it waits is to be told. `None`: it is not reserved any more.
    pub fn may_bind(&mut self, uid: &str, now: Duration) -> Option<Result<(), Decision>> {
        let reserved = self.reserved.get(uid)?;
        let profile = self.profile(&reserved.latest)?;
        let answer = self.profiles[profile].may_bind(&reserved.latest, &reserved.node, &self.world);
        let Err(refusal) = answer else { return Some(Ok(())) };
        let unfit = self.refused_at(profile, refusal);
        let (pod, history, freed) = self.release(uid)?;
        if let Some(freed) = freed {
            self.wake(&Event::PodRemoved(freed), now);
        }
        (!pod.deleting).then(|| Err(self.unschedulable(profile, pod, history, unfit, now)))
    }

    /// The pod is bound: plugins that do something then have their turn.
    pub fn bound(&mut self, reservation: &Reservation) {
        if let Some(profile) = self.profile(&reservation.pod) {
            self.profiles[profile].post_bind(&reservation.pod, &reservation.node, &mut self.world);
        }
    }
}
