//! A new process finds what the old one has left.

use serde_json::json;

use crate::world::{container, phase, shell, uid, with_world};

#[test]
fn running_containers_are_adopted_and_orphans_end() {
    with_world(|mut world| async move {
        let quick = "trap 'exit 0' TERM; sleep 1000 & wait";
        for name in ["stays", "goes"] {
            world.pod(name, json!({ "containers": [shell("a", quick)] })).await;
        }
        let before = world.until_ready("stays").await;
        let goes = world.until_ready("goes").await;
        world.stop_node().await;
        let force = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        world.delete_now("goes", &force).await;
        world.until_gone("goes").await;
        world.start_node().await;
        world.until_nothing_left(&uid(&goes)).await;
        let after = world.until_ready("stays").await;
        let id = |pod| container(pod, "a").unwrap().container_id.clone();
        assert_eq!((id(&before), container(&after, "a").unwrap().restart_count), (id(&after), 0));
        // The new process has it in hand.
        world.delete("stays").await;
        world.until_nothing_left(&uid(&before)).await;
        world
    });
}

#[test]
fn what_ended_meanwhile_is_reported() {
    with_world(|mut world| async move {
        let flag = world.dir.join("flag");
        std::fs::create_dir_all(&flag).unwrap();
        let mut main = shell("a", "until test -e /flag/end; do sleep 0.05; done; exit 4");
        main["volumeMounts"] = json!([{ "name": "v", "mountPath": "/flag" }]);
        let volume = json!({ "name": "v", "hostPath": { "path": flag.display().to_string() } });
        world.pod("once", json!({ "restartPolicy": "Never", "volumes": [volume], "containers": [main] })).await;
        world.until_ready("once").await;
        world.stop_node().await;
        std::fs::write(flag.join("end"), b"").unwrap();
        world.start_node().await;
        let pod = world.until("once", "fails", |pod| phase(pod) == "Failed").await;
        let ended = container(&pod, "a").unwrap().state.clone().unwrap().terminated.unwrap();
        assert_eq!(ended.exit_code, 4);
        world
    });
}
