//! Where it is written down, under kube-scheduler's names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::tally::{At, Status};
use crate::metrics::PointLabels;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExecutionLabels {
    plugin: String,
    extension_point: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvaluationLabels {
    plugin: String,
    extension_point: &'static str,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HintLabels {
    plugin: String,
    event: &'static str,
    hint: &'static str,
}

#[derive(Clone)]
pub(crate) struct Figures {
    executions: Family<ExecutionLabels, Histogram>,
    evaluations: Family<EvaluationLabels, Counter>,
    hints: Family<HintLabels, Histogram>,
    points: Family<PointLabels, Histogram>,
}

impl Figures {
    /// `points`: the durations of extension points, which the driver has a part in.
    pub fn new(points: Family<PointLabels, Histogram>) -> Self {
        let fine = || Histogram::new(exponential_buckets(0.00001, 1.5, 20));
        Figures {
            executions: Family::new_with_constructor(fine),
            evaluations: Family::default(),
            hints: Family::new_with_constructor(fine),
            points,
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "scheduler_plugin_execution_duration_seconds",
            "How long a plugin took at an extension point, in one turn of ten; about nodes and groups, each question is one",
            self.executions.clone(),
        );
        registry.register(
            "scheduler_plugin_evaluation",
            "How often a plugin was asked at an extension point: PreFilter and PreScore once for each plan, which like pods \
             share; Filter and Score about nodes that have changed and about groups, estimated from one turn of ten",
            self.evaluations.clone(),
        );
        registry.register(
            "scheduler_queueing_hint_execution_duration_seconds",
            "How long a plugin took to say whether an event helps pods that it has rejected, in one turn of ten",
            self.hints.clone(),
        );
    }

    pub(super) fn execution(&self, plugin: &str, at: At, status: Status) -> Histogram {
        let labels = ExecutionLabels { plugin: plugin.to_owned(), extension_point: at.name(), status: status.name() };
        self.executions.get_or_create_owned(&labels)
    }

    pub(super) fn evaluations(&self, plugin: &str, at: At, profile: &str) -> Counter {
        let (plugin, profile) = (plugin.to_owned(), profile.to_owned());
        self.evaluations.get_or_create_owned(&EvaluationLabels { plugin, extension_point: at.name(), profile })
    }

    pub(super) fn hint(&self, plugin: &str, event: &'static str, helps: bool) -> Histogram {
        let hint = if helps { "Queue" } else { "QueueSkip" };
        self.hints.get_or_create_owned(&HintLabels { plugin: plugin.to_owned(), event, hint })
    }

    pub(super) fn point(&self, at: At, status: Status, profile: &str) -> Histogram {
        let (extension_point, profile) = (at.name(), profile.to_owned());
        self.points.get_or_create_owned(&PointLabels { extension_point, status: status.name(), profile })
    }
}
