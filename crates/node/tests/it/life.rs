//! Pods from bound to gone.

use client::Api;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::api::DeleteParams;
use serde_json::json;

use crate::world::{NODE, condition, container, phase, shell, uid, waiting, with_world};

#[test]
fn the_node_registers_and_renews() {
    with_world(|world| async move {
        let node = Api::<Node>::all(world.client.clone()).get(NODE).await.unwrap();
        let status = node.status.unwrap();
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("True", Some("KubeletReady")));
        assert_eq!(status.allocatable.unwrap()["pods"].0, "110");
        let lease = Api::<Lease>::namespaced(world.client.clone(), "kube-node-lease");
        let found = async {
            loop {
                if let Some(lease) = lease.get_opt(NODE).await.unwrap() {
                    return lease;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        assert_eq!(found.await.spec.unwrap().holder_identity.as_deref(), Some(NODE));
        world
    });
}

#[test]
fn a_pod_runs_and_leaves_nothing_behind() {
    with_world(|world| async move {
        world.pod("web", json!({ "containers": [shell("a", "echo up; trap 'exit 0' TERM; sleep 1000 & wait")] })).await;
        let pod = world.until_ready("web").await;
        let status = container(&pod, "a").unwrap();
        assert!(status.container_id.as_ref().unwrap().starts_with("plinth://"));
        assert_eq!((phase(&pod), status.restart_count, status.started), ("Running", 0, Some(true)));
        let status = pod.status.as_ref().unwrap();
        assert_eq!(status.pod_ip.as_deref(), Some("10.99.0.7"));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
        assert_eq!(world.event("web", "Created").await, "Container created");
        assert_eq!(world.event("web", "Started").await, "Container started");
        assert!(
            world.event("web", "Pulled").await.ends_with("already present on machine and can be accessed by the pod")
        );
        world.delete("web").await;
        world.until_nothing_left(&uid(&pod)).await;
        assert_eq!(world.event("web", "Killing").await, "Stopping container a");
        world
    });
}

#[test]
fn pods_finish_by_their_policy() {
    with_world(|world| async move {
        let spec = |policy: &str, script: &str| json!({ "restartPolicy": policy, "containers": [shell("a", script)] });
        world.pod("good", spec("Never", "exit 0")).await;
        world.pod("bad", spec("Never", "echo why > /dev/termination-log; exit 3")).await;
        world.pod("again", spec("OnFailure", "test -e /etc/hosts || exit 1")).await;
        let good = world.until("good", "succeeds", |pod| phase(pod) == "Succeeded").await;
        assert_eq!(condition(&good, "Ready"), "False");
        let bad = world.until("bad", "fails", |pod| phase(pod) == "Failed").await;
        let ended = container(&bad, "a").unwrap().state.clone().unwrap().terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (3, Some("Error")));
        assert_eq!(ended.message.as_deref(), Some("why\n"));
        world.until("again", "succeeds", |pod| phase(pod) == "Succeeded").await;
        for name in ["good", "bad", "again"] {
            world.delete(name).await;
        }
        world.until_nothing_left(&uid(&bad)).await;
        world
    });
}

#[test]
fn init_containers_come_first_and_share_volumes() {
    with_world(|world| async move {
        let mounted = |name: &str, script: &str| {
            let mut container = shell(name, script);
            container["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
            container
        };
        let mut side = mounted("side", "echo side >> /v/out; sleep 1000");
        side["restartPolicy"] = json!("Always");
        world
            .pod(
                "inits",
                json!({
                    "restartPolicy": "Never",
                    "volumes": [{ "name": "v", "emptyDir": {} }],
                    "initContainers": [mounted("one", "echo one >> /v/out"), side, mounted("two", "echo two >> /v/out")],
                    "containers": [mounted("main", "cat /v/out > /dev/termination-log")],
                    "terminationGracePeriodSeconds": 1,
                }),
            )
            .await;
        let pod = world.until("inits", "succeeds", |pod| phase(pod) == "Succeeded").await;
        let ended = container(&pod, "main").unwrap().state.clone().unwrap().terminated.unwrap();
        assert_eq!(ended.message.as_deref(), Some("one\nside\ntwo\n"));
        world
    });
}

#[test]
fn hooks_run_around_a_containers_life() {
    with_world(|world| async move {
        let folder = world.dir.join("hooks");
        std::fs::create_dir_all(&folder).unwrap();
        let mut main = shell("a", "trap 'exit 0' TERM; sleep 1000 & wait");
        main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
        main["lifecycle"] = json!({
            "postStart": { "exec": { "command": ["touch", "/v/started"] } },
            "preStop": { "exec": { "command": ["touch", "/v/stopping"] } },
        });
        let path = folder.display().to_string();
        world
            .pod(
                "hooked",
                json!({ "volumes": [{ "name": "v", "hostPath": { "path": path, "type": "Directory" } }],
                "containers": [main] }),
            )
            .await;
        world.until_ready("hooked").await;
        assert!(folder.join("started").exists() && !folder.join("stopping").exists());
        world.delete("hooked").await;
        assert!(folder.join("stopping").exists());
        world
    });
}

#[test]
fn a_forced_deletion_ends_the_containers_too() {
    with_world(|world| async move {
        world.pod("stuck", json!({ "containers": [shell("a", "trap '' TERM; while true; do sleep 1; done")] })).await;
        let pod = world.until_ready("stuck").await;
        assert_eq!(waiting(&pod, "a"), "");
        world.delete_now("stuck", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
        world.until_nothing_left(&uid(&pod)).await;
        world
    });
}

#[test]
fn a_condition_that_somebody_else_has_changed_is_set_right() {
    with_world(|world| async move {
        world.pod("web", json!({ "containers": [shell("a", "trap 'exit 0' TERM; sleep 1000 & wait")] })).await;
        world.until_ready("web").await;
        // As a controller that took the node for lost.
        let lost = json!({"type": "Ready", "status": "False", "reason": "NodeNotReady"});
        let disrupted = json!({"type": "DisruptionTarget", "status": "True", "reason": "Test"});
        let patch = json!({"status": {"conditions": [lost, disrupted]}});
        world.patch_raw("/api/v1/namespaces/default/pods/web/status", patch).await;
        // What is not the node's it does not take away.
        let both = |pod: &Pod| ["DisruptionTarget", "Ready"].iter().all(|name| condition(pod, name) == "True");
        let pod = world.until("web", "ready again", both).await;
        world.delete("web").await;
        world.until_nothing_left(&uid(&pod)).await;
        world
    });
}
