//! The pod's state machine: facts and time go in, actions come out. Every action says what its result is told to.
//!
//! Starts of one pod go one after the other, as their order is a promise (a container's post-start hook holds back the
//! ones behind it); everything else overlaps.

mod ending;
mod inputs;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{
    actions::{Action, Step},
    model::{Instance, Kind, Model, Sandbox, Waiting, restarts, spec_at},
};

pub use inputs::StartOutcome;

/// How long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(5);

/// A pod with what is known of it.
pub struct Machine {
    pub pod: Arc<Pod>,
    pub model: Model,
}

impl Machine {
    pub fn new(pod: Arc<Pod>, model: Model) -> Self {
        Machine { pod, model }
    }

    /// What is to be done now. Marks what it hands out as under way, so that asking again gives nothing new.
    pub fn step(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        self.check_deadline(now, &mut step);
        if self.ending() {
            self.end(now, &mut step);
            return step;
        }
        match &self.model.sandbox {
            Sandbox::Absent => match self.model.setup.not_before.filter(|_| !self.model.setup.due(now)) {
                Some(later) => step.wake_at(later),
                None => {
                    self.model.sandbox = Sandbox::SettingUp;
                    self.model.start_time.get_or_insert(now);
                    step.actions.push(Action::SetUp { attempt: self.model.sandbox_attempt });
                }
            },
            Sandbox::Ready(_) => self.start_containers(now, &mut step),
            Sandbox::SettingUp | Sandbox::TearingDown | Sandbox::Down => {}
        }
        step
    }

    /// Whether the pod's containers are to end: asked by the API, forced by the node, or because its work is done.
    pub fn ending(&self) -> bool {
        self.model.removed
            || self.model.failed.is_some()
            || self.pod.metadata.deletion_timestamp.is_some()
            || self.finished()
    }

    /// Whether every main container has ended for good, or an init container has failed for good.
    pub fn finished(&self) -> bool {
        let done = |index: usize| {
            let record = &self.model.records[index];
            let over = record.ended().is_some_and(|ended| !self.restarts(index, ended.exit_code));
            // One that was stopped for its new image is not done.
            let replaced = self.changed(index) && record.current.as_ref().is_some_and(|now| now.stop_by.is_some());
            over && !record.starting && !replaced
        };
        let indices = || 0..self.model.records.len();
        let init_failed = indices().any(|index| {
            let record = &self.model.records[index];
            record.kind == Kind::Init && record.ended().is_some_and(|ended| ended.exit_code != 0) && done(index)
        });
        let mut mains = indices().filter(|index| self.model.records[*index].kind == Kind::Main).peekable();
        init_failed || (mains.peek().is_some() && mains.all(done))
    }

    /// Whether the init containers have done their part in the current sandbox.
    pub fn initialized(&self) -> bool {
        let here = self.model.sandbox_attempt;
        let mut mains = self.model.records.iter().filter(|record| record.kind == Kind::Main);
        if mains.any(|record| record.current.as_ref().is_some_and(|instance| instance.sandbox == here)) {
            return true;
        }
        (0..self.model.records.len()).all(|index| self.passed(index))
    }

    /// Whether the containers behind this init container may start.
    fn passed(&self, index: usize) -> bool {
        let record = &self.model.records[index];
        match record.kind {
            Kind::Main => true,
            Kind::Sidecar => record.running() && record.started,
            Kind::Init => record.current.as_ref().is_some_and(|instance| {
                let done = instance.ended.as_ref().is_some_and(|ended| ended.exit_code == 0);
                done && instance.sandbox == self.model.sandbox_attempt
            }),
        }
    }

    fn start_containers(&mut self, now: Timestamp, step: &mut Step) {
        self.kill_changed(now, step);
        if self.model.records.iter().any(|record| record.starting) {
            return;
        }
        if self.initialized() {
            for index in 0..self.model.records.len() {
                if self.model.records[index].kind != Kind::Init && self.try_start(index, now, step) {
                    return;
                }
            }
            return;
        }
        for index in 0..self.model.records.len() {
            // A sidecar that crashed while later ones run is started again too.
            if self.passed(index) && self.model.records[index].kind != Kind::Main {
                continue;
            }
            self.try_start(index, now, step);
            return;
        }
    }

    /// Whether the spec names another image than the one that was started: the only part of a container that may
    /// change.
    fn changed(&self, index: usize) -> bool {
        let wanted = spec_at(&self.pod, index).and_then(|container| container.image.as_deref());
        let record = &self.model.records[index];
        let current = record.current.as_ref().filter(|_| record.kind != Kind::Init);
        current.is_some_and(|instance| !instance.image.is_empty() && Some(instance.image.as_str()) != wanted)
    }

