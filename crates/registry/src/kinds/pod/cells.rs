//! A pod's row: above all the one word that says how it fares.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    kinds::common::{age, name, or_none},
    scalar::parse_time,
    table::{Column, duration},
    value::{items, text},
};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::text("Status", "The aggregate status of the containers in this pod."),
    Column::text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
    Column::AGE,
    Column::text("IP", "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.").wide(),
    Column::text("Node", "nodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName.").wide(),
    Column::text("Nominated Node", "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods.").wide(),
    Column::text("Readiness Gates", "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\"").wide(),
];

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let restarts = match (summary.restarts, summary.last_restart) {
        (restarts @ 1.., Some(last)) => {
            format!("{restarts} ({} ago)", duration(now.as_second() - last.as_second()))
        }
        (restarts, _) => restarts.to_string(),
    };
    let ip = items(&status["podIPs"]).first().map_or(text(status, "podIP"), |ip| text(ip, "ip"));
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        readiness_gates(pod),
    ]
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts of some containers, and when the last was.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container["restartCount"].as_i64().unwrap_or(0);
        let finished = text(&container["lastState"]["terminated"], "finishedAt");
        self.last = self.last.max(parse_time(finished).ok());
    }
}

fn summarize(pod: &Value) -> Summary {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let is_sidecar = |container: &Value| text(container, "restartPolicy") == "Always";
    let sidecars: Vec<&str> =
        items(&spec["initContainers"]).iter().filter(|c| is_sidecar(c)).map(|c| text(c, "name")).collect();
    let mut reason = match text(status, "reason") {
        "" => text(status, "phase").to_owned(),
        reason => reason.to_owned(),
    };
    if condition(status, "PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let mut ready = 0;
    let mut all_restarts = Restarts::default();
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = false;
    for (at, container) in items(&status["initContainerStatuses"]).iter().enumerate() {
        let sidecar = sidecars.contains(&text(container, "name"));
        all_restarts.add(container);
        if sidecar {
            sidecar_restarts.add(container);
        }
        if sidecar && container["started"] == true {
            ready += usize::from(container["ready"] == true);
            continue;
        }
        match init_reason(container, at, items(&spec["initContainers"]).len()) {
            None => continue,
            Some(found) => {
                reason = found;
                initializing = true;
                break;
            }
        }
    }
    let mut restarts = all_restarts;
    if !initializing || condition(status, "Initialized").is_some_and(|c| text(c, "status") == "True") {
        restarts = sidecar_restarts;
        let mut running = false;
        // The first container in trouble gives the pod its word, so later ones are looked at first.
        for container in items(&status["containerStatuses"]).iter().rev() {
            restarts.add(container);
            match container_reason(container) {
                Some(found) => reason = found,
                None if container["ready"] == true && container["state"]["running"].is_object() => {
                    running = true;
                    ready += 1;
                }
                None => {}
            }
        }
        if reason == "Completed" && running {
            let is_ready = condition(status, "Ready").is_some_and(|c| text(c, "status") == "True");
            reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if !text(&pod["metadata"], "deletionTimestamp").is_empty() {
        if text(status, "reason") == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !matches!(text(status, "phase"), "Failed" | "Succeeded") {
            reason = "Terminating".to_owned();
        }
    }
    let total = items(&spec["containers"]).len() + sidecars.len();
    Summary { ready, total, reason, restarts: restarts.count, last_restart: restarts.last }
}

fn condition<'s>(status: &'s Value, kind: &str) -> Option<&'s Value> {
    items(&status["conditions"]).iter().find(|c| text(c, "type") == kind)
}

/// What an init container holds the pod up with; none if it is done.
fn init_reason(container: &Value, at: usize, total: usize) -> Option<String> {
    let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
    if terminated.is_object() {
        return match terminated["exitCode"].as_i64().unwrap_or(0) {
            0 => None,
            _ => Some(format!("Init:{}", terminated_reason(terminated))),
        };
    }
    Some(match text(waiting, "reason") {
        "" | "PodInitializing" => format!("Init:{at}/{total}"),
        reason => format!("Init:{reason}"),
    })
}

fn container_reason(container: &Value) -> Option<String> {
    let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
    match text(waiting, "reason") {
        "" if terminated.is_object() => Some(terminated_reason(terminated)),
        "" => None,
        reason => Some(reason.to_owned()),
    }
}

fn terminated_reason(terminated: &Value) -> String {
    match (text(terminated, "reason"), terminated["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = items(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = |gate: &&Value| {
        condition(&pod["status"], text(gate, "conditionType")).is_some_and(|c| text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(open).count(), gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: Value, expected: [&str; 3]) {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": status,
        });
        let cells = cells(&pod, Timestamp::from_second(1000).unwrap());
        assert_eq!(&cells[1..4], &expected.map(Value::from), "{}", pod["status"]);
    }

    #[test]
    fn one_word_says_how_a_pod_fares() {
        check(json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        let running = json!({"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "1970-01-01T00:15:00Z"}}});
        check(json!({"phase": "Running", "containerStatuses": [running]}), ["1/1", "Running", "2 (100s ago)"]);
        let crash = json!({"name": "a", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        check(json!({"phase": "Running", "containerStatuses": [crash]}), ["0/1", "CrashLoopBackOff", "1"]);
        let killed = json!({"name": "a", "state": {"terminated": {"signal": 9, "exitCode": 137}}});
        check(json!({"phase": "Failed", "containerStatuses": [killed]}), ["0/1", "Signal:9", "0"]);
        let init = json!({"name": "i", "state": {"running": {}}});
        check(json!({"phase": "Pending", "initContainerStatuses": [init]}), ["0/1", "Init:0/1", "0"]);
        let failed = json!({"name": "i", "state": {"terminated": {"exitCode": 3}}});
        check(json!({"phase": "Pending", "initContainerStatuses": [failed]}), ["0/1", "Init:ExitCode:3", "0"]);
    }
}
