//! Logs through the node's HTTP service.

use http_body_util::BodyExt;
use serde_json::json;

use crate::world::{phase, shell, with_world};

#[test]
fn logs_are_cut_and_filtered() {
    with_world(|world| async move {
        let script = "echo one; echo two >&2; echo three; printf unfinished";
        world.pod("talk", json!({ "restartPolicy": "Never", "containers": [shell("a", script)] })).await;
        world.until("talk", "ends", |pod| phase(pod) == "Succeeded").await;
        let check = async |query: &str, expected: &str| {
            let (status, text) = world.get(&format!("/containerLogs/default/talk/a?{query}")).await;
            // The two streams are two pipes: their lines may change places.
            let mut got: Vec<&str> = text.split_inclusive('\n').collect();
            let mut expected: Vec<&str> = expected.split_inclusive('\n').collect();
            got.sort_unstable();
            expected.sort_unstable();
            assert_eq!((status, got), (200, expected), "{query}");
        };
        check("", "one\ntwo\nthree\nunfinished\n").await;
        check("stream=Stderr", "two\n").await;
        check("stream=Stdout&limitBytes=6", "one\nth").await;
        check("sinceSeconds=3600&stream=Stdout", "one\nthree\nunfinished\n").await;
        check("sinceTime=2999-01-01T00:00:00Z", "").await;
        check("follow=true&stream=Stdout", "one\nthree\nunfinished\n").await;
        let (_, stamped) = world.get("/containerLogs/default/talk/a?timestamps=true&stream=Stderr").await;
        let (time, text) = stamped.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && text == "two\n", "{stamped}");
        let (status, text) = world.get("/containerLogs/default/none/a").await;
        assert_eq!((status, text.as_str()), (404, "pod \"none\" does not exist\n"));
        world
    });
}

#[test]
fn a_followed_log_ends_with_its_container() {
    with_world(|world| async move {
        let flag = world.dir.join("flag");
        std::fs::create_dir_all(&flag).unwrap();
        let mut main = shell("a", "echo first; until test -e /flag/go; do sleep 0.02; done; echo last");
        main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/flag" }]);
        let volume = json!({ "name": "v", "hostPath": { "path": flag.display().to_string() } });
        world.pod("talk", json!({ "restartPolicy": "Never", "volumes": [volume], "containers": [main] })).await;
        world.until_ready("talk").await;
        let mut body = world.open_get("/containerLogs/default/talk/a?follow=true").await.into_body();
        let mut text = Vec::new();
        while !text.ends_with(b"first\n") {
            text.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
        }
        std::fs::write(flag.join("go"), b"").unwrap();
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest.as_ref(), b"last\n");
        world
    });
}

#[test]
fn pods_and_metrics_are_told() {
    with_world(|world| async move {
        world.pod("web", json!({ "containers": [shell("a", "sleep 1000")], "terminationGracePeriodSeconds": 0 })).await;
        world.until_ready("web").await;
        let (_, pods) = world.get("/pods").await;
        assert!(pods.contains("\"name\":\"web\""));
        let (_, metrics) = world.get("/metrics").await;
        assert!(metrics.contains("kubelet_running_pods 1"), "{metrics}");
        let (_, stats) = world.get("/metrics/resource").await;
        assert!(stats.contains("container_memory_working_set_bytes{container=\"a\""), "{stats}");
        assert_eq!(world.get("/healthz").await, (200, "ok".to_owned()));
        assert_eq!(world.get("/nothing").await.0, 404);
        world.delete("web").await;
        world
    });
}
