//! Namespace deletion: everything inside goes first, then the namespace itself; meanwhile its conditions say what is
//! left.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};

use crate::meta;

/// The namespace's own finalizer, in its spec.
pub const FINALIZER: &str = "kubernetes";

/// What one pass over the contents found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Kinds could not be discovered.
    pub discovery_error: Option<String>,
    /// Deleting or listing failed.
    pub content_errors: Vec<String>,
    /// Objects left, by resource as `pods` or `jobs.batch`.
    pub remaining: BTreeMap<String, usize>,
    /// Objects that a finalizer holds, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// The longest that an object left may take by its own word.
    pub grace: Option<Duration>,
}

/// What follows from a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Status(Box<NamespaceStatus>),
    /// Take [`FINALIZER`] away: nothing is left.
    Finalize(Box<Namespace>),
    /// Look again after so long.
    Again(Duration),
}

/// Whether the contents have to go.
pub fn is_terminating(namespace: &Namespace) -> bool {
    meta::is_deleting(&namespace.metadata)
        && namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|one| one == FINALIZER)
}

/// Judges the findings of a pass.
pub fn reconcile(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let old = namespace.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.phase = Some("Terminating".into());
    for wanted in conditions(findings, now) {
        let list = status.conditions.get_or_insert_default();
        match list.iter_mut().find(|present| present.type_ == wanted.type_) {
            Some(present) if present.status == wanted.status && present.message == wanted.message => {}
            Some(present) => *present = wanted,
            None => list.push(wanted),
        }
    }
    let clean = findings.discovery_error.is_none() && findings.content_errors.is_empty();
    if clean && findings.remaining.is_empty() {
        // A status that nobody can read any longer is not written.
        let mut finalized = namespace.clone();
        if let Some(spec) = &mut finalized.spec {
            spec.finalizers = spec.finalizers.take().map(|list| list.into_iter().filter(|f| f != FINALIZER).collect());
        }
        return vec![Action::Finalize(Box::new(finalized))];
    }
    if status != old {
        actions.push(Action::Status(Box::new(status)));
    }
    if clean {
        let wait = findings.grace.map_or(Duration::from_secs(1), |grace| grace / 2 + Duration::from_secs(1));
        actions.push(Action::Again(wait.min(Duration::from_secs(15))));
    }
    actions
}

fn conditions(findings: &Findings, now: Timestamp) -> Vec<NamespaceCondition> {
    let condition = |kind: &str, problem: Option<(&str, String)>, good: (&str, &str)| {
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good.0, good.1.to_owned()),
        };
        NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(meta::api_time(now)),
        }
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let list = |counts: &BTreeMap<String, usize>, what: &dyn Fn(&str, usize) -> String| {
        some(counts.iter().map(|(name, count)| what(name, *count)).collect::<Vec<_>>().join(", "))
    };
    let content = some(findings.content_errors.join(", "));
    let remaining = list(&findings.remaining, &|name, count| format!("{name} has {count} resource instances"));
    let held = list(&findings.finalizers, &|name, count| format!("{name} in {count} resource instances"));
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            findings.discovery_error.clone().map(|e| ("DiscoveryFailed", e)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            content.map(|e| {
                (
                    "ContentDeletionFailed",
                    format!("Failed to delete all resource types, {} remaining: {e}", findings.content_errors.len()),
                )
            }),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        condition(
            "NamespaceContentRemaining",
            remaining.map(|text| ("SomeResourcesRemain", format!("Some resources are remaining: {text}"))),
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            held.map(|text| {
                ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {text}"))
            }),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace() -> Namespace {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes", "other.io/x"]},
            "status": {"phase": "Terminating"},
        }))
        .unwrap()
    }

    #[test]
    fn an_empty_namespace_is_finalized() {
        assert!(is_terminating(&namespace()));
        let actions = reconcile(&namespace(), &Findings::default(), Timestamp::UNIX_EPOCH);
        let [Action::Finalize(done)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(done.spec.as_ref().unwrap().finalizers.as_deref(), Some(["other.io/x".to_owned()].as_slice()));
        assert!(!is_terminating(done));
    }

    #[test]
    fn what_is_left_is_told_and_waited_for() {
        let findings = Findings {
            remaining: [("pods".to_owned(), 2)].into(),
            finalizers: [("x.io/f".to_owned(), 1)].into(),
            grace: Some(Duration::from_secs(8)),
            ..Findings::default()
        };
        let actions = reconcile(&namespace(), &findings, Timestamp::UNIX_EPOCH);
        let [Action::Status(status), Action::Again(wait)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(*wait, Duration::from_secs(5));
        let message = |kind: &str| {
            let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
            (found.status.clone(), found.message.clone().unwrap())
        };
        assert_eq!(
            message("NamespaceContentRemaining"),
            ("True".into(), "Some resources are remaining: pods has 2 resource instances".into())
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining").1,
            "Some content in the namespace has finalizers remaining: x.io/f in 1 resource instances"
        );
        let mut seen = namespace();
        seen.status = Some((**status).clone());
        assert_eq!(reconcile(&seen, &findings, Timestamp::UNIX_EPOCH), [Action::Again(*wait)]);
    }

    #[test]
    fn errors_keep_the_namespace() {
        let findings = Findings { content_errors: vec!["no".into()], ..Findings::default() };
        let actions = reconcile(&namespace(), &findings, Timestamp::UNIX_EPOCH);
        assert!(matches!(actions.as_slice(), [Action::Status(_)]));
    }
}
