//! Job: runs pods until enough of them have succeeded, or too many have failed.
//!
//! ```text
//!   finished pod (holds a finalizer) ─▶ status.uncounted ─▶ finalizer off ─▶ status.succeeded / failed
//! ```
//!
//! The way through `uncountedTerminatedPods` makes each pod count once: its UID is written before its finalizer goes,
//! and the count is raised only after that, so that a crash at any point neither loses nor repeats one.

mod indexes;
mod policy;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};

use crate::{Notice, meta, pod, template};

pub use indexes::INDEX;

/// Holds a pod until it has been counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Pods created or deleted in one pass; the next pass goes on.
const BURST: usize = 500;
/// The first pause after a failure; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// UIDs that may wait to be counted.
const UNCOUNTED_MAX: usize = 500;

/// What is to be done, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Has to succeed before any finalizer is taken away.
    Status(Box<JobStatus>),
    /// Take [`FINALIZER`] from these pods: they are counted, or will never be.
    Untrack(Vec<Arc<Pod>>),
    Delete(Vec<Arc<Pod>>),
    Create(Vec<Pod>),
    DeleteJob,
    Notice(Notice),
    Again(Duration),
}

/// What the caches show: the pods whose managing owner the Job is.
pub struct Input<'a> {
    pub job: &'a Job,
    pub pods: &'a [Arc<Pod>],
    /// Whether the pods that earlier passes made and deleted show in the caches; otherwise none are made.
    pub settled: bool,
    pub now: Timestamp,
}

/// One pass over a Job.
pub fn reconcile(input: &Input<'_>) -> Vec<Action> {
    let Some(spec) = &input.job.spec else { return Vec::new() };
    if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
        return Vec::new();
    }
    if meta::is_deleting(&input.job.metadata) || status::is_finished(input.job) {
        return after_the_end(input, spec);
    }
    Pass::new(input, spec).run()
}

/// Whether the Job has come to its end.
pub fn is_finished(job: &Job) -> bool {
    status::is_finished(job)
}

/// Pods left over are let go, and the Job itself goes when its time is up.
fn after_the_end(input: &Input<'_>, spec: &JobSpec) -> Vec<Action> {
    let tracked: Vec<Arc<Pod>> =
        input.pods.iter().filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER)).cloned().collect();
    let mut actions = Vec::new();
    if !tracked.is_empty() {
        actions.push(Action::Untrack(tracked));
    }
    if let Some(seconds) = spec.ttl_seconds_after_finished
        && !meta::is_deleting(&input.job.metadata)
        && let Some(end) = status::finished_at(input.job)
    {
        let due = meta::after(end, meta::seconds(seconds.into()));
        actions.push(meta::until(input.now, due).map_or(Action::DeleteJob, Action::Again));
    }
    actions
}

/// The state of one pass.
struct Pass<'a> {
    input: &'a Input<'a>,
    spec: &'a JobSpec,
    status: JobStatus,
    active: Vec<Arc<Pod>>,
    terminating: usize,
    notices: Vec<Notice>,
    untrack: Vec<Arc<Pod>>,
    delete: Vec<Arc<Pod>>,
    create: Vec<Pod>,
    again: Option<Duration>,
    completed: BTreeSet<i32>,
}

impl<'a> Pass<'a> {
    fn new(input: &'a Input<'a>, spec: &'a JobSpec) -> Self {
        let status = input.job.status.clone().unwrap_or_default();
        let completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
        Pass {
            input,
            spec,
            status,
            active: input.pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect(),
            terminating: input.pods.iter().filter(|pod| pod::is_terminating(pod)).count(),
            notices: Vec::new(),
            untrack: Vec::new(),
            delete: Vec::new(),
            create: Vec::new(),
            again: None,
            completed,
        }
    }

    fn run(mut self) -> Vec<Action> {
        let suspended = self.spec.suspend == Some(true);
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(meta::api_time(self.input.now));
        }
        self.count();
        if status::is_ending(&self.status) {
            // The verdict stands; what is left is to see the last pods go.
        } else if let Some((reason, message)) = self.failure() {
            status::set(&mut self.status, "FailureTarget", true, reason, &message, self.input.now);
        } else if self.has_succeeded() {
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            status::set(&mut self.status, "SuccessCriteriaMet", true, reason, message, self.input.now);
        }
        if status::is_ending(&self.status) {
            self.delete = self.active.clone();
        } else if suspended {
            self.suspend();
        } else {
            self.resume();
            self.manage();
        }
        self.finish();
        self.actions()
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_uncounted(&self, uid: &str) -> bool {
        let uncounted = self.status.uncounted_terminated_pods.iter();
        uncounted.flat_map(|u| u.succeeded.iter().flatten().chain(u.failed.iter().flatten())).any(|one| one == uid)
    }

