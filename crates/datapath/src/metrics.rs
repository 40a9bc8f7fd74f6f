//! What the datapath counts, under kube-proxy's names where kube-proxy has them.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Handles on the figures; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From taking changes to having them programmed.
    pub sync_seconds: Histogram,
    /// From the change of a pod or service to its being programmed, as the EndpointSlice's annotation tells.
    pub programming_seconds: Histogram,
    pub last_sync: Gauge<i64>,
    pub endpoint_changes: Counter,
    pub service_changes: Counter,
    pub failures: Counter,
    pub frontends: Gauge,
    pub backends: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let sync = (0..15).map(|n| 0.000_25 * f64::from(1 << n));
        let programming = (0..15).map(|n| 0.001 * f64::from(1 << n));
        Metrics {
            sync_seconds: Histogram::new(sync),
            programming_seconds: Histogram::new(programming),
            last_sync: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes: Counter::default(),
            failures: Counter::default(),
            frontends: Gauge::default(),
            backends: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Adds the figures to the process's registry.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Metrics::default();
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds",
            this.sync_seconds.clone(),
        );
        registry.register(
            "kubeproxy_network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            this.programming_seconds.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            this.last_sync.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            this.endpoint_changes.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_service_changes",
            "Cumulative proxy rules Service changes",
            this.service_changes.clone(),
        );
        registry.register("plinth_datapath_failures", "Changes that could not be programmed", this.failures.clone());
        registry.register("plinth_datapath_frontends", "Service addresses programmed", this.frontends.clone());
        registry.register("plinth_datapath_backends", "Service backends programmed", this.backends.clone());
        this
    }
}
