//! What a failed pod means: `podFailurePolicy`, and when it failed.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};

use crate::meta;

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten())
}

/// When the last container ended; without a word of that, when the pod was made.
pub fn ended_at(pod: &Pod) -> Timestamp {
    let ends = statuses(pod).filter_map(|s| s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ends.map(|time| time.0).max().unwrap_or_else(|| meta::created(&pod.metadata))
}

/// Whether the policy says that this failure does not count.
pub fn ignores(spec: &JobSpec, pod: &Pod) -> bool {
    rule(spec, pod).is_some_and(|(rule, _)| rule.action == "Ignore")
}

/// Why the policy gives the whole Job up for this failure.
pub fn fails_job(spec: &JobSpec, pod: &Pod) -> Option<String> {
    let (rule, why) = rule(spec, pod)?;
    (rule.action == "FailJob").then_some(why)
}

/// The first rule that matches, and what matched.
fn rule<'a>(spec: &'a JobSpec, pod: &Pod) -> Option<(&'a PodFailurePolicyRule, String)> {
    let rules = &spec.pod_failure_policy.as_ref()?.rules;
    rules.iter().enumerate().find_map(|(at, rule)| {
        let matched = on_exit_code(rule, pod).or_else(|| on_condition(rule, pod))?;
        Some((rule, format!("{matched} matching {} rule at index {at}", rule.action)))
    })
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", meta::namespace(&pod.metadata), meta::name(&pod.metadata))
}

fn on_exit_code(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let wanted = rule.on_exit_codes.as_ref()?;
    statuses(pod).find_map(|status| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        let named = wanted.container_name.as_ref().is_none_or(|name| *name == status.name);
        let listed = wanted.values.contains(&code);
        // A zero is no failure, whatever the operator.
        let matches = code != 0 && named && if wanted.operator == "NotIn" { !listed } else { listed };
        matches.then(|| format!("Container {} for pod {} failed with exit code {code}", status.name, name(pod)))
    })
}

fn on_condition(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let patterns = rule.on_pod_conditions.as_deref()?;
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| {
        let matches = |pattern: &k8s_openapi::api::batch::v1::PodFailurePolicyOnPodConditionsPattern| {
            pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
        };
        patterns.iter().any(matches)
    })?;
    Some(format!("Pod {} has condition {}", name(pod), found.type_))
}
