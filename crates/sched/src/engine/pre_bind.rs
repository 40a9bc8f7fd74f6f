//! Between a placement and its binding: what is written, what has to come true, and what is taken back if it does not.

use super::Engine;
use crate::pre_bind::{Progress, Write};

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
        let reserved = self.reserved.get(uid);
        let profile = reserved.and_then(|reserved| Some((self.profile(&reserved.latest)?, reserved)));
        profile
            .map(|(profile, reserved)| self.profiles[profile].take_back(&reserved.latest, &self.world))
            .unwrap_or_default()
    }
}
