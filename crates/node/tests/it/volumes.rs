//! Volumes and environment inside real containers.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, container, phase, shell, with_world};

/// What the pod's only container wrote as its last words.
async fn last_words(world: &World, name: &str) -> String {
    let pod = world.until(name, "ends", |pod| matches!(phase(pod), "Succeeded" | "Failed")).await;
    let ended = container(&pod, "a").unwrap().state.clone().unwrap().terminated.unwrap();
    ended.message.unwrap_or_default()
}

#[test]
fn a_container_finds_its_world() {
    with_world(|world| async move {
        world
            .create_raw(
                "/api/v1/namespaces/default/configmaps",
                json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "cm" }, "data": { "k": "from-map", "file.txt": "text" } }),
            )
            .await;
        world
            .create_raw(
                "/api/v1/namespaces/default/secrets",
                json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "sec" }, "stringData": { "p": "hidden" } }),
            )
            .await;
        let script = "{ echo $A $B $NAME; cat /cm/file.txt; echo; cat /sec/p; echo; cat /one; echo; hostname; \
            id -u; cat /pod/labels; echo; test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; \
            cat /etc/resolv.conf; } > /dev/termination-log";
        let mut main = shell("a", script);
        main["env"] = json!([
            { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "k" } } },
            { "name": "B", "value": "$(A)!" },
            { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
        main["volumeMounts"] = json!([
            { "name": "cm", "mountPath": "/cm" }, { "name": "sec", "mountPath": "/sec", "readOnly": true },
            { "name": "cm", "mountPath": "/one", "subPath": "k" }, { "name": "pod", "mountPath": "/pod" },
            { "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]);
        main["securityContext"] = json!({ "runAsUser": 0 });
        world
            .pod(
                "all",
                json!({
                    "restartPolicy": "Never", "containers": [main],
                    "volumes": [
                        { "name": "cm", "configMap": { "name": "cm" } },
                        { "name": "sec", "secret": { "secretName": "sec" } },
                        { "name": "pod", "downwardAPI": { "items": [
                            { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
                        { "name": "token", "projected": { "sources": [
                            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } }] } }],
                }),
            )
            .await;
        let words = last_words(&world, "all").await;
        let expected = "from-map from-map! all\ntext\nhidden\nfrom-map\nall\n0\napp=\"all\"\ntoken\n\
            search default.svc.cluster.local svc.cluster.local cluster.local";
        assert!(words.starts_with(expected), "{words}");
        assert!(words.contains("nameserver 10.43.0.10\noptions ndots:5\n"), "{words}");
        world
    });
}

#[test]
fn a_changed_config_map_reaches_a_running_pod() {
    with_world(|world| async move {
        let path = "/api/v1/namespaces/default/configmaps";
        world
            .create_raw(
                path,
                json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "cm" }, "data": { "k": "old" } }),
            )
            .await;
        let mut main =
            shell("a", "until test \"$(cat /cm/k)\" = new; do sleep 0.02; done; echo seen > /dev/termination-log");
        main["volumeMounts"] = json!([{ "name": "cm", "mountPath": "/cm" }]);
        world
            .pod(
                "live",
                json!({ "restartPolicy": "Never", "containers": [main],
            "volumes": [{ "name": "cm", "configMap": { "name": "cm" } }] }),
            )
            .await;
        world.until_ready("live").await;
        world.patch_raw(&format!("{path}/cm"), json!({ "data": { "k": "new" } })).await;
        assert_eq!(last_words(&world, "live").await, "seen\n");
        world
    });
}

#[test]
fn groups_own_volumes_and_roots_are_refused() {
    with_world(|world| async move {
        let mut main =
            shell("a", "{ id -u; id -G; stat -c %g /v; touch /v/x && echo wrote; } > /dev/termination-log 2>&1");
        main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
        world
            .pod(
                "group",
                json!({ "restartPolicy": "Never", "containers": [main],
            "securityContext": { "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000 },
            "volumes": [{ "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }] }),
            )
            .await;
        assert_eq!(last_words(&world, "group").await, "1000\n1000 2000\n2000\nwrote\n");
        let mut main = shell("a", "sleep 1000");
        main["securityContext"] = json!({ "runAsNonRoot": true });
        world.pod("root", json!({ "containers": [main] })).await;
        let text = world.event("root", "Failed").await;
        assert!(text.starts_with("Error: container has runAsNonRoot and image will run as root (pod: "), "{text}");
        world.delete("root").await;
        world
    });
}

/// From bound to Running, image present: the figure that users feel. Generous here, as tests share the machine.
#[test]
fn pods_start_quickly() {
    with_world(|world| async move {
        let mut times = Vec::new();
        for round in 0..5 {
            let name = format!("quick-{round}");
            let clock = runtime::Clock::system();
            let began = clock.monotonic();
            world
                .pod(&name, json!({ "containers": [shell("a", "sleep 1000")], "terminationGracePeriodSeconds": 0 }))
                .await;
            world.until(&name, "runs", |pod| phase(pod) == "Running").await;
            times.push(clock.monotonic() - began);
            world.delete(&name).await;
        }
        times.sort();
        eprintln!("bound to Running: {times:?}");
        assert!(times[2] < Duration::from_secs(2), "{times:?}");
        world
    });
}
