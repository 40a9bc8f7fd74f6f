//! The pod's status as the API shows it, derived from the facts: phase, conditions and container states in kubelet's
//! words. Pure: equal facts give an equal status.

pub mod conditions;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    machine::Machine,
    model::{Ended, Kind, Record, restarts, specs},
};
use crate::convert::resources::qos_class;

/// How container ids are written in status.
const SCHEME: &str = "plinth://";

/// Derives the status. `previous` is what was derived before, which knows since when the node's own conditions hold;
/// `host_ips` are the node's addresses.
pub fn derive(machine: &Machine, previous: Option<&PodStatus>, host_ips: &[IpAddr], now: Timestamp) -> PodStatus {
    let pod = machine.pod.as_ref();
    let old = pod.status.clone().unwrap_or_default();
    let has_inits = machine.model.records.iter().any(|record| record.kind != Kind::Main);
    let status_of = |wanted: fn(Kind) -> bool| -> Vec<ContainerStatus> {
        specs(pod)
            .zip(&machine.model.records)
            .filter(|((_, kind), _)| wanted(*kind))
            .map(|((container, kind), record)| {
                // What nobody starts again does not wait: it shows how it ended.
                let code = record.ended().map_or(0, |ended| ended.exit_code);
                let comes_back = pod.spec.as_ref().is_some_and(|spec| restarts(spec, container, kind, code));
                container_status(container, record, has_inits, comes_back)
            })
            .collect()
    };
    let inits = status_of(|kind| kind != Kind::Main);
    let mains = status_of(|kind| kind == Kind::Main);
    let phase = match &machine.model.failed {
        Some(_) => "Failed",
        None => phase(machine),
    };
    let ips: Vec<String> = match machine.model.info() {
        Some(info) => info.ips.iter().map(ToString::to_string).collect(),
        // What had an address shows it to the end.
        None => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    let (reason, message) = match &machine.model.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (old.reason.clone(), old.message.clone()),
    };
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: host_ips.first().map(ToString::to_string),
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: machine.model.start_time.or(old.start_time.as_ref().map(|t| t.0)).map(whole_seconds),
        qos_class: Some(old.qos_class.clone().unwrap_or_else(|| qos_class(pod).to_owned())),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(mains),
        observed_generation: pod.metadata.generation,
        reason,
        message,
        ..old.clone()
    };
    let told = previous.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let stored = old.conditions.as_deref().unwrap_or_default();
    status.conditions = Some(conditions::derive(machine, &status, told, stored, now));
    status
}

fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Kubelet's `getPhase`.
fn phase(machine: &Machine) -> &'static str {
    let pod = machine.pod.as_ref();
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let terminal = machine.ending();
    let records = &machine.model.records;
    let init_failed = records.iter().any(|record| {
        record.kind == Kind::Init && record.ended().is_some_and(|e| e.exit_code != 0) && policy == "Never"
    });
    if init_failed {
        return "Failed";
    }
    let mains: Vec<&Record> = records.iter().filter(|record| record.kind == Kind::Main).collect();
    let nothing_runs = !records.iter().any(|record| record.running() || record.starting);
    let mains_ran = mains.iter().any(|record| record.current.is_some());
    if !machine.initialized() && !mains_ran {
        return if terminal && nothing_runs && records.iter().any(|r| r.ended().is_some_and(|e| e.exit_code != 0)) {
            "Failed"
        } else {
            "Pending"
        };
    }
    if mains.iter().any(|record| record.current.is_none()) {
        return "Pending";
    }
    if mains.iter().any(|record| record.running()) {
        return "Running";
    }
    let succeeded = mains.iter().all(|record| record.ended().is_some_and(|ended| ended.exit_code == 0));
    if terminal && nothing_runs {
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    match policy {
        "Always" => "Running",
        // Sidecars still end: the pod's own work is done all the same.
        _ if machine.finished() && succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
}

fn container_status(container: &Container, record: &Record, has_inits: bool, comes_back: bool) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let mut status = ContainerStatus {
        name: record.name.clone(),
        image,
        last_state: record.last.as_ref().map(terminated_state).or_else(|| Some(ContainerState::default())),
        started: Some(false),
        resources: container.resources.clone().filter(|_| record.current.is_some()),
        allocated_resources: container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.clone())
            .filter(|_| record.current.is_some()),
        ..ContainerStatus::default()
    };
    let waiting = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    };
    let Some(instance) = &record.current else {
        status.state = Some(match &record.waiting {
            Some(why) => waiting(&why.reason, &why.message),
            None if has_inits => waiting("PodInitializing", ""),
            None => waiting("ContainerCreating", ""),
        });
        return status;
    };
    status.container_id = instance.id.as_ref().map(|id| format!("{SCHEME}{id}"));
    status.image = if instance.image.is_empty() { status.image } else { instance.image.clone() };
    status.image_id = instance.image_id.clone();
    status.restart_count = i32::try_from(instance.attempt).unwrap_or(i32::MAX);
    match (&instance.ended, &record.waiting) {
        (None, _) => {
            status.started = Some(record.started);
            status.ready = record.started && record.ready;
            status.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: instance.started_at.map(whole_seconds) }),
                ..ContainerState::default()
            });
        }
        (Some(ended), Some(why)) if comes_back => {
            status.state = Some(waiting(&why.reason, &why.message));
            status.last_state = Some(terminated_state(ended));
        }
        (Some(ended), _) => {
            status.state = Some(terminated_state(ended));
            // An init container that has done its work counts as ready.
            status.ready = record.kind == Kind::Init && ended.exit_code == 0;
        }
    }
    status
}

fn terminated_state(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: ended.id.as_ref().map(|id| format!("{SCHEME}{id}")),
            exit_code: ended.exit_code,
            signal: None,
            reason: (!ended.reason.is_empty()).then(|| ended.reason.clone()),
            message: (!ended.message.is_empty()).then(|| ended.message.clone()),
            started_at: ended.started_at.map(whole_seconds),
            finished_at: ended.finished_at.map(whole_seconds),
        }),
        ..ContainerState::default()
    }
}

/// The facts of a terminated state, back from the API: what a new process knows of containers that are gone.
pub fn ended_from(state: &ContainerStateTerminated) -> Ended {
    Ended {
        exit_code: state.exit_code,
        signal: state.signal,
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone().unwrap_or_default(),
        started_at: state.started_at.as_ref().map(|time| time.0),
        finished_at: state.finished_at.as_ref().map(|time| time.0),
        id: state.container_id.as_deref().map(|id| id.trim_start_matches(SCHEME).into()),
    }
}

/// The runtime's id of a container in a status.
pub fn id_from(status: &ContainerStatus) -> Option<containers::ContainerId> {
    status.container_id.as_deref()?.strip_prefix(SCHEME).map(Into::into)
}
