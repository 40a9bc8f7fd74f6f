//! Between a placement and its binding: what is written, what has to come true, and what is taken back if it does not.

use std::{sync::Arc, time::Duration};

use super::{Decision, Engine, Reservation, Reserved, attempt::Unfit};
use crate::{
    Pod,
    framework::Event,
    pre_bind::{Progress, Write},
    profile::Binder,
    queue::History,
};

impl Engine {
    /// The writes of [`crate::Reservation::pre_bind`] are about to be made; not, if the pod is not reserved any more.
    pub fn writing(&mut self, uid: &str) -> bool {
        let Some(reserved) = self.reserved.get(uid) else { return false };
        self.world.devices.writing(&reserved.latest.uid);
        true
    }

    /// They were made, or one has failed. What the API has answered was told before.
    pub fn written(&mut self, uid: &str) {
        self.world.devices.written(uid);
    }

    /// Whether a reserved pod may be bound now, after [`crate::Reservation::pre_bind`] was written; `over`: there was time enough.
    /// `None`: it is not reserved any more, so there is nothing to bind.
    pub fn pre_bound(&self, uid: &str, over: bool) -> Option<Progress> {
        let reserved = self.reserved.get(uid)?;
        let profile = self.profile(&reserved.latest)?;
        Some(self.profiles[profile].pre_bound(&reserved.latest, &reserved.node, &self.world, over))
    }

    /// What is to be written before the placement is undone.
    pub fn take_back(&self, uid: &str) -> Vec<Write> {
        let Some(reserved) = self.reserved.get(uid) else { return Vec::new() };
        let profile = self.profile(&reserved.latest).map(|profile| &self.profiles[profile]);
        profile.map(|profile| profile.take_back(&reserved.latest, &self.world)).unwrap_or_default()
    }

    pub(super) fn unreserve(&mut self, pod: &Pod, node: &str) {
        if let Some(profile) = self.profile(pod) {
            self.profiles[profile].unreserve(pod, node, &mut self.world);
        }
    }

    /// The binding failed: the node is free again, and the pod is tried again after its pause.
    pub fn undo(&mut self, uid: &str, now: Duration) {
        // It has been confirmed or removed in the meantime: then there is nothing to undo.
        let Some((pod, history)) = self.free(uid, now) else { return };
        if !pod.deleting
            && let Some(profile) = self.profile(&pod)
        {
            let turn = self.turn(profile, &pod);
            self.queue.add_failed(pod, turn, history, now);
        }
    }

    /// Gives back what was reserved for a pod, and wakes those that find room by it.
    fn free(&mut self, uid: &str, now: Duration) -> Option<(Arc<Pod>, History)> {
        let (pod, history, freed) = self.release(uid)?;
        if let Some(freed) = freed {
            self.wake(&Event::PodRemoved(freed), now);
        }
        Some((pod, history))
    }

    /// Gives back what was reserved for a pod; the last is the pod as it was counted on its node.
    pub(super) fn release(&mut self, uid: &str) -> Option<(Arc<Pod>, History, Option<Arc<Pod>>)> {
        let reserved = self.reserved.remove(uid)?;
        self.unreserve(&reserved.latest, &reserved.node);
        Some((reserved.latest, reserved.history, self.world.remove(uid)))
    }

    /// Whether a reserved pod needs to wait no more. `None`: it is not reserved any more.
    pub fn permitted(&self, uid: &str) -> Option<Progress> {
        let reserved = self.reserved.get(uid)?;
        let profile = self.profile(&reserved.latest)?;
        Some(self.profiles[profile].permitted(&reserved.latest, &reserved.node, &self.world))
    }

    /// Who binds a reserved pod, now that all which goes before has come true, and how; to be asked once, right before. The answer
    /// within is `None` if no plugin does. An error: it may not be bound, has given its node back, and why it waits is to be told.
    /// `None`: it is not reserved any more.
    pub fn bind(&mut self, uid: &str, now: Duration) -> Option<Result<Option<Binder>, Box<Decision>>> {
        let Reserved { latest, node, .. } = self.reserved.get(uid)?;
        let profile = self.profile(latest)?;
        let plugins = &self.profiles[profile];
        let may = plugins.may_bind(latest, node, &self.world);
        let refusal = match may.and_then(|()| plugins.bind(latest, node, &self.world)) {
            Ok(binder) => return Some(Ok(binder)),
            Err(refusal) => refusal,
        };
        let writes = self.take_back(uid);
        let unfit = Unfit { writes, ..self.refused_at(profile, refusal) };
        let (pod, history) = self.free(uid, now)?;
        (!pod.deleting).then(|| Err(Box::new(self.unschedulable(profile, pod, history, unfit, now))))
    }

    /// The pod is bound: plugins that do something then have their turn.
    pub fn bound(&mut self, reservation: &Reservation) {
        if let Some(profile) = self.profile(&reservation.pod) {
            self.profiles[profile].post_bind(&reservation.pod, &reservation.node, &mut self.world);
        }
    }
}
