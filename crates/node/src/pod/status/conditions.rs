//! The pod's conditions, with kubelet's reasons and messages.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::Machine;
use crate::pod::model::Kind;

/// The conditions that are the node's to tell.
pub const OWN: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// Whether what the API shows of the node's own conditions is not what was written: somebody else has changed it.
pub fn overwritten(written: &PodStatus, shown: &PodStatus) -> bool {
    let says = |status: &PodStatus, name: &str| {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == name);
        found.map(|condition| condition.status.clone())
    };
    OWN.iter().any(|name| says(written, name) != says(shown, name))
}

/// Whether a condition holds, and why not.
struct Finding {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn yes() -> Self {
        Finding { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Finding { holds: false, reason: Some(reason), message }
    }
}

/// The node's own conditions first, then those that others have set, as they are. `told` are those derived before,
/// `old` those that the API has.
pub(super) fn derive(
    machine: &Machine,
    status: &PodStatus,
    told: &[PodCondition],
    old: &[PodCondition],
    now: Timestamp,
) -> Vec<PodCondition> {
    let before: Vec<PodCondition> = told.iter().chain(old).cloned().collect();
    let phase = status.phase.as_deref().unwrap_or_default();
    let sandbox = machine.model.info().is_some_and(|info| !info.ips.is_empty());
    let to_start = Finding { holds: sandbox, reason: None, message: None };
    let containers = containers_ready(machine, status, phase);
    let ready = ready(machine, &containers, old);
    let scheduled = old.iter().find(|condition| condition.type_ == "PodScheduled");
    let own = [to_start, initialized(machine, status, phase), ready, containers];
    let generation = machine.pod.metadata.generation;
    let mut conditions: Vec<PodCondition> =
        OWN.into_iter().zip(own).map(|(name, finding)| condition(name, finding, &before, generation, now)).collect();
    match scheduled {
        Some(scheduled) => conditions.push(scheduled.clone()),
        // A pod that was created with its node's name never met a scheduler.
        None => conditions.push(condition("PodScheduled", Finding::yes(), &before, generation, now)),
    }
    let known: Vec<String> = conditions.iter().map(|condition| condition.type_.clone()).collect();
    conditions.extend(old.iter().filter(|condition| !known.contains(&condition.type_)).cloned());
    conditions
}

fn condition(
    name: &str,
    finding: Finding,
    old: &[PodCondition],
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    // The first of that name counts: what was derived here goes before what the API may still have of old.
    let before = old.iter().find(|condition| condition.type_ == name).filter(|known| known.status == status);
    let since = before.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_transition_time: since.or_else(|| Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)))),
        observed_generation: generation,
        ..PodCondition::default()
    }
}

fn initialized(machine: &Machine, status: &PodStatus, phase: &str) -> Finding {
    if phase == "Succeeded" {
        return Finding { holds: true, reason: Some("PodCompleted"), message: None };
    }
    if machine.initialized() || machine.model.records.iter().all(|record| record.kind == Kind::Main) {
        return Finding::yes();
    }
    let incomplete =
        names(status.init_container_statuses.as_deref(), |status| !status.ready && !status.started.unwrap_or(false));
    if incomplete.is_empty() {
        return Finding::yes();
    }
    let message = format!("containers with incomplete status: [{incomplete}]");
    Finding::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(machine: &Machine, status: &PodStatus, phase: &str) -> Finding {
    match phase {
        "Succeeded" => return Finding::no("PodCompleted", None),
        "Failed" => return Finding::no("PodFailed", None),
        _ => {}
    }
    let sidecar =
        |name: &str| machine.model.records.iter().any(|record| record.kind == Kind::Sidecar && record.name == name);
    let sidecars = names(status.init_container_statuses.as_deref(), |s| sidecar(&s.name) && !s.ready);
    let mains = names(status.container_statuses.as_deref(), |status| !status.ready);
    let unready = [sidecars, mains].into_iter().filter(|list| !list.is_empty()).collect::<Vec<_>>().join(" ");
    if unready.is_empty() {
        return Finding::yes();
    }
    Finding::no("ContainersNotReady", Some(format!("containers with unready status: [{unready}]")))
}

fn ready(machine: &Machine, containers: &Finding, old: &[PodCondition]) -> Finding {
    if !containers.holds {
        return Finding { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let gates = machine.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut missing = Vec::new();
    for gate in gates {
        let name = &gate.condition_type;
        match old.iter().find(|condition| condition.type_ == *name) {
            None => missing.push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(found) if found.status != "True" => {
                missing.push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", found.status))
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Finding::yes();
    }
    Finding::no("ReadinessGatesNotReady", Some(missing.join(", ")))
}

fn names(statuses: Option<&[ContainerStatus]>, wanted: impl Fn(&ContainerStatus) -> bool) -> String {
    let list: Vec<&str> = statuses.unwrap_or_default().iter().filter(|s| wanted(s)).map(|s| s.name.as_str()).collect();
    list.join(" ")
}
