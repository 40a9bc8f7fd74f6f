//! What the server counts, under CoreDNS's names.

use std::{net::SocketAddr, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// One label and its value.
pub type Label = (&'static str, String);

/// Handles on the figures; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub requests: Family<Vec<Label>, Counter>,
    pub responses: Family<Vec<Label>, Counter>,
    pub request_seconds: Histogram,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    pub cache_entries: Gauge,
    /// Questions refused because too many wait for resolvers.
    pub rejected: Counter,
    proxies: Family<Vec<Label>, Histogram>,
}

fn buckets() -> Histogram {
    Histogram::new((0..16).map(|n| 0.000_25 * f64::from(1 << n)))
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            requests: Family::default(),
            responses: Family::default(),
            request_seconds: buckets(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_entries: Gauge::default(),
            rejected: Counter::default(),
            proxies: Family::new_with_constructor(buckets),
        }
    }
}

impl Metrics {
    /// Adds the figures to the process's registry.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Metrics::default();
        registry.register("coredns_dns_requests", "Counter of DNS requests made per zone", this.requests.clone());
        registry.register("coredns_dns_responses", "Counter of response status codes", this.responses.clone());
        registry.register(
            "coredns_dns_request_duration_seconds",
            "Histogram of the time each request took",
            this.request_seconds.clone(),
        );
        registry.register("coredns_cache_hits", "The count of cache hits", this.cache_hits.clone());
        registry.register("coredns_cache_misses", "The count of cache misses", this.cache_misses.clone());
        registry.register("coredns_cache_entries", "The number of elements in the cache", this.cache_entries.clone());
        registry.register(
            "coredns_forward_max_concurrent_rejects",
            "Counter of the number of queries rejected because the concurrent queries were at maximum",
            this.rejected.clone(),
        );
        registry.register(
            "coredns_proxy_request_duration_seconds",
            "Histogram of the time each request took",
            this.proxies.clone(),
        );
        this
    }

    pub fn proxy_request(&self, to: SocketAddr, took: Duration) {
        let labels = vec![("proxy_name", "forward".to_owned()), ("to", to.to_string())];
        self.proxies.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
