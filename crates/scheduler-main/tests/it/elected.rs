//! Who leads.

use serde_json::Value;

use crate::{
    api::Api,
    scheduler::{Scheduler, ours, real},
};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler";

/// Short times, of which the lease's counts in whole seconds.
fn arguments(api: &Api) -> Vec<String> {
    let times = ["lease-duration=3s", "renew-deadline=2s", "retry-period=300ms"];
    let mut arguments = vec![format!("--kubeconfig={}", api.kubeconfig().display())];
    arguments.extend(times.map(|time| format!("--leader-elect-{time}")));
    arguments
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_takes_over() {
    let api = Api::start().await;
    let mut first = Scheduler::start(&ours(), &arguments(&api));
    first.says("\"Successfully acquired lease\" lock=\"kube-system/kube-scheduler\"").await;
    let lease = api.wait(LEASE, "held", |lease| !holder(lease).is_empty()).await;
    let spec = &lease["spec"];
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(holder(&lease).starts_with(&format!("{}_", host.trim())), "{lease}");
    assert_eq!((&spec["leaseTransitions"], &spec["leaseDurationSeconds"]), (&Value::from(0), &Value::from(3)));
    for time in ["acquireTime", "renewTime"] {
        // Microseconds, all six digits.
        assert_eq!(spec[time].as_str().unwrap().len(), "2026-01-01T00:00:00.000000Z".len(), "{lease}");
    }
    let one = holder(&lease).to_owned();
    let second = Scheduler::start(&ours(), &arguments(&api));
    second.says("Attempting to acquire leader lease...").await;
    // It renews while the other waits.
    let renewed = lease["spec"]["renewTime"].clone();
    let lease = api.wait(LEASE, "renewed", |lease| lease["spec"]["renewTime"] != renewed).await;
    assert_eq!((holder(&lease), &lease["spec"]["acquireTime"]), (one.as_str(), &spec["acquireTime"]));
    assert!(!second.log().contains("Successfully acquired"), "{}", second.log());
    // Asked to stop, it gives the lease back.
    first.terminate();
    assert_eq!(first.end().await, Some(0), "{}", first.log());
    let lease = api.wait(LEASE, "taken over", |lease| ![one.as_str(), ""].contains(&holder(lease))).await;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    // Killed, it leaves the lease to its end.
    let two = holder(&lease).to_owned();
    let third = Scheduler::start(&ours(), &arguments(&api));
    third.says("Attempting to acquire leader lease...").await;
    second.kill();
    let lease = api.wait(LEASE, "inherited", |lease| holder(lease) != two).await;
    assert!(holder(&lease) != one && lease["spec"]["leaseTransitions"] == 2, "{lease}");
    let about = |events: &Value| {
        let events = events["items"].as_array().unwrap().iter();
        events.filter(|event| event["reason"] == "LeaderElection" && event["involvedObject"]["kind"] == "Lease").count()
    };
    api.wait("/api/v1/namespaces/kube-system/events", "told", |events| about(events) >= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_ends() {
    let api = Api::start().await;
    let mut scheduler = Scheduler::start(&ours(), &arguments(&api));
    scheduler.says("Successfully acquired lease").await;
    // Whoever took it is seen at the next renewal; a conflict in between is tried again.
    loop {
        let mut lease = api.get(LEASE).await;
        lease["spec"]["holderIdentity"] = "somebody".into();
        let body = lease.to_string().into_bytes();
        let request = http::Request::put(LEASE).header("content-type", "application/json").body(body).unwrap();
        match api.client().request::<Value>(request).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(scheduler.end().await, Some(1), "{}", scheduler.log());
    assert!(scheduler.log().contains("\"Leaderelection lost\""), "{}", scheduler.log());
    // What another holds is not given back.
    assert_eq!(holder(&api.get(LEASE).await), "somebody");
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_and_a_real_one_lead_in_turn() {
    let Some(real) = real() else { return };
    let api = Api::start().await;
    let ours = ours();
    let config = api.dir.path().join("config.yaml");
    // A real one would first wait for kinds that this API server does not have.
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\ndelayCacheUntilActive: true\n\
         clientConnection: {{kubeconfig: {}, contentType: application/json}}\n",
        api.kubeconfig().display()
    );
    std::fs::write(&config, text).unwrap();
    let mut arguments = arguments(&api);
    arguments[0] = format!("--config={}", config.display());
    let mut leader = Scheduler::start(&ours, &arguments);
    let mut held = api.wait(LEASE, "held", |lease| !holder(lease).is_empty()).await;
    for (turn, program) in [&real, &ours, &real, &ours].into_iter().enumerate() {
        let next = Scheduler::start(program, &arguments);
        next.says("ttempting to acquire leader lease...").await;
        // Some are asked to stop, some killed.
        if turn < 2 {
            leader.terminate()
        } else {
            leader.kill()
        }
        leader.end().await;
        let before = holder(&held).to_owned();
        held = api.wait(LEASE, "taken over", |lease| ![before.as_str(), ""].contains(&holder(lease))).await;
        assert_eq!(held["spec"]["leaseTransitions"], turn + 1, "{held}");
        leader = next;
    }
}
