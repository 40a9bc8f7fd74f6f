//! Evictions: deletions of pods that ask their disruption budget first.
//!
//! The budget's status says how many may go, as the disruption controller counted; each eviction takes one of these, until
//! the controller counts again. So the decision needs the pod and the budgets of its namespace only.

use kube_schema::kinds::Kind;
use serde_json::{Value, json};

use crate::{
    Context, Status,
    kinds::{self, covers, lets_unhealthy_go, take_one},
    value::{items, items_mut, list_mut, object_mut, set, text},
};

/// What must be done before a pod is deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Write this budget: its place among those given, and what becomes of it.
    pub budget: Option<(usize, Value)>,
    /// Delete the pod only if it is as it was looked at, because a pod that became ready meanwhile counts.
    pub unchanged: bool,
    /// The budget that this follows from.
    pub name: String,
}

/// 429: what the decision rests on may have changed, or the controller has not seen it yet.
pub fn still_processed(budget: &str) -> Status {
    kinds::still_processed(budget)
}

/// Decides about one pod. `kind` is the budgets'; `budgets` are those of the pod's namespace.
pub fn decide(kind: &Kind, context: &Context, pod: &Value, budgets: &[Value]) -> Result<Decision, Status> {
    let going = !text(&pod["metadata"], "deletionTimestamp").is_empty();
    match text(&pod["status"], "phase") {
        "Succeeded" | "Failed" => return Ok(Decision::default()),
        _ if going => return Ok(Decision::default()),
        "Pending" => return Ok(Decision { unchanged: true, ..Decision::default() }),
        _ => {}
    }
    let mut guards = budgets.iter().enumerate().filter(|(_, budget)| covers(budget, pod));
    let Some((at, budget)) = guards.next() else { return Ok(Decision::default()) };
    if guards.next().is_some() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::new(500, "", why));
    }
    let name = text(&budget["metadata"], "name").to_owned();
    if !is_ready(pod) && lets_unhealthy_go(budget) {
        return Ok(Decision { budget: None, unchanged: true, name });
    }
    let taken = take_one(kind, context, budget, text(&pod["metadata"], "name"))?;
    Ok(Decision { budget: Some((at, taken)), unchanged: false, name })
}

fn is_ready(pod: &Value) -> bool {
    items(&pod["status"]["conditions"]).iter().any(|c| text(c, "type") == "Ready" && text(c, "status") == "True")
}

/// The pod with the condition that says why it goes.
pub fn mark(context: &Context, pod: &Value) -> Value {
    let mut marked = pod.clone();
    let status = object_mut(&mut marked, "status");
    let known = items(&status["conditions"]).iter().any(|c| text(c, "type") == "DisruptionTarget");
    if !known {
        list_mut(status, "conditions").push(json!({"type": "DisruptionTarget"}));
    }
    for condition in items_mut(status, "conditions").filter(|c| text(c, "type") == "DisruptionTarget") {
        if text(condition, "status") != "True" {
            set(condition, "lastTransitionTime", context.timestamp());
        }
        for (field, value) in
            [("status", "True"), ("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")]
        {
            set(condition, field, value);
        }
    }
    marked
}
