//! What a Job shows: counters, and the conditions on its way to the end.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};

use super::Pass;
use crate::{Notice, meta, pod};

pub fn is_true(status: &JobStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

pub fn is_finished(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| is_true(status, "Complete") || is_true(status, "Failed"))
}

/// Whether the outcome is decided.
pub fn is_ending(status: &JobStatus) -> bool {
    is_true(status, "FailureTarget") || is_true(status, "SuccessCriteriaMet")
}

pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let end = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(end.last_transition_time.as_ref()?.0)
}

/// Sets a condition; says whether that changed its status.
pub fn set(status: &mut JobStatus, kind: &str, value: bool, reason: &str, message: &str, now: Timestamp) -> bool {
    let value = if value { "True" } else { "False" };
    let list = status.conditions.get_or_insert_default();
    let condition = JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(meta::api_time(now)),
        last_transition_time: Some(meta::api_time(now)),
    };
    match list.iter_mut().find(|present| present.type_ == kind) {
        Some(present) if present.status == value => false,
        Some(present) => {
            *present = condition;
            true
        }
        None => {
            list.push(condition);
            true
        }
    }
}

impl Pass<'_> {
    /// Computes the counters, and ends the Job when its last pod has gone and is counted.
    pub(super) fn finish(&mut self) {
        let int = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let going = self.delete.len();
        let active = self.active.len().saturating_sub(going) + self.create.len();
        self.status.active = (active > 0).then(|| int(active));
        let deleted =
            |pod: &k8s_openapi::api::core::v1::Pod| self.delete.iter().any(|d| d.metadata.uid == pod.metadata.uid);
        let ready = self.active.iter().filter(|pod| pod::is_ready(pod) && !deleted(pod)).count();
        self.status.ready = Some(int(ready));
        self.status.terminating = Some(int(self.terminating + going));
        let counted = self.uncounted(true) == 0 && self.uncounted(false) == 0 && self.untrack.is_empty();
        if !is_ending(&self.status) || active > 0 || self.terminating + going > 0 || !counted {
            return;
        }
        let now = self.input.now;
        let target =
            |status: &JobStatus, kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind).cloned();
        if let Some(failure) = target(&self.status, "FailureTarget").filter(|c| c.status == "True") {
            let (reason, message) = (failure.reason.unwrap_or_default(), failure.message.unwrap_or_default());
            set(&mut self.status, "Failed", true, &reason, &message, now);
            let reason = match reason.as_str() {
                "DeadlineExceeded" => "DeadlineExceeded",
                "PodFailurePolicy" => "PodFailurePolicy",
                _ => "BackoffLimitExceeded",
            };
            self.notices.push(Notice::warning(reason, message));
        } else if let Some(success) = target(&self.status, "SuccessCriteriaMet") {
            let (reason, message) = (success.reason.unwrap_or_default(), success.message.unwrap_or_default());
            set(&mut self.status, "Complete", true, &reason, &message, now);
            self.status.completion_time = Some(meta::api_time(now));
            self.notices.push(Notice::normal("Completed", "Job completed"));
        }
    }
}
