//! `/metrics/slis`: what came of each health check, under the names that all of Kubernetes' components have for it.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use telemetry::{Exposition, Metrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    name: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    name: &'static str,
    r#type: &'static str,
    status: &'static str,
}

pub struct Slis {
    last: Family<CheckLabels, Gauge>,
    all: Family<ResultLabels, Counter>,
    metrics: Metrics,
}

impl Slis {
    pub fn new() -> Self {
        let (last, all, metrics) = (Family::default(), Family::default(), Metrics::bare());
        metrics.register(|registry| {
            let (last, all): (Family<_, Gauge>, Family<_, Counter>) = (Family::clone(&last), Family::clone(&all));
            registry.register("kubernetes_healthcheck", "1: the health check has passed when it was last made", last);
            registry.register("kubernetes_healthchecks", "Health checks that were made, by their result", all);
        });
        Slis { last, all, metrics }
    }

    /// A check was made for the one of `/healthz`, `/livez` and `/readyz`.
    pub fn observe(&self, name: &'static str, r#type: &'static str, passed: bool) {
        self.last.get_or_create(&CheckLabels { name, r#type }).set(passed.into());
        let status = if passed { "success" } else { "error" };
        self.all.get_or_create(&ResultLabels { name, r#type, status }).inc();
    }

    pub fn exposition(&self, accept: Option<&str>) -> Exposition {
        self.metrics.exposition(accept)
    }
}
