//! Figures under kube-scheduler's names.

use std::{collections::BTreeSet, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use sched::{Engine, Pending, Pod, Reservation, preempt::Victims};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IncomingLabels {
    queue: &'static str,
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PermitLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PointLabels {
    extension_point: &'static str,
    status: &'static str,
    profile: String,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    attempts: Family<ResultLabels, Counter>,
    attempt_seconds: Family<ResultLabels, Histogram>,
    algorithm_seconds: Histogram,
    pending: Family<QueueLabels, Gauge>,
    sli_seconds: Family<AttemptsLabels, Histogram>,
    pod_attempts: Histogram,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
    incoming: Family<IncomingLabels, Counter>,
    cache_size: Family<TypeLabels, Gauge>,
    unschedulable: Family<PluginLabels, Gauge>,
    event_seconds: Family<EventLabels, Histogram>,
    point_seconds: Family<PointLabels, Histogram>,
    writing: Family<OperationLabels, Gauge>,
    permit_seconds: Family<PermitLabels, Histogram>,
    /// Of the plugins that have rejected pods: when they do not any more, that is told, too.
    rejecting: BTreeSet<(String, String)>,
}

/// More attempts than this share one label.
const MAX_ATTEMPTS_LABEL: u32 = 16;

impl Metrics {
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let long = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let short = || Histogram::new(exponential_buckets(0.0001, 2.0, 12));
        let own = Metrics {
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(long),
            algorithm_seconds: long(),
            pending: Family::default(),
            sli_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 20))),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            incoming: Family::default(),
            cache_size: Family::default(),
            unschedulable: Family::default(),
            event_seconds: Family::new_with_constructor(short),
            point_seconds: Family::new_with_constructor(short),
            writing: Family::default(),
            permit_seconds: Family::new_with_constructor(long),
            rejecting: BTreeSet::new(),
        };
        let all = own.clone();
        metrics.register(|registry| {
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
            registry.register(
                "scheduler_preemption_attempts",
                "Attempts to make room by evicting pods",
                all.preemption_attempts,
            );
            registry.register(
                "scheduler_preemption_victims",
                "Number of selected preemption victims",
                all.preemption_victims,
            );
            registry.register(
                "scheduler_queue_incoming_pods",
                "Number of pods added to scheduling queues, by event and queue",
                all.incoming,
            );
            registry.register(
                "scheduler_cache_size",
                "Number of nodes, pods and assumed pods in the cache",
                all.cache_size,
            );
            registry.register(
                "scheduler_unschedulable_pods",
                "Number of unschedulable pods, by each plugin that rejected them",
                all.unschedulable,
            );
            registry.register(
                "scheduler_event_handling_duration_seconds",
                "Event handling latency in seconds",
                all.event_seconds,
            );
            registry.register(
                "scheduler_framework_extension_point_duration_seconds",
                "Latency of the extension points that write: PreBind and Bind",
                all.point_seconds,
            );
            registry.register(
                "scheduler_permit_wait_duration_seconds",
                "Duration of waiting on permit",
                all.permit_seconds,
            );
            registry.register("scheduler_goroutines", "Tasks under way, by the work that they do", all.writing);
        });
        // Nothing is told until something waits, and a gauge that is missing looks like a scheduler that is.
        own.pending(Pending::default());
        own
    }

    /// One attempt ended after `took`.
    pub fn attempt(&self, result: Outcome, pod: &Pod, took: Duration) {
        let labels = ResultLabels { result: result.text(), profile: pod.spec.scheduler_name.to_string() };
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

    /// It was tried to make room for a pod.
    pub fn preempted(&self, victims: Option<&Victims>) {
        self.preemption_attempts.inc();
        if let Some(victims) = victims {
            self.preemption_victims.observe(victims.pods.len() as f64);
        }
    }

    /// An extension point that writes has ended.
    pub fn point(&self, extension_point: &'static str, ok: bool, pod: &Pod, took: Duration) {
        let status = if ok { "Success" } else { "Error" };
        let labels = PointLabels { extension_point, status, profile: pod.spec.scheduler_name.to_string() };
        self.point_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A plugin had a pod wait so long.
    pub fn permit(&self, result: &'static str, waited: Duration) {
        self.permit_seconds.get_or_create(&PermitLabels { result }).observe(waited.as_secs_f64());
    }

    /// A change of the cluster was taken in.
    pub fn event(&self, event: &'static str, took: Duration) {
        self.event_seconds.get_or_create(&EventLabels { event }).observe(took.as_secs_f64());
    }

    /// What the engine holds now. `writing`: writes to the API under way.
    pub fn state(&mut self, engine: &Engine, writing: usize) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let world = engine.world();
        let sizes = [("nodes", world.known_nodes()), ("pods", world.placed_pods()), ("assumed_pods", engine.assumed())];
        for (r#type, size) in sizes {
            self.cache_size.get_or_create(&TypeLabels { r#type }).set(gauge(size));
        }
        for (&(queue, event), &count) in engine.incoming() {
            let counter = self.incoming.get_or_create(&IncomingLabels { queue, event });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let rejecting = engine.unschedulable_by();
        self.rejecting.extend(rejecting.keys().map(|(profile, plugin)| ((*profile).to_owned(), (*plugin).to_owned())));
        for (profile, plugin) in &self.rejecting {
            let pods = rejecting.get(&(profile.as_str(), plugin.as_str())).copied().unwrap_or(0);
            let labels = PluginLabels { plugin: plugin.clone(), profile: profile.clone() };
            self.unschedulable.get_or_create(&labels).set(gauge(pods));
        }
        self.writing.get_or_create(&OperationLabels { operation: "binding" }).set(gauge(writing));
    }
}