    /// Moves the pods that have ended one step on their way into the counts.
    fn count(&mut self) {
        // UIDs whose pods have lost their finalizer (or are gone) are counted now.
        let tracked = |uid: &String| {
            let mut pods = self.input.pods.iter();
            pods.any(|p| p.metadata.uid.as_ref() == Some(uid) && meta::has_finalizer(&p.metadata, FINALIZER))
        };
        let mut uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let settle = |list: &mut Option<Vec<String>>| {
            let before = list.as_ref().map_or(0, Vec::len);
            let left: Vec<String> = list.take().into_iter().flatten().filter(tracked).collect();
            let counted = i32::try_from(before - left.len()).unwrap_or(0);
            *list = (!left.is_empty()).then_some(left);
            counted
        };
        let (succeeded, failed) = (settle(&mut uncounted.succeeded), settle(&mut uncounted.failed));
        if succeeded > 0 && !self.is_indexed() {
            self.status.succeeded = Some(self.status.succeeded.unwrap_or(0) + succeeded);
        }
        if failed > 0 {
            self.status.failed = Some(self.status.failed.unwrap_or(0) + failed);
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        for pod in self.input.pods {
            if !meta::has_finalizer(&pod.metadata, FINALIZER) {
                continue;
            }
            if let Some(success) = self.verdict(pod) {
                self.note(pod, success);
            }
        }
        if self.is_indexed() {
            self.status.completed_indexes = indexes::format(&self.completed);
            let count = i32::try_from(self.completed.len()).unwrap_or(i32::MAX);
            self.status.succeeded = (count > 0).then_some(count);
        }
    }

    /// Whether a pod has ended, and how. `None`: it has not.
    fn verdict(&self, pod: &Pod) -> Option<bool> {
        let only_failed =
            self.spec.pod_failure_policy.is_some() || self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        match pod::phase(pod) {
            "Succeeded" => Some(true),
            "Failed" => Some(false),
            // A pod that was deleted counts as failed, unless replacements wait for the end.
            _ if meta::is_deleting(&pod.metadata) && !only_failed => Some(false),
            _ => None,
        }
    }

    fn note(&mut self, pod: &Arc<Pod>, success: bool) {
        let uid = meta::uid(&pod.metadata).to_owned();
        let known = self.is_uncounted(&uid);
        let ignored = !success && !known && policy::ignores(self.spec, pod);
        let index = indexes::of(pod);
        if self.is_indexed() {
            let valid = index.is_some_and(|index| index < self.spec.completions.unwrap_or(0));
            if success && valid {
                self.completed.extend(index);
            }
        }
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        let size = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        if !ignored && !known {
            if size(&uncounted.succeeded) + size(&uncounted.failed) >= UNCOUNTED_MAX {
                return;
            }
            let list = if success { &mut uncounted.succeeded } else { &mut uncounted.failed };
            list.get_or_insert_default().push(uid);
        }
        self.untrack.push(pod.clone());
    }

    fn uncounted(&self, success: bool) -> i32 {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let list = if success { uncounted.succeeded } else { uncounted.failed };
        list.map_or(0, |list| i32::try_from(list.len()).unwrap_or(i32::MAX))
    }

    fn succeeded(&self) -> i32 {
        // Indexed completions are counted by index, and those are noted at once.
        let waiting = if self.is_indexed() { 0 } else { self.uncounted(true) };
        self.status.succeeded.unwrap_or(0) + waiting
    }

    fn failed(&self) -> i32 {
        self.status.failed.unwrap_or(0) + self.uncounted(false)
    }

    /// Why the Job has to be given up.
    fn failure(&mut self) -> Option<(&'static str, String)> {
        let failed = self.input.pods.iter().filter(|pod| self.verdict(pod) == Some(false));
        if let Some(message) = failed.filter_map(|pod| policy::fails_job(self.spec, pod)).next() {
            return Some(("PodFailurePolicy", message));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let restarts = || {
            let on_failure = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
            let sum: i32 = self.active.iter().map(|pod| pod_restarts(pod)).sum();
            on_failure == Some("OnFailure") && if limit == 0 { sum > 0 } else { sum >= limit }
        };
        if self.failed() > limit || restarts() {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".into()));
        }
        let (start, seconds) = (self.status.start_time.as_ref()?.0, self.spec.active_deadline_seconds?);
        if self.spec.suspend == Some(true) {
            return None;
        }
        match meta::until(self.input.now, meta::after(start, meta::seconds(seconds))) {
            Some(left) => self.look_again(left),
            None => return Some(("DeadlineExceeded", "Job was active longer than specified deadline".into())),
        }
        None
    }

    fn look_again(&mut self, after: Duration) {
        self.again = crate::sooner(self.again, Some(after));
    }

    fn has_succeeded(&self) -> bool {
        match self.spec.completions {
            // Without a number one success decides, once the others have ended as well.
            None => self.succeeded() > 0 && self.active.is_empty(),
            Some(completions) => self.succeeded() >= completions,
        }
    }

    fn suspend(&mut self) {
        self.delete = self.active.clone();
        self.status.start_time = None;
        if status::set(&mut self.status, "Suspended", true, "JobSuspended", "Job suspended", self.input.now) {
            self.notices.push(Notice::normal("Suspended", "Job suspended"));
        }
    }

    fn resume(&mut self) {
        if !status::is_true(&self.status, "Suspended") {
            return;
        }
        status::set(&mut self.status, "Suspended", false, "JobResumed", "Job resumed", self.input.now);
        self.status.start_time = Some(meta::api_time(self.input.now));
        self.notices.push(Notice::normal("Resumed", "Job resumed"));
    }

    /// Makes or takes pods until as many run as should.
    fn manage(&mut self) {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let wanted = match self.spec.completions {
            None if self.succeeded() > 0 => self.active.len(),
            None => usize::try_from(parallelism).unwrap_or(0),
            Some(all) => usize::try_from(parallelism.min(all - self.succeeded())).unwrap_or(0),
        };
        let mut active = self.active.clone();
        if self.is_indexed() {
            let surplus = indexes::surplus(&active, &self.completed, self.spec.completions.unwrap_or(0));
            active.retain(|pod| !surplus.iter().any(|other| other.metadata.uid == pod.metadata.uid));
            self.delete = surplus;
        }
        if active.len() > wanted {
            pod::rank_for_deletion(&mut active, |_| 0, self.input.now);
            active.truncate((active.len() - wanted).min(BURST));
            self.delete.append(&mut active);
            return;
        }
        // With the policy `Failed` a pod on its way out still holds its place.
        let waits =
            self.spec.pod_failure_policy.is_some() || self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let held = if waits { self.terminating } else { 0 };
        let missing = wanted.saturating_sub(active.len() + held).min(BURST);
        if missing == 0 || !self.input.settled {
            return;
        }
        if let Some(left) = self.backoff() {
            self.look_again(left);
            return;
        }
        self.create = self.new_pods(missing);
    }

    /// How long the next pods have to wait because earlier ones failed.
    fn backoff(&self) -> Option<Duration> {
        let ends = self.input.pods.iter().filter(|pod| pod::is_finished(pod));
        let mut ends: Vec<(Timestamp, bool)> =
            ends.map(|pod| (policy::ended_at(pod), pod::phase(pod) == "Succeeded")).collect();
        // Of those that ended in the same second the failures count as the later ones.
        ends.sort_unstable_by_key(|(time, success)| (*time, !success));
        let failures = ends.iter().rev().take_while(|(_, success)| !success).count();
        let last = ends.last().filter(|_| failures > 0)?.0;
        let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(6);
        let pause = (BACKOFF_MIN * 2u32.pow(doublings)).min(BACKOFF_MAX);
        meta::until(self.input.now, meta::after(last, pause))
    }

    fn new_pods(&self, count: usize) -> Vec<Pod> {
        if !self.is_indexed() {
            return (0..count).map(|_| self.new_pod()).collect();
        }
        let mut taken = self.completed.clone();
        let gone = |pod: &&Arc<Pod>| pod::is_finished(pod) || pod::is_terminating(pod);
        taken.extend(self.input.pods.iter().filter(|pod| !gone(pod)).filter_map(|pod| indexes::of(pod)));
        let free = (0..self.spec.completions.unwrap_or(0)).filter(|index| !taken.contains(index));
        free.take(count).map(|index| self.indexed_pod(index)).collect()
    }

    fn new_pod(&self) -> Pod {
        let job = self.input.job;
        let mut pod =
            template::pod(&self.spec.template, meta::namespace(&job.metadata), meta::controller_reference(job));
        pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
        let labels = pod.metadata.labels.get_or_insert_default();
        let (name, uid) = (meta::name(&job.metadata), meta::uid(&job.metadata));
        for (key, value) in [("batch.kubernetes.io/job-name", name), ("batch.kubernetes.io/controller-uid", uid)] {
            labels.entry(key.into()).or_insert_with(|| value.into());
        }
        pod
    }

    fn indexed_pod(&self, index: i32) -> Pod {
        let mut pod = self.new_pod();
        let name = meta::name(&self.input.job.metadata);
        pod.metadata.generate_name = Some(template::generate_name(&format!("{name}-{index}")));
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
        pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname.get_or_insert_with(|| format!("{name}-{index}"));
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|var| var.name == "JOB_COMPLETION_INDEX") {
                let field =
                    ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
                env.push(EnvVar {
                    name: "JOB_COMPLETION_INDEX".into(),
                    value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
                    ..EnvVar::default()
                });
            }
        }
        pod
    }

    fn actions(mut self) -> Vec<Action> {
        self.delete.truncate(BURST);
        let mut actions = Vec::new();
        if self.input.job.status.as_ref() != Some(&self.status) {
            actions.push(Action::Status(Box::new(self.status)));
        }
        if !self.untrack.is_empty() {
            actions.push(Action::Untrack(self.untrack));
        }
        if !self.delete.is_empty() {
            actions.push(Action::Delete(self.delete));
        }
        if !self.create.is_empty() {
            actions.push(Action::Create(self.create));
        }
        actions.extend(self.notices.into_iter().map(Action::Notice));
        actions.extend(self.again.map(Action::Again));
        actions
    }
}

fn pod_restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    statuses.map(|status| status.restart_count).sum()
}
