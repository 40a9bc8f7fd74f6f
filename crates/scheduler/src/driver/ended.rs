//! Writes and questions that have ended, and what the engine is told of them.

use std::{sync::Arc, time::Duration};

use sched::{Advice, Reservation, device::ResourceClaim, extender::Eviction};

use super::{Driver, Moments, prepared::Refusal};
use crate::{
    api::{Unbound, Why},
    metrics::Outcome,
};

/// What has ended.
pub(super) enum Ended {
    /// What must be there before the binding has been written, unless it has failed.
    Prepared {
        reservation: Reservation,
        moments: Moments,
        /// Claims to devices as the API has answered.
        shown: Vec<ResourceClaim>,
        failure: Option<String>,
    },
    /// What is not to stay of a placement was taken back, as far as possible.
    TakenBack {
        reservation: Reservation,
        moments: Moments,
        refusal: Refusal,
        shown: Vec<ResourceClaim>,
    },
    Bound {
        reservation: Reservation,
        moments: Moments,
        /// When the binding was begun.
        began: Duration,
        bound: Result<(), Unbound>,
    },
    Advised {
        pod: Arc<str>,
        moments: Moments,
        answer: Result<Advice, String>,
    },
    AdvisedVictims {
        pod: Arc<str>,
        moments: Moments,
        answer: Result<Vec<Eviction>, String>,
    },
    Reported,
    Preempted {
        pod: Arc<str>,
        ok: bool,
        /// How long the evictions took.
        took: Duration,
    },
}

impl Driver {
    pub(super) fn ended(&mut self, ended: Ended) {
        self.in_flight -= 1;
        match ended {
            Ended::Prepared { .. } | Ended::TakenBack { .. } | Ended::Bound { .. } => self.under_way.binding -= 1,
            Ended::Advised { .. } | Ended::AdvisedVictims { .. } => self.under_way.extenders -= 1,
            Ended::Reported | Ended::Preempted { .. } => {}
        }
        let now = self.clock.monotonic();
        match ended {
            Ended::Reported => {}
            Ended::Advised { pod, moments, answer } => {
                let decision = self.sampler.decision(|| self.engine.advised(&pod, answer, now));
                if let Some(decision) = decision {
                    self.carry_out(decision, moments.began);
                }
            }
            Ended::AdvisedVictims { pod, moments, answer } => {
                let decision = self.sampler.decision(|| self.engine.advised_victims(&pod, answer, now));
                if let Some(decision) = decision {
                    self.carry_out(decision, moments.began);
                }
            }
            Ended::Preempted { pod, ok, took } => {
                self.metrics.evicted(ok, took);
                if !ok {
                    self.engine.preemption_failed(&pod, now);
                }
            }
            Ended::Prepared { reservation, moments, shown, failure } => {
                self.learn(shown, now);
                self.prepared(reservation, moments, failure, now);
            }
            Ended::TakenBack { reservation, moments, refusal, shown } => {
                self.learn(shown, now);
                self.undo(&reservation, moments, refusal, now);
            }
            Ended::Bound { reservation, moments, began, bound } => {
                self.metrics.point("Bind", bound.is_ok(), &reservation.pod, now.saturating_sub(began));
                match bound {
                    Ok(()) => self.bound(&reservation, moments, now),
                    Err(unbound) => self.unbound(reservation, moments, unbound, now),
                }
            }
        }
    }

    fn bound(&mut self, reservation: &Reservation, moments: Moments, now: Duration) {
        let Reservation { pod, node, .. } = reservation;
        tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %node, "pod is bound");
        self.metrics.attempt(Outcome::Scheduled, pod, now.saturating_sub(moments.began));
        self.metrics.bound(reservation, now);
        self.sampler.takes_in();
        self.engine.bound(reservation);
        self.sampler.taken_in();
    }

    fn unbound(&mut self, reservation: Reservation, moments: Moments, unbound: Unbound, now: Duration) {
        match unbound {
            Unbound::Refused(message) => {
                self.give_back(reservation, moments, Some((Why::Error, message)), now);
            }
            Unbound::Lost(_) => self.give_back(reservation, moments, None, now),
            Unbound::Elsewhere(_) => {
                // What was reserved for it is what it runs with.
                self.metrics.attempt(Outcome::Error, &reservation.pod, now.saturating_sub(moments.began));
                self.undo(&reservation, moments, None, now);
            }
        }
    }
}
