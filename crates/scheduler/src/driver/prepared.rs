//! What is written before a binding, and taken back when a placement is given up.

use std::{sync::Arc, time::Duration};

use sched::{Pod, Reservation, device::ResourceClaim};
use tokio::time::timeout;

use super::{Driver, Ended, Moments, WRITE_LIMIT, awaited::For};
use crate::metrics::Outcome;

impl Driver {
    /// Writes what must be there before the binding.
    pub(super) fn prepare(&mut self, reservation: Reservation, moments: Moments) {
        if !self.engine.writing(&reservation.pod.uid) {
            // The pod is gone, and its reservation with it.
            return;
        }
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        self.in_flight += 1;
        self.tasks.spawn("pre-bind", async move {
            let mut shown = Vec::new();
            let (pod, writes) = (&reservation.pod, &reservation.pre_bind.writes);
            let failure = match timeout(WRITE_LIMIT, api.write(pod, writes, &mut shown)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((error.plugin, error.to_string())),
                Err(_) => {
                    let plugin = writes.first().map_or("", |write| write.plugin());
                    Some((plugin, format!("no answer within {WRITE_LIMIT:?}")))
                }
            };
            if let Some((plugin, error)) = &failure {
                api.failed(pod, &format!("running PreBind plugin {plugin:?}: {error}"));
            }
            let ok = failure.is_none();
            let _ = ended.send(Ended::Prepared { reservation, moments, shown, ok }).await;
        });
    }

    /// Gives up a placement: what is not to stay of it is taken back before the pod is tried again, or the next attempt might
    /// rely on it.
    pub(super) fn give_back(&mut self, pod: &Arc<Pod>, now: Duration) {
        let writes = self.engine.take_back(&pod.uid);
        if writes.is_empty() {
            return self.engine.undo(&pod.uid, now);
        }
        let (api, ended, pod) = (self.api.clone(), self.ended.0.clone(), pod.clone());
        self.in_flight += 1;
        self.tasks.spawn("take-back", async move {
            let mut shown = Vec::new();
            // What could not be taken back is what the next attempt finds and builds on.
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, api.write(&pod, &writes, &mut shown)).await {
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %error, "claim is still reserved");
            }
            let _ = ended.send(Ended::TakenBack { pod: pod.uid.clone(), shown }).await;
        });
    }

    /// Claims as the API has answered, which the watch may tell later.
    pub(super) fn learn(&mut self, shown: Vec<ResourceClaim>, now: Duration) {
        for claim in shown {
            self.engine.claim_answered(claim, now);
        }
    }

    /// It was written, or has failed.
    pub(super) fn prepared(&mut self, reservation: Reservation, moments: Moments, ok: bool, now: Duration) {
        let pod = &reservation.pod;
        self.engine.written(&pod.uid);
        if !ok {
            self.metrics.point("PreBind", false, pod, now.saturating_sub(moments.decided));
            self.metrics.attempt(Outcome::Error, pod, now.saturating_sub(moments.began));
            return self.give_back(pod, now);
        }
        for (reason, note) in &reservation.pre_bind.tells {
            self.api.tell(pod, reason, note);
        }
        let limit = reservation.pre_bind.wait.unwrap_or_default();
        self.wait_for(For::PreBind, limit, reservation, moments);
    }
}
