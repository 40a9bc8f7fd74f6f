//! Phases, conditions and container states, from facts to what the API shows.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::pod::model::{Instance, Model, Sandbox, SandboxInfo, Waiting};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn machine(spec: Value) -> Machine {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u1", "generation": 1 }, "spec": spec }))
    .unwrap();
    let mut model = Model::new(&pod);
    model.sandbox =
        Sandbox::Ready(SandboxInfo { id: "s".into(), ips: vec!["10.42.0.5".parse().unwrap()], netns: None });
    Machine::new(Arc::new(pod), model)
}

fn runs(machine: &mut Machine, index: usize, exit_code: Option<i32>) {
    let record = &mut machine.model.records[index];
    record.started = true;
    record.ready = true;
    record.current = Some(Instance {
        id: Some("c".into()),
        attempt: 0,
        sandbox: 0,
        image: "web:v1".into(),
        image_id: "sha256:1".into(),
        started_at: Some(at(5)),
        ended: exit_code.map(|exit_code| Ended { exit_code, reason: "Error".into(), ..Ended::default() }),
        log_path: None,
        stop_by: None,
    });
}

/// The conditions as `Type=Status/Reason`, without those that hold for no reason.
fn summary(status: &PodStatus) -> String {
    let conditions = status.conditions.iter().flatten().filter(|c| c.status != "True" || c.reason.is_some());
    let list: Vec<String> =
        conditions.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason.as_deref().unwrap_or_default())).collect();
    format!("{} {}", status.phase.as_deref().unwrap_or_default(), list.join(" ")).trim_end().to_owned()
}

fn derived(machine: &Machine) -> PodStatus {
    derive(machine, None, &["192.168.1.2".parse().unwrap()], at(100))
}

#[test]
fn phases_and_conditions() {
    let check = |policy: &str, exits: &[Option<Option<i32>>], expected: &str| {
        let containers: Vec<Value> = (0..exits.len()).map(|n| json!({ "name": format!("c{n}") })).collect();
        let mut machine = machine(json!({ "restartPolicy": policy, "containers": containers }));
        for (index, exit) in exits.iter().enumerate() {
            if let Some(exit) = exit {
                runs(&mut machine, index, *exit);
            }
        }
        assert_eq!(summary(&derived(&machine)), expected, "{policy} {exits:?}");
    };
    let running = Some(None);
    let exited = |code| Some(Some(code));
    check("Always", &[running], "Running");
    check("Always", &[None], "Pending Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady");
    check(
        "Always",
        &[running, None],
        "Pending Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady",
    );
    check(
        "Always",
        &[running, exited(1)],
        "Running Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady",
    );
    check("Always", &[exited(1)], "Running Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady");
    check(
        "Never",
        &[exited(0)],
        "Succeeded Initialized=True/PodCompleted Ready=False/PodCompleted ContainersReady=False/PodCompleted",
    );
    check("Never", &[exited(0), exited(3)], "Failed Ready=False/PodFailed ContainersReady=False/PodFailed");
    check("OnFailure", &[exited(3)], "Running Ready=False/ContainersNotReady ContainersReady=False/ContainersNotReady");
}

#[test]
fn a_pod_waits_for_its_init_containers() {
    let mut machine =
        machine(json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }, { "name": "b" }] }));
    let status = derived(&machine);
    assert_eq!(
        summary(&status),
        "Pending Initialized=False/ContainersNotInitialized Ready=False/ContainersNotReady \
         ContainersReady=False/ContainersNotReady"
    );
    let messages: Vec<String> = status.conditions.iter().flatten().filter_map(|c| c.message.clone()).collect();
    assert_eq!(messages[0], "containers with incomplete status: [i]");
    assert_eq!(messages[1], "containers with unready status: [a b]");
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    runs(&mut machine, 0, Some(0));
    let status = derived(&machine);
    assert!(status.init_container_statuses.unwrap()[0].ready);
    assert!(summary(&derived(&machine)).starts_with("Pending Ready=False"));
}

#[test]
fn a_waiting_restart_shows_how_the_last_run_ended() {
    let mut machine = machine(json!({ "containers": [{ "name": "a", "image": "web:v1" }] }));
    runs(&mut machine, 0, Some(7));
    machine.model.records[0].waiting = Some(Waiting { reason: "CrashLoopBackOff".into(), message: "m".into() });
    let status = derived(&machine).container_statuses.unwrap().remove(0);
    assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 7);
    assert_eq!(status.container_id.as_deref(), Some("plinth://c"));
}

#[test]
fn transition_times_stay_while_nothing_changes() {
    let mut machine = machine(json!({ "containers": [{ "name": "a" }] }));
    runs(&mut machine, 0, None);
    let first = derive(&machine, None, &[], at(100));
    let second = derive(&machine, Some(&first), &[], at(200));
    assert_eq!(first, second);
    machine.model.records[0].ready = false;
    let third = derive(&machine, Some(&second), &[], at(300));
    let since = |name: &str| {
        let conditions = third.conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == name).unwrap();
        found.last_transition_time.as_ref().unwrap().0.as_second()
    };
    assert_eq!((since("Ready"), since("Initialized")), (300, 100));
}

#[test]
fn readiness_gates_are_asked() {
    let mut machine =
        machine(json!({ "readinessGates": [{ "conditionType": "x/y" }], "containers": [{ "name": "a" }] }));
    runs(&mut machine, 0, None);
    assert_eq!(summary(&derived(&machine)), "Running Ready=False/ReadinessGatesNotReady");
}
