//! The pod's life as transcripts: what the machine is told, and the actions it answers with.

use containers::{ContainerId, SandboxId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::pod::{
    model::{Ended, SandboxInfo},
    probe::{ProbeKind, Verdict},
};

/// A machine with a clock in seconds, and its actions as lines.
struct Play {
    machine: Machine,
    now: i64,
}

impl Play {
    fn new(spec: Value) -> Self {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "u1" }, "spec": spec }))
        .unwrap();
        let model = Model::new(&pod);
        Play { machine: Machine::new(Arc::new(pod), model), now: 0 }
    }

    /// A pod whose sandbox is there.
    fn ready(spec: Value) -> Self {
        let mut play = Play::new(spec);
        assert_eq!(play.step(), ["setup 0"]);
        play.set_up();
        play
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn set_up(&mut self) {
        let info = SandboxInfo { id: SandboxId::from("s"), ips: vec!["10.0.0.1".parse().unwrap()], netns: None };
        self.machine.set_up_done(Some(info), self.at());
    }

    fn step(&mut self) -> Vec<String> {
        let step = self.machine.step(self.at());
        let name = |index: usize| self.machine.model.records[index].name.clone();
        step.actions
            .into_iter()
            .map(|action| match action {
                Action::SetUp { attempt } => format!("setup {attempt}"),
                Action::Start { index, attempt } => format!("start {} {attempt}", name(index)),
                Action::Kill { index, grace, .. } => format!("kill {} {}", name(index), grace.as_secs()),
                Action::TearDown => "teardown".to_owned(),
                Action::Finalize => "finalize".to_owned(),
                Action::Forget => "forget".to_owned(),
                Action::TellCrashBackoff { index } => format!("crash-backoff {}", name(index)),
                Action::TellPullBackoff { index } => format!("pull-backoff {}", name(index)),
            })
            .collect()
    }

    fn wakes_in(&mut self) -> Option<i64> {
        let wake = self.machine.step(self.at()).wake?;
        Some(wake.as_second() - self.now)
    }

    fn started(&mut self, index: usize) {
        let record = &self.machine.model.records[index];
        let instance = Instance {
            id: Some(ContainerId::from(format!("{}-{}", record.name, record.next_attempt).as_str())),
            attempt: record.next_attempt,
            sandbox: self.machine.model.sandbox_attempt,
            image: spec_at(&self.machine.pod, index).unwrap().image.clone().unwrap_or_default(),
            image_id: String::new(),
            started_at: Some(self.at()),
            ended: None,
            log_path: None,
            stop_by: None,
        };
        self.machine.start_done(index, StartOutcome::Made { instance: Box::new(instance), why: None }, self.at());
    }

    fn id(&self, index: usize) -> ContainerId {
        self.machine.model.records[index].current.as_ref().unwrap().id.clone().unwrap()
    }

    fn exits(&mut self, index: usize, exit_code: i32) {
        let id = self.id(index);
        let ended = Ended { exit_code, finished_at: Some(self.at()), ..Ended::default() };
        self.machine.ended(&id, ended);
    }

    fn delete(&mut self, grace: i64) {
        let mut pod = self.machine.pod.as_ref().clone();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.at()));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.machine.set_pod(Arc::new(pod));
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_pod_from_bound_to_gone() {
    let mut play = Play::ready(json!({ "containers": [{ "name": "a" }, { "name": "b" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    assert_eq!(play.step(), none());
    play.started(0);
    assert_eq!(play.step(), ["start b 0"]);
    play.started(1);
    assert_eq!(play.step(), none());
    play.delete(30);
    assert_eq!(play.step(), ["kill a 30", "kill b 30"]);
    assert_eq!(play.step(), none());
    play.exits(0, 0);
    assert_eq!(play.step(), none());
    play.exits(1, 143);
    assert_eq!(play.step(), ["teardown"]);
    play.machine.torn_down(true, play.at());
    // The object goes only once its last status is in the API.
    assert_eq!(play.step(), none());
    play.machine.model.reported = true;
    assert_eq!(play.step(), ["finalize"]);
    assert_eq!(play.step(), none());
    play.machine.removed();
    assert_eq!(play.step(), ["forget"]);
}

#[test]
fn a_crashing_container_waits_longer_each_time() {
    let mut play = Play::ready(json!({ "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    play.started(0);
    play.exits(0, 1);
    assert_eq!(play.step(), ["start a 1"]);
    play.started(0);
    play.exits(0, 1);
    assert_eq!(play.step(), ["crash-backoff a"]);
    assert_eq!(play.wakes_in(), Some(10));
    let waiting = play.machine.model.records[0].waiting.clone().unwrap();
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    assert_eq!(waiting.message, "back-off 10s restarting failed container=a pod=web_default(u1)");
    play.now = 10;
    assert_eq!(play.step(), ["start a 2"]);
    play.started(0);
    play.exits(0, 1);
    assert_eq!(play.step(), ["crash-backoff a"]);
    assert_eq!(play.wakes_in(), Some(20));
}

#[test]
fn policies_decide_what_runs_again() {
    let check = |policy: &str, exit_code: i32, expected: &str| {
        let mut play = Play::ready(json!({ "restartPolicy": policy, "containers": [{ "name": "a" }] }));
        assert_eq!(play.step(), ["start a 0"]);
        play.started(0);
        play.exits(0, exit_code);
        assert_eq!(play.step(), [expected], "{policy} {exit_code}");
    };
    check("Always", 0, "start a 1");
    check("OnFailure", 1, "start a 1");
    check("OnFailure", 0, "teardown");
    check("Never", 1, "teardown");
    check("Never", 0, "teardown");
}

#[test]
fn init_containers_run_in_order_and_sidecars_go_on() {
    let mut play = Play::ready(json!({
        "initContainers": [
            { "name": "i1" },
            { "name": "side", "restartPolicy": "Always", "startupProbe": {} },
            { "name": "i2" }],
        "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start i1 0"]);
    play.started(0);
    assert_eq!(play.step(), none());
    play.exits(0, 1);
    assert_eq!(play.step(), ["start i1 1"]);
    play.started(0);
    play.exits(0, 0);
    assert_eq!(play.step(), ["start side 0"]);
    play.started(1);
    assert_eq!(play.step(), none());
    let id = play.id(1);
    assert_eq!(play.machine.probed(&id, ProbeKind::Startup, Verdict::Success, play.at()), None);
    assert_eq!(play.step(), ["start i2 0"]);
    play.started(2);
    play.exits(2, 0);
    assert_eq!(play.step(), ["start a 0"]);
    play.started(3);
    play.exits(1, 0);
    assert_eq!(play.step(), ["start side 1"]);
    play.started(1);
    play.delete(30);
    assert_eq!(play.step(), ["kill a 30"]);
    play.exits(3, 0);
    assert_eq!(play.step(), ["kill side 30"]);
    play.exits(1, 0);
    assert_eq!(play.step(), ["teardown"]);
}

#[test]
fn sidecars_do_not_keep_a_finished_pod() {
    let mut play = Play::ready(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "side", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start side 0"]);
    play.started(0);
    assert_eq!(play.step(), ["start a 0"]);
    play.started(1);
    play.exits(1, 0);
    assert_eq!(play.step(), ["kill side 30"]);
}

#[test]
fn a_failed_pull_shows_and_waits() {
    let mut play = Play::ready(json!({ "containers": [{ "name": "a", "image": "x" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    let waiting = Waiting { reason: "ErrImagePull".into(), message: "no".into() };
    play.machine.start_done(0, StartOutcome::NoImage(waiting), play.at());
    assert_eq!(play.step(), none());
    assert_eq!(play.wakes_in(), Some(5));
    play.now = 5;
    assert_eq!(play.step(), ["pull-backoff a"]);
    let waiting = play.machine.model.records[0].waiting.clone().unwrap();
    assert_eq!(waiting.reason, "ImagePullBackOff");
    assert_eq!(waiting.message, "Back-off pulling image \"x\": ErrImagePull: no");
    assert_eq!(play.wakes_in(), Some(5));
    play.now = 10;
    assert_eq!(play.step(), ["start a 0"]);
}

#[test]
fn an_unhealthy_container_is_killed_once() {
    let probe = json!({ "terminationGracePeriodSeconds": 3 });
    let mut play = Play::ready(json!({ "containers": [{ "name": "a", "livenessProbe": probe }] }));
    assert_eq!(play.step(), ["start a 0"]);
    play.started(0);
    let id = play.id(0);
    let kill = play.machine.probed(&id, ProbeKind::Liveness, Verdict::Failure, play.at());
    let message = "Container a failed liveness probe, will be restarted".to_owned();
    assert_eq!(kill, Some(Action::Kill { index: 0, grace: Duration::from_secs(3), message }));
    assert_eq!(play.machine.probed(&id, ProbeKind::Liveness, Verdict::Failure, play.at()), None);
    play.exits(0, 137);
    assert_eq!(play.step(), ["start a 1"]);
}

#[test]
fn a_lost_sandbox_is_made_again_with_its_init_containers() {
    let mut play = Play::ready(json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start i 0"]);
    play.started(0);
    play.exits(0, 0);
    assert_eq!(play.step(), ["start a 0"]);
    play.started(1);
    assert!(play.machine.sandbox_lost(&SandboxId::from("s"), play.at()));
    assert!(!play.machine.sandbox_lost(&SandboxId::from("s"), play.at()));
    assert_eq!(play.step(), ["setup 1"]);
    play.set_up();
    assert_eq!(play.step(), ["start i 1"]);
    play.started(0);
    play.exits(0, 0);
    assert_eq!(play.step(), ["start a 1"]);
}

#[test]
fn a_pod_that_never_began_ends_without_containers() {
    let mut play = Play::new(json!({ "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["setup 0"]);
    play.machine.set_up_done(None, play.at());
    assert_eq!(play.step(), none());
    play.delete(30);
    assert_eq!(play.step(), ["teardown"]);
}

#[test]
fn a_second_deletion_hurries_the_first() {
    let mut play = Play::ready(json!({ "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    play.started(0);
    play.delete(30);
    assert_eq!(play.step(), ["kill a 30"]);
    play.delete(1);
    assert_eq!(play.step(), ["kill a 1"]);
}

#[test]
fn the_deadline_fails_the_pod() {
    let mut play = Play::ready(json!({ "activeDeadlineSeconds": 60, "containers": [{ "name": "a" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    play.started(0);
    assert_eq!(play.wakes_in(), Some(60));
    play.now = 60;
    assert_eq!(play.step(), ["kill a 30"]);
    assert_eq!(play.machine.model.failed.as_ref().unwrap().0, "DeadlineExceeded");
}

#[test]
fn a_new_image_replaces_the_container() {
    let mut play = Play::ready(json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "v1" }] }));
    assert_eq!(play.step(), ["start a 0"]);
    play.started(0);
    let mut pod = play.machine.pod.as_ref().clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("v2".into());
    play.machine.set_pod(Arc::new(pod));
    assert_eq!(play.step(), ["kill a 30"]);
    assert_eq!(play.step(), none());
    play.exits(0, 143);
    assert_eq!(play.step(), ["start a 1"]);
    play.started(0);
    play.exits(0, 0);
    assert_eq!(play.step(), ["teardown"]);
}

#[test]
fn durations_read_as_gos() {
    let check = |seconds, expected: &str| assert_eq!(go_duration(SignedDuration::from_secs(seconds)), expected);
    check(10, "10s");
    check(80, "1m20s");
    check(300, "5m0s");
    check(3600, "1h0m0s");
}
