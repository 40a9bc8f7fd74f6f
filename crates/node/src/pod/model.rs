//! What the node knows of a pod it runs: facts only, no decision.

use std::{net::IpAddr, path::PathBuf};

use containers::{ContainerId, SandboxId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::{CrashBackoff, Retry};

/// Which of a pod's lists a container stands in, and what that means for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next one.
    Init,
    /// An init container with `restartPolicy: Always`: has started before the next one, and goes on.
    Sidecar,
    Main,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub id: Option<ContainerId>,
}

/// One container of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `None` when it is known from the API only (the machine was restarted).
    pub id: Option<ContainerId>,
    pub attempt: u32,
    /// The sandbox it ran in, by attempt.
    pub sandbox: u32,
    pub image: String,
    pub image_id: String,
    pub started_at: Option<Timestamp>,
    pub ended: Option<Ended>,
    pub log_path: Option<PathBuf>,
    /// Set once it was told to stop: when it is killed at the latest.
    pub stop_by: Option<Timestamp>,
}

impl Instance {
    pub fn running(&self) -> bool {
        self.ended.is_none()
    }
}

/// Why a container does not run, in kubelet's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A container of the pod's spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub kind: Kind,
    pub current: Option<Instance>,
    pub last: Option<Ended>,
    /// Log of the instance before the current one.
    pub previous: Option<(ContainerId, Option<PathBuf>)>,
    /// The attempt number of the next instance.
    pub next_attempt: u32,
    pub waiting: Option<Waiting>,
    /// A start is under way.
    pub starting: bool,
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    /// The readiness probe says so, or there is none.
    pub ready: bool,
    pub crash: CrashBackoff,
    /// The image could not be had: since when, and the pauses between attempts.
    pub pull_failed_at: Option<Timestamp>,
    pub pull: CrashBackoff,
    /// A configuration error is tried again then.
    pub retry: Retry,
    /// The pause for which a BackOff event was asked.
    pub told_backoff: Option<Timestamp>,
}

impl Record {
    pub fn new(name: &str, kind: Kind) -> Self {
        Record {
            name: name.to_owned(),
            kind,
            current: None,
            last: None,
            previous: None,
            next_attempt: 0,
            waiting: None,
            starting: false,
            started: false,
            ready: false,
            crash: CrashBackoff::default(),
            pull_failed_at: None,
            pull: CrashBackoff::default(),
            retry: Retry::default(),
            told_backoff: None,
        }
    }

    pub fn running(&self) -> bool {
        self.current.as_ref().is_some_and(Instance::running)
    }

    pub fn ended(&self) -> Option<&Ended> {
        self.current.as_ref().and_then(|instance| instance.ended.as_ref())
    }
}

/// Where the pod's sandbox is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// None, or the last one was lost. Left by a set-up.
    #[default]
    Absent,
    /// Volumes, network and sandbox are being made. Left by the set-up's result.
    SettingUp,
    Ready(SandboxInfo),
    /// Containers have ended, the rest is being taken down. Left by its result.
    TearingDown,
    /// Nothing is left but dead containers and logs. Final.
    Down,
}

/// A sandbox that containers can start in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxInfo {
    pub id: SandboxId,
    /// The pod's address; on the host's network the node's.
    pub ips: Vec<IpAddr>,
    pub netns: Option<PathBuf>,
}

/// Everything known about the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub sandbox: Sandbox,
    /// Counts the pod's sandboxes; the current one's number.
    pub sandbox_attempt: u32,
    pub setup: Retry,
    pub teardown: Retry,
    /// Init containers in their order, then the others in theirs.
    pub records: Vec<Record>,
    pub start_time: Option<Timestamp>,
    /// The object is gone from the API (or was never there): end it, and report to nobody.
    pub removed: bool,
    /// Why the node ended the pod by itself: reason and message of its status.
    pub failed: Option<(String, String)>,
    /// The last status was accepted by the API.
    pub reported: bool,
    pub finalizing: bool,
    /// When everything must have ended, once ending has begun.
    pub end_by: Option<Timestamp>,
}

impl Model {
    /// A pod that nothing is known of but its spec.
    pub fn new(pod: &Pod) -> Self {
        let records = specs(pod).map(|(container, kind)| Record::new(&container.name, kind)).collect();
        Model {
            sandbox: Sandbox::Absent,
            sandbox_attempt: 0,
            setup: Retry::default(),
            teardown: Retry::default(),
            records,
            start_time: None,
            removed: false,
            failed: None,
            reported: false,
            finalizing: false,
            end_by: None,
        }
    }

    pub fn info(&self) -> Option<&SandboxInfo> {
        match &self.sandbox {
            Sandbox::Ready(info) => Some(info),
            _ => None,
        }
    }

    pub fn index_of(&self, id: &ContainerId) -> Option<usize> {
        self.records
            .iter()
            .position(|record| record.current.as_ref().and_then(|instance| instance.id.as_ref()) == Some(id))
    }
}

/// A pod's containers with their kinds, in the order in which they start.
pub fn specs(pod: &Pod) -> impl Iterator<Item = (&Container, Kind)> {
    let spec = pod.spec.as_ref();
    let inits = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let mains = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let kind = |container: &Container| match container.restart_policy.as_deref() {
        Some("Always") => Kind::Sidecar,
        _ => Kind::Init,
    };
    inits.iter().map(move |c| (c, kind(c))).chain(mains.iter().map(|c| (c, Kind::Main)))
}

/// The container at `index` of [`specs`].
pub fn spec_at(pod: &Pod, index: usize) -> Option<&Container> {
    specs(pod).nth(index).map(|(container, _)| container)
}

/// Whether a container that ended with `exit_code` runs again, by its own rules or the pod's policy.
pub fn restarts(spec: &PodSpec, container: &Container, kind: Kind, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match (kind, policy) {
        (Kind::Sidecar, _) => true,
        (_, "Never") => false,
        // An init container that has done its work is done, whatever the policy.
        (Kind::Init, _) | (_, "OnFailure") => exit_code != 0,
        _ => true,
    }
}
