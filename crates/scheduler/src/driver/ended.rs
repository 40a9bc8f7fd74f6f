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
    },
}

impl Driver {
    pub(super) fn ended(&mut self, ended: Ended) {
        self.in_flight -= 1;
        let now = self.clock.monotonic();
        match ended {
            Ended::Reported | Ended::Preempted { ok: true, .. } => {}
            Ended::Advised { pod, moments, answer } => {
                if let Some(decision) = self.engine.advised(&pod, answer, now) {
                    self.carry_out(decision, moments.began);
                }
            }
            Ended::AdvisedVictims { pod, moments, answer } => {
                if let Some(decision) = self.engine.advised_victims(&pod, answer, now) {
                    self.carry_out(decision, moments.began);
                }
            }
            Ended::Preempted { pod, ok: false } => self.engine.preemption_failed(&pod, now),
            Ended::Prepared { reservation, moments, shown, failure } => {
                self.learn(shown, now);
                self.prepared(reservation, moments, failure, now);
            }
            Ended::TakenBack { reservation, moments, refusal, shown } => {
                self.learn(shown, now);
                self.undo(&reservation, moments, refusal, now);
            }
            Ended::Bound { reservation, moments, began, bound } => {
                let took = now.saturating_sub(moments.began);
                self.metrics.point("Bind", bound.is_ok(), &reservation.pod, now.saturating_sub(began));
                let Err(unbound) = bound else {
                    let Reservation { pod, node, .. } = &reservation;
                    tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %node, "pod is bound");
                    self.metrics.attempt(Outcome::Scheduled, pod, took);
                    self.metrics.bound(&reservation, now);
                    return self.engine.bound(&reservation);
                };
                match unbound {
                    Unbound::Refused(message) => {
                        self.give_back(reservation, moments, Some((Why::Error, message)), now);
                    }
                    Unbound::Lost(_) => self.give_back(reservation, moments, None, now),
                    Unbound::Elsewhere(_) => {
                        // What was reserved for it is what it runs with.
                        self.metrics.attempt(Outcome::Error, &reservation.pod, took);
                        self.undo(&reservation, moments, None, now);
                    }
                }
            }
        }
    }
}
