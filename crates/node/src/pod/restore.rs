//! What a new process knows of a pod: from the runtime what runs and has run, from the API's status what the runtime
//! has forgotten.

use containers::{ContainerState, PodSandboxStatus, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::{
    model::{Ended, Instance, Kind, Model, Record, Sandbox, SandboxInfo, specs},
    start, status,
};
use crate::{context::Context, network::PodAddress};

/// Builds the model of a pod that may have run here before.
pub fn model(context: &Context, pod: &Pod, sandbox: Option<&PodSandboxStatus>, address: Option<&PodAddress>) -> Model {
    let mut model = Model::new(pod);
    let old = pod.status.clone().unwrap_or_default();
    model.start_time = old.start_time.as_ref().map(|time| time.0);
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    if let Some(sandbox) = sandbox {
        model.sandbox_attempt = sandbox.config.attempt;
        let ips = match (host_network, address) {
            (true, _) => context.host_ips.clone(),
            (false, Some(address)) => vec![address.ip],
            (false, None) => Vec::new(),
        };
        if sandbox.state == SandboxState::Ready && !ips.is_empty() {
            let netns = address.map(|address| address.netns.clone()).filter(|_| !host_network);
            model.sandbox = Sandbox::Ready(SandboxInfo { id: sandbox.id.clone(), ips, netns });
        }
    }
    let attempt = model.sandbox_attempt;
    let statuses: Vec<&ContainerStatus> =
        old.init_container_statuses.iter().flatten().chain(old.container_statuses.iter().flatten()).collect();
    for ((container, _), record) in specs(pod).zip(&mut model.records) {
        let told = statuses.iter().find(|status| status.name == container.name).copied();
        from_runtime(context, pod, container, sandbox, attempt, record);
        match told {
            Some(told) => from_api(told, container, attempt, context.clock.now(), record),
            None => {
                record.started = container.startup_probe.is_none();
                record.ready = container.readiness_probe.is_none();
            }
        }
        record.next_attempt = record.current.as_ref().map_or(0, |instance| instance.attempt + 1);
    }
    if model.sandbox == Sandbox::Absent && sandbox.is_some() {
        model.sandbox_attempt += 1;
        lose(&mut model, context.clock.now());
    }
    if sandbox.is_none() && model.records.iter().any(|record| record.current.is_some()) {
        // It ran in a sandbox that the machine has forgotten: what comes next is another one.
        model.sandbox_attempt += 1;
    }
    let phase = old.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        // What has ended for good stays so, whatever the machine has forgotten.
        if phase == "Failed" && !mains_ended(&model) {
            model.failed = Some((old.reason.clone().unwrap_or_default(), old.message.clone().unwrap_or_default()));
        }
        if sandbox.is_none() {
            model.sandbox = Sandbox::Down;
        }
    }
    model
}

fn mains_ended(model: &Model) -> bool {
    model.records.iter().filter(|record| record.kind == Kind::Main).all(|record| record.ended().is_some())
}

/// The newest container of that name is the current one, the one before it the previous.
fn from_runtime(
    context: &Context,
    pod: &Pod,
    container: &Container,
    sandbox: Option<&PodSandboxStatus>,
    attempt: u32,
    record: &mut Record,
) {
    let all = sandbox.iter().flat_map(|sandbox| &sandbox.containers);
    // One that was made and never started is of no use: the start begins again.
    let mut found: Vec<_> =
        all.filter(|status| status.name == container.name && status.state != ContainerState::Created).collect();
    found.sort_by_key(|status| status.attempt);
    if let Some(newest) = found.pop() {
        record.current = Some(start::instance(context, pod, container, newest, attempt));
    }
    if let Some(before) = found.pop() {
        record.last = Some(start::ended(context, pod, container, before));
        record.previous = Some((before.id.clone(), Some(before.log_path.clone())));
    }
}

fn from_api(told: &ContainerStatus, container: &Container, attempt: u32, now: Timestamp, record: &mut Record) {
    let last = told.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(status::ended_from);
    if let Some(instance) = &record.current {
        let same = instance.id == status::id_from(told);
        record.started = if same { told.started.unwrap_or(false) } else { container.startup_probe.is_none() };
        record.ready = if same { told.ready } else { container.readiness_probe.is_none() };
        if record.last.is_none() && same {
            record.last = last;
        }
        return;
    }
    let Some(state) = &told.state else { return };
    let count = u32::try_from(told.restart_count).unwrap_or(0);
    let ended = match (&state.terminated, &state.running, last) {
        (Some(ended), _, last) => {
            record.last = last;
            Some(status::ended_from(ended))
        }
        (None, Some(running), last) => {
            record.last = last;
            Some(Ended {
                started_at: running.started_at.as_ref().map(|time| time.0),
                id: status::id_from(told),
                ..unknown_end(now)
            })
        }
        // It waited for its next start: what it waited after is how it ended.
        (None, None, last) => last,
    };
    record.current = ended.map(|ended| Instance {
        id: ended.id.clone(),
        attempt: count,
        sandbox: attempt,
        image: told.image.clone(),
        image_id: told.image_id.clone(),
        started_at: ended.started_at,
        ended: Some(ended),
        log_path: None,
        stop_by: None,
    });
}

/// Containers that ran in a sandbox that is gone have ended in a way nobody saw.
fn lose(model: &mut Model, now: Timestamp) {
    for instance in model.records.iter_mut().filter_map(|record| record.current.as_mut()) {
        if instance.ended.is_none() {
            let ended = Ended { started_at: instance.started_at, id: instance.id.clone(), ..unknown_end(now) };
            instance.ended = Some(ended);
        }
    }
}

fn unknown_end(now: Timestamp) -> Ended {
    Ended {
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was terminated".into(),
        finished_at: Some(now),
        ..Ended::default()
    }
}