    fn kill_changed(&mut self, now: Timestamp, step: &mut Step) {
        let grace = seconds(self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30));
        let pause = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        for index in 0..self.model.records.len() {
            let changed = self.changed(index);
            let record = &mut self.model.records[index];
            let Some(instance) = record.current.as_mut().filter(|instance| changed && instance.running()) else {
                continue;
            };
            if instance.stop_by.is_none() {
                instance.stop_by = Some(until);
                let message = format!("Container {} definition changed, will be restarted", record.name);
                step.actions.push(Action::Kill { index, grace, message });
            }
        }
    }

    /// Starts the container if it should run and no pause is in force. Returns whether a start was handed out.
    fn try_start(&mut self, index: usize, now: Timestamp, step: &mut Step) -> bool {
        if !self.should_start(index) || self.paused(index, now, step) {
            return false;
        }
        let Model { sandbox_attempt, records, .. } = &mut self.model;
        let record = &mut records[index];
        if let Some(instance) = &record.current
            && instance.sandbox == *sandbox_attempt
            && let Some(ended) = &instance.ended
        {
            record.crash.attempt(ended.finished_at.unwrap_or(now), now);
        }
        record.starting = true;
        step.actions.push(Action::Start { index, attempt: record.next_attempt });
        true
    }

    fn should_start(&self, index: usize) -> bool {
        let record = &self.model.records[index];
        match &record.current {
            None => true,
            Some(instance) => match &instance.ended {
                None => false,
                // In a new sandbox an init container runs again even if it was done.
                Some(_) if record.kind == Kind::Init && instance.sandbox != self.model.sandbox_attempt => true,
                Some(ended) => self.changed(index) || self.restarts(index, ended.exit_code),
            },
        }
    }

    /// Whether a pause holds the container back; tells how it shows meanwhile and when to look again.
    fn paused(&mut self, index: usize, now: Timestamp, step: &mut Step) -> bool {
        let pod_name = full_name(&self.pod);
        let (sandbox, changed) = (self.model.sandbox_attempt, self.changed(index));
        let record = &mut self.model.records[index];
        if let Some(failed_at) = record.pull_failed_at
            && let Some((until, _)) = record.pull.waiting(failed_at, now)
        {
            let flip = failed_at.checked_add(PULL_ERROR_SHOWN).unwrap_or(until).min(until);
            if now < flip {
                step.wake_at(flip);
            } else if let Some(waiting) = record.waiting.as_mut().filter(|waiting| waiting.reason == "ErrImagePull") {
                let image = spec_at(&self.pod, index).and_then(|c| c.image.as_deref()).unwrap_or_default();
                *waiting = Waiting {
                    reason: "ImagePullBackOff".into(),
                    message: format!("Back-off pulling image {image:?}: ErrImagePull: {}", waiting.message),
                };
                step.actions.push(Action::TellPullBackoff { index });
            }
            step.wake_at(until);
            return true;
        }
        if !record.retry.due(now) {
            step.wake_at(record.retry.not_before.unwrap_or(now));
            return true;
        }
        // What crashed with its old image says nothing of the new one.
        let same = |instance: &&Instance| instance.sandbox == sandbox && !changed;
        let Some(instance) = record.current.as_ref().filter(same) else {
            return false;
        };
        let Some(failed_at) = instance.ended.as_ref().map(|ended| ended.finished_at.unwrap_or(now)) else {
            return false;
        };
        let Some((until, pause)) = record.crash.waiting(failed_at, now) else { return false };
        if record.told_backoff != Some(until) {
            record.told_backoff = Some(until);
            record.waiting = Some(Waiting {
                reason: "CrashLoopBackOff".into(),
                message: format!(
                    "back-off {} restarting failed container={} pod={pod_name}",
                    go_duration(pause),
                    record.name
                ),
            });
            step.actions.push(Action::TellCrashBackoff { index });
        }
        step.wake_at(until);
        true
    }

    fn restarts(&self, index: usize, exit_code: i32) -> bool {
        let kind = self.model.records[index].kind;
        match (self.pod.spec.as_ref(), spec_at(&self.pod, index)) {
            (Some(spec), Some(container)) => restarts(spec, container, kind, exit_code),
            _ => false,
        }
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }
}

/// A pod as kubelet names it in messages: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// Whole seconds in the notation of Go's durations: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A number of seconds from a spec, never negative.
pub fn seconds(value: i64) -> Duration {
    Duration::from_secs(value.max(0).unsigned_abs())
}
