//! What is written before a binding, and taken back when a placement is given up.

use std::time::Duration;

use sched::{Reservation, device::ResourceClaim};
use tokio::time::timeout;

use super::{Driver, Ended, Moments, WRITE_LIMIT, awaited::For};
use crate::{
    api::{Nomination, Report, Unwritten, Why},
    metrics::Outcome,
    why::Attempt,
};

/// Why a pod does not get the node that was reserved for it; `None`: there is no such pod any more, and nobody to be told.
pub(super) type Refusal = Option<(Why, String)>;

impl Driver {
    /// Writes what must be there before the binding.
    pub(super) fn prepare(&mut self, reservation: Reservation, moments: Moments) {
        if !self.engine.writing(&reservation.pod.uid) {
            // The pod is gone, and its reservation with it.
            return;
        }
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        self.in_flight += 1;
        self.under_way.binding += 1;
        self.tasks.spawn("pre-bind", async move {
            let mut shown = Vec::new();
            let (pod, writes) = (&reservation.pod, &reservation.pre_bind.writes);
            let failure = match timeout(WRITE_LIMIT, api.write(pod, writes, &mut shown)).await {
                Ok(Ok(())) => None,
                Ok(Err(Unwritten { plugin, reason })) => Some((plugin, reason)),
                Err(_) => {
                    let plugin = writes.first().map_or("", |write| write.plugin());
                    Some((plugin.to_owned(), format!("no answer within {WRITE_LIMIT:?}")))
                }
            };
            let failure = failure.map(|(plugin, error)| format!("running PreBind plugin {plugin:?}: {error}"));
            let _ = ended.send(Ended::Prepared { reservation, moments, shown, failure }).await;
        });
    }

    /// Gives up a placement: what is not to stay of it is taken back before the pod is tried again, or the next attempt might
    /// rely on it.
    pub(super) fn give_back(&mut self, reservation: Reservation, moments: Moments, refusal: Refusal, now: Duration) {
        let pod = &reservation.pod;
        let outcome = match refusal {
            Some((Why::Unschedulable, _)) => Outcome::Unschedulable,
            Some((Why::Error | Why::KeptOut, _)) | None => Outcome::Error,
        };
        self.metrics.attempt(outcome, pod, now.saturating_sub(moments.began));
        let writes = self.engine.take_back(&pod.uid);
        if writes.is_empty() {
            return self.undo(&reservation, moments, refusal, now);
        }
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        self.in_flight += 1;
        self.under_way.binding += 1;
        self.tasks.spawn("take-back", async move {
            let (pod, mut shown) = (&reservation.pod, Vec::new());
            // What could not be taken back is what the next attempt finds and builds on.
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, api.write(pod, &writes, &mut shown)).await {
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %error, "claim is still reserved");
            }
            let _ = ended.send(Ended::TakenBack { reservation, moments, refusal, shown }).await;
        });
    }

    /// The node is free again, and the pod is told why it did not get it.
    pub(super) fn undo(&mut self, reservation: &Reservation, moments: Moments, refusal: Refusal, now: Duration) {
        let pod = &reservation.pod;
        self.sampler.takes_in();
        self.engine.undo(&pod.uid, now);
        self.sampler.taken_in();
        let Some((why, message)) = refusal else { return };
        // One that was deleted meanwhile, or bound by somebody else, does not wait.
        if self.engine.is_waiting(&pod.uid) {
            let attempt = Some(Attempt::of(moments.times(reservation.history)));
            let report = Report { why, message, attempt, nomination: Nomination::Clear };
            self.report(pod.clone(), report, None, Vec::new());
        }
    }

    /// Claims as the API has answered, which the watch may tell later.
    pub(super) fn learn(&mut self, shown: Vec<ResourceClaim>, now: Duration) {
        for claim in shown {
            self.engine.claim_answered(claim, now);
        }
    }

    /// It was written, or has failed.
    pub(super) fn prepared(
        &mut self,
        reservation: Reservation,
        moments: Moments,
        failure: Option<String>,
        now: Duration,
    ) {
        let pod = &reservation.pod;
        self.engine.written(&pod.uid);
        if let Some(message) = failure {
            self.metrics.point("PreBind", false, pod, now.saturating_sub(moments.decided));
            return self.give_back(reservation, moments, Some((Why::Error, message)), now);
        }
        for (reason, note) in &reservation.pre_bind.tells {
            self.api.tell(pod, reason, note);
        }
        let limit = reservation.pre_bind.wait.unwrap_or_default();
        self.wait_for(For::PreBind, limit, reservation, moments);
    }
}
