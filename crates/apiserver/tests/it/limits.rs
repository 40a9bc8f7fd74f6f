//! Limit ranges through the API: what was written counts for the next pod and the next claim, and for no other namespace.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, server};

const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
/// More than it takes until the server remembers what became of a pod's spec.
const OFTEN: usize = 4;

async fn server_with_accounts() -> Server {
    let server = server().await;
    for namespace in ["default", "kube-system"] {
        let account = json!({ "metadata": { "name": "default" } });
        server.call(&format!("POST /api/v1/namespaces/{namespace}/serviceaccounts"), account).await.expect(201);
    }
    server
}

fn range(name: &str, item: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "limits": [item] } })
}

fn usual() -> Value {
    json!({
        "type": "Container", "min": { "cpu": "50m" }, "max": { "cpu": "500m" },
        "default": { "cpu": "500m" }, "defaultRequest": { "cpu": "100m" },
    })
}

async fn pod(server: &Server, path: &str, resources: Value) -> Answer {
    let container = json!({ "name": "c", "image": "demo", "resources": resources });
    let pod = json!({ "metadata": { "generateName": "p-" }, "spec": { "containers": [container] } });
    server.call(&format!("POST {path}"), pod).await
}

/// The resources that a container gets that says nothing.
async fn given(server: &Server, path: &str) -> Value {
    pod(server, path, json!({})).await.expect(201)["spec"]["containers"][0]["resources"].clone()
}

#[tokio::test]
async fn what_is_written_counts_for_the_next_pod() {
    let server = server_with_accounts().await;
    let cpu = |request: &str, limit: &str| json!({ "requests": { "cpu": request }, "limits": { "cpu": limit } });
    // The server remembers what becomes of these; and that this is no more so when there is a limit range.
    for _ in 0..OFTEN {
        assert_eq!(given(&server, PODS).await, json!({}));
    }
    let created = server.call(&format!("POST {RANGES}"), range("r", usual())).await.expect(201);
    assert_eq!(created["spec"]["limits"][0], usual());
    for _ in 0..OFTEN {
        let pod = pod(&server, PODS, json!({})).await.expect(201);
        assert_eq!(pod["spec"]["containers"][0]["resources"], cpu("100m", "500m"));
        assert_eq!(pod["status"]["qosClass"], "Burstable");
        let note = "LimitRanger plugin set: cpu request for container c; cpu limit for container c";
        assert_eq!(pod["metadata"]["annotations"], json!({ "kubernetes.io/limit-ranger": note }));
        assert_eq!(given(&server, "/api/v1/namespaces/kube-system/pods").await, json!({}));
    }
    let patch = json!({ "spec": { "limits": [{ "type": "Container", "max": { "cpu": "2" } }] } });
    server.call(&format!("PATCH {RANGES}/r"), patch).await.expect(200);
    assert_eq!(given(&server, PODS).await, cpu("2", "2"));
    server.call(&format!("DELETE {RANGES}/r"), json!({})).await.expect(200);
    assert_eq!(given(&server, PODS).await, json!({}));
    // PUT of one that is not there creates it.
    server.call(&format!("PUT {RANGES}/s"), range("s", usual())).await.expect(201);
    assert_eq!(given(&server, PODS).await, cpu("100m", "500m"));
    server.call(&format!("DELETE {RANGES}"), json!({})).await.expect(200);
    assert_eq!(given(&server, PODS).await, json!({}));
}

#[tokio::test]
async fn pods_over_the_bounds_are_refused_and_those_that_run_stay() {
    let server = server_with_accounts().await;
    let large = pod(&server, PODS, json!({ "limits": { "cpu": "2" } })).await.expect(201);
    let large = format!("{PODS}/{}", large["metadata"]["name"].as_str().unwrap());
    server.call(&format!("POST {RANGES}"), range("r", usual())).await.expect(201);
    let refuse = |name: &'static str, requests: Value| {
        let container = json!({ "name": "c", "image": "demo", "resources": { "requests": requests } });
        let pod = json!({ "metadata": { "name": name }, "spec": { "containers": [container] } });
        let server = &server;
        async move { server.call(&format!("POST {PODS}"), pod).await }
    };
    let answer = refuse("low", json!({ "cpu": "10m" })).await;
    assert_eq!(answer.json["details"], json!({ "name": "low", "kind": "pods" }));
    let why = "pods \"low\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m";
    answer.expect_error(403, "Forbidden", why);
    server.get(&format!("{PODS}/low")).await.expect(404);
    // An object that breaks rules is told these first.
    let answer = refuse("high", json!({ "cpu": "600m" })).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    let both = json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "1" } });
    let answer = pod(&server, PODS, both).await;
    let name = answer.json["details"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("p-") && name.len() == 7, "{name}");
    let why = format!("pods {name:?} is forbidden: maximum cpu usage per Container is 500m, but limit is 1");
    answer.expect_error(403, "Forbidden", &why);
    // What is there already is changed and deleted as before.
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    server.call(&format!("PATCH {large}"), labels).await.expect(200);
    server.call(&format!("DELETE {large}"), json!({})).await.expect(200);
}

#[tokio::test]
async fn claims_are_held_against_the_bounds_whenever_they_are_written() {
    let server = server().await;
    let claim = |name: &str, size: &str| {
        let resources = json!({ "requests": { "storage": size } });
        json!({ "metadata": { "name": name, "finalizers": ["example.com/held"] },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": resources } })
    };
    server.call(&format!("POST {CLAIMS}"), claim("old", "5Gi")).await.expect(201);
    let item = json!({ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } });
    server.call(&format!("POST {RANGES}"), range("r", item)).await.expect(201);
    let refusal = |name: &str, why: &str| format!("persistentvolumeclaims \"{name}\" is forbidden: {why}");
    let over = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is";
    let under = "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi";
    for (size, why) in [("3Gi", format!("{over} 3Gi")), ("1Mi", under.to_owned())] {
        let refused = server.call(&format!("POST {CLAIMS}"), claim("new", size)).await;
        refused.expect_error(403, "Forbidden", &refusal("new", &why));
    }
    server.call(&format!("POST {CLAIMS}"), claim("new", "1Gi")).await.expect(201);
    let status = json!({ "status": { "phase": "Bound" } });
    server.call(&format!("PATCH {CLAIMS}/new/status"), status.clone()).await.expect(200);
    let grow = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    server.call(&format!("PATCH {CLAIMS}/new"), grow("2Gi")).await.expect(200);
    let refused = server.call(&format!("PATCH {CLAIMS}/new"), grow("4Gi")).await;
    refused.expect_error(403, "Forbidden", &refusal("new", &format!("{over} 4Gi")));
    // One that was there before is refused with any change of it, but not of its status, nor when it goes.
    let old = server.get(&format!("{CLAIMS}/old")).await.expect(200);
    let refused = server.call(&format!("PUT {CLAIMS}/old"), old).await;
    refused.expect_error(403, "Forbidden", &refusal("old", &format!("{over} 5Gi")));
    server.call(&format!("PATCH {CLAIMS}/old/status"), status).await.expect(200);
    server.call(&format!("DELETE {CLAIMS}/old"), json!({})).await.expect(200);
    let let_go = json!({ "metadata": { "finalizers": null } });
    server.call(&format!("PATCH {CLAIMS}/old"), let_go).await.expect(200);
    server.get(&format!("{CLAIMS}/old")).await.expect(404);
}
