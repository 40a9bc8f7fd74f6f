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
    registry::Registry,
};
use sched::{Engine, Pending, Pod, Reservation, preempt::Victims};

use crate::measured::Figures;

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
struct EndLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PointLabels {
    pub extension_point: &'static str,
    pub status: &'static str,
    pub profile: String,
}

/// How a pod's wait for a permit ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Permit {
    Allowed,
    /// By a plugin, for lack of time, or because the pod has to make room for another.
    Rejected,
}

/// What the scheduler's tasks are doing, besides deciding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// Pods on their way from a decision to their node.
    pub binding: usize,
    /// Questions to extenders.
    pub extenders: usize,
}

/// Counts the ResourceClaims that the scheduler was to make.
#[derive(Clone, Default)]
pub(crate) struct MadeClaims(Family<StatusLabels, Counter>);

impl MadeClaims {
    pub fn ended(&self, made: bool) {
        self.0.get_or_create(&StatusLabels { status: if made { "success" } else { "failure" } }).inc();
    }
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
    tasks: Family<OperationLabels, Gauge>,
    permit_seconds: Family<EndLabels, Histogram>,
    timed_out: Counter,
    evictions: Family<EndLabels, Counter>,
    eviction_seconds: Family<EndLabels, Histogram>,
    pub made_claims: MadeClaims,
    pub plugins: Figures,
    /// Of the plugins that have rejected pods: when they do not any more, that is told, too.
    rejecting: BTreeSet<(String, String)>,
}

/// More attempts than this share one label.
const MAX_ATTEMPTS_LABEL: u32 = 16;

