//! The node's figures under kubelet's names.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use telemetry::Metrics;

/// Seconds; kubelet's buckets for pod starts.
const START_BUCKETS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ProbeLabels {
    pub probe_type: &'static str,
    pub result: &'static str,
    pub container: String,
    pub pod: String,
    pub namespace: String,
}

/// Handles on what is counted.
#[derive(Clone)]
pub(crate) struct NodeMetrics {
    pub running_pods: Gauge,
    pub started_containers: Counter<u64, AtomicU64>,
    pub failed_starts: Counter<u64, AtomicU64>,
    pub pod_start_seconds: Histogram,
    pub probes: Family<ProbeLabels, Counter>,
}

impl NodeMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        metrics.register(|registry| {
            let node = NodeMetrics {
                running_pods: Gauge::default(),
                started_containers: Counter::default(),
                failed_starts: Counter::default(),
                pod_start_seconds: Histogram::new(START_BUCKETS),
                probes: Family::default(),
            };
            registry.register(
                "kubelet_running_pods",
                "Number of pods that have a running pod sandbox",
                node.running_pods.clone(),
            );
            registry.register(
                "kubelet_started_containers",
                "Cumulative number of containers started",
                node.started_containers.clone(),
            );
            registry.register(
                "kubelet_started_containers_errors",
                "Cumulative number of errors when starting containers",
                node.failed_starts.clone(),
            );
            registry.register(
                "kubelet_pod_start_duration_seconds",
                "Duration in seconds from the node seeing a pod for the first time to the pod starting to run",
                node.pod_start_seconds.clone(),
            );
            registry.register("prober_probe", "Cumulative number of probes by result", node.probes.clone());
            node
        })
    }

    /// Forgets the figures of a container that is gone.
    pub fn forget_probes(&self, labels: &ProbeLabels) {
        for result in ["successful", "failed"] {
            self.probes.remove(&ProbeLabels { result, ..labels.clone() });
        }
    }
}
