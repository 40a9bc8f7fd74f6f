//! Figures under kube-scheduler's names.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use sched::{Pending, Reservation};

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Outcome::Scheduled => "scheduled",
            Outcome::Unschedulable => "unschedulable",
            Outcome::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptsLabels {
    attempts: String,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    profile: String,
    attempts: Family<ResultLabels, Counter>,
    attempt_seconds: Family<ResultLabels, Histogram>,
    algorithm_seconds: Histogram,
    pending: Family<QueueLabels, Gauge>,
    sli_seconds: Family<AttemptsLabels, Histogram>,
    pod_attempts: Histogram,
}

/// More attempts than this share one label.
const MAX_ATTEMPTS_LABEL: u32 = 16;

impl Metrics {
    pub fn register(metrics: &telemetry::Metrics, profile: &str) -> Self {
        let own = Metrics {
            profile: profile.to_owned(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            algorithm_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            pending: Family::default(),
            sli_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 20))),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
        };
        metrics.register(|registry| {
            let all = own.clone();
            registry.register(
                "scheduler_schedule_attempts",
                "Number of attempts to schedule pods, by the result",
                all.attempts,
            );
            registry.register(
                "scheduler_scheduling_attempt_duration_seconds",
                "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                all.attempt_seconds,
            );
            registry.register(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds",
                all.algorithm_seconds,
            );
            registry.register(
                "scheduler_pending_pods",
                "Number of pending pods, by the queue: active, backoff, unschedulable or gated",
                all.pending,
            );
            registry.register(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "Latency from the pod's entry into the queue until it is bound, over all its attempts",
                all.sli_seconds,
            );
            registry.register(
                "scheduler_pod_scheduling_attempts",
                "Number of attempts to successfully schedule a pod",
                all.pod_attempts,
            );
        });
        // Nothing is told until something waits, and a gauge that is missing looks like a scheduler that is.
        own.pending(Pending::default());
        own
    }

    /// One attempt ended after `took`.
    pub fn attempt(&self, result: Outcome, took: Duration) {
        let labels = ResultLabels { result: result.text(), profile: self.profile.clone() };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A decision took so long, without what followed from it.
    pub fn algorithm(&self, took: Duration) {
        self.algorithm_seconds.observe(took.as_secs_f64());
    }

    /// A pod is bound.
    pub fn bound(&self, reservation: &Reservation, now: Duration) {
        let attempts = reservation.history.attempts;
        let label =
            if attempts >= MAX_ATTEMPTS_LABEL { format!("{MAX_ATTEMPTS_LABEL}+") } else { attempts.to_string() };
        let seconds = now.saturating_sub(reservation.history.first_seen).as_secs_f64();
        self.sli_seconds.get_or_create(&AttemptsLabels { attempts: label }).observe(seconds);
        self.pod_attempts.observe(f64::from(attempts));
    }

    pub fn pending(&self, pending: Pending) {
        let places = [
            ("active", pending.active),
            ("backoff", pending.backoff),
            ("unschedulable", pending.unschedulable),
            ("gated", pending.gated),
        ];
        for (queue, count) in places {
            self.pending.get_or_create(&QueueLabels { queue }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
