//! How a pod ends: containers by grace and order, then the rest, then the object.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Machine, seconds};
use crate::pod::{
    actions::{Action, Step},
    model::{Kind, Sandbox},
};

/// What a pod gets whose object is gone already: as much as kubelet grants a forced deletion.
const REMOVED_GRACE: i64 = 1;
/// A pod's grace where its spec says nothing.
const DEFAULT_GRACE: i64 = 30;

impl Machine {
    /// `activeDeadlineSeconds`: past it the node ends the pod by itself.
    pub(super) fn check_deadline(&mut self, now: Timestamp, step: &mut Step) {
        let limit = self.spec().and_then(|spec| spec.active_deadline_seconds);
        let (Some(limit), Some(start)) = (limit, self.model.start_time) else { return };
        if self.ending() {
            return;
        }
        let at = start.checked_add(SignedDuration::from_secs(limit)).unwrap_or(Timestamp::MAX);
        if now < at {
            step.wake_at(at);
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.model.failed = Some(("DeadlineExceeded".into(), message.into()));
    }

    pub(super) fn end(&mut self, now: Timestamp, step: &mut Step) {
        let by = now.checked_add(SignedDuration::from_secs(self.grace())).unwrap_or(Timestamp::MAX);
        let end_by = self.model.end_by.map_or(by, |earlier| earlier.min(by));
        self.model.end_by = Some(end_by);
        self.kill_in_order(now, end_by, step);
        if self.model.records.iter().any(|record| record.running() || record.starting) {
            return;
        }
        match self.model.sandbox {
            Sandbox::Absent | Sandbox::Ready(_) => {
                if !self.model.teardown.due(now) {
                    step.wake_at(self.model.teardown.not_before.unwrap_or(now));
                    return;
                }
                self.model.sandbox = Sandbox::TearingDown;
                step.actions.push(Action::TearDown);
            }
            Sandbox::SettingUp | Sandbox::TearingDown => {}
            Sandbox::Down => self.leave(now, step),
        }
    }

    fn leave(&mut self, now: Timestamp, step: &mut Step) {
        if self.model.finalizing {
            return;
        }
        if self.model.removed {
            self.model.finalizing = true;
            step.actions.push(Action::Forget);
        } else if self.pod.metadata.deletion_timestamp.is_some() && self.model.reported {
            if !self.model.teardown.due(now) {
                step.wake_at(self.model.teardown.not_before.unwrap_or(now));
                return;
            }
            self.model.finalizing = true;
            step.actions.push(Action::Finalize);
        }
    }

    fn grace(&self) -> i64 {
        let asked = self.pod.metadata.deletion_grace_period_seconds;
        let spec = self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
        if self.model.removed { asked.unwrap_or(REMOVED_GRACE).min(REMOVED_GRACE) } else { asked.unwrap_or(spec) }
    }

    /// Main and init containers at once; then sidecars, the last started first.
    fn kill_in_order(&mut self, now: Timestamp, end_by: Timestamp, step: &mut Step) {
        let others = self.model.records.iter().any(|record| record.kind != Kind::Sidecar && record.running());
        let last_sidecar =
            self.model.records.iter().rposition(|record| record.kind == Kind::Sidecar && record.running());
        let late = end_by <= now;
        for (index, record) in self.model.records.iter_mut().enumerate() {
            let turn = match record.kind {
                Kind::Sidecar => late || (!others && Some(index) == last_sidecar),
                Kind::Init | Kind::Main => true,
            };
            let Some(instance) = record.current.as_mut().filter(|instance| instance.running() && turn) else {
                continue;
            };
            // A shorter grace than before is passed on, so that a second deletion can hurry the first.
            if instance.stop_by.is_some_and(|stop_by| stop_by <= end_by) {
                continue;
            }
            instance.stop_by = Some(end_by);
            let grace = Duration::try_from(end_by.duration_since(now)).unwrap_or_else(|_| seconds(0));
            let message = format!("Stopping container {}", record.name);
            step.actions.push(Action::Kill { index, grace, message });
        }
        if others && last_sidecar.is_some() {
            step.wake_at(end_by.max(now));
        }
    }
}
