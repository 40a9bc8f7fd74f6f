//! Figures about requests, under kube-apiserver's names.

use std::sync::{Arc, atomic::AtomicU64};

use kube_schema::kinds::Kind;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::{Family, MetricConstructor},
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Unit,
};
use telemetry::Metrics;

use crate::{
    cache::Cache,
    fairness::{Class, Fairness},
};

/// Some of kube-apiserver's buckets for request durations, with those that the usual alerts ask for (1, 5 and 30
/// seconds), and finer ones at the lower end, where most of our requests are.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Which of the servers that may stand behind one address: the same words as kube-apiserver's.
pub(crate) const COMPONENT: &str = "apiserver";

/// Counted for each request, so made of words that nobody has to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub verb: &'static str,
    /// `All`, or empty where the request is carried out.
    pub dry_run: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
    pub scope: &'static str,
    /// [`COMPONENT`].
    pub component: &'static str,
    pub code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DurationLabels {
    pub verb: &'static str,
    pub dry_run: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
    pub scope: &'static str,
    pub component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabels {
    pub group: String,
    pub version: String,
    pub kind: String,
}

#[derive(Clone)]
struct MakeHistogram;

impl MetricConstructor<Histogram> for MakeHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

/// The server's own figures.
pub(crate) struct ServerMetrics {
    pub requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, MakeHistogram>,
    watch_events: Family<KindLabels, Counter>,
    pub terminated: Counter,
    pub connections: Gauge,
    pub tls_errors: Counter<u64, AtomicU64>,
}

impl ServerMetrics {
    pub fn new(metrics: &Metrics, fairness: Arc<Fairness>, caches: Vec<(String, Arc<Cache>)>) -> Self {
        let this = ServerMetrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(MakeHistogram),
            watch_events: Family::default(),
            terminated: Counter::default(),
            connections: Gauge::default(),
            tls_errors: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "apiserver_request",
                "Requests by verb, resource and response code",
                this.requests.clone(),
            );
            registry.register_with_unit(
                "apiserver_request_duration",
                "Time from a request's head to its response's head",
                Unit::Seconds,
                this.durations.clone(),
            );
            registry.register("apiserver_watch_events", "Events sent to watch clients", this.watch_events.clone());
            registry.register(
                "apiserver_request_terminations",
                "Requests refused in self-defence",
                this.terminated.clone(),
            );
            registry.register("apiserver_open_connections", "Open client connections", this.connections.clone());
            registry.register(
                "apiserver_tls_handshake_errors",
                "TLS handshakes that failed or took too long",
                this.tls_errors.clone(),
            );
            registry.register_collector(Box::new(Live { fairness, caches }));
        });
        this
    }

    /// The counter of events sent to watchers of a kind.
    pub fn watch_events(&self, kind: &Kind) -> Counter {
        let labels = KindLabels {
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            kind: kind.kind.to_string(),
        };
        self.watch_events.get_or_create(&labels).clone()
    }

    pub fn observe(&self, labels: RequestLabels, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            let duration = DurationLabels {
                verb: labels.verb,
                dry_run: labels.dry_run,
                group: labels.group,
                version: labels.version,
                resource: labels.resource,
                subresource: labels.subresource,
                scope: labels.scope,
                component: labels.component,
            };
            self.durations.get_or_create(&duration).observe(seconds);
        }
        self.requests.get_or_create(&labels).inc();
    }
}

/// Figures that are read when asked for, because something else keeps them already.
struct Live {
    fairness: Arc<Fairness>,
    caches: Vec<(String, Arc<Cache>)>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests being worked on, by kind";
        let mut family =
            encoder.encode_descriptor("apiserver_current_inflight_requests", help, None, MetricType::Gauge)?;
        for (kind, class) in [("readOnly", Class::ReadOnly), ("mutating", Class::Mutating)] {
            let gauge = ConstGauge::new(self.fairness.in_flight(class) as i64);
            gauge.encode(family.encode_family(&[("request_kind", kind)])?)?;
        }
        let gauge = ConstGauge::new(self.fairness.in_flight(Class::LongRunning) as i64);
        let metric = encoder.encode_descriptor(
            "apiserver_longrunning_requests",
            "Watches, follows and streams",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode(metric)?;
        self.per_cache(&mut encoder, "apiserver_storage_objects", "Objects stored", MetricType::Gauge, |cache| {
            cache.len().map(|n| n as u64)
        })?;
        self.per_cache(&mut encoder, "apiserver_registered_watchers", "Watchers", MetricType::Gauge, |cache| {
            cache.len().map(|_| cache.watchers() as u64)
        })?;
        self.per_cache(
            &mut encoder,
            "apiserver_watch_cache_events_received",
            "Changes that came from the store",
            MetricType::Counter,
            |cache| cache.len().map(|_| cache.events_seen()),
        )
    }
}

impl Live {
    fn per_cache(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        metric_type: MetricType,
        figure: impl Fn(&Cache) -> Option<u64>,
    ) -> Result<(), std::fmt::Error> {
        let counter = matches!(metric_type, MetricType::Counter);
        let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
        for (resource, cache) in &self.caches {
            let Some(value) = figure(cache) else { continue };
            let labels = [("resource", resource.as_str())];
            let encoder = family.encode_family(&labels)?;
            if counter {
                ConstCounter::new(value).encode(encoder)?;
            } else {
                ConstGauge::new(value as i64).encode(encoder)?;
            }
        }
        Ok(())
    }
}
