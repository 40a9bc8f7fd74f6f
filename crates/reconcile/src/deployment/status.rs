//! What a Deployment shows: counters, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus};

use super::{Member, Rollout};
use crate::{meta, sooner};

const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

pub(super) fn condition(
    kind: &str,
    value: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(meta::api_time(now)),
        last_transition_time: Some(meta::api_time(now)),
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Sets a condition, unless it says the same already; a status that stays keeps its transition's time.
pub(super) fn set_condition(status: &mut DeploymentStatus, mut wanted: DeploymentCondition) {
    if let Some(present) = find(status, &wanted.type_) {
        if present.status == wanted.status && present.reason == wanted.reason {
            return;
        }
        if present.status == wanted.status {
            wanted.last_transition_time = present.last_transition_time.clone();
        }
    }
    remove(status, &wanted.type_);
    status.conditions.get_or_insert_default().push(wanted);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
    status.conditions = status.conditions.take().filter(|conditions| !conditions.is_empty());
}

fn reason(condition: Option<&DeploymentCondition>) -> &str {
    condition.and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
}

impl Rollout {
    pub(super) fn has_deadline(&self) -> bool {
        self.deadline().is_some()
    }

    fn deadline(&self) -> Option<Duration> {
        let seconds = self.deployment.spec.as_ref()?.progress_deadline_seconds?;
        // The largest number means that there is none.
        (seconds != i32::MAX).then(|| meta::seconds(seconds.into()))
    }

    pub(super) fn current_condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        find(self.deployment.status.as_ref()?, kind)
    }

    /// Sets a condition on the working copy; the final status is computed on top of it.
    pub(super) fn set_condition(&mut self, condition: DeploymentCondition) {
        let before = self.deployment.status.clone();
        set_condition(self.deployment.status.get_or_insert_default(), condition);
        if self.deployment.status != before {
            self.status = self.deployment.status.clone();
        }
    }

    /// Marks that this generation was seen, and no more.
    pub(super) fn observe(&mut self) {
        let status = self.deployment.status.get_or_insert_default();
        if status.observed_generation < self.deployment.metadata.generation {
            status.observed_generation = self.deployment.metadata.generation;
            self.status = Some(status.clone());
        }
    }

    /// A pause stops the progress clock; going on starts it again.
    pub(super) fn check_paused(&mut self) {
        if !self.has_deadline() {
            return;
        }
        let present = reason(self.current_condition(PROGRESSING));
        if present == TIMED_OUT {
            return;
        }
        let was_paused = present == PAUSED;
        if self.is_paused() && !was_paused {
            self.set_condition(condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", self.now));
        } else if !self.is_paused() && was_paused {
            let message = "Deployment is resumed";
            self.set_condition(condition(PROGRESSING, "Unknown", "DeploymentResumed", message, self.now));
        }
    }

    /// Whether every pod is new, there and available, as far as the sets' status tells.
    pub(super) fn is_complete(&self) -> bool {
        self.completes(&self.counters())
    }

    fn completes(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.replicas();
        let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
        is(status.updated_replicas)
            && is(status.replicas)
            && is(status.available_replicas)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn counters(&self) -> DeploymentStatus {
        let sum = |count: &dyn Fn(&ReplicaSetStatus) -> i32| -> i32 {
            self.members().filter_map(|member| member.set.status.as_ref()).map(count).sum()
        };
        let available = sum(&|status| status.available_replicas.unwrap_or(0));
        let updated = self.new.as_ref().and_then(|new| new.set.status.as_ref()).map_or(0, |status| status.replicas);
        let nonzero = |count: i32| (count != 0).then_some(count);
        let present = self.deployment.status.clone().unwrap_or_default();
        let mut status = DeploymentStatus {
            replicas: nonzero(sum(&|status| status.replicas)),
            updated_replicas: nonzero(updated),
            ready_replicas: nonzero(sum(&|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((self.total_wanted() - available).max(0)),
            terminating_replicas: Some(sum(&|status| status.terminating_replicas.unwrap_or(0))),
            observed_generation: self.deployment.metadata.generation,
            collision_count: present.collision_count,
            conditions: present.conditions,
        };
        let (value, reason, message) = if available >= self.replicas() - self.max_unavailable() {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set_condition(&mut status, condition("Available", value, reason, message, self.now));
        status
    }

    /// Computes the status and asks for its write if it differs from what is shown.
    pub(super) fn sync_status(&mut self) {
        let mut status = self.counters();
        // While paused nothing progresses and nothing times out.
        if !self.is_paused() && !meta::is_deleting(&self.deployment.metadata) {
            self.set_progress(&mut status);
        }
        match self.replica_failure() {
            Some(failure) => set_condition(&mut status, failure),
            None => remove(&mut status, REPLICA_FAILURE),
        }
        self.again = sooner(self.again, self.until_deadline(&status));
        if self.status.is_some() || self.deployment.status.as_ref() != Some(&status) {
            self.status = Some(status);
        }
    }

    fn set_progress(&self, status: &mut DeploymentStatus) {
        if !self.has_deadline() {
            remove(status, PROGRESSING);
            return;
        }
        let present = self.current_condition(PROGRESSING);
        if status.replicas == status.updated_replicas && reason(present) == COMPLETE {
            return;
        }
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet \"{}\"", meta::name(&new.set.metadata)),
            None => format!("Deployment \"{}\"", meta::name(&self.deployment.metadata)),
        };
        if self.completes(status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(status, condition(PROGRESSING, "True", COMPLETE, message, self.now));
        } else if self.progresses(status) {
            let mut wanted =
                condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."), self.now);
            if let Some(present) = present.filter(|present| present.status == "True") {
                wanted.last_transition_time = present.last_transition_time.clone();
            }
            // Removed first, so that its update time moves: the deadline counts from the last progress.
            remove(status, PROGRESSING);
            set_condition(status, wanted);
        } else if self.timed_out() {
            let message = format!("{subject} has timed out progressing.");
            set_condition(status, condition(PROGRESSING, "False", TIMED_OUT, message, self.now));
        }
    }

    fn progresses(&self, status: &DeploymentStatus) -> bool {
        let before = self.deployment.status.clone().unwrap_or_default();
        let count = |count: Option<i32>| count.unwrap_or(0);
        let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
        count(status.updated_replicas) > count(before.updated_replicas)
            || old(status) < old(&before)
            || count(status.ready_replicas) > count(before.ready_replicas)
            || count(status.available_replicas) > count(before.available_replicas)
    }

    fn deadline_at(&self, condition: Option<&DeploymentCondition>) -> Option<Timestamp> {
        Some(meta::after(condition?.last_update_time.as_ref()?.0, self.deadline()?))
    }

    fn timed_out(&self) -> bool {
        let present = self.current_condition(PROGRESSING);
        match reason(present) {
            COMPLETE => false,
            TIMED_OUT => true,
            _ => self.deadline_at(present).is_some_and(|deadline| deadline < self.now),
        }
    }

    /// How long until a rollout that makes no progress has to be called stuck.
    fn until_deadline(&self, status: &DeploymentStatus) -> Option<Duration> {
        let present = find(status, PROGRESSING);
        if self.is_paused() || self.completes(status) || matches!(reason(present), TIMED_OUT | COMPLETE) {
            return None;
        }
        let deadline = self.deadline_at(present)?;
        // A second more, as the times that the API stores are cut to seconds.
        Some(meta::until(self.now, deadline).unwrap_or_default() + Duration::from_secs(1))
    }

    fn replica_failure(&self) -> Option<DeploymentCondition> {
        let failure = |member: &Member| {
            let conditions = member.set.status.as_ref()?.conditions.as_deref()?;
            conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE).cloned()
        };
        let failure = self.members().find_map(failure)?;
        let mut wanted = condition(REPLICA_FAILURE, &failure.status, "", "", self.now);
        (wanted.reason, wanted.message) = (failure.reason, failure.message);
        Some(wanted)
    }
}
