//! Figures of the work queues, under the names that client-go gives them in kube-controller-manager.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    name: &'static str,
}

/// client-go's buckets: 10 ns to 100 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(10e-9, 10.0, 11))
}

/// The figures of all queues.
pub struct Metrics {
    depth: Family<Labels, Gauge>,
    adds: Family<Labels, Counter<u64, AtomicU64>>,
    retries: Family<Labels, Counter<u64, AtomicU64>>,
    waited: Family<Labels, Histogram>,
    worked: Family<Labels, Histogram>,
}

impl Metrics {
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let own = Metrics {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(seconds),
            worked: Family::new_with_constructor(seconds),
        };
        metrics.register(|registry| {
            registry.register("workqueue_depth", "Current depth of workqueue", own.depth.clone());
            registry.register("workqueue_adds", "Total number of adds handled by workqueue", own.adds.clone());
            registry.register("workqueue_retries", "Total number of retries handled by workqueue", own.retries.clone());
            registry.register(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested",
                own.waited.clone(),
            );
            registry.register(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes",
                own.worked.clone(),
            );
        });
        own
    }

    /// The figures of one queue.
    pub fn queue(&self, name: &'static str) -> QueueMetrics {
        let labels = Labels { name };
        QueueMetrics {
            depth: self.depth.get_or_create(&labels).clone(),
            adds: self.adds.get_or_create(&labels).clone(),
            retries: self.retries.get_or_create(&labels).clone(),
            waited: self.waited.get_or_create(&labels).clone(),
            worked: self.worked.get_or_create(&labels).clone(),
        }
    }
}

/// Handles on the figures of one queue.
pub struct QueueMetrics {
    depth: Gauge,
    adds: Counter<u64, AtomicU64>,
    retries: Counter<u64, AtomicU64>,
    waited: Histogram,
    worked: Histogram,
}

impl QueueMetrics {
    /// So many keys wait that did not before.
    pub fn added(&self, count: u64) {
        if count > 0 {
            self.adds.inc_by(count);
            self.depth.inc_by(count.cast_signed());
        }
    }

    /// A key was put off. client-go counts every delay as a retry, also one that follows a success.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A worker has taken a key that had waited so long.
    pub fn taken(&self, waited: Duration) {
        self.depth.dec();
        self.waited.observe(waited.as_secs_f64());
    }

    /// A worker is done with a key.
    pub fn worked(&self, took: Duration) {
        self.worked.observe(took.as_secs_f64());
    }
}