impl Metrics {
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let own = Metrics::new();
        metrics.register(|registry| {
            own.register_attempts(registry);
            own.register_evictions(registry);
            own.register_queue(registry);
            own.register_points(registry);
            own.plugins.register(registry);
        });
        // Nothing is told until something waits, and a gauge that is missing looks like a scheduler that is.
        own.pending(Pending::default());
        own
    }

    fn new() -> Self {
        let long = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let short = || Histogram::new(exponential_buckets(0.0001, 2.0, 12));
        let longest = || Histogram::new(exponential_buckets(0.01, 2.0, 20));
        let point_seconds = Family::new_with_constructor(short as fn() -> Histogram);
        Metrics {
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(long),
            algorithm_seconds: long(),
            pending: Family::default(),
            sli_seconds: Family::new_with_constructor(longest),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            incoming: Family::default(),
            cache_size: Family::default(),
            unschedulable: Family::default(),
            event_seconds: Family::new_with_constructor(short),
            plugins: Figures::new(point_seconds.clone()),
            point_seconds,
            tasks: Family::default(),
            permit_seconds: Family::new_with_constructor(long),
            timed_out: Counter::default(),
            evictions: Family::default(),
            eviction_seconds: Family::new_with_constructor(longest),
            made_claims: MadeClaims::default(),
            rejecting: BTreeSet::new(),
        }
    }

    fn register_attempts(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result",
            self.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.attempt_seconds.clone(),
        );
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            self.algorithm_seconds.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Latency from the pod's entry into the queue until it is bound, over all its attempts",
            self.sli_seconds.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod",
            self.pod_attempts.clone(),
        );
        registry.register(
            "scheduler_pod_scheduled_after_flush",
            "Pods that were bound after nothing but the time had brought them back: an event might have been missed",
            self.timed_out.clone(),
        );
    }

    fn register_evictions(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_preemption_attempts",
            "Attempts to make room by evicting pods",
            self.preemption_attempts.clone(),
        );
        registry.register(
            "scheduler_preemption_victims",
            "Number of selected preemption victims",
            self.preemption_victims.clone(),
        );
        registry.register(
            "scheduler_preemption_goroutines_execution",
            "Tasks that evict one pod's victims, by their result",
            self.evictions.clone(),
        );
        registry.register(
            "scheduler_preemption_goroutines_duration_seconds",
            "How long it took to have one pod's victims evicted, by the result",
            self.eviction_seconds.clone(),
        );
    }

    fn register_queue(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue: active, backoff, unschedulable or gated",
            self.pending.clone(),
        );
        registry.register(
            "scheduler_queue_incoming_pods",
            "Number of pods added to scheduling queues, by event and queue",
            self.incoming.clone(),
        );
        registry.register(
            "scheduler_cache_size",
            "Number of nodes, pods and assumed pods in the cache",
            self.cache_size.clone(),
        );
        registry.register(
            "scheduler_unschedulable_pods",
            "Number of unschedulable pods, by each plugin that rejected them",
            self.unschedulable.clone(),
        );
        registry.register(
            "scheduler_event_handling_duration_seconds",
            "Event handling latency in seconds",
            self.event_seconds.clone(),
        );
    }

    fn register_points(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_framework_extension_point_duration_seconds",
            "Latency of an extension point: of PreBind and Bind each time, of the others in one turn of ten, as the sum over \
             all plugins and nodes, because nodes are asked about one after another at all points",
            self.point_seconds.clone(),
        );
        registry.register(
            "scheduler_permit_wait_duration_seconds",
            "Duration of waiting on permit, by its result: Success or Unschedulable",
            self.permit_seconds.clone(),
        );
        registry.register("scheduler_goroutines", "Tasks under way, by the work that they do", self.tasks.clone());
        registry.register(
            "scheduler_resourceclaim_creates",
            "ResourceClaims for extended resources that were to be made, by the result",
            self.made_claims.0.clone(),
        );
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
        if reservation.history.timed_out {
            self.timed_out.inc();
        }
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

    /// The victims of one pod were evicted, or not.
    pub fn evicted(&self, ok: bool, took: Duration) {
        let labels = EndLabels { result: if ok { "success" } else { "error" } };
        self.evictions.get_or_create(&labels).inc();
        self.eviction_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An extension point that writes has ended.
    pub fn point(&self, extension_point: &'static str, ok: bool, pod: &Pod, took: Duration) {
        let status = if ok { "Success" } else { "Error" };
        let labels = PointLabels { extension_point, status, profile: pod.spec.scheduler_name.to_string() };
        self.point_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A plugin had a pod wait so long.
    pub fn permit(&self, end: Permit, waited: Duration) {
        let result = match end {
            Permit::Allowed => "Success",
            Permit::Rejected => "Unschedulable",
        };
        self.permit_seconds.get_or_create(&EndLabels { result }).observe(waited.as_secs_f64());
    }

    /// A change of the cluster was taken in.
    pub fn event(&self, event: &'static str, took: Duration) {
        self.event_seconds.get_or_create(&EventLabels { event }).observe(took.as_secs_f64());
    }

    /// What the engine holds now, and what is under way.
    pub fn state(&mut self, engine: &Engine, tasks: Tasks) {
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
        for (operation, count) in [("binding", tasks.binding), ("extenders", tasks.extenders)] {
            self.tasks.get_or_create(&OperationLabels { operation }).set(gauge(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_seldom_happens_is_told_as_kube_scheduler_does() {
        let registry = telemetry::Metrics::default();
        let metrics = Metrics::register(&registry);
        metrics.permit(Permit::Allowed, Duration::from_millis(3));
        metrics.permit(Permit::Rejected, Duration::from_secs(30));
        metrics.evicted(true, Duration::from_millis(15));
        metrics.evicted(false, Duration::from_secs(30));
        metrics.made_claims.ended(true);
        metrics.made_claims.ended(false);
        let text = registry.encode();
        for line in [
            "scheduler_permit_wait_duration_seconds_bucket{le=\"0.004\",result=\"Success\"} 1\n",
            "scheduler_permit_wait_duration_seconds_count{result=\"Unschedulable\"} 1\n",
            "scheduler_preemption_goroutines_execution_total{result=\"error\"} 1\n",
            "scheduler_preemption_goroutines_duration_seconds_bucket{le=\"0.02\",result=\"success\"} 1\n",
            "scheduler_resourceclaim_creates_total{status=\"success\"} 1\n",
            "scheduler_resourceclaim_creates_total{status=\"failure\"} 1\n",
            "scheduler_pod_scheduled_after_flush_total 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
