//! What users see when something is wrong.

use serde_json::json;

use crate::world::{condition, container, shell, waiting, with_world};

#[test]
fn a_crashing_container_backs_off() {
    with_world(|world| async move {
        world.pod("crash", json!({ "containers": [shell("a", "exit 1")] })).await;
        let pod = world.until("crash", "backs off", |pod| waiting(pod, "a") == "CrashLoopBackOff").await;
        let status = container(&pod, "a").unwrap();
        assert_eq!((status.restart_count, status.ready), (1, false));
        assert_eq!(status.last_state.clone().unwrap().terminated.unwrap().exit_code, 1);
        let message = status.state.clone().unwrap().waiting.unwrap().message.unwrap();
        assert!(message.starts_with("back-off 10s restarting failed container=a pod=crash_default("), "{message}");
        let event = world.event("crash", "BackOff").await;
        assert!(event.starts_with("Back-off restarting failed container a in pod crash_default("), "{event}");
        let (status, previous) = world.get("/containerLogs/default/crash/a?previous=true").await;
        assert_eq!((status, previous.as_str()), (200, ""));
        world.delete("crash").await;
        world
    });
}

#[test]
fn images_that_cannot_be_had() {
    with_world(|world| async move {
        let image = |image: &str, policy: &str| json!({ "containers": [{ "name": "a", "image": image, "imagePullPolicy": policy }] });
        world.pod("refused", image("127.0.0.1:1/none:v1", "IfNotPresent")).await;
        world.pod("never", image("plinth.io/none:v1", "Never")).await;
        world.pod("invalid", image("Not A Name", "IfNotPresent")).await;
        world.until("refused", "ErrImagePull", |pod| waiting(pod, "a") == "ErrImagePull").await;
        world.until("never", "ErrImageNeverPull", |pod| waiting(pod, "a") == "ErrImageNeverPull").await;
        world.until("invalid", "InvalidImageName", |pod| waiting(pod, "a") == "InvalidImageName").await;
        world.event_with("refused", "Failed", "Failed to pull image \"127.0.0.1:1/none:v1\": ").await;
        world.event_with("refused", "Failed", "Error: ErrImagePull").await;
        world.until("refused", "backs off", |pod| waiting(pod, "a") == "ImagePullBackOff").await;
        let (status, text) = world.get("/containerLogs/default/refused/a").await;
        assert_eq!(status, 400);
        assert_eq!(text, "container \"a\" in pod \"refused\" is waiting to start: trying and failing to pull image\n");
        for name in ["refused", "never", "invalid"] {
            world.delete(name).await;
        }
        world
    });
}

#[test]
fn missing_configuration_is_waited_for() {
    with_world(|world| async move {
        let mut main = shell("a", "sleep 1000");
        main["env"] = json!([{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "k" } } }]);
        world.pod("env", json!({ "containers": [main], "terminationGracePeriodSeconds": 0 })).await;
        let volume = json!({ "name": "v", "configMap": { "name": "cm" } });
        world
            .pod(
                "volume",
                json!({ "containers": [shell("a", "sleep 1000")], "volumes": [volume],
            "terminationGracePeriodSeconds": 0 }),
            )
            .await;
        world.until("env", "waits", |pod| waiting(pod, "a") == "CreateContainerConfigError").await;
        assert_eq!(world.event("env", "Failed").await, "Error: configmap \"cm\" not found");
        let text = world.event("volume", "FailedMount").await;
        assert_eq!(text, "MountVolume.SetUp failed for volume \"v\" : configmap \"cm\" not found");
        world
            .create_raw(
                "/api/v1/namespaces/default/configmaps",
                json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "cm" }, "data": { "k": "v" } }),
            )
            .await;
        world.until_ready("env").await;
        world.until_ready("volume").await;
        for name in ["env", "volume"] {
            world.delete(name).await;
        }
        world
    });
}

#[test]
fn probes_decide_on_readiness_and_restarts() {
    with_world(|world| async move {
        let mut main = shell("a", "touch /tmp-ready; sleep 1000");
        main["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/go"] }, "periodSeconds": 1 });
        main["livenessProbe"] = json!({ "exec": { "command": ["sh", "-c", "! test -e /sick"] }, "periodSeconds": 1, "failureThreshold": 1 });
        world.pod("probed", json!({ "containers": [main], "terminationGracePeriodSeconds": 0 })).await;
        let text = world.event("probed", "Unhealthy").await;
        assert!(text.starts_with("Readiness probe failed:"), "{text}");
        let pod =
            world.until("probed", "runs", |pod| container(pod, "a").is_some_and(|s| s.started == Some(true))).await;
        assert_eq!(condition(&pod, "Ready"), "False");
        exec(&world, "probed", "/go").await;
        world.until_ready("probed").await;
        exec(&world, "probed", "/sick").await;
        let pod = world.until("probed", "restarts", |pod| {
            container(pod, "a").is_some_and(|status| status.restart_count == 1 && status.started == Some(true))
        });
        pod.await;
        let killing = world.event("probed", "Killing").await;
        assert_eq!(killing, "Container a failed liveness probe, will be restarted");
        world.delete("probed").await;
        world
    });
}

/// Touches a file inside the pod's container.
async fn exec(world: &crate::world::World, pod: &str, path: &str) {
    let sandbox = world.runtime().list().into_iter().find(|sandbox| sandbox.config.name == pod).unwrap();
    let id = sandbox.containers.last().unwrap().id.clone();
    let argv = ["touch".to_owned(), path.to_owned()];
    let limit = std::time::Duration::from_secs(5);
    assert_eq!(world.runtime().exec_sync(&id, &argv, limit).await.unwrap().exit_code, 0);
}

#[test]
fn an_http_probe_makes_a_pod_ready_at_once() {
    with_world(|world| async move {
        let port = test_support::ports::free_port();
        let main = json!({ "name": "a", "image": containers::images::DEMO_V1,
            "env": [{ "name": "PORT", "value": port.to_string() }],
            "readinessProbe": { "httpGet": { "path": "/healthz", "port": port } } });
        world.pod("web", json!({ "hostNetwork": true, "containers": [main] })).await;
        world.until_ready("web").await;
        world.delete("web").await;
        world
    });
}

#[test]
fn a_container_over_its_memory_limit_is_killed() {
    with_world(|world| async move {
        let mut main = shell("a", "x=a; while true; do x=$x$x; done");
        main["resources"] = json!({ "limits": { "memory": "16Mi" } });
        world.pod("hungry", json!({ "restartPolicy": "Never", "containers": [main] })).await;
        let pod = world.until("hungry", "is killed", |pod| {
            container(pod, "a").and_then(|s| s.state.clone()).is_some_and(|state| state.terminated.is_some())
        });
        let ended = container(&*pod.await, "a").unwrap().state.clone().unwrap().terminated.unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("OOMKilled")));
        world
    });
}
