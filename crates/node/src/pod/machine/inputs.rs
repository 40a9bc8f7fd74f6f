//! What the machine is told: results of its actions, ends of containers, verdicts of probes, new objects.

use std::{sync::Arc, time::Duration};

use containers::{ContainerId, SandboxId};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::{Machine, seconds};
use crate::pod::{
    actions::Action,
    model::{Ended, Instance, Kind, Sandbox, SandboxInfo, Waiting, spec_at},
    probe::{ProbeKind, Verdict},
};

/// How a start went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartOutcome {
    /// There is a container: running, or ended already (the process could not be started, the hook failed). `why`
    /// says how it shows until the next start when it ended for a reason of ours.
    Made { instance: Box<Instance>, why: Option<Waiting> },
    /// The image could not be pulled: as it shows, with pauses between attempts.
    NoImage(Waiting),
    /// Something in the pod's surroundings is wrong; the container was not made.
    NotMade(Waiting),
    /// The pod began to end meanwhile.
    Cancelled,
}

impl Machine {
    /// A newer version of the object.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        self.pod = pod;
    }

    /// The object is gone from the API.
    pub fn removed(&mut self) {
        self.model.removed = true;
        // A final delete that was under way has done its work.
        self.model.finalizing = false;
    }

    pub fn set_up_done(&mut self, result: Option<SandboxInfo>, now: Timestamp) {
        self.model.sandbox = match result {
            Some(info) => {
                self.model.setup.succeeded();
                Sandbox::Ready(info)
            }
            None => {
                self.model.setup.failed(now);
                Sandbox::Absent
            }
        };
    }

    pub fn start_done(&mut self, index: usize, outcome: StartOutcome, now: Timestamp) {
        let no_probe = |probe: fn(&k8s_openapi::api::core::v1::Container) -> bool| {
            spec_at(&self.pod, index).is_none_or(|container| !probe(container))
        };
        let (started, ready) = (no_probe(|c| c.startup_probe.is_some()), no_probe(|c| c.readiness_probe.is_some()));
        let record = &mut self.model.records[index];
        record.starting = false;
        match outcome {
            StartOutcome::Made { instance, why } => {
                if let Some(old) = record.current.take() {
                    record.previous = old.id.clone().map(|id| (id, old.log_path.clone()));
                    record.last = old.ended;
                }
                record.next_attempt = instance.attempt + 1;
                record.current = Some(*instance);
                record.waiting = why;
                record.started = started;
                record.ready = ready;
                record.pull_failed_at = None;
                record.retry.succeeded();
            }
            StartOutcome::NoImage(waiting) => {
                record.waiting = Some(waiting);
                record.pull.attempt(now, now);
                record.pull_failed_at = Some(now);
            }
            StartOutcome::NotMade(waiting) => {
                record.waiting = Some(waiting);
                record.retry.failed(now);
            }
            StartOutcome::Cancelled => {}
        }
    }

    /// A container's process has ended.
    pub fn ended(&mut self, id: &ContainerId, ended: Ended) {
        let Some(index) = self.model.index_of(id) else { return };
        let record = &mut self.model.records[index];
        if let Some(instance) = record.current.as_mut().filter(|instance| instance.ended.is_none()) {
            instance.ended = Some(ended);
            record.waiting = None;
            record.started = false;
            record.ready = false;
        }
    }

    /// The container could not be stopped: the next step tries again.
    pub fn kill_failed(&mut self, index: usize) {
        if let Some(instance) = self.model.records[index].current.as_mut() {
            instance.stop_by = None;
        }
    }

    /// The sandbox and everything in it is gone. Returns whether it was the current one.
    pub fn sandbox_lost(&mut self, id: &SandboxId, now: Timestamp) -> bool {
        if self.model.info().is_none_or(|info| info.id != *id) {
            return false;
        }
        for record in &mut self.model.records {
            record.ready = false;
            record.started = false;
            let Some(instance) = record.current.as_mut().filter(|instance| instance.running()) else { continue };
            instance.ended = Some(Ended {
                exit_code: 137,
                reason: "ContainerStatusUnknown".into(),
                message: "The container could not be located when the pod was terminated".into(),
                started_at: instance.started_at,
                finished_at: Some(now),
                id: instance.id.clone(),
                signal: None,
            });
        }
        self.model.sandbox = Sandbox::Absent;
        self.model.sandbox_attempt += 1;
        true
    }

    pub fn torn_down(&mut self, done: bool, now: Timestamp) {
        if done {
            self.model.sandbox = Sandbox::Down;
            self.model.teardown.succeeded();
        } else {
            self.model.sandbox = Sandbox::Absent;
            self.model.teardown.failed(now);
        }
    }

    pub fn finalize_failed(&mut self, now: Timestamp) {
        self.model.finalizing = false;
        self.model.teardown.failed(now);
    }

    /// What a probe of the container `id` has found out. May hand out a kill at once.
    pub fn probed(&mut self, id: &ContainerId, kind: ProbeKind, verdict: Verdict, now: Timestamp) -> Option<Action> {
        let index = self.model.index_of(id)?;
        let record = &mut self.model.records[index];
        match (kind, verdict) {
            _ if !record.running() => None,
            (ProbeKind::Startup, Verdict::Success) => {
                record.started = true;
                None
            }
            (ProbeKind::Readiness, verdict) => {
                record.ready = verdict == Verdict::Success;
                None
            }
            (ProbeKind::Liveness, Verdict::Success) => None,
            (ProbeKind::Liveness | ProbeKind::Startup, Verdict::Failure) => self.kill_unhealthy(index, kind, now),
        }
    }

    fn kill_unhealthy(&mut self, index: usize, kind: ProbeKind, now: Timestamp) -> Option<Action> {
        if self.ending() {
            return None;
        }
        let container = spec_at(&self.pod, index)?;
        let probe = match kind {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            _ => container.liveness_probe.as_ref(),
        };
        let of_pod = self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace: Duration = seconds(probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or(of_pod));
        let who = if self.model.records[index].kind == Kind::Main { "Container" } else { "Init container" };
        let mut message = format!("{who} {} failed {} probe", container.name, kind.name());
        // Any signal's exit code will do to ask whether it comes back.
        if self.restarts(index, 137) {
            message.push_str(", will be restarted");
        }
        let instance = self.model.records[index].current.as_mut()?;
        if instance.stop_by.is_some() {
            return None;
        }
        let grace_signed = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        instance.stop_by = Some(now.checked_add(grace_signed).unwrap_or(Timestamp::MAX));
        Some(Action::Kill { index, grace, message })
    }
}
