//! What a scheduler serves and does while it leads.

use client::Protocol;
use serde_json::{Value, json};

use crate::{
    api::{ADMIN, Api, NOBODY},
    scheduler::{Scheduler, ours},
};

async fn node_and_pod(api: &Api) {
    api.send("POST", "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": amounts, "allocatable": amounts}});
    api.send("POST", "/api/v1/nodes", node.clone()).await;
    let mut current = api.get("/api/v1/nodes/n").await;
    current["status"] = node["status"].clone();
    api.send("PUT", "/api/v1/nodes/n/status", current).await;
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}});
    for (name, scheduler) in [("p", "first"), ("q", "second"), ("elsewhere", "third")] {
        let spec = json!({"schedulerName": scheduler, "containers": [container]});
        api.send("POST", "/api/v1/namespaces/default/pods", json!({"metadata": {"name": name}, "spec": spec})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_places_pods_and_tells_of_itself() {
    let api = Api::start().await;
    node_and_pod(&api).await;
    let kubeconfig = api.kubeconfig();
    let config = api.dir.path().join("config.yaml");
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection: {{qps: 7, kubeconfig: \
         {}}}\nprofiles: [{{schedulerName: first}}, {{schedulerName: second}}]\n",
        kubeconfig.display()
    );
    std::fs::write(&config, text).unwrap();
    let flag = |name: &str| format!("--{name}={}", kubeconfig.display());
    let config = format!("--config={}", config.display());
    let arguments = [config, flag("authentication-kubeconfig"), flag("authorization-kubeconfig")];
    let mut scheduler = Scheduler::start(&ours(), &arguments);
    for pod in ["p", "q"] {
        let path = format!("/api/v1/namespaces/default/pods/{pod}");
        api.wait(&path, "bound", |pod| pod["spec"]["nodeName"] == "n").await;
    }
    let vain = "\"clientConnection.qps is known and has no effect\"";
    assert!(scheduler.log().contains(vain), "{}", scheduler.log());
    let check = async |path: &str, token: Option<&str>, code: u16, expected: &str| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (found, kind, text) = scheduler.ask(path, token, protocol).await;
            assert_eq!(found, code, "{path}: {text}");
            assert!(text.contains(expected), "{path}: {text}");
            assert!(!kind.is_empty(), "{path}");
        }
    };
    check("/healthz", None, 200, "ok").await;
    check("/livez?verbose", None, 200, "[+]ping ok\nlivez check passed\n").await;
    check("/readyz?verbose", None, 200, "[+]leaderElection ok\n[+]shutdown ok\n[+]sched-handler-sync ok\n").await;
    check("/metrics", None, 403, "forbidden: User \\\"system:anonymous\\\" cannot get path \\\"/metrics\\\"").await;
    check("/metrics", Some("wrong"), 401, "\"reason\":\"Unauthorized\"").await;
    check("/metrics", Some(NOBODY), 403, "forbidden: User \\\"nobody\\\" cannot get path \\\"/metrics\\\"").await;
    check("/metrics", Some(ADMIN), 200, "scheduler_schedule_attempts_total{").await;
    check("/configz", Some(ADMIN), 200, "\"schedulerName\":\"second\"").await;
    let requests = "kube_pod_resource_request{namespace=\"default\",node=\"n\",pod=\"p\",priority=\"0\",resource=\"cpu\",\
                    scheduler=\"first\",unit=\"cores\"} 0.25\n";
    check("/metrics/resources", Some(ADMIN), 200, requests).await;
    check("/nothing", Some(ADMIN), 404, "404 page not found").await;
    // A pod of a profile that is not there waits.
    let other = api.get("/api/v1/namespaces/default/pods/elsewhere").await;
    assert_eq!(other["spec"]["nodeName"], Value::Null);
    scheduler.terminate();
    assert_eq!(scheduler.end().await, Some(0), "{}", scheduler.log());
    assert!(scheduler.log().contains("\"Requested to terminate, exiting\""), "{}", scheduler.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_election_it_ends_as_kube_scheduler_does() {
    let api = Api::start().await;
    let kubeconfig = format!("--kubeconfig={}", api.kubeconfig().display());
    let mut scheduler = Scheduler::start(&ours(), &[&kubeconfig, "--leader-elect=false"]);
    scheduler.says("Serving securely on 127.0.0.1:").await;
    // Without a way to ask the cluster, a token is nobody's.
    let (code, _, text) = scheduler.ask("/metrics", Some(ADMIN), Protocol::Http1).await;
    assert_eq!(code, 403, "{text}");
    assert!(text.contains("system:anonymous"), "{text}");
    scheduler.terminate();
    assert_eq!(scheduler.end().await, Some(1));
    assert!(
        scheduler.log().contains("\"command failed\" err=\"finished without leader elect\""),
        "{}",
        scheduler.log()
    );
}
